"""From rows and texts to what a prompt may know of each target."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from r4r.configuration.schema import DatasetConfig
from r4r.data.history import HistoryIndex
from r4r.rows import Case


def rows_of(source: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of these splits (`train`, `train+valid`)."""
    return rows[rows["split"].isin(source.split("+"))]


def make_cases(
    dataset: DatasetConfig, rows: pd.DataFrame, targets: pd.DataFrame, texts: Mapping[int, str]
) -> list[Case]:
    """One case a target, in the targets' order.

    Args:
        rows: the whole split (rows.REVIEWS).
        texts: what the history shows of each row, by row_id: its summary (or its review).
    """
    blank = Case(-1, "", dataset.category, (), (), None, None, scale=dataset.rating_scale)
    return cases_like(blank, dataset.history.source, dataset.history.prompt, rows, targets, texts)


def cases_like(
    blank: Case, source: str, last: int, rows: pd.DataFrame, targets: pd.DataFrame, texts: Mapping[int, str]
) -> list[Case]:
    """As make_cases.

    Args:
        blank: a case whose category and scale all cases take.
        source: the splits that a history may show.
        last: how many of the newest rows a side a history shows.
    """
    past = rows_of(source, rows)
    known = HistoryIndex(past).before(targets)
    shown = {
        row_id: (title, float(rating))
        for row_id, title, rating in zip(past["row_id"], past["title"], past["rating"], strict=True)
    }

    def entries(row_ids: np.ndarray) -> tuple[tuple[str, float, str], ...]:
        return tuple((*shown[row_id], texts[row_id]) for row_id in row_ids.tolist())

    def average(values: np.ndarray, k: int) -> float | None:
        return None if math.isnan(values[k]) else float(values[k])

    titles: Sequence[str] = targets["title"].tolist()
    return [
        Case(
            row_id=row_id,
            title=titles[k],
            category=blank.category,
            user_history=entries(known.user_rows(k, last)),
            item_history=entries(known.item_rows(k, last)),
            user_average=average(known.user_mean, k),
            item_average=average(known.item_mean, k),
            scale=blank.scale,
        )
        for k, row_id in enumerate(targets["row_id"].tolist())
    ]
