"""What a training leaves and says while it runs: checkpoints, metrics, a progress bar."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers.logger import Logger

from r4r.progress import bar
from r4r.training.memory import is_out_of_memory
from r4r.training.module import ExpertModule

Log = Callable[[dict[str, float]], None]


class Checkpoints(pl.Callback):
    """A checkpoint after a step, every so many seconds, and where memory ran out in a pass.

    Lightning's ModelCheckpoint lets every process ask the others after each pass whether it is time; and of a step
    that memory ran out in, it keeps nothing.
    """

    def __init__(self, path: Path, every_s: float):
        """
        Args:
            path: the file, which Lightning replaces in one move.
        """
        self.path, self.every_s = path, every_s
        self.last = time.monotonic()
        self.in_step = False  # while the optimizer moves the weights, there is no state worth keeping

    def on_before_optimizer_step(self, *args: Any) -> None:
        self.in_step = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self.in_step = False
        assert isinstance(module, ExpertModule)
        if not batch.is_last or trainer.global_step >= len(module.steps):
            return
        if trainer.world_size > 1 and trainer.global_step % module.objective.repeats:
            return  # what the steps in between learn from is known to each process alone
        if trainer.strategy.broadcast(time.monotonic() - self.last >= self.every_s):
            self.keep(trainer)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        if is_out_of_memory(exception) and not self.in_step and trainer.world_size == 1:
            self.keep(trainer)

    def keep(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self.last = time.monotonic()


class Bar(pl.Callback):
    """The project's progress bar, a step at a time."""

    def __init__(self) -> None:
        self.open = ExitStack()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, ExpertModule)
        steps = len(module.steps) if trainer.max_steps == -1 else min(trainer.max_steps, len(module.steps))
        self.advance = self.open.enter_context(bar(f"train {module.adapter}", steps, module.first_step))

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        if batch.is_last:
            self.advance(1, f"loss {module.last_loss:.3f}")

    def on_train_end(self, *args: Any) -> None:
        self.open.close()

    def on_exception(self, *args: Any) -> None:
        self.open.close()


class JobLog(Logger):
    """The job's own log as one of Lightning's loggers."""

    name = "r4r"  # type: ignore[assignment]
    version = None  # type: ignore[assignment]

    def __init__(self, log: Log, module: ExpertModule):
        super().__init__()
        self.log, self.module = log, module

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        metrics = {name: value for name, value in metrics.items() if name != "epoch"}
        if metrics:
            self.log({f"{self.module.adapter}/train/step": float(self.module.global_step), **metrics})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The job's record has every setting."""
