"""RecZero and RecOne: four tagged steps, learnt by rewards; what cannot be parsed counts as the largest error."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from canary_world import assert_no_leak, listen, split, start
from own_answers import CUT, says

from r4r.configuration.preflight import preflight
from r4r.errors import ConfigError
from r4r.lm.base import Lora
from r4r.methods.recone.traces import fault, rewritten
from r4r.methods.reczero.expert import FourSteps, written
from r4r.rows import Case
from r4r.scale import PAPER
from r4r.teacher.base import Answer, Call
from r4r.teacher.simulator import SimulatedTeacher

STEPS = "<analyze user>a</analyze user>\n<analyze item>b</analyze item>\n<match>c</match>\n<rate>{}</rate>"
SAID = [STEPS.format("4"), STEPS.format("2.0"), STEPS.format("9"), "It is fine.", STEPS.format("1") + CUT]
SIZES = ("experts.reczero.max_new_tokens=200", "experts.reczero.objective.group=4")
STATED = [4.0, 2.0, None, None, 1.0]
JOB = ("dataset.pools.total=12", "dataset.history.review_tokens=30", "method.history=3")


def shipped() -> FourSteps:
    return FourSteps(lora=Lora(), lr=1e-3, epochs=1, batch_size=1, warmup=0, max_new_tokens=8)


def table(folder: Path, stage: str, key: str, name: str = "data.parquet") -> pd.DataFrame:
    return pd.read_parquet(folder / "artifacts" / stage / key / name)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> tuple[Path, Any, Any]:
    """The folder and record of a job, and its prompts."""
    folder = tmp_path_factory.mktemp("reczero")
    with pytest.MonkeyPatch.context() as patch:
        says(patch, lambda seed, prompt: SAID[seed % len(SAID)])
        heard = listen(patch, FourSteps, "prompt")
        record = start(folder, model_cache, "method=reczero", *SIZES, *JOB)
    return folder, record, heard


def test_one_model_learns_without_a_teacher(done: tuple[Path, Any, Any]) -> None:
    _, record, heard = done
    stages = {"split", "pools", "train/reczero.prompts", "train/reczero", "write/reczero/test", "predict/test"}
    assert set(record["artifacts"]) - {"predict/means", "predict/mf"} == stages
    assert all(prompt.count("I liked canary") <= 6 for _, _, prompt in heard)


def test_it_learns_by_form_and_rating(done: tuple[Path, Any, Any]) -> None:
    folder, record, _ = done
    made = folder / "artifacts" / "train/reczero" / record["artifacts"]["train/reczero"]
    steps = [json.loads(line)["rows"][0] for line in (made / "steps.jsonl").read_text().splitlines()]
    for row in steps:
        parts = row["reward/format/mean"] + row["reward/stated_error/mean"]
        assert row["reward/mean"] == pytest.approx(parts, abs=1e-6)
    assert "rating_error" not in str(steps[0])


def test_an_answer_that_cannot_be_parsed_counts_as_the_largest_error(done: tuple[Path, Any, Any]) -> None:
    folder, record, _ = done
    key = record["artifacts"]["predict/test"]
    detail = table(folder, "predict/test", key, "detail.parquet")
    texts = table(folder, "write/reczero/test", record["artifacts"]["write/reczero/test"]).set_index("row_id")["text"]
    truth = split(folder)["rating"]
    absent = 0
    for row in detail.itertuples():
        stated = STATED[SAID.index(texts[row.row_id])]
        absent += stated is None
        assert row.mean == (stated if stated is not None else (1.0 if truth[row.row_id] > 3 else 5.0))
        assert row.stated == (stated is not None)
    assert 0 < absent < len(detail)
    told = json.loads((folder / "artifacts" / "predict/test" / key / "manifest.json").read_text())
    assert told["answers_that_state_no_rating"] == absent
    assert told["counted_as"] == "the largest error that the row's rating allows"
    assert record["metrics"][0]["label"] == "RecZero (unparsable: largest error)"


def test_no_prompt_holds_its_targets_review_or_one_of_its_time(done: tuple[Path, Any, Any]) -> None:
    folder, _, heard = done
    assert_no_leak(split(folder), heard)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("dataset.history.prompt=5", "reczero reads method.history in its place"),
        ("experts.reczero.epochs=4", r"experts\.reczero\.objective\.epochs stands in its place"),
        ("experts.reczero.lr=1e-3", r"experts\.reczero\.objective\.lr stands in its place"),
    ],
)
def test_what_its_training_does_not_read_is_refused(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        preflight(["method=reczero", "recipe=small", override])
    if "experts" in override:  # RecOne's are those of its cold start
        assert preflight(["method=recone", "recipe=small", override.replace("reczero", "recone")])


def test_it_has_no_reward_model(tmp_path: Path, model_cache: Path) -> None:
    with pytest.raises(ConfigError, match="this method trains no reward model"):
        start(
            tmp_path,
            model_cache,
            *("method=reczero", *SIZES, *JOB, "+reward@experts.reczero.objective.rewards.r=review_reference"),
        )


@pytest.mark.slow
def test_recone_begins_with_traces_of_which_wrong_ones_are_written_again(
    tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(self: SimulatedTeacher, calls: list[Call]) -> list[Any]:
        """Says 3 of everything and, told a rating, that; of a 2 it says nothing in steps."""
        asked.extend(call.prompt for call in calls)
        told = [call.prompt.partition("actually rated the item ")[2][:1] for call in calls]
        return [Answer("Hm." if rating == "2" else f"Sure:\n{STEPS.format(rating or 3)}", 1, 1) for rating in told]

    monkeypatch.setattr(SimulatedTeacher, "ask", ask)
    says(monkeypatch, lambda seed, prompt: SAID[seed % len(SAID)])
    record = start(tmp_path, model_cache, "method=recone", "experts.recone.max_new_tokens=200", *JOB)
    keys = record["artifacts"]
    traces = table(tmp_path, "recone/kept", keys["recone/kept"], "traces.parquet")
    assert (traces["rewritten"] == (traces["rating"] != 3)).all()
    assert traces["cause"].tolist() == ["not in four steps" if r == 2 else "kept" for r in traces["rating"]]
    assert len(asked) == len(traces) + traces["rewritten"].sum()
    lessons = table(tmp_path, "train/recone.lessons", keys["train/recone.lessons"])
    rated = dict(zip(traces["row_id"], traces["rating"], strict=True))
    assert len(lessons) == (traces["cause"] == "kept").sum() > 0
    assert lessons["response"].tolist() == [STEPS.format(f"{rated[row_id]:.1f}") for row_id in lessons["row_id"]]
    assert len(list((tmp_path / "artifacts" / "train/recone").iterdir())) == 2  # by SFT, and by rewards
    assert len(table(tmp_path, "train/recone.prompts", keys["train/recone.prompts"])) == len(traces)
    assert record["metrics"][0]["label"] == "RecOne (unparsable: largest error)"


def test_the_form_alone_is_learnt_from_traces_of_other_pairs(
    tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(self: SimulatedTeacher, calls: list[Call]) -> list[Any]:
        """Right where the rating is told; no two traces alike."""
        told = [call.prompt.partition("actually rated the item ")[2][:1] or "9" for call in calls]
        return [Answer(STEPS.replace("a<", f"a{n}<").format(rating), 1, 1) for n, rating in enumerate(told)]

    monkeypatch.setattr(SimulatedTeacher, "ask", ask)
    responses = {}
    for traces in ("own", "others"):
        job = ("method=recone", f"method.traces={traces}", "target=train/recone.lessons", *JOB)
        key = start(tmp_path, model_cache, *job)["artifacts"]["train/recone.lessons"]
        responses[traces] = table(tmp_path, "train/recone.lessons", key).set_index("row_id")["response"]
    own, others = responses["own"], responses["others"]
    assert own.index.equals(others.index)
    assert sorted(own) == sorted(others)  # each trace is learnt once, with its rating
    assert own.nunique() == len(own) > 2
    assert (own != others).all()


def test_what_is_wrong_with_a_trace_is_told() -> None:
    own = shipped()
    wanted = {
        STEPS.format("4"): "kept",
        STEPS.format("4.0"): "kept",
        STEPS.format("3"): "another rating",
        STEPS.format("great"): "no rating in the last step",
        "4": "not in four steps",
    }
    assert {text: fault(own, text, 4.0, PAPER) for text in wanted} == wanted
    assert written(STEPS.format("great"), 4.0, PAPER) == STEPS.format("4.0")
    assert own.read(STEPS.format("4")) == "a b c"


def test_the_simulated_teacher_reasons_in_four_steps() -> None:
    history = (("Kind of Blue", 5.0, "The melodies stick in your head. The lyrics are clumsy."),)
    case = Case(1, "Blue Train", "Music", history, history, 5.0, 4.0)
    teacher = SimulatedTeacher(skill=1.0, seed=0)
    (plain,) = teacher.ask([Call(shipped().prompt(case), 1.0, 320)])
    (told,) = teacher.ask([Call(shipped().prompt(case) + rewritten(2.0, PAPER), 1.0, 320)])
    assert isinstance(plain, Answer)
    assert isinstance(told, Answer)
    assert shipped().formed(plain.text)
    assert fault(shipped(), told.text, 2.0, PAPER) == "kept"
