"""Is one method better than another on the same rows? Paired bootstrap over rows (Efron and Tibshirani 1993), pooled
over seeds, and over worlds where seeds have rows of their own; the smallest difference that could have been seen; Holm.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from r4r.errors import DataError

CHUNK = 2_000_000  # resampled values held at once
ALPHA = 0.05
POWER = 0.8
Effect = dict[str, float]
"""difference, low, high (interval), p (two-sided), visible: the smallest true difference that a comparison of this size
finds at ALPHA with probability POWER; a comparison of a single row cannot tell it."""


@dataclass(frozen=True)
class World:
    """Rows that two methods rated, or wrote scored texts for, once a seed.

    Attributes:
        first, second: ratings or scores of the two methods, float [seeds, rows].
        truth: true ratings, float [rows]; None for scores.
    Raises:
        DataError: no rows, or unequal shapes.
    """

    first: np.ndarray
    second: np.ndarray
    truth: np.ndarray | None = None

    def __post_init__(self) -> None:
        shapes = [values.shape for values in (self.first, self.second)]
        rows = shapes[0][-1] if self.truth is None else self.truth.size
        if rows == 0 or shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] == 0 or shapes[0][1] != rows:
            sizes = [values.shape[-1] for values in (self.truth, self.first, self.second) if values is not None]
            told = f"{', '.join(map(str, sizes[:-1]))} and {sizes[-1]} rows"
            raise DataError(f"a paired bootstrap needs equal, non-empty columns; got {told}")


def paired_bootstrap(
    truth: np.ndarray, first: np.ndarray, second: np.ndarray, samples: int = 2000, seed: int = 0, level: float = 0.95
) -> dict[str, Effect]:
    """Difference of MAE and of RMSE (first minus second; below zero: the first is better), rows resampled in pairs.

    Args:
        truth, first, second: true ratings and those of two methods, float [rows].

    Returns:
        For "mae" and "rmse": difference, low and high (percentile interval), visible, and p, two-sided: twice the share
        of resampled differences on the far side of zero, ties counted half, the observed sample counted in, so that p
        is never 0 and no smaller than the samples can show. Equal methods give p = 1.
    Raises:
        DataError: no rows, or unequal lengths.
    """
    columns = (np.asarray(values, dtype=float) for values in (truth, first, second))
    true, *rated = columns
    return pooled([World(rated[0][None], rated[1][None], true)], samples, seed, level)


def paired_scores(
    first: np.ndarray, second: np.ndarray, samples: int = 2000, seed: int = 0, level: float = 0.95
) -> Effect:
    """The same for the mean of a score: difference (first minus second), low, high, p, visible.

    Raises:
        DataError: no rows, or unequal lengths.
    """
    world = World(np.asarray(first, dtype=float)[None], np.asarray(second, dtype=float)[None])
    return pooled_scores([world], samples, seed, level)


def pooled(worlds: Sequence[World], samples: int = 2000, seed: int = 0, level: float = 0.95) -> dict[str, Effect]:
    """Difference of MAE and of RMSE, averaged over seeds (and over worlds).

    Of one world, rows are resampled, the same rows for every seed: for MAE that is the bootstrap of a row's error
    averaged over seeds. Of several worlds, see `_over_worlds`.

    Returns:
        For "mae" and "rmse": see `paired_bootstrap`. The differences are those of the means that a table shows.
    """

    def columns(world: World) -> np.ndarray:
        assert world.truth is not None
        errors = [world.truth - world.first, world.truth - world.second]
        return np.stack([*(np.abs(error) for error in errors), *(error**2 for error in errors)])

    return {
        "mae": _pooled(worlds, columns, lambda m: m[:, 0] - m[:, 1], samples, seed, level),
        "rmse": _pooled(worlds, columns, lambda m: np.sqrt(m[:, 2]) - np.sqrt(m[:, 3]), samples, seed, level),
    }


def pooled_scores(worlds: Sequence[World], samples: int = 2000, seed: int = 0, level: float = 0.95) -> Effect:
    """The same for the mean of a score."""

    def columns(world: World) -> np.ndarray:
        return np.stack([world.first, world.second])

    return _pooled(worlds, columns, lambda means: means[:, 0] - means[:, 1], samples, seed, level)


def unpaired(first: tuple[float, float, int], second: tuple[float, float, int], level: float = 0.95) -> Effect:
    """Difference of two means (first minus second) of which no single values are at hand (Welch 1947).

    Args:
        first, second: mean, standard error, number of values (two or more).
    """
    (mean, error, n), (other, other_error, m) = first, second
    variance, other_variance = error**2, other_error**2
    difference, whole = mean - other, float(np.sqrt(variance + other_variance))
    if whole == 0:
        p = 1.0 if difference == 0 else 0.0
        return {"difference": difference, "low": difference, "high": difference, "p": p, "visible": 0.0}
    freedom = (variance + other_variance) ** 2 / (variance**2 / (n - 1) + other_variance**2 / (m - 1))
    return _student(difference, whole, freedom, level)


def holm(p: Sequence[float]) -> list[float]:
    """p of several comparisons, adjusted so that the chance of any false finding among them stays below ALPHA (Holm
    1979), in the same order."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = highest
    return [float(value) for value in adjusted]


def _pooled(
    worlds: Sequence[World],
    columns: Callable[[World], np.ndarray],
    difference: Callable[[np.ndarray], np.ndarray],
    samples: int,
    seed: int,
    level: float,
) -> Effect:
    """An effect of all worlds.

    Args:
        columns: a world's values to be averaged over rows, [kinds, seeds, rows].
        difference: of their means, [samples, kinds, seeds] to [samples, seeds].
    """
    effects = []
    for number, world in enumerate(worlds):
        values = columns(world)
        kinds, seeds, rows = values.shape
        drawn = _resampled_means(values.reshape(kinds * seeds, rows).T, samples, seed + number)
        observed = values.mean(axis=2)[None]
        effects.append(
            (
                float(difference(observed).mean()),
                difference(drawn.reshape(samples, kinds, seeds)).mean(axis=1),
            )
        )
    if len(effects) == 1:
        return _of_rows(*effects[0], level, columns(worlds[0]).shape[2])
    return _over_worlds(np.array([one for one, _ in effects]), np.array([d.var() for _, d in effects]), level)


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


def _of_rows(observed: float, drawn: np.ndarray, level: float, rows: int) -> Effect:
    """An effect by its bootstrap. Its p is no smaller than a test of signs could find on so few rows."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    ties = (drawn == 0).sum() / 2
    p = 2 * (min((drawn < 0).sum(), (drawn > 0).sum()) + ties + 1) / (len(drawn) + 1)
    p = float(min(1.0, max(p, 2.0 ** (1 - rows))))
    effect = {"difference": observed, "low": float(low), "high": float(high), "p": p}
    if rows > 1:  # a single row does not vary
        seen = stats.norm.ppf(1 - ALPHA / 2) + stats.norm.ppf(POWER)
        effect["visible"] = float(seen * drawn.std())
    return effect


def _over_worlds(observed: np.ndarray, row_variance: np.ndarray, level: float) -> Effect:
    """The mean effect of worlds that are themselves a sample: worlds first, rows within them second.

    The variance of a world's effect is that between the worlds' effects, or, where these agree better than rows drawn
    anew would let them, that of the rows, by bootstrap within each world. To resample the worlds too would be no test:
    three worlds make ten samples, and the quantiles of these leave out zero for up to a quarter of equal methods.
    Student's t stands in their place, with one degree of freedom less than worlds (Hartung and Knapp 2001), or more
    where it is the rows that vary (Satterthwaite 1946).

    Args:
        observed: effect of each world, [worlds].
        row_variance: of each effect over rows drawn anew, [worlds].
    """
    count = len(observed)
    mean, between, within = float(observed.mean()), float(observed.var(ddof=1)), float(row_variance.mean())
    error = float(np.sqrt(max(between, within) / count))
    if error == 0:
        return {"difference": mean, "low": mean, "high": mean, "p": 1.0 if mean == 0 else 0.0, "visible": 0.0}
    freedom = (count - 1) * (max(1.0, (within / between) ** 2) if between > 0 else np.inf)
    return _student(mean, error, freedom, level)


def _student(difference: float, error: float, freedom: float, level: float) -> Effect:
    """An effect whose error is estimated with so many degrees of freedom."""
    t = stats.t(freedom)
    half = float(t.ppf((1 + level) / 2) * error)
    return {
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
        "p": float(2 * t.sf(abs(difference) / error)),
        "visible": float((t.ppf(1 - ALPHA / 2) + t.ppf(POWER)) * error),
    }
