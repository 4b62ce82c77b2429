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
    # columns: absolute and squared error of both methods; a resample's means are weights @ errors
    errors = np.stack(
        [np.abs(truth - first), np.abs(truth - second), (truth - first) ** 2, (truth - second) ** 2], axis=1
    )
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // n)
    drawn = []
    for start in range(0, samples, step):
        rows = generator.integers(0, n, size=(min(step, samples - start), n))
        drawn.append(np.stack([errors[:, column][rows].mean(axis=1) for column in range(4)], axis=1))
    means = np.concatenate(drawn)
    result = {}
    for name, (a, b), root in (("mae", (0, 1), False), ("rmse", (2, 3), True)):
        point = errors.mean(axis=0)
        left, right = (np.sqrt(means[:, a]), np.sqrt(means[:, b])) if root else (means[:, a], means[:, b])
        observed = np.sqrt(point[a]) - np.sqrt(point[b]) if root else point[a] - point[b]
        differences = left - right
        low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
        ties = (differences == 0).sum() / 2
        p = 2 * (min((differences < 0).sum(), (differences > 0).sum()) + ties + 1) / (samples + 1)
        result[name] = {"difference": float(observed), "low": float(low), "high": float(high), "p": float(min(1.0, p))}
    return result
