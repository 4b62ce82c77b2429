"""The scale of a data set's ratings: its lowest value, its highest, and the step between two of them."""

from functools import cached_property

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from r4r.values import Values

MOST_VALUES = 201  # each of them is decoded as a text of its own
DIGITS = 6  # after the point; finer steps are not told apart
BANDS = 20  # a table of ratings has at most this many lines


class Scale(Values):
    """An arithmetic scale of ratings; the default is the paper's, 1 to 5 in whole stars.

    Attributes:
        lowest, highest, step: in rating points of the data set; `highest - lowest` is a whole number of steps.
    """

    model_config = ConfigDict(frozen=True)

    lowest: float = Field(1.0, ge=-1e6, le=1e6, allow_inf_nan=False)
    highest: float = Field(5.0, ge=-1e6, le=1e6, allow_inf_nan=False)
    step: float = Field(1.0, ge=1e-4, le=1e6, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> "Scale":
        if self.highest <= self.lowest:
            raise ValueError(f"highest ({self.highest:g}) must be above lowest ({self.lowest:g})")
        steps = (self.highest - self.lowest) / self.step
        if round(steps) < 1 or abs(steps - round(steps)) > 1e-6 * max(1.0, steps):
            raise ValueError(f"from {self.lowest:g} to {self.highest:g} is no whole number of steps of {self.step:g}")
        if round(steps) >= MOST_VALUES:
            raise ValueError(
                f"has {round(steps) + 1:,} values; at most {MOST_VALUES} can be decoded: take a larger step"
            )
        return self

    def __str__(self) -> str:
        return f"{self.lowest:g}..{self.highest:g}"

    @cached_property
    def values(self) -> tuple[float, ...]:
        """All ratings of the scale, lowest first."""
        count = round((self.highest - self.lowest) / self.step) + 1
        # adding zero turns -0.0, which sums of floats can come to, into 0.0
        return tuple(round(self.lowest + place * self.step, DIGITS) + 0.0 for place in range(count))

    @cached_property
    def decimals(self) -> int:
        """Digits after the point that every value is written with: as many as the scale needs, and at least one."""
        return next(n for n in range(1, DIGITS + 1) if all(round(v, n) == v for v in self.values))

    def text(self, rating: float) -> str:
        """The value of the scale nearest to a rating, as prompts and training texts write it: `4.0`, `3.5`."""
        return f"{self.nearest(rating):.{self.decimals}f}"

    def nearest(self, rating: float) -> float:
        """The value of the scale nearest to a rating; of two equally near ones the higher."""
        return self.values[int(self.places(np.array([rating]))[0])]

    def places(self, ratings: np.ndarray) -> np.ndarray:
        """Index into `values` of the value nearest to each rating; int64, of the shape of `ratings`."""
        steps = np.round((np.asarray(ratings, dtype=float) - self.lowest) / self.step, DIGITS)
        return np.clip(np.floor(steps + 0.5), 0, len(self.values) - 1).astype(np.int64)

    def clip(self, ratings: np.ndarray) -> np.ndarray:
        """Ratings (any shape) moved to the nearer end where they lie beyond the scale."""
        return np.clip(ratings, self.lowest, self.highest)

    def settled(self, rating: float) -> float | None:
        """A rating as the data mean it: the value of the scale that it misses by no more than the rounding of 32-bit
        floats, else the rating itself, which may lie between two values; None where it lies beyond the scale."""
        near = self.nearest(rating)
        if abs(rating - near) <= 1e-6 * max(1.0, abs(near)):
            return near
        return rating if self.lowest < rating < self.highest else None

    def to_stars(self, ratings: np.ndarray) -> np.ndarray:
        """Ratings (any shape) moved linearly onto the paper's scale, on which learning rates and initial weights of
        the trained baselines are chosen."""
        return (ratings - self.lowest) / self.star + PAPER.lowest

    def from_stars(self, stars: np.ndarray) -> np.ndarray:
        """What `to_stars` maps to these numbers (any shape)."""
        return (stars - PAPER.lowest) * self.star + self.lowest

    @property
    def star(self) -> float:
        """Rating points of this scale that are as much of it as one star is of the paper's scale."""
        return (self.highest - self.lowest) / (PAPER.highest - PAPER.lowest)

    def bands(self) -> list[tuple[str, int, int]]:
        """The values in at most 20 groups of neighbours, for tables: (name, place of the first, place of the last)."""
        size = -(-len(self.values) // BANDS)
        last = len(self.values) - 1
        spans = [(first, min(first + size - 1, last)) for first in range(0, last + 1, size)]
        return [
            (f"{self.values[low]:g}" if low == high else f"{self.values[low]:g} to {self.values[high]:g}", low, high)
            for low, high in spans
        ]


PAPER = Scale()
