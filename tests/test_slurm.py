"""A sweep on a Slurm cluster: what the batch script asks for, and that its tasks are the sweep's jobs.

Slurm is stood in for by two shell scripts: sbatch runs each task of the array on this machine, through srun.
"""

import json
import os
import sys
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from r4r import run
from r4r.configuration.composing import make_loader
from r4r.configuration.preflight import preflight
from r4r.errors import ConfigError

SBATCH = """#!/bin/sh
cp "$1" {seen}
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
(
  for task in $(seq 0 "$last"); do
    SLURM_JOB_ID=7 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 \\
    SLURM_JOB_NODELIST=here SLURM_PROCID=0 SLURM_LOCALID=0 sh "$1"
  done
) > {log} 2>&1 &
echo "Submitted batch job 7"
"""
SRUN = """#!/bin/sh
while :; do
  case "$1" in
    --unbuffered) shift ;;
    --output | --error) shift 2 ;;
    *) break ;;
  esac
done
exec "$@"
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the batch script lies after a submission."""
    seen = tmp_path / "seen.sh"
    (tmp_path / "bin").mkdir()
    for name, text in (("sbatch", SBATCH.format(seen=seen, log=tmp_path / "log")), ("srun", SRUN)):
        path = tmp_path / "bin" / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path / "out"))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.chdir(tmp_path)
    return seen


def test_a_sweep_becomes_an_array_of_jobs(script: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = ["partition=gpu", "timeout_min=90", "gpus_per_node=2", "array_parallelism=1", "account=reading"]
    settings = [f"hydra.launcher.{setting}" for setting in own]
    small = ["method=means", "logger=none", "dataset.world.users=20", "dataset.world.items=10"]
    monkeypatch.setattr(sys, "argv", ["r4r", "-m", "seed=1,2", *small, "hydra/launcher=slurm", *settings])
    run.main()
    text = script.read_text(encoding="utf-8")
    for asked in (
        "partition=gpu",
        "time=90",
        "gpus-per-node=2",
        "array=0-1%1",
        "account=reading",
        "cpus-per-task=8",
        "mem=64GB",
        "nodes=1",
        "ntasks-per-node=1",
        "job-name=r4r",
    ):
        assert f"#SBATCH --{asked}\n" in text
    folders = sorted(path.parent for path in (tmp_path / "out" / "sweeps").rglob("result.json"))
    assert [folder.name.partition(",")[0] for folder in folders] == ["0-seed=1", "1-seed=2"]
    found = [json.loads((folder / "result.json").read_text(encoding="utf-8")) for folder in folders]
    assert [(record["status"], record["seed"]) for record in found] == [("ok", 1), ("ok", 2)]


def test_the_launcher_goes_with_the_presets() -> None:
    argv = ["-m", "experiment=table1", "hydra/launcher=slurm", "hydra.launcher.partition=gpu"]
    assert preflight(argv) == argv
    with pytest.raises(ConfigError) as error:
        preflight(["-m", "method=mf", "hydra/launcher=slurm", "hydra.launcher.partitoin=gpu"])
    assert error.value.problems[0].endswith("did you mean partition?")


def test_a_missing_plugin_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], "submitit_slurm.yaml")
    with pytest.raises(ConfigError) as error:
        preflight(["-m", "method=mf", "hydra/launcher=slurm"], loader=make_loader())
    assert error.value.problems[0].endswith("it comes with the extra slurm: pip install '.[slurm]'")
