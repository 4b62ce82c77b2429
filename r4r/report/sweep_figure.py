"""Pictures of a sweep: a metric over a numeric axis (or by setting), and a heat map over two axes."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r4r.configuration.targets import close_names
from r4r.errors import DataError
from r4r.report.beside import better, metric_name, spread
from r4r.report.compare import Effect
from r4r.report.sweep import Point, Sweep, number
from r4r.teacher.said import visible
from r4r.terminal import drawn

LINES = 10  # at most, each with a colour of its own
BARS = 40
DECADES = 30.0  # an axis whose ends are so many times apart is drawn in logarithms


def numeric_axes(made: Sweep) -> list[str]:
    """Axes whose values are all numbers."""
    columns = zip(made.axes, zip(*(point.values for point in made.points), strict=True), strict=True)
    return [axis for axis, values in columns if all(number(value) is not None for value in values)]


def pick_axes(made: Sweep, x: str | None, y: str | None) -> tuple[str | None, str | None]:
    """The axis to draw a metric over, and the second of a heat map: as asked, else the first ones with numbers.

    Raises:
        DataError: an axis that is asked for does not vary.
    """
    for asked in (x, y):
        if asked is not None and asked not in made.axes:
            raise DataError(f"{asked} does not vary in this sweep; {close_names(asked, made.axes)}")
    if x is not None and x == y:
        raise DataError(f"{x} is asked for as both axes; name two that vary: {', '.join(made.axes)}")
    numeric = numeric_axes(made)
    first = x or next((axis for axis in numeric if axis != y), None)
    if y is None and first is not None:
        rest = [axis for axis in numeric if axis != first] or [axis for axis in made.axes if axis != first]
        y = rest[0] if rest else None
    return first, y


def draw_sweep(made: Sweep, metric: str = "mae", x: str | None = None, decoding: str = "mean") -> Figure:
    """A metric over an axis, a line for each setting of the others; without a numeric axis, a bar for each setting.

    Error bars are standard deviations over seeds, or of one seed the standard error over reviews. Below, where settings
    were compared, are their differences with 95 % intervals. Groups that scored other rows are drawn side by side.
    """
    numeric = numeric_axes(made)
    over = x if x in numeric else None
    compared = any(metric in point.cell.effects for point in made.points)
    rows = 2 if compared else 1
    figure = Figure(figsize=(max(6.4, 5.2 * len(made.groups)), 4.2 if rows == 1 else 6.8), layout="constrained")
    panels = figure.subplots(rows, len(made.groups), squeeze=False)
    for column, group in enumerate(made.groups):
        title = next((r.run.dataset for p in group for r in p.cell.results.values()), "no results")
        values = _heights(group, metric, decoding)
        if over is not None:
            _lines(panels[0][column], made, group, over, values)
        else:
            _bars(panels[0][column], group, values)
        panels[0][column].set_ylabel(metric_name(metric, made.further))
        panels[0][column].set_title(
            f"{title} ({'lower' if better(metric, made.further) > 0 else 'higher'} is better)", fontsize=9
        )
        if compared:
            _effects(panels[1][column], made, group, metric, over)
    return figure


def draw_heat(made: Sweep, metric: str, x: str, y: str, decoding: str = "mean") -> Figure:
    """A metric over two axes, the mean of all settings (of the first group) that share their values."""
    group = made.groups[0]
    columns, rows = (_values(made, group, axis) for axis in (x, y))
    table: list[list[float]] = []
    for row in rows:
        line = []
        for column in columns:
            here = [p for p in group if _at(made, p, x) == column and _at(made, p, y) == row]
            means = [found[0] for p in here if (found := spread(p.cell, metric, decoding))]
            line.append(sum(means) / len(means) if means else float("nan"))
        table.append(line)
    names = [[_plain(value, 28) for value in values] for values in (columns, rows)]
    across, down = (max(map(len, of)) for of in names)
    turned = 40 if across > 8 else 0
    width, height = 2.4 + 0.8 * len(columns) + 0.09 * down, 1.8 + 0.55 * len(rows) + (0.07 * across if turned else 0)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(table, cmap="viridis_r" if better(metric, made.further) > 0 else "viridis", aspect="auto")
    low, high = picture.get_clim()
    for at, line in enumerate(table):
        for place, value in enumerate(line):
            if value == value:
                dark = (
                    (value - low) / (high - low or 1) > 0.5
                    if better(metric, made.further) > 0
                    else (value - low) < 0.5 * (high - low)
                )
                axes.text(place, at, f"{value:.3f}", ha="center", va="center", color="white" if dark else "black")
            else:
                axes.text(place, at, "no run", ha="center", va="center", color="0.4", fontsize=8)
    axes.set_xticks(range(len(columns)), names[0], rotation=turned, ha="right" if turned else "center")
    axes.set_yticks(range(len(rows)), names[1])
    axes.set_xlabel(_plain(x))
    axes.set_ylabel(_plain(y))
    others = [axis for axis in made.axes if axis not in (x, y)]
    more = f"\nmean over {', '.join(map(_plain, others))}" if others else ""
    axes.set_title(f"{metric_name(metric, made.further)}{more}", fontsize=10)
    figure.colorbar(picture, ax=axes)
    return figure


def _heights(group: Sequence[Point], metric: str, decoding: str) -> dict[int, tuple[float, float]]:
    """(mean, half of the error bar) of each point that has the metric, by the point's id."""
    found = {id(point): spread(point.cell, metric, decoding) for point in group}
    return {which: (one[0], (one[2] if one[1] is None else one[1]) or 0.0) for which, one in found.items() if one}


def _at(made: Sweep, point: Point, axis: str) -> str:
    return point.values[made.axes.index(axis)]


def _values(made: Sweep, group: Sequence[Point], axis: str) -> list[str]:
    """An axis's values: numbers by size, then words."""
    found = dict.fromkeys(_at(made, point, axis) for point in group)
    return sorted(found, key=lambda v: (number(v) is None, number(v) or 0.0, v))


def _plain(text: str, limit: int = 48) -> str:
    """Text that matplotlib shows as it is: a dollar sign would begin a formula."""
    shown = visible(text if len(text) <= limit else f"{text[: limit - 3]}...")
    return drawn(shown)


def _families(made: Sweep, group: Sequence[Point], x: str) -> Mapping[str, list[Point]]:
    """Points by their settings on all axes but one, each in the order of that one."""
    found: dict[str, list[Point]] = {}
    for point in group:
        name = " ".join(f"{a}={v}" for a, v in zip(made.axes, point.values, strict=True) if a != x)
        found.setdefault(name, []).append(point)
    return {n: sorted(ps, key=lambda p: number(_at(made, p, x)) or 0.0) for n, ps in found.items()}


def _lines(axes: Axes, made: Sweep, group: Sequence[Point], x: str, values: Mapping[int, tuple[float, float]]) -> None:
    families = _families(made, group, x)
    for name, points in list(families.items())[:LINES]:
        shown = [point for point in points if id(point) in values]
        places = [number(_at(made, point, x)) or 0.0 for point in shown]
        means, bars = ([values[id(point)][part] for point in shown] for part in (0, 1))
        axes.errorbar(places, means, yerr=bars, fmt="o-", capsize=4, markersize=5, label=_plain(name) or None)
    if len(families) > LINES:
        axes.text(0.01, 0.01, f"{len(families) - LINES} more settings are in the table", transform=axes.transAxes)
    if len(families) > 1:
        axes.legend(fontsize=8, frameon=False)
    _numeric(axes, made, group, x)
    _tidy(axes)


def _bars(axes: Axes, group: Sequence[Point], values: Mapping[int, tuple[float, float]]) -> None:
    shown = list(group)[:BARS]
    for place, point in enumerate(shown):
        if id(point) in values:
            mean, error = values[id(point)]
            axes.bar(place, mean, width=0.6, yerr=error, color="C0", alpha=0.75, capsize=4)
            axes.text(place, 0.02, f"{mean:.3f}", transform=axes.get_xaxis_transform(), ha="center", fontsize=8)
        else:
            axes.axvspan(place - 0.4, place + 0.4, color="0.94")
            axes.text(place, 0.06, point.cell.status, transform=axes.get_xaxis_transform(), ha="center", fontsize=8)
    if len(group) > BARS:
        axes.text(0.01, 0.01, f"{len(group) - BARS} more settings are in the table", transform=axes.transAxes)
    _named(axes, shown)


def _effects(axes: Axes, made: Sweep, group: Sequence[Point], metric: str, x: str | None) -> None:
    """Differences from the row that the others are compared with, with their 95 % intervals."""
    axes.axhline(0, color="0.4", linewidth=1)
    if x is not None:
        for points in list(_families(made, group, x).values())[:LINES]:
            told = [
                (number(_at(made, p, x)) or 0.0, p.cell.effects[metric]) for p in points if metric in p.cell.effects
            ]
            _intervals(axes, [place for place, _ in told], [effect for _, effect in told])
        _numeric(axes, made, group, x)
        _tidy(axes)
    else:
        shown = list(group)[:BARS]
        numbered = [(n, p.cell.effects[metric]) for n, p in enumerate(shown) if metric in p.cell.effects]
        _intervals(axes, [float(place) for place, _ in numbered], [effect for _, effect in numbered])
        _named(axes, shown)
    worse = "above" if better(metric, made.further) > 0 else "below"
    axes.set_ylabel(f"{metric_name(metric, made.further)} difference")
    axes.set_title(f"from {_plain(made.against)}, with 95 % intervals; {worse} 0: worse", fontsize=9)


def _intervals(axes: Axes, places: Sequence[float], effects: Sequence[Effect]) -> None:
    ends = [[e.difference - e.low for e in effects], [e.high - e.difference for e in effects]]
    axes.errorbar(places, [e.difference for e in effects], yerr=ends, fmt="s", capsize=4, markersize=5)


def _numeric(axes: Axes, made: Sweep, group: Sequence[Point], x: str) -> None:
    places = sorted({number(_at(made, point, x)) or 0.0 for point in group})
    if places[0] > 0 and places[-1] / places[0] >= DECADES:
        axes.set_xscale("log")
    if len(places) <= 12:
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.minorticks_off()
    axes.set_xlabel(_plain(x))


def _named(axes: Axes, points: Sequence[Point]) -> None:
    names = [_plain(" ".join(point.values), 28) or "all jobs" for point in points]
    turned = 0 if len(names) <= 4 and max(map(len, names), default=0) < 16 else 40
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=turned, ha="right" if turned else "center")
    axes.set_xlim(-0.5, len(names) - 0.5)
    _tidy(axes)


def _tidy(axes: Axes) -> None:
    axes.margins(y=0.15)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
