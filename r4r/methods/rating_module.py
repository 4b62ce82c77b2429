"""How the trained baselines learn: squared error, stopped early by the validation RMSE, the best epoch kept."""

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment

from r4r.errors import TrainingError
from r4r.interrupts import as_interrupts
from r4r.methods.rating_model import RatingModel
from r4r.scale import PAPER


class RatingModule(pl.LightningModule):
    """The training of a RatingModel. Ratings are clipped for validation, not for training."""

    def __init__(self, model: RatingModel) -> None:
        super().__init__()
        self.model = model
        self.best: dict[str, torch.Tensor] = {}
        self._squared: list[torch.Tensor] = []

    def configure_optimizers(self) -> Any:
        return self.model.configure_optimizers()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.model.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        predicted, rating = self.model.rated(batch)
        self._squared.append((predicted.clamp(PAPER.lowest, PAPER.highest) - rating) ** 2)

    def on_validation_epoch_end(self) -> None:
        model = self.model
        rmse = model.star * float(torch.cat(self._squared).mean().sqrt())
        self._squared.clear()
        self.log("valid_rmse", rmse)
        if rmse < model.best_rmse:
            model.best_rmse, model.best_epoch = rmse, self.current_epoch
            self.best = {name: value.detach().clone() for name, value in model.state_dict().items()}


class Watch(pl.Callback):
    """Tells the bar of every step, and the log of every epoch."""

    def __init__(self, advance: Callable[[int, str], None], title: str, log: Callable[[dict[str, float]], None]):
        self.advance, self.title, self.report, self.note = advance, title, log, ""  # Lightning sets `log` itself

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.advance(1, self.note)

    def on_validation_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        rmse = float(trainer.callback_metrics["valid_rmse"])
        self.note = f"epoch {trainer.current_epoch + 1}, validation RMSE {rmse:.3f}"
        self.report(
            {f"{self.title.lower()}/valid/rmse": rmse, f"{self.title.lower()}/epoch": trainer.current_epoch + 1}
        )


def fit(
    model: RatingModel,
    train: torch.utils.data.IterableDataset[Any],
    valid: torch.utils.data.IterableDataset[Any],
    epochs: int,
    patience: int,
    accelerator: str = "cpu",
    callbacks: Sequence[pl.Callback] = (),
) -> None:
    """Train until the validation RMSE has not fallen for `patience` epochs; leaves the weights of the best epoch.

    Args:
        train, valid: data sets of whole batches.

    Raises:
        TrainingError: the validation RMSE was never a number.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    module = RatingModule(model)
    stop = pl.callbacks.EarlyStopping("valid_rmse", patience=patience, mode="min", verbose=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")  # advice on workers, notes on its own internals
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            plugins=[LightningEnvironment()],  # on a cluster, Lightning would write and requeue for itself
            max_epochs=epochs,
            callbacks=[stop, *callbacks],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        loaders = [torch.utils.data.DataLoader(batches, batch_size=None) for batches in (train, valid)]
        with as_interrupts():
            trainer.fit(module, loaders[0], loaders[1])
    if model.best_epoch < 0:
        raise TrainingError("training diverged: the validation RMSE was never a number; lower the learning rate")
    model.load_state_dict(module.best)
