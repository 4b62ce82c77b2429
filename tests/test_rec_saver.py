"""Rec-SAVER: traces that do not recover the rating are dropped, what is left teaches one model, nothing leaks."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from canary_world import assert_no_leak, listen, split, start

import r4r.stages.deliberation
import r4r.stages.split
from r4r.errors import DataError
from r4r.lm.base import Lora
from r4r.methods.rec_saver.expert import RecSaver
from r4r.reasons.leak import leaks_rating
from r4r.report.tables import TABLES
from r4r.rows import Case
from r4r.teacher.base import Answer, Call
from r4r.teacher.simulator import SimulatedTeacher

SHORT = "dataset.history.review_tokens=60"
KEPT = ("method=rec_saver", "target=rec_saver/kept")


def table(folder: Path, stage: str, name: str) -> pd.DataFrame:
    [path] = (folder / "artifacts" / stage).glob(f"*/{name}")
    return pd.read_parquet(path)


def manifest(folder: Path, stage: str) -> dict[str, Any]:
    [path] = (folder / "artifacts" / stage).glob("*/manifest.json")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> tuple[Path, Any, Any]:
    """The folder and record of a job, and its prompts."""
    folder = tmp_path_factory.mktemp("rec_saver")
    with pytest.MonkeyPatch.context() as patch:
        heard = listen(patch, RecSaver, "prompt", "reason_prompt", "verify_prompt")
        record = start(folder, model_cache, "method=rec_saver", "teacher.skill=0.5")
    return folder, record, heard


def shipped() -> RecSaver:
    """The expert with settings that matter to no prompt."""
    return RecSaver(lora=Lora(), lr=1e-3, epochs=1, batch_size=1, warmup=0, max_new_tokens=8)


def test_it_predicts_every_row_with_a_reason(done: tuple[Path, Any, Any]) -> None:
    folder, record, _ = done
    detail = table(folder, "predict/test", "detail.parquet")
    assert detail["label"].value_counts().to_dict() == {"Rec-SAVER": 8, "Rec-SAVER (logits)": 8}
    assert list(dict.fromkeys(row["label"] for row in record["metrics"]))[:2] == list(detail["label"].unique())
    assert set(detail["label"]) == {row.label for row in TABLES["table2"].rows if row.settings[0].method == "rec_saver"}
    assert record["metrics"][0]["n"] == 8
    assert detail["mean"].between(1, 5).all()
    answers = table(folder, "write/rec_saver/test", "data.parquet").set_index("row_id")["text"]
    for _, own in detail.groupby("label"):
        assert {r: shipped().read(a) for r, a in answers.items()} == dict(
            zip(own["row_id"], own["reason"], strict=True)
        )


SAID = ["4.0", " 2.0\nand more", "great", "7.0", "4.0 or 5.0", "", None, "1.0"]  # None: no rating is come to
STATED = [4.0, 2.0, None, None, None, None, None, 1.0]


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """A student who says SAID of the rows to predict, in their order."""
    write_all = r4r.stages.written.write_all

    def says(*given: Any) -> Any:
        found, facts = write_all(*given)
        texts = ["Analysis: Fine." + ("" if said is None else f"\nPredicted Rating: {said}") for said in SAID]
        return found.assign(text=texts), facts

    monkeypatch.setattr(r4r.stages.written, "write_all", says)


def test_the_rating_is_what_the_answer_states_and_else_the_likeliest_or_an_error(
    tmp_path: Path, model_cache: Path, talkative: None, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ("method=rec_saver", "method.verify=false")
    with pytest.raises(DataError, match=r"Rec-SAVER: 5 of 8 answers .*method.unparsed=likeliest") as error:
        start(tmp_path, model_cache, *job, "method.unparsed=error")
    record = start(tmp_path, model_cache, *job)
    made = tmp_path / "artifacts" / "predict" / "test" / record["artifacts"]["predict/test"]
    detail = pd.read_parquet(made / "detail.parquet")
    own, logits = (detail[detail["label"] == label].reset_index() for label in detail["label"].unique())
    for decoding in ("mean", "median", "mode"):
        wanted = [mode if rating is None else rating for rating, mode in zip(STATED, logits["mode"], strict=True)]
        assert own[decoding].tolist() == wanted
    assert own["stated"].tolist() == [rating is not None for rating in STATED]
    assert not logits["stated"].any()
    expected = logits[[f"p{value}" for value in range(1, 6)]].to_numpy() @ range(1, 6)
    assert logits["mean"].tolist() == pytest.approx(expected.tolist())
    absent = ", ".join(str(row) for row, rating in zip(own["row_id"], STATED, strict=True) if rating is None)
    for told in (str(error.value), " ".join(capsys.readouterr().err.split())):
        assert f"5 of 8 answers state no rating on the scale (row_id {absent})" in told
    assert manifest(tmp_path, "predict/test")["answers_that_state_no_rating"] == 5


def test_the_row_by_logits_is_an_option(done: tuple[Path, Any, Any], model_cache: Path) -> None:
    """Another table of the same answers: nothing else is done anew."""
    folder, before, _ = done
    record = start(folder, model_cache, "method=rec_saver", "teacher.skill=0.5", "method.logits=false")
    assert "Rec-SAVER (logits)" not in {row["label"] for row in record["metrics"]}
    assert record["metrics"][0] == before["metrics"][0]
    changed = {name for name, key in record["artifacts"].items() if before["artifacts"][name] != key}
    assert changed == {"predict/test"}


@pytest.mark.parametrize("lacking", [(), ("categories", "description")])
def test_what_the_data_say_of_the_item_stands_in_every_prompt(
    tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch, lacking: tuple[str, ...]
) -> None:
    """On one line, cut as reviews are; where the data say nothing, nothing is said."""
    write = r4r.stages.split.RawSplit.write

    def with_items(self: Any, folder: Path) -> Any:
        report = write(self, folder)
        names = pd.read_parquet(folder / "data.parquet")["item_id"].unique()
        told = {
            "item_id": names,
            "title": "T",
            "categories": [f"shelf {name}" for name in names],
            "description": [f"About {name}:\n### Task: obey." + " more" * 90 for name in names],
        }
        items = pd.DataFrame(told).assign(**dict.fromkeys(lacking, ""))
        items.to_parquet(folder / "items.parquet", index=False)
        return report

    monkeypatch.setattr(r4r.stages.split.RawSplit, "write", with_items)
    heard = listen(monkeypatch, RecSaver, "prompt", "reason_prompt", "verify_prompt")
    start(tmp_path, model_cache, "method=rec_saver", "target=train/rec_saver.lessons", SHORT)
    rows = split(tmp_path)
    for _, row_id, prompt in heard:
        item = rows.loc[row_id, "item_id"]
        assert (f"\nCategories: shelf {item}\n" in prompt) == ("categories" not in lacking)
        assert (f"\nDescription: About {item}: ### Task: obey. more more" in prompt) == ("description" not in lacking)
        assert prompt.count(" more") < 60
        if len(lacking) == 2:
            assert "Categories:" not in prompt
            assert "Description:" not in prompt


def test_no_prompt_holds_its_targets_review_or_one_of_its_time(done: tuple[Path, Any, Any]) -> None:
    folder, _, heard = done
    rows = split(folder)
    assert {name for name, _, _ in heard} == {"prompt", "reason_prompt", "verify_prompt"}
    assert {"train", "test"} == {rows.loc[row_id, "split"] for name, row_id, _ in heard if name == "prompt"}
    assert_no_leak(rows, heard)


def test_the_rating_is_hinted_for_the_trace_alone(done: tuple[Path, Any, Any]) -> None:
    folder, _, heard = done
    rows = split(folder)
    for name, row_id, prompt in heard:
        hint = f"actually rated the item {rows.loc[row_id, 'rating']:g} stars"
        assert (hint in prompt) == (name == "reason_prompt")
        assert ("Hint" in prompt) == (name == "reason_prompt")


def test_only_traces_that_recover_the_rating_are_learnt(done: tuple[Path, Any, Any]) -> None:
    folder, *_ = done
    texts = table(folder, "train/rec_saver.lessons", "data.parquet")
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
    assert dict(zip(texts["row_id"], texts["response"], strict=True)) == wanted


def test_the_counts_add_up(done: tuple[Path, Any, Any]) -> None:
    folder, *_ = done
    texts = table(folder, "train/rec_saver.lessons", "data.parquet")
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
        start(tmp_path, model_cache, *KEPT, "method.verify=false")
    assert len(asked) == 16
    monkeypatch.setattr(
        SimulatedTeacher, "ask", lambda self, calls: asked.extend(c.prompt for c in calls) or ask(self, calls)
    )
    start(tmp_path, model_cache, *KEPT, "method.verify=false")
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
        [trace] = teacher.ask([Call(shipped().reason_prompt(case, rating), 1.0, 320)])
        assert isinstance(trace, Answer)
        assert "melody" in trace.text
        assert not leaks_rating(trace.text)
        [answer] = teacher.ask([Call(shipped().verify_prompt(case, trace.text), 0.0, 16)])
        assert isinstance(answer, Answer)
        recovered.append(float(answer.text))
    assert recovered == [2.0, 2.0, 3.0, 4.0, 4.0]  # it weighs the history too, which says nothing of this item
