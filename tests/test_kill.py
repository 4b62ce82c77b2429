"""A job killed with SIGKILL in the middle of its stages, and started again each time, ends as an unbroken one."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

DRIVER = '''
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started with it ignored
from peft import LoraModel  # what a job imports, once for all children
from pytorch_lightning import Trainer
from r4r.lm.base import LanguageModel
import r4r.store.artifact as artifact
from r4r.run import main
from r4r.store.journal import Journal

def deadly(function, place, stage, after, by):
    """Send this process a signal behind the n-th call for the stage."""
    calls = 0
    def wrapped(self, *args, **kwargs):
        nonlocal calls
        result = function(self, *args, **kwargs)
        if stage in str(place(self, *args)):
            calls += 1
            if calls == after:
                os.kill(os.getpid(), by)
        return result
    return wrapped

def job(stage, after, by):
    if stage.startswith("complete:"):  # between the last file of an artifact and its manifest
        name = stage.removeprefix("complete:")
        write = artifact.write_json
        def dying(path, value):
            if path.name == artifact.MANIFEST and name in str(path):
                os.kill(os.getpid(), by)
            write(path, value)
        artifact.write_json = dying
    elif stage:
        Journal.append = deadly(Journal.append, lambda self, *a: self.path, stage, after, by)
        Trainer.save_checkpoint = deadly(Trainer.save_checkpoint, lambda self, path: path, stage, after, by)
    main()

for outputs, stage, after, by in json.loads(os.environ["JOBS"]):  # each in a process of its own
    child = os.fork()
    if not child:
        os.environ["R4R_OUTPUTS"] = outputs
        job(stage, after, getattr(signal, by))
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
'''
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
    "experts.reasoner.lora.dropout=0.1",
    "experts.summarizer.batch_size=8",
]


Kill = tuple[str, int, str]  # stage, after how many calls, signal
INTERRUPTED = {"SIGTERM": 143, "SIGINT": 130}  # exit codes
NEVER: Kill = ("", 0, "SIGKILL")


def start(folder: Path, *jobs: tuple[str, Kill]) -> list[int]:
    """Exit codes of jobs, one after the other, each with the folder of its outputs and the place of its death."""
    driver = folder / "driver.py"
    driver.write_text(DRIVER)
    environment = os.environ | {"JOBS": json.dumps([(str(folder / name), *kill) for name, kill in jobs])}
    done = subprocess.run(
        [sys.executable, str(driver), *SIZES], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    codes = [int(line) for line in done.stdout.splitlines() if re.fullmatch(r"-?\d+", line)]
    assert len(codes) == len(jobs), done.stderr
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
