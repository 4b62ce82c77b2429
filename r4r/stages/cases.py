"""From rows and summaries to what a prompt may know of each target."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from r4r.config import DatasetConfig
from r4r.data.history import HistoryIndex
from r4r.rows import Case


def history_rows(dataset: DatasetConfig, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that may appear in a history."""
    return rows[rows["split"].isin(dataset.history.source.split("+"))]


def make_cases(
    dataset: DatasetConfig, rows: pd.DataFrame, targets: pd.DataFrame, texts: Mapping[int, str]
) -> list[Case]:
    """One case a target, in the targets' order.

    Args:
        rows: the whole split (rows.REVIEWS).
        texts: what the history shows of each row, by row_id: its summary (or its review).
    """
    past = history_rows(dataset, rows)
    known = HistoryIndex(past).before(targets)
    shown = {
        row_id: (title, float(rating))
        for row_id, title, rating in zip(past["row_id"], past["title"], past["rating"], strict=True)
    }
    last = dataset.history.prompt

    def entries(row_ids: np.ndarray) -> tuple[tuple[str, float, str], ...]:
        return tuple((*shown[row_id], texts[row_id]) for row_id in row_ids.tolist())

    def average(values: np.ndarray, k: int) -> float | None:
        return None if math.isnan(values[k]) else float(values[k])

    titles: Sequence[str] = targets["title"].tolist()
    return [
        Case(
            row_id=row_id,
            title=titles[k],
            category=dataset.category,
            user_history=entries(known.user_rows(k, last)),
            item_history=entries(known.item_rows(k, last)),
            user_average=average(known.user_mean, k),
            item_average=average(known.item_mean, k),
        )
        for k, row_id in enumerate(targets["row_id"].tolist())
    ]
