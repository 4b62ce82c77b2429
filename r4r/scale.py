"""The scale of a data set's ratings: its lowest value, its highest, and the step between two of them."""

from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator


class Scale(BaseModel):
    """An arithmetic scale of ratings; the default is the paper's, 1 to 5 in whole stars.

    Attributes:
        lowest, highest, step: in rating points of the data set; `highest - lowest` is a whole number of steps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lowest: float = Field(1.0, allow_inf_nan=False)
    highest: float = Field(5.0, allow_inf_nan=False)
    step: float = Field(1.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> "Scale":
        if self.highest <= self.lowest:
            raise ValueError(f"highest ({self.highest:g}) must be above lowest ({self.lowest:g})")
        steps = (self.highest - self.lowest) / self.step
        if abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"from {self.lowest:g} to {self.highest:g} is no whole number of steps of {self.step:g}")
        if round(steps) > 200:
            raise ValueError(f"has {round(steps) + 1} values; at most 201 can be decoded: take a larger step")
        return self

    @cached_property
    def values(self) -> tuple[float, ...]:
        """All ratings of the scale, lowest first."""
        count = round((self.highest - self.lowest) / self.step) + 1
        return tuple(round(self.lowest + place * self.step, 6) for place in range(count))

    @cached_property
    def decimals(self) -> int:
        """Digits after the point that every value is written with: as many as the scale needs, and at least one."""
        return next(n for n in range(1, 7) if all(abs(round(v, n) - v) < 1e-7 for v in (*self.values, self.step)))

    def text(self, rating: float) -> str:
        """The value of the scale nearest to a rating, as prompts and training texts write it: `4.0`, `3.5`."""
        return f"{self.nearest(rating):.{self.decimals}f}"

    def nearest(self, rating: float) -> float:
        """The value of the scale nearest to a rating; of two equally near ones the higher."""
        place = int(np.floor((rating - self.lowest) / self.step + 0.5))
        return self.values[min(len(self.values) - 1, max(0, place))]

    def clip(self, ratings: np.ndarray) -> np.ndarray:
        """Ratings (any shape) moved to the nearer end where they lie beyond the scale."""
        return np.clip(ratings, self.lowest, self.highest)


PAPER = Scale()
