"""What a further metric of ratings says of itself, so that one file and one YAML add another beside MAE and RMSE."""

from typing import ClassVar

import numpy as np

from r4r.errors import DataError
from r4r.scale import Scale


class RatingMetric:
    """A mean over rows of what each prediction is worth.

    Attributes:
        title: of its column in tables.
        higher_is_better: whether a larger mean is the better one.
    """

    title: ClassVar[str]
    higher_is_better: ClassVar[bool] = False

    def of(self, truth: np.ndarray, predicted: np.ndarray, scale: Scale) -> np.ndarray:
        """The value of each row.

        Args:
            truth, predicted: ratings in points of the scale, float64 (rows,).

        Returns:
            Float64 (rows,).
        """
        raise NotImplementedError


def row_values(name: str, metric: RatingMetric, truth: np.ndarray, predicted: np.ndarray, scale: Scale) -> np.ndarray:
    """The metric's value of each row, float64 (rows,).

    Raises:
        DataError: the metric gave another number of values, or one that is not finite.
    """
    given = metric.of(truth, predicted, scale)
    try:
        values = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != truth.shape or not np.isfinite(values).all():
        raise DataError(f"metrics.ratings.{name}: wants a finite value for each of {truth.size} rows")
    return values


def measured(name: str, values: np.ndarray) -> dict[str, float | None]:
    """Mean and standard error (None for a single row) under the metric's name."""
    error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else None
    return {name: float(values.mean()), f"{name}_se": error}
