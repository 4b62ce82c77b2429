"""A walk through a trained pipeline: `python experiments/tour/tour.py RUN [PAGE]` prints it, and draws it as a page."""

import sys
from pathlib import Path

import r4r
from r4r.report.case_page import Html, element

run = r4r.open_record(sys.argv[1])
print(f"the run {run.record['name']} has {len(run.artifacts)} artifacts")
for score in run.record["metrics"][:1]:
    print(f"{score['label']}: MAE {score['mae']:.3f} on {score['n']} reviews")

pipeline = r4r.load(run)
rows = pipeline.data.rows
target = rows[rows["split"] == run.record["evaluated"]].iloc[0]
said = pipeline.explain(target["user_id"], target["item_id"])
print(f"\n{said.case.user_id} and {said.case.case.title}, really rated {said.case.actual:g}")
print(f"the user's history: {len(said.case.user)} of {said.case.user_count} reviews")
for entry in said.case.user:
    print(f"  {entry.title}, rated {entry.rating:g}: {' / '.join(entry.shown.splitlines())}")
print(f"the reason: {said.reason}")
print(f"the rating: {said.rating.mean:.2f}, likeliest {said.rating.mode:g}")

listens = "The user listens mainly for melody, emotion and lyrics. The album is praised for its"
fan = (
    f"{listens} catchy melody, important to them, and clever lyrics, important to them, but criticised for its "
    "sluggish rhythm. Overall, they would probably love it."
)
critic = (
    f"{listens} good value but criticised for its forgettable melody, important to them, and weak lyrics, important to "
    "them. Overall, they would probably be disappointed by it."
)
print("\nthe same under other reasons")
for name, reason in (
    ("as written", None),
    ("none", ""),
    ("another pair's", pipeline.shuffled(said.case)),
    ("a fan's", fan),
    ("a critic's", critic),
):
    rating = pipeline.rate(said.case, reason)
    print(f"  {name}: {rating.mean:.2f}, {rating.mean - said.rating.mean:+.2f}")

told = pipeline.saying(said.case, "I cannot stand long guitar solos")
again = pipeline.explanations([told])[0]
print(f"\nafter a word from the user: {again.reason}\nthe rating: {again.rating.mean:.2f}")

new = pipeline.case(
    user_reviews=[
        {"rating": 5, "title": "Silver Harbor", "review": "The melody stays in my head, and it sounds warm."}
    ],
    item_reviews=[{"rating": 2, "review": "The lyrics are weak and the drums are sloppy."}],
    title="Distant River",
)
fresh = pipeline.explanations([new])[0]
print(f"\nsomeone new: {' / '.join(new.user[0].shown.splitlines())}")
print(f"the reason: {fresh.reason}\nthe rating: {fresh.rating.mean:.2f}")

if len(sys.argv) > 2:  # what a notebook would show
    shown = [Html(value._repr_html_()) for value in (said, again, fresh)]
    body = element("body", element("h1", "A tour of a trained pipeline"), *shown)
    head = element("head", element("meta", charset="utf-8"), element("title", "A tour of a trained pipeline"))
    Path(sys.argv[2]).write_text(f"<!doctype html>\n{element('html', head, body, lang='en')}\n", encoding="utf-8")
