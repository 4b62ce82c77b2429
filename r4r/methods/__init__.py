"""Rows of Table 2: what a method is. Each one is a file here and a file in `conf/method/`."""

from typing import Protocol

import numpy as np
import pandas as pd

from r4r.stages.stage import Job, Stage

MIN_RATING, MAX_RATING = 1.0, 5.0


class Method(Protocol):
    """Predicts ratings for the rows of `r4r.stages.split.targets`.

    Attributes:
        name: as in `conf/method/<name>.yaml`.
        uses: config groups that it reads (dataset, llm, teacher, strategy, reason_source, experts), and timing where
            its predictions can be timed; command-line overrides of the others are refused. A class without it is taken
            to read them all.
        experts: where `uses` has experts, those that it trains; without it, all that the strategy mounts.
    """

    name: str
    uses: frozenset[str]

    def stages(self, job: Job) -> Stage:
        """The stage that ends the method: its artifact holds `data.parquet` (rows.PREDICTIONS) for every target.

        A target without a prediction fails the job, unless the manifest's `excluded` names it: analyses may do that.
        Only describes the work: nothing is built here, so that a plan costs nothing.
        """
        ...


def point_predictions(row_ids: pd.Series, label: str, values: np.ndarray) -> pd.DataFrame:
    """rows.PREDICTIONS of a method that gives one number a row: clipped to 1..5, the same for every decoding."""
    values = np.clip(values, MIN_RATING, MAX_RATING)
    table = pd.DataFrame({"row_id": row_ids.to_numpy(), "label": label})
    return table.assign(mean=values, median=values, mode=values)
