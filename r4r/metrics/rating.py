"""How far predicted ratings are from true ones, with standard errors (paper 4.1.2: MAE, RMSE)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from r4r.errors import DataError
from r4r.scale import PAPER, Scale

DECODINGS = ("mean", "median", "mode")


def rating_error(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float | int | None]:
    """MAE and RMSE in rating points, each with its standard error, over n rows.

    The standard error of MAE is sd(|e|)/sqrt(n); RMSE's follows by the delta method, sd(e^2)/(2 RMSE sqrt(n)). A single
    row has neither: both are None.

    Raises:
        DataError: no rows, unequal lengths, or a value that is not finite.
    """
    truth, predicted = np.asarray(truth, dtype=float), np.asarray(predicted, dtype=float)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise DataError(f"{truth.size} true ratings cannot be compared with {predicted.size} predictions")
    n = truth.size
    if n == 0:
        raise DataError("there is no row to score")
    if not (np.isfinite(truth).all() and np.isfinite(predicted).all()):
        raise DataError("a true or predicted rating is not a finite number")
    absolute = np.abs(truth - predicted)
    squared = absolute**2
    rmse = float(np.sqrt(squared.mean()))
    mae_se: float | None = None
    rmse_se: float | None = None
    if n > 1:
        mae_se = float(absolute.std(ddof=1) / np.sqrt(n))
        # all errors zero: RMSE is exactly zero and so is its spread
        rmse_se = float(squared.std(ddof=1) / (2 * rmse * np.sqrt(n))) if rmse > 0 else 0.0
    return {"n": n, "mae": float(absolute.mean()), "mae_se": mae_se, "rmse": rmse, "rmse_se": rmse_se}


def align(truth: pd.DataFrame, predictions: pd.DataFrame, label: str) -> pd.DataFrame:
    """One method's predictions in the order of the true rows.

    Args:
        truth: row_id and rating of the rows to score.
        predictions: rows.PREDICTIONS of one label.
    Raises:
        DataError: naming rows that are missing, doubled, foreign or not finite. None is ever skipped.
    """
    predictions = predictions[predictions["label"] == label]
    ids = predictions["row_id"]
    doubled = ids[ids.duplicated()]
    missing = truth.loc[~truth["row_id"].isin(ids), "row_id"]
    foreign = ids[~ids.isin(truth["row_id"])]
    broken = ids[~np.isfinite(predictions[list(DECODINGS)].to_numpy(dtype=float)).all(axis=1)]
    faults = [
        f"{len(rows)} rows {what}: row_id {_some(rows)}"
        for what, rows in (
            ("have no prediction", missing),
            ("are predicted more than once", doubled),
            ("are not among the rows to score", foreign),
            ("have a prediction that is not a finite number", broken),
        )
        if len(rows)
    ]
    if faults:
        raise DataError(f"{label}: " + "; ".join(faults))
    return predictions.set_index("row_id").loc[truth["row_id"]].reset_index()


def _some(rows: pd.Series) -> str:
    shown = ", ".join(str(int(row)) for row in rows.head(10))
    return shown + (", ..." if len(rows) > 10 else "")


def segments(
    truth: pd.DataFrame,
    predicted: np.ndarray,
    user_history: np.ndarray,
    item_history: np.ndarray,
    edges: Sequence[int] = (0, 5, 10, 20),
    scale: Scale = PAPER,
) -> list[dict[str, Any]]:
    """Rating error by length of the user's history, of the item's, and by true rating; empty segments are left out.

    Args:
        truth: row_id and rating, one row a prediction.
        user_history, item_history: number of reviews known before the target.
        edges: lower bounds of the history bins; the last bin is open.
        scale: of the ratings; a true rating belongs to the value nearest to it, or to the band of values of a scale of
            many (`Scale.bands`).
    """
    ratings = truth["rating"].to_numpy(dtype=float)
    rows: list[dict[str, Any]] = []
    for by, lengths in (("user history", user_history), ("item history", item_history)):
        for name, low, high in _bins(edges):
            inside = (np.asarray(lengths) >= low) & (np.asarray(lengths) < high)
            if inside.any():
                rows.append({"by": by, "segment": name, **rating_error(ratings[inside], predicted[inside])})
    places = scale.places(ratings)
    for name, first, last in scale.bands():
        inside = (places >= first) & (places <= last)
        if inside.any():
            rows.append({"by": "true rating", "segment": name, **rating_error(ratings[inside], predicted[inside])})
    return rows


def _bins(edges: Sequence[int]) -> Iterator[tuple[str, float, float]]:
    for low, high in zip(edges, [*edges[1:], None], strict=True):
        if high is None:
            yield f"{low}+", low, np.inf
        else:
            yield (f"{low}-{high - 1}" if high - low > 1 else str(low)), low, high
