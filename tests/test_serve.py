"""A finished run's pipeline, from Python: the job's own reasons and ratings, and those of other cases and reasons."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from served_job import copied, do, predicted

import r4r
from r4r.errors import ConfigError, DataError, R4RError, StoreError
from r4r.report.records import Run
from r4r.rows import Case
from r4r.serve.aspects import add, aspects, strike
from r4r.serve.cases import Explanation, Past, Rating, ServedCase
from r4r.serve.pipeline import Pipeline

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def pipeline(finished: Run) -> Pipeline:
    return r4r.load(finished.path.parent)


def pairs(pipeline: Pipeline, row_ids: Any) -> list[tuple[str, str]]:
    rows = pipeline.data.rows.set_index("row_id").loc[row_ids]
    return list(zip(rows["user_id"], rows["item_id"], strict=True))


def assert_same_as_the_job(pipeline: Pipeline) -> None:
    done = predicted(pipeline.run)
    found = pipeline.explanations(pairs(pipeline, done.index))
    assert len(found) == 4
    for said, (_, row) in zip(found, done.iterrows(), strict=True):
        assert said.reason == row["reason"]
        assert said.label == row["label"]
        assert said.rating.mean == pytest.approx(row["mean"], abs=1e-5)
        assert said.rating.probabilities == pytest.approx([row[f"p{v:g}"] for v in said.rating.values], abs=1e-5)
        assert sum(said.rating.probabilities) == pytest.approx(1)


def test_it_says_of_the_jobs_rows_what_the_job_said(pipeline: Pipeline) -> None:
    assert_same_as_the_job(pipeline)


OTHERS = ["without_step1", "without_step2", "without_step3", "onestep"]


@pytest.mark.parametrize("strategy", ["cot", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_so_it_does_for_other_strategies(strategy: str, finished: Run, tmp_path: Path) -> None:
    copied(finished, tmp_path / "outputs")
    reasons = "" if strategy == "without_step2" else "review"
    other = r4r.load(do(tmp_path / "outputs", tmp_path / "outputs/models", f"strategy={strategy}", reasons=reasons))
    assert_same_as_the_job(other)
    case = other.find(*pairs(other, predicted(other.run).index)[0])
    own = other.rate(case)
    if strategy == "without_step2":
        assert other.reason(case) is None
        with pytest.raises(ConfigError, match="without a reason"):
            other.rate(case, "They would love it.")
    else:
        assert other.rate(case, other.reason(case)).mean == pytest.approx(own.mean, abs=1e-5)
        assert other.rate(case, "They would love it.").mean != pytest.approx(own.mean, abs=1e-7)
        assert other.rate(case, "").mean != pytest.approx(own.mean, abs=1e-7)


def test_so_it_does_where_a_prompt_that_it_rates_behind_was_shortened(finished: Run, tmp_path: Path) -> None:
    shorter = ["++llm.max_length=700", "dataset.history.overflow=drop_oldest"]
    longer = ["dataset.history.prompt=10", "++dataset.history.raw_tokens=60", "dataset.world.reviews_per_user=9"]
    models = Path(finished.config["paths"]["cache"])
    run = do(tmp_path, models, "strategy=onestep", *shorter, *longer)
    manifest = r4r.open_artifact(run, "predict/test").path / "manifest.json"
    assert json.loads(manifest.read_bytes())["prompts_shortened"] > 0
    assert_same_as_the_job(r4r.load(run))


def test_a_reason_from_elsewhere_moves_the_rating(pipeline: Pipeline) -> None:
    case = pipeline.find(*pairs(pipeline, predicted(pipeline.run).index)[0])
    own, reason = pipeline.rate(case), "The user cares about melody. It is criticised for its weak melody."
    moved = pipeline.rate(case, reason)
    assert moved.mean != pytest.approx(own.mean, abs=1e-7)
    assert pipeline.ratings([case, case], [reason, None])[0].mean == pytest.approx(moved.mean, abs=1e-3)  # bf16 rounds
    assert pipeline.rate(case, "  " + reason.replace(" ", "\n")).mean == pytest.approx(moved.mean, abs=1e-5)
    assert pipeline.rate(case, pipeline.reason(case)).mean == pytest.approx(own.mean, abs=1e-5)
    shuffled = {pipeline.shuffled(case, seed) for seed in range(8)}
    titles = pipeline.data.rows["title"]
    pipeline.data.rows["title"] = ""  # as of data without titles: items differ by their ids
    assert {pipeline.shuffled(case, seed) for seed in range(8)} == shuffled
    pipeline.data.rows["title"] = titles
    others = predicted(pipeline.run)["reason"]
    assert shuffled <= set(others)
    said = pipeline.saying(case, "I cannot stand\n long solos")
    assert said.case.user_history[-1] == (
        "What the user says now",
        None,
        "Positive Aspects: None\nNegative Aspects: None\nUser Preference Elements: I cannot stand long solos",
    )
    assert said.preferences == ("I cannot stand long solos",)
    assert (said.case.user_average, said.user_count) == (case.case.user_average, case.user_count)
    assert pipeline.rate(said).mean != pytest.approx(own.mean, abs=1e-7)
    with pytest.raises(DataError, match="no words"):
        pipeline.saying(case, " \n")


def test_histories_hold_what_came_before(pipeline: Pipeline) -> None:
    rows = pipeline.data.rows
    train = rows[rows["split"] == "train"]
    for at in sorted(set(train["timestamp"]))[::7]:
        user, item = rows["user_id"].iloc[0], rows["item_id"].iloc[-1]
        case = pipeline.find(user, item, at)
        own = train[(train["user_id"] == user) & (train["timestamp"] < at)]
        others = train[(train["item_id"] == item) & (train["timestamp"] < at)]
        assert [entry.timestamp for entry in case.user] == own["timestamp"].tolist()[-pipeline.data.shown.newest :]
        assert [entry.review for entry in case.item] == others["review"].tolist()[-pipeline.data.shown.newest :]
        assert (case.user_count, case.item_count) == (len(own), len(others))
        for mean, known in ((case.case.user_average, own), (case.case.item_average, others)):
            assert mean == (pytest.approx(known["rating"].mean()) if len(known) else None)
    day = pd.Timestamp(int(at), unit="s", tz="UTC")
    assert pipeline.find(user, item, day.isoformat()) == pipeline.find(user, item, day.to_pydatetime()) == case
    for wrong in ("soon", True, -5, float("nan")):
        with pytest.raises(DataError, match="Unix time in seconds"):
            pipeline.find(user, item, wrong)
    with pytest.raises(DataError, match="user 'nobody' is not in the data"):
        pipeline.find("nobody", item)


def test_people_and_items_that_are_in_no_data(pipeline: Pipeline) -> None:
    user = [
        {"rating": 2, "title": "Late", "review": "weak lyrics", "timestamp": "2014-05-02"},
        {"rating": 5, "title": "Early", "review": "A catchy &amp; warm\nmelody", "timestamp": "2013-05-02"},
    ]
    case = pipeline.case(user, [{"rating": 4, "review": "good"}], "New one")
    assert (case.user[0].title, case.user[0].review) == ("Early", "A catchy & warm\nmelody")
    assert [e.title for e in case.item] == ["New one"]
    assert all(entry.shown for entry in (*case.user, *case.item))
    assert (case.case.user_average, case.case.item_average) == (3.5, 4.0)
    assert [e.title for e in pipeline.case(user, [], "New one", at="2014-01-01").user] == ["Early"]
    nobody = pipeline.case([], [], "New one")
    assert pipeline.explanations([case, nobody])[0].rating == pipeline.ratings([case, nobody])[0]
    known = pipeline.data.rows[pipeline.data.rows["split"] == "train"].iloc[0]
    again = pipeline.case([dict(known[["rating", "title", "review"]])], [], "New one")
    assert again.user[0].shown == dict(pipeline.data._summaries)[known["row_id"]]
    for wrong, told in (
        ({"rating": 6}, r"user_reviews\[1\].rating=6: is not on the scale of the data, 1..5"),
        ({"review": "x"}, r"user_reviews\[1\].rating: Field required"),
        ({"rating": "good"}, r"user_reviews\[1\].rating: should be a valid number"),
        ({"rating": 4, "stars": 4}, r"user_reviews\[1\].stars"),
        ({"rating": 4, "timestamp": "then"}, r"user_reviews\[1\].timestamp"),
        ("good", r"user_reviews\[1\]"),
    ):
        with pytest.raises(DataError, match=told):
            pipeline.case([{"rating": 4}, wrong], [], "New one")
    with pytest.raises(DataError, match="title: is empty"):
        pipeline.case([], [], " ")


# what is not there


def test_what_is_missing_is_named_and_not_made(finished: Run, tmp_path: Path) -> None:
    place, here, run = copied(finished, tmp_path / "outputs"), tmp_path / "outputs/artifacts", finished
    key = run.artifacts["train/predictor"]
    shutil.rmtree(here / "train/predictor" / key)
    with pytest.raises(StoreError, match=rf"train/predictor {key} is not in .*r4r .*target=train/predictor"):
        r4r.load(place, artifacts=here)
    assert not (here / "train/predictor" / key).exists()
    shutil.copytree(Path(run.config["paths"]["artifacts"]) / "train/predictor" / key, here / "train/predictor" / key)
    (here / "summaries" / run.artifacts["summaries"] / "data.parquet").write_bytes(b"")
    with pytest.raises(StoreError, match=r"summaries .* is damaged"):
        r4r.load(place, artifacts=here)
    (place / "result.json").write_text(run.path.read_text().replace('"status": "ok"', '"status": "interrupted"'))
    with pytest.raises(DataError, match=r"was interrupted.*nothing to load"):
        r4r.load(place)
    with pytest.raises(DataError, match=r"holds no result\.json"):
        r4r.load(here)
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        r4r.load(here / "nowhere")
    with pytest.raises(DataError, match="no run is named"):
        r4r.load("")


def test_a_run_without_a_preset_is_loaded_like_one_with(finished: Run) -> None:
    """Its record spells out settings that data of its kind do not have."""
    plain = Run(finished.path, {**finished.record, "config": {**finished.config, "experiment": None}})
    assert_same_as_the_job(r4r.load(plain))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("method=exp3rt", "method=exp3rt: only runs whose steps are a strategy's"),
        ("method=rec_saver", "method=rec_saver: only runs whose steps are a strategy's"),
        ("method.reasons=2", "method.reasons=2: its ratings are means over several reasons"),
        ("control=verdict_alone", "control=verdict_alone: what its ratings read"),
        ("control=shuffled_histories", "control=shuffled_histories: what its ratings read"),
    ],
)
def test_what_gives_no_ratings_of_a_reason_of_its_own_is_refused(finished: Run, override: str, told: str) -> None:
    composed = r4r.compose("experiment=smoke", override).config
    parts = {name: dict(getattr(composed, name)) for name in ("method", "control", "experts")}
    with pytest.raises(ConfigError, match=re.escape(told)):
        r4r.load(Run(finished.path, {**finished.record, "config": {**finished.config, **parts}}))


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda record: "", "is not JSON"),
        (lambda record: json.dumps(record)[:9000], "is not JSON"),
        (lambda record: "[]", "no whole record"),
        (lambda record: json.dumps({**record, "artifacts": {"split": "../../etc"}}), "artifacts.split"),
        (lambda record: json.dumps({**record, "artifacts": {"split": "/etc"}}), "artifacts.split"),
        (lambda record: json.dumps({**record, "artifacts": {"../split": "0"}}), "artifacts.../split"),
        (lambda record: json.dumps({**record, "config": {}}), "has no value"),
        (lambda record: json.dumps({**record, "config": {**record["config"], "plugins": 5}}), "code outside r4r: 5"),
        (lambda record: json.dumps({**record, "config": {**record["config"], "experts": {}}}), "is not mounted"),
    ],
)
def test_a_record_that_is_half_written_or_tampered_with_is_told(
    finished: Run, tmp_path: Path, edit: Any, told: str
) -> None:
    (tmp_path / "result.json").write_text(edit(finished.record), encoding="utf-8")
    with pytest.raises(R4RError, match=re.escape(told)):
        r4r.load(tmp_path, artifacts=finished.config["paths"]["artifacts"])


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda p, case: p.rate(case, float("nan")), "a reason should be text, and nan is of type float"),
        (lambda p, case: p.ratings([case], [5]), "a reason should be text"),
        (lambda p, case: p.rate(case, "so " * 100_000), "the reason, of 300,000 characters, is too long"),
        (lambda p, case: p.find(["U00000"], "A00000"), r"user ['U00000'] is not in the data"),
        (lambda p, case: p.find("U00000", "\ud800"), "is not in the data"),
        (lambda p, case: p.explanations([("U00000",)]), "should be (user_id, item_id)"),
        (lambda p, case: p.saying(case, b"x"), "a preference: should be text"),
        (lambda p, case: p.case(None, [], "t"), "user_reviews: should be a list of reviews"),
        (lambda p, case: p.case([], pd.DataFrame(), "t"), "item_reviews: should be a list of reviews"),
        (lambda p, case: p.case([], [], ["t"]), "title: should be text"),
        (lambda p, case: p.case([{"rating": True}], [], "t"), "user_reviews[0].rating: should be a valid number"),
        (lambda p, case: p.case([{"rating": float("nan")}], [], "t"), "user_reviews[0].rating: should be a finite"),
    ],
)
def test_odd_values_are_told(pipeline: Pipeline, ask: Any, told: str) -> None:
    with pytest.raises(DataError, match=re.escape(told)):
        ask(pipeline, pipeline.case([], [], "t"))


def test_values_of_tables_and_half_characters_are_taken(pipeline: Pipeline) -> None:
    user, item = pairs(pipeline, predicted(pipeline.run).index)[0]
    time = pipeline.data.rows["timestamp"].iloc[-1]  # of numpy's type
    assert pipeline.find(user, item, time) == pipeline.find(user, item, int(time))
    assert pipeline.case([{"rating": 5, "review": "warm\ud800"}], [], "t").user[0].review == "warm"


def test_another_r4r_or_other_prompts_are_told(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from r4r.stages.train import Training

    monkeypatch.setattr(Training, "version", 99)
    with pytest.raises(StoreError, match=r"made by another r4r.*what differs: version"):
        r4r.load(finished)


def test_code_of_a_records_own_is_not_run_unasked(finished: Run) -> None:
    config = {**finished.config, "plugins": ["stolen"]}
    with pytest.raises(ConfigError, match="names code outside r4r: stolen"):
        r4r.load(Run(finished.path, {**finished.record, "config": config}))


# the entrance


def test_the_entrance_says_what_is_wrong(finished: Run) -> None:
    with pytest.raises(ConfigError, match="there is no key or group 'sed'"):
        r4r.compose("sed=1")
    with pytest.raises(ConfigError, match="-m: is an option of the command line"):
        r4r.compose("-m", "seed=1,2")
    composed = r4r.compose("strategy=onestep", "seed=7")
    assert (composed.config.seed, composed.choices["strategy"]) == (7, "onestep")
    assert r4r.open_record(finished.path).record == finished.record
    assert finished.record["choices"]["strategy"] == "multistep"
    with pytest.raises(DataError, match=r"has no stage 'reason'; it has .*reasons"):
        r4r.open_artifact(finished, "reason")
    with pytest.raises(AttributeError, match="nothing"):
        _ = r4r.nothing


def test_importing_r4r_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'pandas', 'hydra', 'transformers', 'fastapi'}"
    told = f"import sys, r4r; print(sorted({heavy} & set(sys.modules)), r4r.load.__name__)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["[]", "load"]


# what a notebook shows


def test_what_a_notebook_shows_is_text() -> None:
    past = Past(HOSTILE, 4.0, HOSTILE, HOSTILE, HOSTILE, 1_400_000_000)
    case = ServedCase(Case(-1, HOSTILE, "Music", (), (), 4.0, None), (past,), (past,), 1, 1, HOSTILE, HOSTILE, 1)
    rating = Rating((1.0, 2.0), (0.25, 0.75), 1.75, 2.0, 2.0)
    for shown in (Explanation("R", case, HOSTILE, rating), case, rating):
        text = shown._repr_html_()
        assert "<script" not in text
        assert "<img" not in text
    assert "75.0%" in rating._repr_html_()
    assert case._repr_html_().count("alert(1)") >= 8


# aspects

REASON = (
    "The user cares about vocals and melody. The album is praised for its soulful vocals but criticised for its weak "
    "lyrics. The vocals would suit them, while the lyrics would not. Overall, they would like it."
)


def heard() -> ServedCase:
    def entry(praised: str, faulted: str, wanted: str) -> Past:
        lines = f"Positive Aspects: {praised}\nNegative Aspects: {faulted}\nUser Preference Elements: {wanted}"
        return Past("t", 4.0, lines, "review")

    user, item = (
        entry("Soulful Vocals", "None", "Melody, Vocals"),
        entry("Catchy Melody", "Weak Lyrics", "Sound (Hi-Fi)"),
    )
    return ServedCase(Case(-1, "t", "Music", (), (), None, None), (user,), (item,), 1, 1)


def test_aspects_of_a_reason_and_of_its_histories() -> None:
    found = aspects(heard(), REASON)
    named = {one.name: one.side for one in found if one.named}
    assert named == {
        "vocals": "wanted",
        "melody": "wanted",
        "soulful vocals": "wanted",
        "weak lyrics": "criticised",
        "lyrics": "criticised",
    }
    assert {one.name for one in found if not one.named} == {"catchy melody", "sound (hi-fi)"}
    assert not any(one.named for one in aspects(heard(), None))


@pytest.mark.parametrize(
    ("name", "left"),
    [
        (
            "Vocals",
            "The user cares about melody. The album is criticised for its weak lyrics. Overall, they would like it.",
        ),
        ("melody", REASON.replace(" and melody", "")),
        ("weak lyrics", REASON.replace(" but criticised for its weak lyrics", "")),
        ("drums", REASON),
        ("(", REASON),
        (" ", REASON),
    ],
)
def test_an_aspect_is_struck(name: str, left: str) -> None:
    assert strike(heard(), REASON, name) == left


def test_an_aspect_is_added() -> None:
    assert add("They like it.", "long  solos", "disliked") == "They like it. The user does not care for long solos."


def test_a_closed_pipeline_says_so(finished: Run) -> None:
    closed = r4r.load(finished)
    case = closed.find(*pairs(closed, predicted(closed.run).index)[0])
    closed.close()
    with pytest.raises(DataError, match="this pipeline is closed; load the run again"):
        closed.rate(case, "They would like it.")
    with pytest.raises(DataError, match="this pipeline is closed"):
        closed.reason(case)
