"""A job killed with SIGKILL in the middle of its stages, and started again each time, ends as an unbroken one."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from forked import command
from pytorch_lightning import Trainer
from safetensors.torch import load_file

import r4r.store.artifact as artifact
from r4r.configuration.preflight import preflight
from r4r.store.journal import Journal

POINTS = [  # each way in which a stage keeps what it has done so far
    ("train/summarizer", 2),
    ("reasons/", 1),
    ("complete:train/reasoner", 1),
    ("predict/test", 1),
]
SIZES = [
    "experiment=smoke",
    "llm.batch_tokens=2048",
    "trainer.checkpoint_every_s=0",
    "dataset.pools.total=40",
    "dataset.pools.summaries=20",
    "dataset.world.users=14",
    "dataset.evaluate.max_rows=null",
    "references={}",
    "experts.reasoner.lora.dropout=0.1",
    "experts.summarizer.batch_size=8",
]


Kill = tuple[str, int, str]  # stage, after how many calls, signal
INTERRUPTED = {"SIGTERM": 143, "SIGINT": 130}  # exit codes
NEVER: Kill = ("", 0, "SIGKILL")


def deadly(function: Callable[..., Any], place: Callable[..., Any], kill: Kill) -> Callable[..., Any]:
    """Send this process a signal behind the n-th call for the stage."""
    stage, after, by = kill
    calls = 0

    def wrapped(self: Any, *args: Any, **settings: Any) -> Any:
        nonlocal calls
        result = function(self, *args, **settings)
        if stage in str(place(self, *args)):
            calls += 1
            if calls == after:
                os.kill(os.getpid(), getattr(signal, by))
        return result

    return wrapped


def arm(kill: Kill) -> None:
    """Make this process die at the place."""
    stage, _, by = kill
    if stage.startswith("complete:"):  # between the last file of an artifact and its manifest
        write = artifact.write_json

        def dying(path: Path, value: Any) -> None:
            if path.name == artifact.MANIFEST and stage.removeprefix("complete:") in str(path):
                os.kill(os.getpid(), getattr(signal, by))
            write(path, value)

        artifact.write_json = dying
    elif stage:
        Journal.append = deadly(Journal.append, lambda self, *args: self.path, kill)  # type: ignore[method-assign]
        Trainer.save_checkpoint = deadly(Trainer.save_checkpoint, lambda self, path: path, kill)  # type: ignore[method-assign]


def start(folder: Path, *jobs: tuple[str, Kill]) -> list[int]:
    """Exit codes of jobs, one after the other, each with the folder of its outputs and the place of its death."""
    codes = []
    preflight(SIZES)  # what it composes, all jobs find
    for name, kill in jobs:
        done = command(*SIZES, f"paths.outputs={folder / name}", before=lambda kill=kill: arm(kill)).wait()
        assert done.returncode or kill == NEVER, done.stderr
        codes.append(done.returncode)
    return codes


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an unbroken job, of one that was killed again and again, and of two that were interrupted."""
    folder = tmp_path_factory.mktemp("kill")
    kills = [("broken", (stage, after, "SIGKILL")) for stage, after in POINTS]
    signals = [(by, ("train/summarizer", 2, by)) for by in INTERRUPTED]
    codes = start(folder, ("unbroken", NEVER), *kills, ("broken", NEVER), *signals)
    assert codes == [0, *[-signal.SIGKILL] * len(POINTS), 0, *INTERRUPTED.values()]
    return folder


@pytest.fixture(scope="module")
def unbroken_and_broken(jobs: Path) -> tuple[Path, Path]:
    return jobs / "unbroken" / "artifacts", jobs / "broken" / "artifacts"


def test_the_same_artifacts_come_out(unbroken_and_broken: tuple[Path, Path]) -> None:
    whole, broken = unbroken_and_broken
    manifests = {str(p.relative_to(whole)) for p in whole.rglob("manifest.json")}
    assert manifests == {str(p.relative_to(broken)) for p in broken.rglob("manifest.json")}
    assert len(manifests) >= 11
    assert not list(broken.rglob("*.partial"))


def test_the_record_of_a_killed_job_names_what_it_had_finished(jobs: Path) -> None:
    records = [json.loads(path.read_text()) for path in (jobs / "broken" / "runs").rglob("result.json")]
    killed, [done] = ([r for r in records if (r["status"] == "ok") is ended] for ended in (False, True))
    assert len(killed) == len(POINTS)
    for record in killed:
        assert record["status"] == "interrupted"
        assert record["artifacts"].items() <= done["artifacts"].items()
    assert all("split" in record["artifacts"] for record in killed)


def test_rows_are_identical(unbroken_and_broken: tuple[Path, Path]) -> None:
    whole, broken = unbroken_and_broken
    tables = list(whole.rglob("*.parquet"))
    assert len(tables) >= 8
    for table in tables:
        again = pd.read_parquet(broken / table.relative_to(whole))
        pd.testing.assert_frame_equal(pd.read_parquet(table), again, rtol=1e-5, obj=str(table.relative_to(whole)))


def test_weights_are_equal_to_float_noise(unbroken_and_broken: tuple[Path, Path]) -> None:
    whole, broken = unbroken_and_broken
    adapters = list(whole.rglob("adapter_model.safetensors"))
    assert len(adapters) == 4
    for adapter in adapters:
        one, other = load_file(adapter), load_file(broken / adapter.relative_to(whole))
        assert one.keys() == other.keys()
        for name, weight in one.items():
            assert (weight - other[name]).abs().max() <= 1e-6, (adapter, name)


def test_training_did_resume(unbroken_and_broken: tuple[Path, Path]) -> None:
    _, broken = unbroken_and_broken
    resumed = [p for p in broken.rglob("manifest.json") if '"resumed_at_step": ' in p.read_text()]
    steps = [p.parent.parent.name for p in resumed if '"resumed_at_step": null' not in p.read_text()]
    assert set(steps) == {"summarizer"}


@pytest.mark.parametrize("by", INTERRUPTED)
def test_a_training_that_is_interrupted_says_so_and_can_resume(jobs: Path, by: str) -> None:
    record = next((jobs / by / "runs").rglob("result.json"))
    assert json.loads(record.read_text())["status"] == "interrupted"
    assert list((jobs / by / "artifacts" / "train" / "summarizer").glob("*.partial/checkpoint.pt"))
