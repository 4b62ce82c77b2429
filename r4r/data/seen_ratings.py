"""Do the ratings of a file fit the scale that they are read on? If not: what was seen, and which setting tells it."""

from contextlib import suppress
from math import ceil, floor, inf

from pydantic import ValidationError

from r4r.scale import PAPER, Scale

STEPS = (1.0, 0.5, 0.25, 0.2, 0.1, 0.05, 0.01)
COMMON = ((0, 1), (-1, 1), (1, 5), (0.5, 5), (0, 5), (1, 7), (1, 10), (0, 10), (-10, 10), (0, 100), (-100, 100))


class SeenRatings:
    """The ratings of a file: their range, and how many of them are not on the scale.

    Attributes:
        on_scale: the values of the scale that occur.
        outside, between: how many ratings lie beyond the scale, or between two of its values.
    """

    def __init__(self, scale: Scale):
        self.scale = scale
        self.on_scale: set[float] = set()
        self.outside = self.between = 0
        self._lowest, self._highest = inf, -inf  # of those that are not on the scale
        self._steps = [*STEPS]  # that all of these are multiples of
        self._first = 0  # line of the first of these

    def add(self, found: float, settled: float | None, line: int) -> None:
        """Count a rating: as it was found, and as `Scale.settled` has it."""
        if settled in self.on_scale or settled in self.scale.values:
            self.on_scale.add(settled)
            return
        self._first = self._first or line
        self._lowest, self._highest = min(self._lowest, found), max(self._highest, found)
        self._steps = [step for step in self._steps if _multiple(found, step)]
        if settled is None:
            self.outside += 1
        else:
            self.between += 1

    def fault(self, told: bool, lines: int, max_bad_fraction: float) -> str:
        """Why these ratings cannot be used; empty where they can.

        Args:
            told: the scale was configured, so that ratings between two of its values are meant as they are.
            lines: records in the file.
        """
        if self.outside <= max_bad_fraction * lines and (told or not self.between):
            return ""
        lowest, highest = min(self._lowest, *self.on_scale, inf), max(self._highest, *self.on_scale, -inf)
        steps = [step for step in self._steps if all(_multiple(value, step) for value in self.on_scale)]
        kind = "whole numbers" if steps[:1] == [1.0] else f"in steps of {steps[0]:g}" if steps else "of any fraction"
        counts = {"lie outside of that": self.outside, "lie between two of its values": self.between}
        off = " and ".join(f"{count} {where}" for where, count in counts.items() if count)
        seen = (
            f"but of the ratings in {lines} records {off} (the first in line {self._first}): they run from "
            f"{lowest:g} to {highest:g}, {kind}"
        )
        drop = " Ratings outside are dropped and counted, up to dataset.max_bad_fraction." if self.outside else ""
        if told:
            return f"dataset.scale is {self.scale} in steps of {self.scale.step:g}, {seen}. Correct it.{drop}"
        return (
            f"without dataset.scale, ratings are whole numbers from {PAPER.lowest:g} to {PAPER.highest:g}, {seen}. "
            f"Tell their scale, for example {_settings(lowest, highest, steps)}.{drop}"
        )


def _multiple(value: float, step: float) -> bool:
    return abs(value / step - round(value / step)) < 1e-4


def _settings(lowest: float, highest: float, steps: list[float]) -> str:
    """The settings of a common scale that holds ratings of this range and these steps."""
    low, high = next(
        ((low, high) for low, high in COMMON if low <= lowest and highest <= high),
        (floor(lowest), max(ceil(highest), floor(lowest) + 1)),
    )
    finest = steps[0] if steps else STEPS[-1]
    step = (high - low) / 100  # where no common step leaves few enough values
    for each in sorted(each for each in STEPS if each >= finest):
        with suppress(ValidationError):
            step = Scale(lowest=low, highest=high, step=each).step
            break
    chosen = {"lowest": low, "highest": high, "step": step}
    return " ".join(f"dataset.scale.{name}={v:g}" for name, v in chosen.items() if v != getattr(PAPER, name))
