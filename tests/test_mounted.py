"""The expert that the configuration mounts is the one that asks, learns and is read, in every stage of the job."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from r4r.lm.chat import Chat
from r4r.store.artifact import Store

STOCK = {
    "summarizer": "summarizer.Summarizer",
    "reward_model": "reward_model.RewardModel",
    "reasoner": "reasoner.Reasoner",
    "predictor": "predictor.Predictor",
    "onestep": "onestep.OneStep",
    "cot": "cot.ChainOfThought",
}
ASKED = {  # the stages whose prompts are an expert's own, beside its lessons
    "summarizer": {"teacher_summaries", "summaries"},
    "reward_model": {"reasons"},
    "reasoner": {"reasons", "write/reasoner/experts", "write/reasoner/test"},
    "predictor": {"predict/test"},
    "onestep": {"write/onestep/test", "predict/test"},
    "cot": {"write/cot/test", "predict/test"},
}
Told = dict[str, list[str]]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with subclasses of all experts, each with a word of its own in prompts and answers, and their YAML."""
    folder = tmp_path_factory.mktemp("own")
    lines = ["from r4r.experts import " + ", ".join(path.partition(".")[0] for path in STOCK.values())]
    (folder / "conf" / "expert").mkdir(parents=True)
    for place, path in STOCK.items():
        lines += [
            f"class {place.title()}({path}):",
            f"    def prompt(self, *about): return super().prompt(*about) + '\\nasked by {place}'",
            f"    def target(self, *about): return 'learnt by {place} ' + super().target(*about)",
        ]
        text = f"defaults: [{place}]\n_target_: own_experts.{place.title()}\n"
        (folder / "conf" / "expert" / f"own_{place}.yaml").write_text(text)
    (folder / "own_experts.py").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def told(own: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """stage -> every prompt that the base model was given in it, or that the teacher was."""
    monkeypatch.syspath_prepend(str(own))
    heard: Told = {}
    stage = [""]
    workspace, encode = Store.workspace, Chat.prompt_ids

    def noting(self: Store, name: str, key: str) -> Path:
        stage[0] = name
        return workspace(self, name, key)

    def spy(self: Chat, prompt: str) -> list[int]:
        heard.setdefault(stage[0], []).append(prompt)
        return encode(self, prompt)

    monkeypatch.setattr(Store, "workspace", noting)
    monkeypatch.setattr(Chat, "prompt_ids", spy)
    from r4r.teacher.simulator import SimulatedTeacher

    ask = SimulatedTeacher.ask

    def asked(self: SimulatedTeacher, calls):  # type: ignore[no-untyped-def]
        heard.setdefault(stage[0], []).extend(call.prompt for call in calls)
        return ask(self, calls)

    monkeypatch.setattr(SimulatedTeacher, "ask", asked)
    return heard


@pytest.mark.parametrize(
    ("strategy", "swapped"),
    [
        ("multistep", ["summarizer", "reward_model", "reasoner", "predictor"]),
        ("onestep", ["onestep"]),
        pytest.param("cot", ["cot"], marks=pytest.mark.slow),  # in other words, the way of onestep
    ],
)
def test_a_swapped_expert_is_trained_writes_and_rates(
    r4r: Callable[..., int],
    own: Path,
    told: Told,
    tmp_path: Path,
    strategy: str,
    swapped: list[str],
    store_of_a_finished_job: Callable[[Path], None],
) -> None:
    if "summarizer" not in swapped:
        store_of_a_finished_job(tmp_path)
        told.clear()  # of that job, where it was not there yet
    swaps = [f"expert@experts.{place}=own_{place}" for place in swapped]
    job = ["experiment=smoke", f"strategy={strategy}", "references={}", f"paths.outputs={tmp_path}", *swaps]
    assert r4r("--config-dir", str(own / "conf"), *job, "plugins=[own_experts]") == 0
    for place in swapped:
        (lessons,) = (tmp_path / "artifacts" / "train").glob(f"{place}.lessons/*/data.parquet")
        table = pd.read_parquet(lessons)
        assert len(table) > 3
        assert table["prompt"].str.endswith(f"\nasked by {place}").all()
        assert table["response"].str.startswith(f"learnt by {place} ").all()
        for stage in ASKED[place]:
            assert any(f"\nasked by {place}" in prompt for prompt in told[stage]), (stage, place)
    for stage in ("summaries", "predict/test"):
        last = "summarizer" if stage == "summaries" else swapped[-1]
        if last in swapped:
            assert all(prompt.endswith(f"\nasked by {last}") for prompt in told[stage])


def test_another_class_is_another_key(r4r: Callable[..., int], own: Path, tmp_path: Path, told: Told, capsys) -> None:  # type: ignore[no-untyped-def]
    """Of the swapped expert's own stages and of those behind them, and of no other."""

    def keys(*swap: str) -> dict[str, str]:
        argv = ["--config-dir", str(own / "conf"), "experiment=smoke", "plan=true", f"paths.outputs={tmp_path}", *swap]
        assert r4r(*argv, "plugins=[own_experts]") == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("build")]
        return {name: key for _, name, key, *_ in lines}

    before, after = keys(), keys("expert@experts.predictor=own_predictor")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"train/predictor.lessons", "train/predictor", "predict/test"}
    assert json.dumps(before) != json.dumps(after)
