"""The tables that pass between rooms: their columns and types (pandas DataFrames)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from r4r.errors import DataError

Schema = Mapping[str, str]

REVIEWS: Schema = {
    "row_id": "int64",  # dense and stable: position in (timestamp, user_id, item_id) order after preparation
    "user_id": "str",
    "item_id": "str",
    "title": "str",
    "rating": "float64",  # on the data set's scale (r4r.scale)
    "review": "str",
    "timestamp": "int64",  # unix seconds, UTC
    "split": "str",  # train | valid | test
}
ITEMS: Schema = {"item_id": "str", "title": "str", "categories": "str", "description": "str"}  # "" where unknown
POOLS: Schema = {"row_id": "int64", "pool": "str"}  # reward | experts
SUMMARIES: Schema = {"row_id": "int64", "summary": "str"}
REASONS: Schema = {"row_id": "int64", "reason": "str"}
CANDIDATES: Schema = {  # every attempt of generation-then-filter
    "row_id": "int64",
    "attempt": "int64",
    "hinted": "bool",
    "reason": "str",
    "rating": "float64",
    "r_reason": "float64",  # the reward model's rating, given the reason; NaN where a leak made scoring moot
    "r_review": "float64",  # the same, given the target's review
    "r_none": "float64",  # the same, without the analysis section
    "s_eval": "float64",
    "accepted": "bool",
    "cause": "str",  # accepted | score | leak
}
PREDICTIONS: Schema = {
    "row_id": "int64",
    "label": "str",  # the method's name in tables
    "mean": "float64",
    "median": "float64",
    "mode": "float64",
}


@dataclass(frozen=True)
class Case:
    """What is known of a target before its time: all that an inference prompt may hold.

    The target's rating and review are not in it, so no prompt made from a case can leak them.

    Attributes:
        user_history, item_history: (title, rating, summary) of the newest reviews, oldest first.
        user_average, item_average: mean rating over the whole history; None where it is empty.
    """

    row_id: int
    title: str
    category: str
    user_history: tuple[tuple[str, float, str], ...]
    item_history: tuple[tuple[str, float, str], ...]
    user_average: float | None
    item_average: float | None


def conform(table: pd.DataFrame, schema: Schema, where: str) -> pd.DataFrame:
    """The table's schema columns, in order and cast to their types.

    Raises:
        DataError: naming `where`, and the columns that are missing or hold nulls they must not.
    """
    missing = [column for column in schema if column not in table.columns]
    if missing:
        raise DataError(f"{where}: columns missing: {', '.join(missing)}; present: {', '.join(table.columns)}")
    out = table[list(schema)].copy()
    for column, kind in schema.items():
        if kind != "float64" and out[column].isna().any():
            row = int(out[column].isna().to_numpy().argmax())
            raise DataError(f"{where}: column '{column}' is empty in row {row}")
        out[column] = out[column].astype(object).astype(str) if kind == "str" else out[column].astype(np.dtype(kind))
    return out
