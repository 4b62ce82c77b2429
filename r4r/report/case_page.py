"""Figure 5 as one HTML file that holds all it needs. Reviews and reasons are text in it, whatever they hold.

`element` escapes all that is not `Html` already, so text becomes markup nowhere; the page's policy allows its own
script and style, by hash, and nothing from elsewhere.
"""

import base64
import hashlib
import html
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from r4r.report.cases import History, Review, Said, Studies, Study
from r4r.report.text import UNREADABLE


class Html(str):
    """Markup."""


def element(name: str, /, *inside: str, **attributes: object) -> Html:
    """An element; strings that are not `Html` are escaped. Attributes: `_` reads `-`, but for one at the end; True
    stands alone, False and None are left out."""
    head = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    body = "".join(part if isinstance(part, Html) else escape(part) for part in inside)
    return Html(f"<{name}{head}>" + ("" if name in ("meta", "input", "img") else f"{body}</{name}>"))


def escape(text: str) -> str:
    """Text as HTML that shows it, in an element or in a quoted attribute."""
    return html.escape(UNREADABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n")))


def case_page(made: Studies, served: str | None = None) -> str:
    """The page.

    Args:
        served: address of an `r4r-serve` that serves one of the runs: each case is linked to its page there.
    """
    style, script = (_file(f"case_page.{kind}") for kind in ("css", "js"))
    policy = (
        f"default-src 'none'; style-src '{content_hash(style)}'; script-src '{content_hash(script)}'; base-uri 'none'; "
        "form-action 'none'"
    )
    document = made.document
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", document.title),
        element("style", style),
    )
    body = element(
        "body",
        element("h1", document.title),
        element("p", "Command: ", element("code", document.command)),
        _sentences("Missing", document.problems, "missing"),
        _sentences("Notes", document.notes, "notes"),
        _filters(made),
        element("main", *(_case(case, served) for case in made.cases))
        if made.cases
        else element("p", "No case can be shown.", class_="none"),
        element("script", script),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _file(name: str) -> Html:
    return Html((Path(__file__).parent / name).read_text(encoding="utf-8"))


def content_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _sentences(title: str, sentences: Sequence[str], kind: str) -> Html:
    if not sentences:
        return Html()
    lines = (element("li", sentence, dir="auto") for sentence in sentences)
    return element("section", element("h2", title), element("ul", *lines), class_=kind)


def _filters(made: Studies) -> Html:
    """Hidden until the script shows it: without one, the page shows every case."""
    ratings = sorted({case.target["rating"] for case in made.cases})
    datasets = dict.fromkeys(case.dataset for case in made.cases)
    return element(
        "form",
        element("label", "search ", element("input", type="search", name="words")),
        _select("true rating ", "rating", [("", "any"), *((f"{rating:g}", f"{rating:g}") for rating in ratings)]),
        _select("data ", "data", [("", "all"), *zip(datasets, datasets, strict=True)]) if len(datasets) > 1 else Html(),
        _select("", "measure", [("error", "largest error"), ("apart", "disagreement")]),
        element("label", "at least ", element("input", type="number", name="least", min=0, max=4, step=0.1, value=0)),
        element("fieldset", *(_box(method) for method in made.methods)),
        element("button", "all", type="reset"),
        element("output", id="count"),
        id="filters",
        hidden=True,
    )


def _select(title: str, name: str, options: Iterable[tuple[str, str]]) -> Html:
    lines = (element("option", shown, value=value) for value, shown in options)
    return element("label", title, element("select", *lines, name=name))


def _box(method: str) -> Html:
    return element("label", element("input", type="checkbox", name="method", value=method, checked=True), f" {method}")


def served_case(served: str, target: Review) -> str:
    """Where an `r4r-serve` shows a review's case: `<served>/#/<user>/<item>?at=<time>`."""
    user, item = (quote(str(target[name]), safe="", errors="replace") for name in ("user_id", "item_id"))
    return f"{served.rstrip('/')}/#/{user}/{item}?at={int(target['timestamp'])}"


def _case(case: Study, served: str | None) -> Html:
    target = case.target
    facts = (f"row {target['row_id']}", case.dataset, f"user {target['user_id']}", f"item {target['item_id']}")
    return element(
        "article",
        element("h2", target["title"] or "(no title)", dir="auto"),
        _line(*facts, _day(target), case.picked, f"methods differ by {case.apart:.2f}"),
        element("p", element("a", "edit its reason", href=served_case(served, target), rel="noreferrer"))
        if served
        else Html(),
        element(
            "section",
            element("h3", f"Review, true rating {target['rating']:g}"),
            _text(target["review"], "(an empty review)"),
            class_="review",
        ),
        element("div", *(_method(name, said, target["rating"]) for name, said in case.said.items()), class_="methods"),
        _history("User's history", case.user, "item_id"),
        _history("Item's history", case.item, "user_id"),
        id=f"{case.dataset}-{target['row_id']}",
        data_rating=f"{target['rating']:g}",
        data_data=case.dataset,
    )


def _line(*facts: str) -> Html:
    """Facts side by side; what one of them does to the direction of writing ends with it."""
    parts = [part for fact in facts for part in (" · ", element("bdi", fact))]
    return element("p", *parts[1:], class_="facts")


def _text(text: str | None, none: str) -> Html:
    if text is None or not text.strip():
        return element("p", none, class_="none")
    return element("p", text, class_="text", dir="auto")


def _method(name: str, said: Said | str, rating: float) -> Html:
    if isinstance(said, str):
        return element(
            "section",
            element("h3", name),
            element("p", f"Nothing to show: {said}", class_="none", dir="auto"),
            class_="method",
            data_method=name,
        )
    told = f"{said.mean:.2f}, true {rating:g}, off by {abs(said.mean - rating):.2f}"
    return element(
        "section",
        element("h3", name),
        element("p", element("b", "rating "), f"{told} (median {said.median:g}, mode {said.mode:g})", class_="rating"),
        _text(said.reason, "(the method gives no reason)" if said.reason is None else "(an empty reason)"),
        class_="method",
        data_method=name,
        data_mean=f"{said.mean:.6f}",
    )


def _history(title: str, history: History, other: str) -> Html:
    mean = "" if math.isnan(history.mean) else f", mean rating {history.mean:.2f}"
    told = f"{title}: {len(history.shown)} of {history.count} earlier reviews{mean}"
    lines = [
        element(
            "li",
            element("h3", past["title"] or "(no title)", dir="auto") if other == "item_id" else Html(),
            _line(f"rating {past['rating']:g}", f"{other.removesuffix('_id')} {past[other]}", _day(past)),
            *_past_texts(past),
        )
        for past in history.shown
    ]
    return element("details", element("summary", told), element("ol", *lines, class_="past"))


def _past_texts(past: Review) -> list[Html]:
    """The summary, where there is one, and the review it is of."""
    review = _text(past["review"], "(an empty review)")
    if past["summary"] is None:
        return [review]
    return [
        _text(past["summary"], "(an empty summary)"),
        element("details", element("summary", "the review itself"), review),
    ]


def _day(review: Review) -> str:
    return datetime.fromtimestamp(review["timestamp"], UTC).date().isoformat()
