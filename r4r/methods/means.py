"""Mean ratings as predictions: what is left of the error after them is what a method has to earn."""

from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from r4r.methods import point_predictions
from r4r.methods.baseline import Baseline, Given
from r4r.scale import PAPER, Scale

Shrinkage = Annotated[float, Field(ge=0)]


class Means(Baseline):
    """Global, user, item and user+item bias means of the train rows; what is unknown there falls back to the global.

    Biases are regularised as in Koren (2010, section 2.1): b_i = sum(r - mu) / (n_i + shrinkage), then b_u likewise on
    what b_i leaves.
    """

    def __init__(self, name: str = "means", user_shrinkage: Shrinkage = 10.0, item_shrinkage: Shrinkage = 10.0):
        self.name = name
        self.user_shrinkage, self.item_shrinkage = user_shrinkage, item_shrinkage

    def predictions(self, given: Given) -> tuple[pd.DataFrame, dict[str, Any]]:
        train = given.rows[given.rows["split"] == "train"]
        return self.predict(train, given.wanted, given.scale), {}

    def predict(self, train: pd.DataFrame, wanted: pd.DataFrame, scale: Scale = PAPER) -> pd.DataFrame:
        """rows.PREDICTIONS of the wanted rows (user_id, item_id, row_id), a block a label."""
        mu = float(train["rating"].mean())
        residual = train["rating"] - mu
        item_bias = shrunk(residual, train["item_id"], self.item_shrinkage)
        residual = residual - train["item_id"].map(item_bias)
        user_bias = shrunk(residual, train["user_id"], self.user_shrinkage)

        def known(column: str, values: pd.Series, otherwise: float) -> np.ndarray:
            return wanted[column].map(values).fillna(otherwise).to_numpy(dtype=float)

        columns = {
            "User+item bias": mu + known("user_id", user_bias, 0.0) + known("item_id", item_bias, 0.0),
            "Global mean": np.full(len(wanted), mu),
            "User mean": known("user_id", train.groupby("user_id")["rating"].mean(), mu),
            "Item mean": known("item_id", train.groupby("item_id")["rating"].mean(), mu),
        }
        blocks = [point_predictions(wanted["row_id"], label, values, scale) for label, values in columns.items()]
        return pd.concat(blocks, ignore_index=True)


def shrunk(residual: pd.Series, by: pd.Series, shrinkage: float) -> pd.Series:
    """Mean residual of each group, as if `shrinkage` more rows of residual 0 were in it."""
    groups = residual.groupby(by)
    return groups.sum() / (groups.count() + shrinkage)
