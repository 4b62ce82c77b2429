"""Biased matrix factorisation: r = mu + b_u + b_i + p_u . q_i (Koren, Bell and Volinsky 2009)."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import nn

from r4r.errors import DataError
from r4r.methods import point_predictions
from r4r.methods.baseline import Baseline, Given
from r4r.methods.rating_model import RatingModel
from r4r.scale import PAPER, Scale

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # user index, item index, rating; each of shape (batch,)
Count = Annotated[int, Field(ge=1)]


class Factors(RatingModel):
    """The model. Index 0 of either table is a user or item that train does not know: zero, so mu and the other bias."""

    def __init__(
        self, users: int, items: int, dim: int, mu: float, lr: float, weight_decay: float, seed: int, star: float = 1.0
    ):
        super().__init__(star)
        self.lr, self.weight_decay, self.mu = lr, weight_decay, mu
        self.user = nn.Embedding(users + 1, dim, padding_idx=0)
        self.item = nn.Embedding(items + 1, dim, padding_idx=0)
        self.user_bias = nn.Embedding(users + 1, 1, padding_idx=0)
        self.item_bias = nn.Embedding(items + 1, 1, padding_idx=0)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for table in (self.user, self.item):
                table.weight.normal_(0.0, 0.1, generator=generator)
            for table in (self.user_bias, self.item_bias):
                table.weight.zero_()
            for table in (self.user, self.item):
                table.weight[0] = 0.0

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Ratings in stars, of shape (batch,), not clipped."""
        match = (self.user(user) * self.item(item)).sum(dim=1)
        return self.mu + self.user_bias(user).squeeze(1) + self.item_bias(item).squeeze(1) + match

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def rated(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        user, item, rating = batch
        return self(user, item), rating


class Batches(torch.utils.data.IterableDataset[Batch]):
    """Whole batches by slicing: shuffled anew each epoch from the seed, or in order where seed is None."""

    def __init__(self, columns: Batch, size: int, seed: int | None):
        self.columns, self.size, self.seed, self.epoch = columns, size, seed, 0

    def __iter__(self) -> Iterator[Batch]:
        count = len(self.columns[0])
        order = torch.arange(count)
        if self.seed is not None:
            order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed * 100_003 + self.epoch))
            self.epoch += 1
        for rows in order.split(self.size):
            user, item, rating = (column[rows] for column in self.columns)
            yield user, item, rating


class MF(Baseline):
    """Fitted on train with MSE and Adam, stopped by the RMSE of valid, the best epoch kept."""

    version = 2
    takes = "under a minute"
    seeded = True

    def __init__(
        self,
        name: str = "mf",
        dim: Count = 16,
        lr: Annotated[float, Field(gt=0)] = 0.01,
        weight_decay: Annotated[float, Field(ge=0)] = 1e-4,
        batch_size: Count = 1024,
        max_epochs: Count = 100,
        patience: Count = 5,
    ):
        self.name = name
        self.settings: dict[str, Any] = {"dim": dim, "lr": lr, "weight_decay": weight_decay}
        self.settings |= {"batch_size": batch_size, "max_epochs": max_epochs, "patience": patience}

    def predictions(self, given: Given) -> tuple[pd.DataFrame, dict[str, Any]]:
        return self.predict(given.rows, given.wanted, given.seed, given.log, given.scale)

    def predict(
        self,
        rows: pd.DataFrame,
        wanted: pd.DataFrame,
        seed: int,
        log: Callable[[dict[str, float]], None] = lambda m: None,
        scale: Scale = PAPER,
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """rows.PREDICTIONS of the wanted rows, and the best epoch with its validation RMSE (in points of the scale).

        Raises:
            DataError: train or valid is empty.
        """
        from r4r.methods.rating_module import fit  # Lightning takes seconds to import

        train, valid = rows[rows["split"] == "train"], rows[rows["split"] == "valid"]
        for name, part in (("train", train), ("valid", valid)):
            if part.empty:
                raise DataError(f"MF: the {name} split is empty; enlarge the data set or change dataset.prepare")
        users, items = (pd.Index(sorted(train[column].unique())) for column in ("user_id", "item_id"))

        def columns(part: pd.DataFrame) -> Batch:
            user = torch.from_numpy(users.get_indexer(part["user_id"]).astype(np.int64) + 1)  # unknown: -1, so 0
            item = torch.from_numpy(items.get_indexer(part["item_id"]).astype(np.int64) + 1)
            return user, item, torch.tensor(scale.to_stars(part["rating"].to_numpy(dtype=float)), dtype=torch.float32)

        s = self.settings
        mu = float(scale.to_stars(train["rating"].to_numpy(dtype=float)).mean())
        with torch.random.fork_rng(devices=[]):  # torch and Lightning draw from the global generator on their own
            model = Factors(len(users), len(items), s["dim"], mu, s["lr"], s["weight_decay"], seed, scale.star)
            learn, check = (Batches(columns(part), s["batch_size"], at) for part, at in ((train, seed), (valid, None)))
            fit(model, learn, check, s["max_epochs"], s["patience"])  # on CPU: none is faster at so few floats
        log({"mf/valid/rmse": model.best_rmse, "mf/best_epoch": float(model.best_epoch + 1)})
        user, item, _ = columns(wanted)
        with torch.no_grad():
            values = scale.from_stars(model(user, item).double().numpy())
        facts = {"best_epoch": model.best_epoch + 1, "valid_rmse": model.best_rmse}
        return point_predictions(wanted["row_id"], "MF", values, scale), facts
