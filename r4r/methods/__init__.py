"""Rows of Table 2: what a method is. Each one is a file here and a file in `conf/method/`."""

from typing import Protocol

import numpy as np
import pandas as pd

from r4r.errors import DataError
from r4r.pipeline.stage import Stage
from r4r.scale import Scale
from r4r.stages.stage import Job


class RowsDiffer(DataError):
    """A method gave more ratings than rows, or fewer."""


class Method(Protocol):
    """Predicts ratings for the rows of `r4r.stages.split.targets`.

    Attributes:
        name: as in `conf/method/<name>.yaml`.
        uses: config groups that it reads (dataset, llm, teacher, strategy, reason_source, experts), and timing where
            its predictions can be timed; command-line overrides of the others are refused. A class without it is taken
            to read them all.
        experts: where `uses` has experts, those that it trains; without it, all that the strategy mounts.
        unread: a class method that some have: the method's settings -> dotted keys below `experts` that a job with
            these settings does not read. Overrides of them are refused, and a plan says it.
    """

    name: str
    uses: frozenset[str]

    def stages(self, job: Job) -> Stage:
        """The stage that ends the method: its artifact holds `data.parquet` (rows.PREDICTIONS) for every target.

        A target without a prediction fails the job, unless the manifest's `excluded` names it: analyses may do that.
        Only describes the work: nothing is built here, so that a plan costs nothing.
        """
        ...


def point_predictions(row_ids: pd.Series, label: str, values: np.ndarray, scale: Scale) -> pd.DataFrame:
    """rows.PREDICTIONS of a method that gives one number a row: the same for every decoding.

    Args:
        values: ratings, float64 (n,); what lies beyond the scale is moved to its end.
        scale: of the data set, `config.dataset.rating_scale`.
    Raises:
        RowsDiffer: the ratings are not one a row, or no numbers.
    """
    try:
        values = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise RowsDiffer(f"{label}: ratings that are no numbers ({error})") from error
    if np.shape(values) != (len(row_ids),):
        raise RowsDiffer(
            f"{label}: ratings of shape {np.shape(values)} for {len(row_ids)} rows; it should be one a row"
        )
    values = scale.clip(values)
    table = pd.DataFrame({"row_id": row_ids.to_numpy(), "label": label})
    return table.assign(mean=values, median=values, mode=values)
