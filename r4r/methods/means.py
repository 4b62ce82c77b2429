"""Mean ratings as predictions: what is left of the error after them is what a method has to earn."""

from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from r4r.methods import point_predictions
from r4r.rows import PREDICTIONS
from r4r.scale import PAPER, Scale
from r4r.stages.split import all_rows, split_stage, targets
from r4r.stages.stage import Job, Stage, Work
from r4r.store.artifact import write_table

VERSION = 1
Shrinkage = Annotated[float, Field(ge=0)]


class Means:
    """Global, user, item and user+item bias means of the train rows; what is unknown there falls back to the global.

    Biases are regularised as in Koren (2010, section 2.1): b_i = sum(r - mu) / (n_i + shrinkage), then b_u likewise on
    what b_i leaves.
    """

    uses = frozenset({"dataset"})

    def __init__(self, name: str = "means", user_shrinkage: Shrinkage = 10.0, item_shrinkage: Shrinkage = 10.0):
        self.name = name
        self.user_shrinkage, self.item_shrinkage = user_shrinkage, item_shrinkage

    def stages(self, job: Job) -> Stage:
        identity = {
            "user_shrinkage": self.user_shrinkage,
            "item_shrinkage": self.item_shrinkage,
            "evaluate": job.config.dataset.evaluate.model_dump(mode="json"),
        }
        return Stage("predict/means", VERSION, identity, {"split": split_stage(job.config)}, self._build, "seconds")

    def _build(self, work: Work) -> dict[str, Any]:
        rows = all_rows(work.job)
        scale = work.job.config.dataset.rating_scale
        table = self.predict(rows[rows["split"] == "train"], targets(work.job), scale)
        write_table(work.folder / "data.parquet", table, PREDICTIONS)
        return {"predictions": len(table)}

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
