"""What is known before a job does anything: a base model that cannot be used, and the memory that one takes."""

import copy
import json
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from model_families import build_family

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.errors import ModelError
from r4r.lm import memory
from r4r.stages.deliberation import predictions_stage
from r4r.stages.further import Furthered
from r4r.stages.past import earlier
from r4r.store.artifact import Store


def test_a_model_that_cannot_be_trained_is_refused_before_the_teacher_is_asked(
    r4r: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"llm.source=path:{build_family('mamba', tmp_path / 'mamba')}"
    job = ["experiment=smoke", source, "llm.name=mamba", f"paths.outputs={tmp_path / 'out'}"]
    assert r4r(*job) == 1
    told = capsys.readouterr().err
    assert "r4r: mamba: r4r cannot use models of the kind 'mamba'" in told
    assert "Traceback" not in told
    assert not (tmp_path / "out" / "artifacts" / "teacher_summaries").exists()
    assert r4r(*job, "method=means", "~references.mf") == 2  # its overrides of llm are read by no method
    assert r4r("experiment=smoke", "method=means", f"paths.outputs={tmp_path / 'out'}") == 0


def test_the_default_job_has_a_time_before_this_machine_has_built_anything(
    r4r: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ["plan=true", "logger=none", f"paths.outputs={tmp_path}"]
    assert r4r(*job) == 0
    told = capsys.readouterr().out
    assert "no rate yet" not in told, "experiments/bench/yardstick.py was made of another job or base model"
    assert re.search(r"^about \d+ min in all by what it took on two CPU cores$", told, re.MULTILINE)
    assert r4r(*job, "method=grpo") == 0  # its Reasoner is trained twice, and each training has a rate of its own
    trained = re.findall(r"^build  train/reasoner  .*", capsys.readouterr().out, re.MULTILINE)
    assert [line.endswith("on two CPU cores") for line in trained] == [True, False]
    assert trained[1].endswith("no rate yet")
    for other in ("llm=tiny", "teacher=openai"):  # neither the whole time nor that of a stage is another job's
        assert r4r(*job, other) == 0
        told = capsys.readouterr().out
        assert "two CPU cores" not in told
        assert "no earlier build to go by" in told


def test_a_stage_has_no_time_by_what_another_base_model_took(
    r4r: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ["experiment=smoke", f"paths.outputs={tmp_path}"]
    assert r4r(*job, "target=summaries") == 0

    def line(*overrides: str) -> str:
        capsys.readouterr()
        assert r4r(*job, "plan=true", *overrides) == 0
        return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("build  summaries"))

    assert re.search(r"about [\d,]+ tokens, under a minute$", line("seed=7"))
    assert line("llm=smollm2_135m").endswith("no rate yet")
    assert line("llm=world_3m").endswith("under a minute on two CPU cores")


def test_a_plan_says_which_gpus_have_room(
    r4r: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ["experiment=smoke", "plan=true", f"paths.outputs={tmp_path}"]
    assert r4r(*job) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("memory")]
    assert [line.split(":")[0] for line in lines] == [f"memory {card} GB" for card in memory.CARDS_GB]

    def fails(*about: Any) -> list[str]:
        raise ModelError("no such model")

    monkeypatch.setattr(memory, "estimate", fails)
    assert r4r(*job) == 0
    assert "memory no estimate: no such model" in capsys.readouterr().out
    assert r4r(*job, "method=mf") == 0  # uses no base model
    assert "memory" not in capsys.readouterr().out
    assert r4r(*job, f"paths.cache={tmp_path / 'empty'}", "llm=smollm2_135m") == 0
    assert "memory smollm2_135m is not on this machine yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "rows"),
    [({}, 20), ({"kl": 0.5}, 20), ({"epochs": 3}, 60), ({"group": 16}, None), ({"_target_": "mine.Own"}, None)],
    ids=str,
)
def test_the_time_of_a_training_is_by_trainings_that_learn_alike(
    tmp_path: Path, changed: dict[str, Any], rows: int | None
) -> None:
    """Answers of its own take their time, the more of them to each prompt; not what other objectives took."""
    config = validate(
        compose(make_loader(), "config", ["experiment=smoke", "method=grpo", f"paths.outputs={tmp_path}"])
    )
    stage = next(one for one in predictions_stage(config).upstream() if type(one) is Furthered)
    settings = copy.deepcopy(dict(stage.config))
    settings["expert"]["objective"] |= changed
    folder = tmp_path / "artifacts" / stage.name / "made"
    folder.mkdir(parents=True)
    manifest = {"examples": 20, "train_tokens": 4000, "wall_s": 50.0, "device": f"{platform.machine()} CPU, 2 threads"}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    past = earlier(stage, Store(tmp_path / "artifacts"))
    assert (None if past is None else (past.rows, past.seconds)) == (None if rows is None else (rows, 50.0))


def test_a_plan_is_of_its_target(r4r: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = ["experiment=smoke", "plan=true", "logger=none", f"paths.outputs={tmp_path}"]
    assert r4r(*job, "target=train/summarizer") == 0
    told = capsys.readouterr().out
    assert re.search(r"^build  train/summarizer ", told, re.MULTILINE)
    assert "reasons" not in told
    assert r4r(*job, "target=sumarizer") != 0
    assert "target=sumarizer: this job has no such stage; did you mean" in capsys.readouterr().err
