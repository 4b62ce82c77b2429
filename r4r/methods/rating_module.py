"""What the trained baselines share: squared error, stopped early by the validation RMSE, the best epoch kept."""

import logging
import math
import warnings
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import nn

from r4r.errors import TrainingError
from r4r.interrupts import as_interrupts
from r4r.scale import PAPER


class RatingModule(pl.LightningModule):
    """A model of ratings in stars, 1 to 5 (`Scale.to_stars`), so that one learning rate suits the ratings of any scale.
    Ratings are clipped for validation, not for training.

    Args:
        star: rating points of the data set's scale that a star stands for.

    Attributes:
        best_rmse, best_epoch: of the validation rows, the RMSE in points of the scale; epochs count from 0.
    """

    def __init__(self, star: float = 1.0) -> None:
        super().__init__()
        self.star = star
        self.best_rmse, self.best_epoch = math.inf, -1
        self._best: dict[str, torch.Tensor] = {}
        self._squared: list[torch.Tensor] = []

    def rated(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Ratings in stars, as the model has them, and as they are: (batch,) each."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return nn.functional.mse_loss(*self.rated(batch))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        predicted, rating = self.rated(batch)
        self._squared.append((predicted.clamp(PAPER.lowest, PAPER.highest) - rating) ** 2)

    def on_validation_epoch_end(self) -> None:
        rmse = self.star * float(torch.cat(self._squared).mean().sqrt())
        self._squared.clear()
        self.log("valid_rmse", rmse)
        if rmse < self.best_rmse:
            self.best_rmse, self.best_epoch = rmse, self.current_epoch
            self._best = {name: value.detach().clone() for name, value in self.state_dict().items()}


def fit(
    model: RatingModule,
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
            trainer.fit(model, loaders[0], loaders[1])
    if model.best_epoch < 0:
        raise TrainingError("training diverged: the validation RMSE was never a number; lower the learning rate")
    model.load_state_dict(model._best)
