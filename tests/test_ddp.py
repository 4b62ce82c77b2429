"""Training in several processes: the adapter of one process, after a kill too, and an error where one of them fails."""

import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file

from r4r import launch, progress, run
from r4r.configuration.preflight import preflight
from r4r.configuration.schema import TrainerConfig
from r4r.errors import ConfigError
from r4r.experts.predictor import Predictor
from r4r.launch import processes_to_start
from r4r.lm.base import LanguageModel
from r4r.ranks import Rank, this_rank
from r4r.training import ranks
from r4r.training.fit import fit
from r4r.training.module import ExpertModule
from r4r.training.plan import Pass, count_passes, cut, share

Load = Callable[..., LanguageModel]
TEXTS = [(n, "the melody " * (1 + 5 * n % 7) + str(n), f"Predicted Rating: {1 + n % 5}.0") for n in range(7)]
SETTINGS: dict[str, Any] = {"lora": {"r": 4, "alpha": 8}, "lr": 1e-3, "epochs": 2, "batch_size": 3, "warmup": 0.1}


class Killed(Exception):
    pass


class Vanishing(ExpertModule):
    """The second of its processes is killed at the second step, as by a machine without memory."""

    def training_step(self, batch: Pass, batch_idx: int) -> torch.Tensor:
        if self.rank == 1 and batch.step == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, batch_idx)


def train(
    lm: LanguageModel,
    folder: Path,
    dies_at: int = 0,
    texts: list[tuple[int, str, str]] = TEXTS,
    **settings: Any,
) -> dict[str, Any]:
    def log(metrics: dict[str, float]) -> None:
        if metrics["predictor/train/step"] == dies_at:
            raise Killed

    folder.mkdir(exist_ok=True)
    chosen: dict[str, Any] = {"accelerator": "cpu", "threads": 1, "checkpoint_every_s": 0, "micro_batch_tokens": 128}
    trainer = TrainerConfig(**(chosen | settings))
    own = Predictor(**SETTINGS)
    return fit(own, lm, "predictor", own.objective.encode(lm, texts), folder, trainer, 3, log)


def in_processes(size: int, work: Callable[[], Any], meets: bool = True) -> list[int]:
    """Fork processes as torchrun would start them, each of which calls `work`; their exit codes.

    Args:
        meets: whether they join and are called to a training before; a whole job does so itself.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    members = []
    for rank in range(size):
        member = os.fork()
        if member:
            members.append(member)
            continue
        code = 1
        try:
            told = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
            os.environ.update({name: str(value) for name, value in told.items()})
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, TORCHELASTIC_RUN_ID="test")
            progress.console.quiet = rank > 0  # as in a process that has its rank from the start
            signal.alarm(120)  # a mistake here would wait for ever
            if meets:
                ranks.join(this_rank())
            if meets and rank:
                ranks.called()
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return [os.waitstatus_to_exitcode(os.waitpid(member, 0)[1]) for member in members]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


# how steps are shared and cut


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("lengths", [[], [7], [5, 5, 1], [9, 1, 8, 2, 7, 3, 6, 4]])
def test_every_row_falls_to_one_process(lengths: list[int], size: int) -> None:
    shares = [share(lengths, rank, size) for rank in range(size)]
    assert sorted(index for rows in shares for index in rows) == list(range(len(lengths)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("budget", [8, 20, 100])
def test_no_pass_is_over_the_budget_and_every_step_has_as_many(budget: int, size: int) -> None:
    lengths = [9, 1, 8, 2, 7, 3, 6, 4, 12]
    steps = [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    passes = count_passes(steps, [[length] for length in lengths], budget, size)
    for step in steps:
        of_step = [lengths[index] for index in step]
        for rank in range(size):
            mine = [of_step[index] for index in share(of_step, rank, size)]
            groups = cut(mine, passes)
            assert len(groups) == passes
            assert sorted(row for group in groups for row in group) == list(range(len(mine)))
            assert all(len(g) == 1 or len(g) * max(mine[row] for row in g) <= budget for g in groups if g)


# what trains


def test_two_processes_train_the_adapter_of_one(load_tiny: Load, tmp_path: Path) -> None:
    """They take up what one left, and have a step of one row, which leaves the second process without any."""
    train(load_tiny(), tmp_path / "alone")
    with pytest.raises(Killed):
        train(load_tiny(), tmp_path / "both", dies_at=2)

    def member() -> None:
        facts = train(load_tiny(), tmp_path / "both", strategy="ddp", devices="auto")
        assert (facts["processes"], facts["resumed_at_step"], facts["steps"]) == (2, 2, 6)

    assert in_processes(2, member) == [0, 0]
    one, other = weights(tmp_path / "alone"), weights(tmp_path / "both")
    assert one.keys() == other.keys()
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-5


def test_a_process_that_is_killed_ends_the_training_and_a_restart_goes_on(
    load_tiny: Load, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def member() -> None:
        facts = train(load_tiny(), tmp_path, strategy="ddp", devices="auto")
        assert facts["resumed_at_step"] == 1

    with monkeypatch.context() as patched:
        patched.setattr("r4r.training.fit.ExpertModule", Vanishing)
        assert in_processes(2, member) == [1, -signal.SIGKILL]
    assert "another process of this training has ended; started again" in capfd.readouterr().err
    assert not (tmp_path / "adapter").exists()
    assert in_processes(2, member) == [0, 0]
    assert (tmp_path / "adapter").exists()


# who starts them


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, Rank()),
        (
            {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
            Rank(5, 8, 1, 4, "torchrun"),
        ),
        (
            {"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
            | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_JOB_NAME": "r4r"},
            Rank(3, 4, 1, 2, "srun"),
        ),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "bash"}, Rank()),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "batch"}, Rank()),  # a script, without srun
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "task"}, Rank()),
    ],
)
def test_a_process_knows_its_rank(environment: dict[str, str], rank: Rank, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert this_rank() == rank


def test_processes_are_as_many_as_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(here: Rank | None = None, **settings: Any) -> int:
        return processes_to_start(TrainerConfig(**settings), here or Rank())

    started = Rank(0, 4, 0, 2, "torchrun")
    assert count() == count(devices="auto", accelerator="cpu") == 1
    assert count(devices=2, accelerator="cpu") == 2
    assert count(started, devices="auto") == count(started, devices=2, num_nodes=2) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert count(devices="auto") == 3
    assert count(devices="0,2") == 2
    refused: list[tuple[Rank | None, dict[str, Any], str]] = [
        (None, {"devices": 4}, "sees 3 GPUs"),
        (None, {"devices": [1, 5]}, "sees 3 GPUs"),
        (None, {"num_nodes": 2}, "by torchrun or srun"),
        (started, {}, "take trainer=ddp"),
        (started, {"devices": 4}, "trainer.devices=auto"),
        (started, {"devices": "auto", "num_nodes": 3}, "leave it out"),
    ]
    for here, settings, told in refused:
        with pytest.raises(ConfigError, match=told):
            count(here, **settings)


def test_processes_are_refused_where_no_expert_is_trained() -> None:
    with pytest.raises(ConfigError, match=r"trainer=ddp: this job's methods .* train no expert"):
        preflight(["method=mf", "trainer=ddp"])


@pytest.mark.parametrize("started", ["forked", pytest.param("by torchrun", marks=pytest.mark.slow)])
def test_a_job_whose_artifacts_are_those_of_one_process(
    started: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    model_cache: Path,
) -> None:
    """The command starts two processes, of which the first alone speaks and leaves a record."""
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path))
    monkeypatch.setenv("R4R_CACHE", str(model_cache))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    if started == "forked":  # as torchrun does it, without importing everything twice more

        def fork(count: int, trainer: TrainerConfig, arguments: list[str]) -> int:
            def member() -> None:
                GlobalHydra.instance().clear()  # which a process of torchrun's would not find
                sys.argv[1:] = arguments
                run.main()

            return max(in_processes(count, member, meets=False))

        monkeypatch.setattr(launch, "start_processes", fork)
    argv = ["r4r", "experiment=smoke", "target=summarizer"]
    monkeypatch.setattr(sys, "argv", [*argv, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"])
    with pytest.raises(SystemExit) as end:
        run.main()
    assert end.value.code == 0
    monkeypatch.setattr(sys, "argv", [*argv, "trainer=smoke"])
    run.main()
    said = capfd.readouterr().err
    assert said.count("build train/summarizer ") == said.count("hit   train/summarizer ") == 1
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 2
    assert len(list((tmp_path / "runs").glob("*/*"))) == 2


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    job = ["experiment=smoke", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "logger=none"]
    job += ["experts.summarizer.epochs=500", f"paths.outputs={tmp_path}"]
    with subprocess.Popen([sys.executable, "-m", "r4r.run", *job], stderr=subprocess.DEVNULL) as starter:
        started: list[psutil.Process] = []
        for _ in range(600):
            started = psutil.Process(starter.pid).children(recursive=True)
            if list(tmp_path.glob("artifacts/train/summarizer/*.partial/checkpoint.pt")):
                break
            time.sleep(0.2)
        assert len(started) >= 2
        starter.kill()
    assert not psutil.wait_procs(started, timeout=20)[1]
