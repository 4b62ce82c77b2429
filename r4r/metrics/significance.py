"""Is one method better than another on the same rows? Paired bootstrap (Efron and Tibshirani 1993)."""

import numpy as np

from r4r.errors import DataError

CHUNK = 2_000_000  # resampled values held at once


def paired_bootstrap(
    truth: np.ndarray, first: np.ndarray, second: np.ndarray, samples: int = 2000, seed: int = 0, level: float = 0.95
) -> dict[str, dict[str, float]]:
    """Difference of MAE and of RMSE (first minus second; below zero: the first is better), rows resampled in pairs.

    Returns:
        For "mae" and "rmse": difference, low and high (percentile interval), and p, two-sided: twice the share of
        resampled differences on the far side of zero, ties counted half, the observed sample counted in, so that p is
        never 0 and no smaller than the samples can show. Equal methods give p = 1.
    Raises:
        DataError: no rows, or unequal lengths.
    """
    truth, first, second = (np.asarray(values, dtype=float) for values in (truth, first, second))
    n = truth.size
    if n == 0 or first.shape != truth.shape or second.shape != truth.shape:
        raise DataError(
            f"paired bootstrap needs equal, non-empty columns; got {n}, {first.size} and {second.size} rows"
        )
    # columns: absolute and squared error of both methods
    errors = np.stack(
        [np.abs(truth - first), np.abs(truth - second), (truth - first) ** 2, (truth - second) ** 2], axis=1
    )
    means, point = _resampled_means(errors, samples, seed), errors.mean(axis=0)
    roots, root = np.sqrt(means[:, 2:]), np.sqrt(point[2:])
    return {
        "mae": _difference(means[:, 0] - means[:, 1], point[0] - point[1], level),
        "rmse": _difference(roots[:, 0] - roots[:, 1], root[0] - root[1], level),
    }


def paired_scores(
    first: np.ndarray, second: np.ndarray, samples: int = 2000, seed: int = 0, level: float = 0.95
) -> dict[str, float]:
    """The same for the mean of a score: difference (first minus second), low, high, p.

    Raises:
        DataError: no rows, or unequal lengths.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.size == 0 or first.shape != second.shape:
        raise DataError(f"paired bootstrap needs equal, non-empty columns; got {first.size} and {second.size} rows")
    means = _resampled_means(np.stack([first, second], axis=1), samples, seed)
    return _difference(means[:, 0] - means[:, 1], first.mean() - second.mean(), level)


def _resampled_means(columns: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Means of [rows, columns] over rows drawn with replacement, the same rows for all columns: [samples, columns]."""
    n = len(columns)
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // n)
    drawn = []
    for start in range(0, samples, step):
        rows = generator.integers(0, n, size=(min(step, samples - start), n))
        drawn.append(np.stack([column[rows].mean(axis=1) for column in columns.T], axis=1))
    return np.concatenate(drawn)


def _difference(drawn: np.ndarray, observed: float, level: float) -> dict[str, float]:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    ties = (drawn == 0).sum() / 2
    p = 2 * (min((drawn < 0).sum(), (drawn > 0).sum()) + ties + 1) / (len(drawn) + 1)
    return {"difference": float(observed), "low": float(low), "high": float(high), "p": float(min(1.0, p))}
