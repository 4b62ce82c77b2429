"""EXP3RT: one student learns three tasks and writes all texts of the rows to predict; nothing leaks."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from canary_world import CANARY, assert_no_leak, listen, split, start

import r4r.stages.exp3rt
import r4r.stages.train
from r4r.experts.exp3rt import Exp3rt, clean_preferences
from r4r.reasons.leak import leaks_rating
from r4r.rows import Case
from r4r.teacher.base import Answer, Call
from r4r.teacher.simulator import SimulatedTeacher

TASKS = ("### Review of the", "### Preferences in the User's", "### Preferences in the Reviews", "### User Profile ###")


def table(folder: Path, stage: str, name: str = "data.parquet") -> pd.DataFrame:
    [path] = (folder / "artifacts" / stage).glob(f"*/{name}")
    return pd.read_parquet(path)


def manifest(folder: Path, stage: str) -> dict[str, Any]:
    [path] = (folder / "artifacts" / stage).glob("*/manifest.json")
    return json.loads(path.read_text(encoding="utf-8"))


def repeated(prompt: str) -> str:
    """The two lines of one who likes whatever canary they read."""
    return f"Likes: {', '.join(match[0] for match in CANARY.finditer(prompt))}\nDislikes: None"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> tuple[Path, Any, Any, Any, Any]:
    """The folder and record of a job whose teacher and student repeat each canary that they read; its prompts for
    ratings, its training texts, and the student's prompts for preferences and profiles."""
    folder = tmp_path_factory.mktemp("exp3rt")
    texts: list[tuple[int, str, str]] = []
    written: list[str] = []
    encode, write_all, ask = r4r.stages.train.encode, r4r.stages.exp3rt.write_all, SimulatedTeacher.ask

    def parrot(work: Any, adapter: str, row_ids: Any, prompts: Any, *rest: Any) -> Any:
        found, facts = write_all(work, adapter, row_ids, prompts, *rest)
        written.extend(prompts)
        said = dict(zip(row_ids, map(repeated, prompts), strict=True))
        return found.assign(answer=found["row_id"].map(said)), facts

    def parrots(self: SimulatedTeacher, calls: list[Call]) -> list[Any]:
        profiled = [call.prompt.startswith("### User Profile") for call in calls]
        return [
            ask(self, [call])[0] if reasons else Answer(repeated(call.prompt), 1, 1)
            for reasons, call in zip(profiled, calls, strict=True)
        ]

    with pytest.MonkeyPatch.context() as patch:
        heard = listen(patch, Exp3rt, "prompt", "reason_prompt")
        patch.setattr(r4r.stages.train, "encode", lambda lm, given: encode(lm, texts.extend(given) or given))
        patch.setattr(r4r.stages.exp3rt, "write_all", parrot)
        patch.setattr(SimulatedTeacher, "ask", parrots)
        record = start(folder, model_cache, "method=exp3rt", "teacher.skill=0.5", "dataset.history.prompt=3")
    return folder, record, heard, texts, written


def test_it_predicts_every_row_with_a_reason(done: tuple[Path, Any, Any, Any, Any]) -> None:
    folder, record, *_ = done
    detail = table(folder, "predict/test", "detail.parquet")
    assert set(detail["label"]) == {"EXP3RT"}
    assert len(detail) == record["metrics"][0]["n"] == 8
    assert record["metrics"][0]["label"] == "EXP3RT"
    assert detail["mean"].between(1, 5).all()
    answers = table(folder, "deliberate/test", "answers.parquet").set_index("row_id")["answer"]
    assert {r: Exp3rt.reason(a) for r, a in answers.items()} == dict(
        zip(detail["row_id"], detail["reason"], strict=True)
    )


def test_no_profile_holds_its_targets_review_or_one_of_its_time(done: tuple[Path, Any, Any, Any, Any]) -> None:
    folder, _, heard, *_ = done
    rows = split(folder)
    assert {name for name, _, _ in heard} == {"prompt", "reason_prompt"}
    assert {"train", "test"} == {rows.loc[row_id, "split"] for name, row_id, _ in heard if name == "prompt"}
    assert_no_leak(rows, heard)


def test_the_student_reads_train_reviews_alone_each_text_once(done: tuple[Path, Any, Any, Any, Any]) -> None:
    folder, *_, written = done
    rows = split(folder)
    train = set(rows.loc[rows["split"] == "train", "canary"])
    assert len(written) == len(set(written))
    for task in TASKS[:3]:
        assert any(prompt.startswith(task) for prompt in written)
    assert all({int(n) for n in CANARY.findall(prompt)} <= train for prompt in written)


def test_the_student_learns_all_three_tasks(done: tuple[Path, Any, Any, Any, Any]) -> None:
    folder, _, _, texts, _ = done
    rows = split(folder)
    by_task = {task: [text for text in texts if text[1].startswith(task)] for task in TASKS}
    assert sum(map(len, by_task.values())) == len(texts)
    assert len(by_task[TASKS[0]]) == 12  # pools.summaries
    reasons = table(folder, "exp3rt/teacher_reasons").set_index("row_id")["reason"]
    for task in TASKS[:3]:
        assert by_task[task]
        for _, prompt, response in by_task[task]:
            assert response == repeated(prompt)
    assert {row_id: response for row_id, _, response in by_task[TASKS[3]]} == {
        row_id: f"Analysis: {reason}\nPredicted Rating: {rows.loc[row_id, 'rating']:.1f}"
        for row_id, reason in reasons.items()
    }


def test_the_counts_add_up_and_no_reason_leaks(done: tuple[Path, Any, Any, Any, Any]) -> None:
    folder, *_ = done
    for stage in ("teacher_preferences", "teacher_profiles", "teacher_reasons"):
        facts = manifest(folder, f"exp3rt/{stage}")
        assert facts["kept"] + sum(facts["dropped"].values()) == facts["teacher_calls"]
    facts = manifest(folder, "exp3rt/teacher_reasons")
    assert facts["pairs"] == manifest(folder, "exp3rt/teacher_profiles")["complete_pairs"] == 24
    assert facts["dropped"]["gives away the rating"] > 0
    assert not table(folder, "exp3rt/teacher_reasons")["reason"].map(leaks_rating).any()


def test_pairs_without_a_profile_are_dropped_and_a_kill_costs_no_call_twice(
    tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    ask, asked, limit = SimulatedTeacher.ask, list[str](), [20]

    def dying(self: SimulatedTeacher, calls: list[Call]) -> list[Any]:
        if len(asked) >= limit[0]:
            raise Killed
        asked.extend(call.prompt for call in calls)
        return [
            Answer("I would rather not.", 1, 1) if '"Item 3"' in call.prompt[:80] else ask(self, [call])[0]
            for call in calls
        ]

    monkeypatch.setattr(SimulatedTeacher, "ask", dying)
    job = ("method=exp3rt", "target=exp3rt/teacher_reasons")
    with pytest.raises(Killed):
        start(tmp_path, model_cache, *job)
    limit[0] = 10**6
    start(tmp_path, model_cache, *job)
    assert len(asked) == len(set(asked))
    facts = manifest(tmp_path, "exp3rt/teacher_profiles")
    assert facts["dropped"]["not the two lines of preferences"] > 0
    assert 0 < facts["complete_pairs"] < facts["pairs"] == 24
    rows = split(tmp_path)
    kept = table(tmp_path, "exp3rt/teacher_profiles")["row_id"]
    assert "Item 3" not in set(rows.loc[kept, "title"])


def test_a_skilled_simulated_teacher_extracts_gathers_and_compares() -> None:
    teacher = SimulatedTeacher(skill=1.0, seed=0)

    def said(prompt: str, temperature: float = 0.2) -> str:
        [answer] = teacher.ask([Call(prompt, temperature, 320)])
        assert isinstance(answer, Answer)
        return answer.text

    reviews = ("The melodies stick in your head. The lyrics are clumsy.", "I keep humming it at work.")
    found = [said(Exp3rt.preferences_prompt("Music", "Kind of Blue", 4.0, review)) for review in reviews]
    assert found == [
        "Likes: Catchy Melody\nDislikes: Weak Lyrics",
        "Likes: Catchy Melody\nDislikes: None",
    ]
    user = said(Exp3rt.user_profile_prompt([("Kind of Blue", 4.0, text) for text in found]))
    assert user == "Likes: Catchy Melody\nDislikes: Weak Lyrics" == clean_preferences(user)
    item = said(Exp3rt.item_profile_prompt("Music", "Blue Train", [("Blue Train", 2.0, "Dislikes: Weak Lyrics")]))
    assert item == "Likes: None\nDislikes: Weak Lyrics"
    case = Case(1, "Blue Train", "Music", (), (), 4.0, 2.0)
    reason = said(Exp3rt.reason_prompt(case, user, item, 1.0), 1.0)
    assert "The album is criticised for its weak lyrics. The lyrics would put them off." in reason
    assert "dislike it" in reason
