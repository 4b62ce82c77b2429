"""The tables that pass between rooms: their columns and types (pandas DataFrames)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from r4r.errors import DataError
from r4r.scale import PAPER, Scale

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
TEXTS: Schema = {"row_id": "int64", "text": "str"}  # what an expert wrote, as it wrote it
LESSONS: Schema = {"row_id": "int64", "prompt": "str", "response": "str"}  # what an expert is trained on
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
        user_history, item_history: (title, rating, summary) of the newest reviews, oldest first; the rating is None
            where a user said something without rating anything.
        user_average, item_average: mean rating over the whole history; None where it is empty.
        thoughts: what earlier steps of the deliberation wrote of this target, one paragraph each, in their order.
        scale: the scale of all ratings of the case.
        categories, description: what the data say of the item, on one line each; empty where they say nothing.
    """

    row_id: int
    title: str
    category: str
    user_history: tuple[tuple[str, float | None, str], ...]
    item_history: tuple[tuple[str, float | None, str], ...]
    user_average: float | None
    item_average: float | None
    thoughts: tuple[str, ...] = ()
    scale: Scale = PAPER
    categories: str = ""
    description: str = ""

    def thinking(self, *texts: str) -> "Case":
        """The case with these texts as its thoughts."""
        return replace(self, thoughts=texts)


@dataclass(frozen=True)
class Lesson:
    """What is known of a training pair beside its case: what an answer to learn may be made of.

    Attributes:
        rating: the true one.
        reason: the training reason of the pair, from whichever source; empty where the strategy has none. For a step
            that learns to write reviews, the target's own review.
        summarised: the case with its histories summarised, for experts that write summaries themselves.
    """

    rating: float
    reason: str = ""
    summarised: Case | None = None


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


def label_beside(label: str, reference: str) -> str:
    """The label of the predictions of `references.NAME` in a job whose own method, or an earlier reference, has it."""
    return f"{label} (references.{reference})"
