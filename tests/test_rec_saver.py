"""Rec-SAVER: traces that do not recover the rating are dropped, what is left teaches one model, nothing leaks."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from canary_world import assert_no_leak, listen, split, start

import r4r.stages.train
from r4r.errors import DataError
from r4r.experts.rec_saver import RecSaver
from r4r.reasons.leak import leaks_rating
from r4r.rows import Case
from r4r.teacher.base import Answer, Call
from r4r.teacher.simulator import SimulatedTeacher

KEPT = ("method=rec_saver", "target=rec_saver/kept")


def table(folder: Path, stage: str, name: str) -> pd.DataFrame:
    [path] = (folder / "artifacts" / stage).glob(f"*/{name}")
    return pd.read_parquet(path)


def manifest(folder: Path, stage: str) -> dict[str, Any]:
    [path] = (folder / "artifacts" / stage).glob("*/manifest.json")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> tuple[Path, Any, Any, Any]:
    """The folder and record of a job, its prompts, and its training texts."""
    folder = tmp_path_factory.mktemp("rec_saver")
    texts: list[tuple[int, str, str]] = []
    encode = r4r.stages.train.encode
    with pytest.MonkeyPatch.context() as patch:
        heard = listen(patch, RecSaver, "prompt", "reason_prompt", "verify_prompt")
        patch.setattr(r4r.stages.train, "encode", lambda lm, given: encode(lm, texts.extend(given) or given))
        record = start(folder, model_cache, "method=rec_saver", "teacher.skill=0.5")
    return folder, record, heard, texts


def test_it_predicts_every_row_with_a_reason(done: tuple[Path, Any, Any, Any]) -> None:
    folder, record, _, _ = done
    detail = table(folder, "predict/test", "detail.parquet")
    assert set(detail["label"]) == {"Rec-SAVER"}
    assert len(detail) == record["metrics"][0]["n"] == 8
    assert record["metrics"][0]["label"] == "Rec-SAVER"
    assert detail["mean"].between(1, 5).all()
    answers = table(folder, "deliberate/test", "answers.parquet").set_index("row_id")["answer"]
    assert {r: RecSaver.reason(a) for r, a in answers.items()} == dict(
        zip(detail["row_id"], detail["reason"], strict=True)
    )


def test_no_prompt_holds_its_targets_review_or_one_of_its_time(done: tuple[Path, Any, Any, Any]) -> None:
    folder, _, heard, _ = done
    rows = split(folder)
    assert {name for name, _, _ in heard} == {"prompt", "reason_prompt", "verify_prompt"}
    assert {"train", "test"} == {rows.loc[row_id, "split"] for name, row_id, _ in heard if name == "prompt"}
    assert_no_leak(rows, heard)


def test_the_rating_is_hinted_for_the_trace_alone(done: tuple[Path, Any, Any, Any]) -> None:
    folder, _, heard, _ = done
    rows = split(folder)
    for name, row_id, prompt in heard:
        hint = f"actually rated the item {rows.loc[row_id, 'rating']:g} stars"
        assert (hint in prompt) == (name == "reason_prompt")
        assert ("Hint" in prompt) == (name == "reason_prompt")


def test_only_traces_that_recover_the_rating_are_learnt(done: tuple[Path, Any, Any, Any]) -> None:
    folder, _, _, texts = done
    traces = table(folder, "rec_saver/kept", "traces.parquet")
    right = (traces["recovered"] - traces["rating"]).abs() <= 0.5
    assert ((traces["cause"] == "kept") == right).all()
    leaks = traces["reason"].map(leaks_rating)
    assert leaks.any()
    assert (traces.loc[leaks, "cause"] == "gives away the rating").all()
    assert traces.loc[leaks, "recovered"].isna().all()  # not even asked for
    assert (traces["cause"] == "rating not recovered").any()
    wanted = {
        row.row_id: f"Analysis: {row.reason}\nPredicted Rating: {row.rating:.1f}"
        for row in traces[traces["cause"] == "kept"].itertuples()
    }
    assert {row_id: response for row_id, _, response in texts} == wanted


def test_the_counts_add_up(done: tuple[Path, Any, Any, Any]) -> None:
    folder, _, _, texts = done
    facts = manifest(folder, "rec_saver/kept")
    assert facts["pairs"] == manifest(folder, "rec_saver/traces")["teacher_calls"] == 24
    assert facts["kept"] == len(texts) > 0
    assert facts["kept"] + sum(facts["dropped"].values()) == facts["pairs"]
    assert facts["teacher_calls"] == facts["pairs"] - facts["dropped"]["gives away the rating"]


def test_an_answer_that_is_no_rating_recovers_none(
    tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = SimulatedTeacher.ask

    def unsure(self: SimulatedTeacher, calls: list[Call]) -> list[Any]:
        verifying = [("### Reasoning ###" in call.prompt, call) for call in calls]
        return [
            Answer("3" if n % 2 else "perhaps 3", 1, 1) if verify else ask(self, [call])[0]
            for n, (verify, call) in enumerate(verifying)
        ]

    monkeypatch.setattr(SimulatedTeacher, "ask", unsure)
    start(tmp_path, model_cache, *KEPT)
    traces = table(tmp_path, "rec_saver/kept", "traces.parquet")
    assert (traces["cause"] == "no rating in the answer").sum() > 2
    kept = traces[traces["cause"] == "kept"]
    assert len(kept) > 0
    assert (kept["rating"] == 3).all()
    monkeypatch.setattr(SimulatedTeacher, "ask", lambda self, calls: [Answer("none", 1, 1) for _ in calls])
    with pytest.raises(DataError, match="none of the 24 traces can be learnt from"):
        start(tmp_path, model_cache, *KEPT, "teacher.skill=0.4")


def test_what_was_asked_before_a_kill_is_not_asked_again(
    tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    ask, asked = SimulatedTeacher.ask, list[str]()

    def dying(self: SimulatedTeacher, calls: list[Call]) -> list[Any]:
        if len(asked) >= 16 and not any("### Reasoning ###" in prompt for prompt in asked):
            raise Killed
        asked.extend(call.prompt for call in calls)
        return ask(self, calls)

    monkeypatch.setattr(SimulatedTeacher, "ask", dying)
    with pytest.raises(Killed):
        start(tmp_path, model_cache, *KEPT, "++method.verify=false")
    assert len(asked) == 16
    monkeypatch.setattr(
        SimulatedTeacher, "ask", lambda self, calls: asked.extend(c.prompt for c in calls) or ask(self, calls)
    )
    start(tmp_path, model_cache, *KEPT, "++method.verify=false")
    assert len(asked) == len(set(asked)) == 24
    traces = table(tmp_path, "rec_saver/kept", "traces.parquet")
    assert traces["recovered"].isna().all()  # not verified: all that do not leak are kept
    assert ((traces["cause"] == "kept") != traces["reason"].map(leaks_rating)).all()


def test_a_skilled_simulated_teacher_recovers_about_what_it_was_told() -> None:
    teacher = SimulatedTeacher(skill=1.0, seed=0)
    history = (("Kind of Blue", 5.0, "The melodies stick in your head. The lyrics are clumsy."),)
    case = Case(1, "Blue Train", "Music", history, (), 5.0, None)
    recovered = []
    for rating in (1.0, 2.0, 3.0, 4.0, 5.0):
        [trace] = teacher.ask([Call(RecSaver.reason_prompt(case, rating), 1.0, 320)])
        assert isinstance(trace, Answer)
        assert "melody" in trace.text
        assert not leaks_rating(trace.text)
        [answer] = teacher.ask([Call(RecSaver.verify_prompt(case, trace.text), 0.0, 16)])
        assert isinstance(answer, Answer)
        recovered.append(float(answer.text))
    assert recovered == [2.0, 2.0, 3.0, 4.0, 4.0]  # it weighs the history too, which says nothing of this item
