"""The few-shot baseline: strict parsing, retries that are counted, rows without a rating named."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from canary_world import LOADER, start
from hypothesis import given
from hypothesis import strategies as st

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose
from r4r.configuration.preflight import preflight
from r4r.errors import TeacherError
from r4r.reasons.rating import parse_rating
from r4r.run import run
from r4r.scale import Scale
from r4r.teacher.base import Answer
from r4r.teacher.simulator import SimulatedTeacher


@pytest.mark.parametrize(
    ("answer", "rating"),
    [
        *(("4", 4), ("4.5", 4.5), ("4 stars", 4), ("Rating: 3", 3), ("Predicted Rating: 2.0", 2), ("4/5", 4)),
        *((" **5** ", 5), ("(1 star)", 1), ("3 out of 5.", 3), ("- 4", 4), ("- Rating: 4", 4), ("Rating - 4", 4)),
        ("rating-4", 4),
    ],
)
def test_a_bare_rating_is_read(answer: str, rating: float) -> None:
    assert parse_rating(answer) == rating


@pytest.mark.parametrize(
    "answer", ["", "0", "6", "10", "4 or 5", "I'd say 4", "5.5", "four", "45", "4.5.1", "-", ".5", "-4", ": -4"]
)
def test_anything_else_is_no_rating(answer: str) -> None:
    assert parse_rating(answer) is None


@given(st.text())
def test_what_is_read_lies_between_1_and_5(answer: str) -> None:
    rating = parse_rating(answer)
    assert rating is None or 1 <= rating <= 5


@pytest.mark.parametrize(
    ("answer", "rating"),
    [("87", 87), ("Rating: 0", 0), ("101", None), ("-7", None)],
)
def test_a_rating_is_read_on_its_own_scale(answer: str, rating: float | None) -> None:
    assert parse_rating(answer, Scale(lowest=0, highest=100)) == rating


def test_a_point_and_a_minus_sign_are_part_of_a_rating() -> None:
    assert parse_rating(".5", Scale(lowest=0.5, highest=5, step=0.5)) == 0.5
    assert [parse_rating(said, Scale(lowest=-2, highest=2)) for said in ("-1", "Rating: -2", "Rating-2")] == [-1, -2, 2]


def test_a_scale_of_ones_own_is_asked_for_and_predicted_on(
    tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is clipped to five stars, and an answer off the scale is asked for again."""
    said: list[str] = []

    def listen(self: SimulatedTeacher, calls: Any) -> list[Answer]:
        said.extend(call.prompt for call in calls)
        return [Answer("87" if "Your last answer" in call.prompt else "101", 1, 1) for call in calls]

    monkeypatch.setattr(SimulatedTeacher, "ask", listen)
    start(tmp_path, model_cache, "method=fewshot", "+dataset.scale={lowest: 0, highest: 100}")
    predictions = pd.read_parquet(next((tmp_path / "artifacts" / "predict" / "fewshot").rglob("data.parquet")))
    assert (predictions[["mean", "median", "mode"]] == 87).all(axis=None)
    assert all("(0 being the lowest and 100 being highest)" in prompt for prompt in said)
    assert sum("one number between 0 and 100" in prompt for prompt in said) == len(predictions) == len(said) / 2


def ask(folder: Path, *overrides: str) -> dict[str, Any]:
    argv = ["method=fewshot", "dataset.world.users=20", "dataset.world.items=10", "logger=none", "trainer=cpu"]
    argv = preflight([*argv, f"paths.outputs={folder}", *overrides], loader=LOADER)
    run(validate(compose(LOADER, "config", argv)), folder)
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def test_the_users_past_ratings_alone_are_shown_and_predicted_from(tmp_path: Path) -> None:
    record = ask(tmp_path, "method.temperature=1.0", "method.retries=9", "teacher.skill=0.6")
    rows = pd.read_parquet(next((tmp_path / "artifacts" / "split").rglob("data.parquet")))
    predictions = pd.read_parquet(next((tmp_path / "artifacts" / "predict" / "fewshot").rglob("data.parquet")))
    assert sorted(predictions["row_id"]) == sorted(rows.loc[rows["split"] == "test", "row_id"])
    assert predictions["mean"].isin([1, 2, 3, 4, 5]).all()
    manifest = json.loads(next((tmp_path / "artifacts" / "predict" / "fewshot").rglob("manifest.json")).read_text())
    assert 0 < manifest["asked_again"] < len(predictions)
    assert manifest["teacher_calls"] > len(predictions)
    assert record["metrics"][0]["label"] == "LLM few-shot"


def test_prompts_hold_no_review_and_nothing_from_the_targets_time_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []

    def listen(self: SimulatedTeacher, calls: Any) -> list[Answer]:
        prompts.extend(call.prompt for call in calls)
        return [Answer("3", 1, 1) for _ in calls]

    monkeypatch.setattr(SimulatedTeacher, "ask", listen)
    ask(tmp_path)
    rows = pd.read_parquet(next((tmp_path / "artifacts" / "split").rglob("data.parquet")))
    test = rows[rows["split"] == "test"].reset_index(drop=True)
    assert len(prompts) == len(test)
    for row, prompt in zip(test.itertuples(), prompts, strict=True):
        past = rows[(rows["split"] == "train") & (rows["user_id"] == row.user_id) & (rows["timestamp"] < row.timestamp)]
        shown = prompt.partition("rating history:\n")[2].partition("\n\nBased on")[0].splitlines()
        newest = past.sort_values(["timestamp", "row_id"]).tail(10)
        wanted = [f"{n}. {p.title}, Rating: {p.rating:.1f}" for n, p in enumerate(newest.itertuples(), 1)]
        assert shown == (wanted or ["(no ratings yet)"])
        assert f'"{row.title}"' in prompt


def test_rows_that_never_get_a_rating_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedTeacher, "ask", lambda self, calls: [Answer("no idea", 1, 2) for _ in calls])
    with pytest.raises(TeacherError, match=r"rows have no rating after 2 calls each \(row \d+: 'no idea'"):
        ask(tmp_path, "method.retries=1")
