"""What the steps of a training measure: sums that processes add up, kept a line a step, drawn at the end."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from r4r.store.journal import Journal

STEPS = "steps.jsonl"
MANY = 30  # steps, from which on their mean over a stretch is drawn too
Sums = dict[str, tuple[float, float, float]]  # count, sum, sum of squares


class Meter:
    """Means of a step, whatever passes and processes it is cut into."""

    def __init__(self) -> None:
        self._sums: Sums = {}

    def add(self, name: str, values: Iterable[float]) -> None:
        """Take some values of a measure; a name that ends in `/` gives mean and standard deviation, else the mean."""
        count, total, squares = self._sums.get(name, (0.0, 0.0, 0.0))
        for value in values:
            count, total, squares = count + 1, total + value, squares + value * value
        self._sums[name] = (count, total, squares)

    def add_sum(self, name: str, total: float, count: float) -> None:
        """The same for values that are added up already."""
        before = self._sums.get(name, (0.0, 0.0, 0.0))
        self._sums[name] = (before[0] + count, before[1] + total, math.nan)

    def take(self) -> Sums:
        """The sums so far; the next step begins with none."""
        taken, self._sums = self._sums, {}
        return taken


def means(parts: Sequence[Sums]) -> dict[str, float]:
    """The measures of a step from the sums of all its processes."""
    found: dict[str, float] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        count, total, squares = (sum(values) for values in zip(*(p[name] for p in parts if name in p), strict=True))
        if not count:
            continue
        mean = total / count
        if name.endswith("/"):
            found[f"{name}mean"] = mean
            found[f"{name}sd"] = math.sqrt(max(0.0, squares / count - mean * mean))
        else:
            found[name] = mean
    return found


class Steps:
    """What every step measured, in a file that survives a kill; a step that comes again counts once."""

    def __init__(self, folder: Path):
        self._journal = Journal(folder / STEPS)

    @property
    def rows(self) -> list[dict[str, float]]:
        """A row a step, in order, with the step's number as `step`."""
        return sorted(self._journal.rows(), key=lambda row: row["step"])

    def add(self, row: Mapping[str, float]) -> None:
        """Keep a step's measures."""
        self._journal.append(f"step {row['step']:.0f}", [dict(row)])

    def draw(self, path: Path, title: str) -> None:
        """A PNG with a panel a measure; `/mean` and `/sd` of a name share one, the deviation as a band.

        Over many steps, a second line is the mean of the tenth of them around each.
        """
        from matplotlib.figure import Figure  # not pyplot: a job has no window

        rows = self.rows
        names = list(dict.fromkeys(name for row in rows for name in row if name != "step"))
        panels = [name for name in names if not name.endswith("/sd")]
        columns = 3
        lines = math.ceil(len(panels) / columns)
        figure = Figure(figsize=(4 * columns, 2.2 * lines), layout="constrained")
        for place, axes in enumerate(figure.subplots(lines, columns, squeeze=False).flat):
            if place >= len(panels):
                axes.set_axis_off()
                continue
            name = panels[place]
            known = [row for row in rows if name in row]
            steps, values = [row["step"] for row in known], [row[name] for row in known]
            axes.plot(steps, values, color="tab:blue", lw=1, marker="o" if len(known) < 30 else None, ms=3)
            if name.endswith("/mean"):
                sd = [row[f"{name.removesuffix('mean')}sd"] for row in known]
                low, high = ([v + side * s for v, s in zip(values, sd, strict=True)] for side in (-1, 1))
                axes.fill_between(steps, low, high, color="tab:blue", alpha=0.15, lw=0)
            if len(known) >= MANY and name != "lr":
                axes.plot(steps, _around(values, len(known) // 10), color="tab:orange", lw=1.8)
            axes.set_title(name.removesuffix("/mean"), fontsize=9)
            axes.grid(color="0.9")
            axes.spines[["top", "right"]].set_visible(False)
        around = f"; orange: the mean of {len(rows) // 10} around each" if len(rows) >= MANY else ""
        figure.suptitle(f"{title}, by optimizer step{around}")
        figure.savefig(path, dpi=110, metadata={"Software": None})


def _around(values: Sequence[float], width: int) -> np.ndarray:
    """The mean of the values around each place, of fewer at the ends."""
    window = np.ones(width)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
