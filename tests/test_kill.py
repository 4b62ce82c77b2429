"""A job killed with SIGKILL in the middle of its stages, and started again each time, ends as an unbroken one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

DRIVER = '''
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started with it ignored
DEADLY = getattr(signal, os.environ.get("KILL_SIGNAL", "SIGKILL"))
from pytorch_lightning import Trainer
from r4r.store.artifact import Store
from r4r.store.journal import Journal

stage, after = os.environ["KILL_STAGE"], int(os.environ["KILL_AFTER"])

def deadly(function, place):
    """Kill this process, without a chance to clean up, behind the n-th call for the stage."""
    calls = 0
    def wrapped(self, *args, **kwargs):
        nonlocal calls
        result = function(self, *args, **kwargs)
        if stage and stage in str(place(self, *args)):
            calls += 1
            if calls == after:
                os.kill(os.getpid(), DEADLY)
        return result
    return wrapped

Journal.append = deadly(Journal.append, lambda self, *a: self.path)
Trainer.save_checkpoint = deadly(Trainer.save_checkpoint, lambda self, path: path)
import r4r.store.artifact as artifact
if stage.startswith("complete:"):  # between the last file of an artifact and its manifest
    name = stage.removeprefix("complete:")
    write = artifact.write_json
    def dying(path, value):
        if path.name == artifact.MANIFEST and name in str(path):
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, value)
    artifact.write_json = dying

from r4r.run import main
main()
'''
POINTS = [  # each way in which a stage keeps what it has done so far
    ("train/summarizer", 2),
    ("summaries/", 2),
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


def start(
    driver: Path, outputs: Path, stage: str = "", after: int = 0, by: str = "SIGKILL"
) -> subprocess.CompletedProcess:
    deadly = {"KILL_STAGE": stage, "KILL_AFTER": str(after), "KILL_SIGNAL": by}
    environment = os.environ | deadly | {"R4R_OUTPUTS": str(outputs)}
    return subprocess.run(
        [sys.executable, str(driver), *SIZES], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def unbroken_and_broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("kill")
    driver = folder / "driver.py"
    driver.write_text(DRIVER)
    done = start(driver, folder / "unbroken")
    assert done.returncode == 0, done.stderr
    for stage, after in POINTS:
        killed = start(driver, folder / "broken", stage, after)
        assert killed.returncode == -signal.SIGKILL, f"{stage}: was not killed\n{killed.stderr}"
    done = start(driver, folder / "broken")
    assert done.returncode == 0, done.stderr
    return folder / "unbroken" / "artifacts", folder / "broken" / "artifacts"


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
    assert set(steps) >= {"summarizer", "predictor"}


@pytest.mark.parametrize(("by", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_training_that_is_interrupted_says_so_and_resumes(tmp_path: Path, by: str, code: int) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    done = start(tmp_path / "driver.py", tmp_path / "outputs", "train/summarizer", 2, by)
    assert done.returncode == code, done.stderr
    record = next((tmp_path / "outputs" / "runs").rglob("result.json"))
    assert json.loads(record.read_text())["status"] == "interrupted"
    assert list((tmp_path / "outputs" / "artifacts" / "train" / "summarizer").glob("*.partial/checkpoint.pt"))
