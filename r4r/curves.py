"""Pictures of how trainings went, from the metrics that a job logged: `<name>-loss.png` beside its record."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r4r.terminal import drawn

LOSS = re.compile(r"(?P<name>.+)/(?P<part>train|valid)/loss")
PARTS = {"train": ("tab:blue", 1.0), "valid": ("tab:orange", 1.8)}  # colour, line width


class Curves:
    """The losses of each training, `<name>/train/loss` and `<name>/valid/loss`, as they are logged.

    A metric stands at the step that is logged with it (`<name>/train/step`, `<name>/valid/step`), else at the last one
    of its training. A training that an earlier job began shows the steps of this job alone.
    """

    def __init__(self) -> None:
        self._points: dict[str, dict[str, list[tuple[float, float]]]] = {}  # name -> part -> (step, loss)
        self._step: dict[str, float] = {}

    def take(self, metrics: Mapping[str, Any]) -> None:
        """Keep what belongs to a loss curve."""
        for key, value in metrics.items():
            found = LOSS.fullmatch(key)
            if not found:
                continue
            name, part = found["name"], found["part"]
            steps = (metrics.get(f"{name}/{of}/step") for of in (part, "train"))
            step = next((float(s) for s in steps if s is not None), self._step.get(name, 0.0))
            self._step[name] = step
            self._points.setdefault(name, {}).setdefault(part, []).append((step, float(value)))

    def draw(self, folder: Path) -> list[Path]:
        """Write a PNG for each training.

        Returns:
            Their paths.
        """
        if not self._points:
            return []
        from matplotlib.figure import Figure  # not pyplot: a job has no window

        made = []
        for name, parts in self._points.items():
            figure = Figure(figsize=(6.4, 3.6), layout="constrained")
            axes = figure.subplots()
            for part, points in parts.items():
                color, width = PARTS[part]
                marker = "o" if len(points) < 30 else None
                axes.plot(*zip(*points, strict=True), color=color, lw=width, marker=marker, ms=3, label=part)
            axes.set(xlabel="optimizer step", ylabel="loss a response token", title=drawn(name))
            axes.grid(color="0.9")
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False)
            made.append(folder / f"{name.replace('/', '-')}-loss.png")
            figure.savefig(made[-1], dpi=120, metadata={"Software": None})
        return made
