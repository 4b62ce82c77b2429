"""Two jobs at once share what they both need; a changed reason source rebuilds what depends on it, and no more."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from forked import Ended, command
from served_job import SMALL

ONCE = {
    *("split", "pools", "teacher_summaries", "train/summarizer", "summaries", "train/reward_model"),
    *("train/summarizer.lessons", "train/reward_model.lessons"),
    "predict/means",
}
PER_SOURCE = {"reasons", "train/reasoner.lessons", "train/reasoner", "write/reasoner/experts", "write/reasoner/test"}
PER_SOURCE |= {"train/predictor.lessons", "train/predictor", "predict/test"}
JOB = [*(override for override in SMALL if override != "~references.means")]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> tuple[Path, list[Ended]]:
    """The outputs of two jobs at once, and what they said."""
    outputs = tmp_path_factory.mktemp("parallel")
    own = [*JOB, f"paths.outputs={outputs}", f"paths.cache={model_cache}"]
    jobs = [command(*own, f"reason_source={source}") for source in ("filtered", "history")]
    ended = [job.wait() for job in jobs]
    assert [job.returncode for job in ended] == [0, 0], ended
    return outputs, ended


def built(outputs: Path) -> Counter[str]:
    root = outputs / "artifacts"
    return Counter(str(p.parent.parent.relative_to(root)) for p in root.rglob("manifest.json"))


def succeeded(outputs: Path, kind: str) -> list[bool]:
    return ['"status": "ok"' in record.read_text() for record in (outputs / kind).rglob("result.json")]


def test_shared_stages_are_built_once(both: tuple[Path, list[Ended]]) -> None:
    outputs, ended = both
    assert built(outputs) == Counter(dict.fromkeys(ONCE, 1) | dict.fromkeys(PER_SOURCE, 2))
    said = "".join(job.stderr for job in ended)
    assert {stage: said.count(f"build {stage} ") for stage in ONCE} == dict.fromkeys(ONCE, 1)
    assert succeeded(outputs, "runs") == [True, True]


def test_a_second_run_is_all_hits_and_computes_little(
    both: tuple[Path, list[Ended]], model_cache: Path, r4r: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs, _ = both
    before, used = built(outputs), sum(os.times()[:2])
    assert r4r(*JOB, "reason_source=history", f"paths.outputs={outputs}", f"paths.cache={model_cache}") == 0
    assert sum(os.times()[:2]) - used < 30  # seconds computed, not passed: other tests share the machine
    assert "build " not in capsys.readouterr().err
    assert built(outputs) == before


@pytest.mark.slow
def test_the_processes_of_joblib_share_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, r4r: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the joblib extra")
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path))
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert r4r("-m", *JOB, "reason_source=filtered,history", *launcher) == 0
    assert built(tmp_path) == Counter(dict.fromkeys(ONCE, 1) | dict.fromkeys(PER_SOURCE, 2))
    assert capfd.readouterr().err.count("build train/summarizer ") == 1
    assert succeeded(tmp_path, "sweeps") == [True, True]
