"""Training in two processes: the adapter of one process, after a kill too, and an error where one of them fails."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from r4r.experts.fit import encode, fit
from r4r.experts.parallel import share, together
from safetensors.torch import load_file

from r4r import run
from r4r.config import TrainerConfig
from r4r.errors import ConfigError, TrainingError
from r4r.experts.predictor import Predictor
from r4r.lm.base import LanguageModel
from r4r.overrides import preflight

Load = Callable[..., LanguageModel]
TEXTS = [(n, "the melody " * (1 + 5 * n % 7) + str(n), f"Predicted Rating: {1 + n % 5}.0") for n in range(7)]
SETTINGS: dict[str, Any] = {"lora": {"r": 4, "alpha": 8}, "lr": 1e-3, "epochs": 2, "batch_size": 3, "warmup": 0.1}


class Killed(Exception):
    pass


class Vanishing(Predictor):
    """The second of its processes is killed at the second step, as by a machine without memory."""

    def training_step(self, batch: int, batch_idx: int) -> None:
        if self.rank == 1 and batch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        super().training_step(batch, batch_idx)


def refusing(rank: int, join: Callable[[], None]) -> None:
    raise ValueError("no rating here")


def train(
    lm: LanguageModel, folder: Path, cache: Path, processes: int, expert: type[Predictor] = Predictor, dies_at: int = 0
) -> dict[str, Any]:
    def log(metrics: dict[str, float]) -> None:
        if metrics["predictor/train/step"] == dies_at:
            raise Killed

    folder.mkdir(exist_ok=True)
    trainer = TrainerConfig(accelerator="cpu", threads=1, processes=processes, checkpoint_every_s=0)
    return fit(expert(**SETTINGS), lm, "predictor", encode(lm, TEXTS), folder, trainer, 3, log, cache)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("lengths", [[], [7], [5, 5, 1], [9, 1, 8, 2, 7, 3, 6, 4]])
def test_every_row_falls_to_one_process(lengths: list[int], size: int) -> None:
    shares = [share(lengths, rank, size) for rank in range(size)]
    assert sorted(index for rows in shares for index in rows) == list(range(len(lengths)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_two_processes_train_the_adapter_of_one(load_tiny: Load, tmp_path: Path, model_cache: Path) -> None:
    """They take up what one left, and have a step of one row, which leaves the second process without any."""
    alone = train(load_tiny(), tmp_path / "alone", model_cache, 1)
    with pytest.raises(Killed):
        train(load_tiny(), tmp_path / "both", model_cache, 1, dies_at=2)
    both = train(load_tiny(), tmp_path / "both", model_cache, 2)
    assert multiprocessing.active_children() == []
    assert (alone["processes"], both["processes"], both["resumed_at_step"]) == (1, 2, 1)
    assert both["steps"] == alone["steps"] == 6
    assert both["last_loss"] == pytest.approx(alone["last_loss"], abs=1e-4)
    one, other = (load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("alone", "both"))
    assert one.keys() == other.keys()
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-5


def test_a_process_that_is_killed_ends_the_training(load_tiny: Load, tmp_path: Path, model_cache: Path) -> None:
    with pytest.raises(TrainingError, match="process 2 of 2 failed: ended with exit code -9; started again"):
        train(load_tiny(), tmp_path, model_cache, 2, Vanishing)
    assert multiprocessing.active_children() == []
    assert not (tmp_path / "adapter").exists()


def test_the_error_of_another_process_is_told() -> None:
    told = "process 2 of 2 failed: ValueError: no rating here"
    with pytest.raises(TrainingError, match=told), together(2, False, refusing):
        pass
    assert multiprocessing.active_children() == []


def test_too_few_gpus_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with pytest.raises(TrainingError, match="processes=4, but PyTorch sees 2 GPUs"), together(4, True, print):
        pass


def test_processes_are_refused_where_no_expert_is_trained() -> None:
    with pytest.raises(ConfigError, match=r"trainer=ddp: this job's methods .* train no expert"):
        preflight(["method=mf", "trainer=ddp"])


def test_a_job_whose_artifacts_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], model_cache: Path
) -> None:
    monkeypatch.setenv("R4R_OUTPUTS", str(tmp_path))
    monkeypatch.setenv("R4R_CACHE", str(model_cache))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    for trainer in (["trainer=ddp", "trainer.accelerator=cpu"], ["trainer=smoke"]):
        monkeypatch.setattr(sys, "argv", ["r4r", "experiment=smoke", "target=summarizer", *trainer])
        run.main()
    said = capfd.readouterr().err
    assert said.count("build train/summarizer") == said.count("hit   train/summarizer") == 1
