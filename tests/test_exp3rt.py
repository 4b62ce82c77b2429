"""EXP3RT: its student learns four tasks and writes all texts of the rows to predict; nothing leaks."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from canary_world import CANARY, assert_no_leak, listen, split, start

import r4r.methods.exp3rt.predictions
from r4r.lm.base import Lora
from r4r.methods.exp3rt.experts import Exp3rt, ItemProfiler, PreferenceExtractor, UserProfiler
from r4r.reasons.leak import leaks_rating
from r4r.rows import Case
from r4r.teacher.base import Answer, Call
from r4r.teacher.simulator import SimulatedTeacher

TASKS = {  # the expert of each task -> how its prompts begin
    "exp3rt_preferences": "### Review of the",
    "exp3rt_user_profile": "### Preferences in the User's",
    "exp3rt_item_profile": "### Preferences in the Reviews",
    "exp3rt": "### User Profile ###",
}
JOB = ("method=exp3rt", "teacher.skill=0.5", "dataset.history.prompt=3")


def shipped(expert: type) -> Any:
    """An expert with settings that matter to no prompt."""
    return expert(lora=Lora(), lr=1e-3, epochs=1, batch_size=1, warmup=0, max_new_tokens=8)


def table(folder: Path, stage: str, name: str = "data.parquet") -> pd.DataFrame:
    [path] = (folder / "artifacts" / stage).glob(f"*/{name}")
    return pd.read_parquet(path)


def manifest(folder: Path, stage: str) -> dict[str, Any]:
    [path] = (folder / "artifacts" / stage).glob("*/manifest.json")
    return json.loads(path.read_text(encoding="utf-8"))


def repeated(prompt: str) -> str:
    """The two lines of one who likes whatever canary they read."""
    return f"Likes: {', '.join(match[0] for match in CANARY.finditer(prompt))}\nDislikes: None"


def task_of(prompt: str) -> str:
    return next(task for task, beginning in TASKS.items() if prompt.startswith(beginning))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> tuple[Path, Any, Any, Any]:
    """The folder and record of a job whose teacher and student repeat each canary that they read; its prompts for
    ratings; and (adapter, prompt) of all that the student wrote of preferences and profiles."""
    folder = tmp_path_factory.mktemp("exp3rt")
    written: list[tuple[str, str]] = []
    write_all, ask = r4r.methods.exp3rt.predictions.write_all, SimulatedTeacher.ask

    def parrot(work: Any, adapter: str, row_ids: Any, prompts: Any, *rest: Any) -> Any:
        found, facts = write_all(work, adapter, row_ids, prompts, *rest)
        written.extend((adapter, prompt) for prompt in prompts)
        said = dict(zip(row_ids, map(repeated, prompts), strict=True))
        return found.assign(text=found["row_id"].map(said)), facts

    def parrots(self: SimulatedTeacher, calls: list[Call]) -> list[Any]:
        profiled = [call.prompt.startswith("### User Profile") for call in calls]
        return [
            ask(self, [call])[0] if reasons else Answer(repeated(call.prompt), 1, 1)
            for reasons, call in zip(profiled, calls, strict=True)
        ]

    with pytest.MonkeyPatch.context() as patch:
        heard = listen(patch, Exp3rt, "prompt", "reason_prompt")
        patch.setattr(r4r.methods.exp3rt.predictions, "write_all", parrot)
        patch.setattr(SimulatedTeacher, "ask", parrots)
        record = start(folder, model_cache, *JOB)
    return folder, record, heard, written


def test_it_predicts_every_row_with_a_reason(done: tuple[Path, Any, Any, Any]) -> None:
    folder, record, *_ = done
    detail = table(folder, "predict/test", "detail.parquet")
    assert set(detail["label"]) == {"EXP3RT"}
    assert len(detail) == record["metrics"][0]["n"] == 8
    assert record["metrics"][0]["label"] == "EXP3RT"
    assert detail["mean"].between(1, 5).all()
    answers = table(folder, "write/exp3rt/test").set_index("row_id")["text"]
    assert {r: shipped(Exp3rt).read(a) for r, a in answers.items()} == dict(
        zip(detail["row_id"], detail["reason"], strict=True)
    )


def test_no_profile_holds_its_targets_review_or_one_of_its_time(done: tuple[Path, Any, Any, Any]) -> None:
    folder, _, heard, _ = done
    rows = split(folder)
    assert {name for name, _, _ in heard} == {"prompt", "reason_prompt"}
    assert {"train", "test"} == {rows.loc[row_id, "split"] for name, row_id, _ in heard if name == "prompt"}
    assert_no_leak(rows, heard)


def test_the_student_reads_train_reviews_alone_each_text_once(done: tuple[Path, Any, Any, Any]) -> None:
    folder, *_, written = done
    rows = split(folder)
    train = set(rows.loc[rows["split"] == "train", "canary"])
    assert len(written) == len(set(written))
    assert {adapter for adapter, _ in written} == set(TASKS) - {"exp3rt"}
    for adapter, prompt in written:
        assert task_of(prompt) == adapter  # each task by its own adapter
        assert {int(n) for n in CANARY.findall(prompt)} <= train


def lessons(folder: Path, stage: str) -> dict[str, list[tuple[int, str, str]]]:
    """The training texts of a stage, by the task that they are of."""
    by_task: dict[str, list[tuple[int, str, str]]] = {}
    for row_id, prompt, response in table(folder, stage).itertuples(index=False, name=None):
        by_task.setdefault(task_of(prompt), []).append((row_id, prompt, response))
    return by_task


def test_each_task_is_learnt_by_its_own_adapter_in_the_published_balance(done: tuple[Path, Any, Any, Any]) -> None:
    """An extraction a review, a profile a user and one an item, a rationale a pair."""
    folder, *_ = done
    rows = split(folder)
    found = {}
    for task in TASKS:
        by_task = lessons(folder, f"train/{task}.lessons")
        assert set(by_task) == {task}
        found[task] = by_task[task]
        if task != "exp3rt":
            assert all(response == repeated(prompt) for _, prompt, response in found[task])
    assert len(found["exp3rt_preferences"]) == 12  # pools.summaries
    for side in ("user", "item"):
        answered = table(folder, f"exp3rt/teacher_{side}_profiles", "answered.parquet")
        owners = rows.loc[answered["row_id"], f"{side}_id"]
        taught = [row_id for row_id, _, _ in found[f"exp3rt_{side}_profile"]]
        assert sorted(taught) == sorted(answered.groupby(owners.to_numpy())["row_id"].max())
        assert len(taught) < len(answered)
    reasons = table(folder, "exp3rt/teacher_reasons").set_index("row_id")["reason"]
    assert {row_id: response for row_id, _, response in found["exp3rt"]} == {
        row_id: f"Analysis: {reason}\nPredicted Rating: {rows.loc[row_id, 'rating']:.1f}"
        for row_id, reason in reasons.items()
    }


def test_one_shared_adapter_learns_and_writes_all_of_it(done: tuple[Path, Any, Any, Any], model_cache: Path) -> None:
    """Asks the teacher nothing anew, and takes every profile."""
    folder, *_ = done
    adapters = []
    use = r4r.methods.exp3rt.predictions.use_adapter
    with pytest.MonkeyPatch.context() as patch:
        noting = lambda job, name, of: adapters.append(name) or use(job, name, of)  # noqa: E731
        patch.setattr(r4r.methods.exp3rt.predictions, "use_adapter", noting)
        patch.setattr(SimulatedTeacher, "ask", None)
        record = start(folder, model_cache, *JOB, "method.adapters=shared")
    assert set(adapters) == {"exp3rt"}
    assert not set(record["artifacts"]) & {f"train/{task}" for task in TASKS if task != "exp3rt"}
    by_task = lessons(folder, "train/exp3rt.joined_lessons")
    assert set(by_task) == set(TASKS)
    for side in ("user", "item"):
        answered = table(folder, f"exp3rt/teacher_{side}_profiles", "answered.parquet")
        assert len(by_task[f"exp3rt_{side}_profile"]) == len(answered)


def test_the_counts_add_up_and_no_reason_leaks(done: tuple[Path, Any, Any, Any]) -> None:
    folder, *_ = done
    for stage in ("teacher_preferences", "teacher_user_profiles", "teacher_item_profiles", "teacher_reasons"):
        facts = manifest(folder, f"exp3rt/{stage}")
        assert facts["kept"] + sum(facts["dropped"].values()) == facts["teacher_calls"]
    facts = manifest(folder, "exp3rt/teacher_reasons")
    assert (facts["pairs"], facts["without_profile"]) == (24, 0)
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
    facts = manifest(tmp_path, "exp3rt/teacher_item_profiles")
    assert facts["dropped"]["not the two lines of preferences"] > 0
    assert 0 < facts["profiled"] < facts["pairs"] == 24
    told = manifest(tmp_path, "exp3rt/teacher_reasons")
    assert told["without_profile"] == 24 - facts["profiled"]
    assert told["pairs"] == facts["profiled"]
    rows = split(tmp_path)
    kept = table(tmp_path, "exp3rt/teacher_item_profiles")["row_id"]
    assert "Item 3" not in set(rows.loc[kept, "title"])


def test_a_skilled_simulated_teacher_extracts_gathers_and_compares() -> None:
    teacher = SimulatedTeacher(skill=1.0, seed=0)

    def said(prompt: str, temperature: float = 0.2) -> str:
        [answer] = teacher.ask([Call(prompt, temperature, 320)])
        assert isinstance(answer, Answer)
        return answer.text

    extractor, user_profiler, item_profiler = map(shipped, (PreferenceExtractor, UserProfiler, ItemProfiler))
    reviews = ("The melodies stick in your head. The lyrics are clumsy.", "I keep humming it at work.")
    found = [said(extractor.prompt("Music", "Kind of Blue", "4.0", review)) for review in reviews]
    assert found == [
        "Likes: Catchy Melody\nDislikes: Weak Lyrics",
        "Likes: Catchy Melody\nDislikes: None",
    ]
    users = tuple(("Kind of Blue", 4.0, text) for text in found)
    case = Case(1, "Blue Train", "Music", users, (("Blue Train", 2.0, "Dislikes: Weak Lyrics"),), 4.0, 2.0)
    user = said(user_profiler.prompt(case))
    assert user == "Likes: Catchy Melody\nDislikes: Weak Lyrics" == user_profiler.lines(user)
    item = said(item_profiler.prompt(case))
    assert item == "Likes: None\nDislikes: Weak Lyrics"
    for described in (case, replace(case, description="Likes: Virtuosos of all sorts.")):
        reason = said(shipped(Exp3rt).reason_prompt(described.thinking(user, item), 1.0), 1.0)
        assert "The album is criticised for its weak lyrics, important to them." in reason
        assert "dislike it" in reason
