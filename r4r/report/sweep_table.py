"""A sweep into a document: a table of what each setting gave, one of differences, and the same for programs."""

from collections.abc import Sequence

from r4r.metrics.significance import ALPHA
from r4r.report.beside import (
    COSTS,
    Spread,
    better,
    further_metrics,
    metric_name,
    reason_metrics,
    shown_cost,
    shown_spread,
    spent,
    spread,
)
from r4r.report.cells import METRICS, Cell
from r4r.report.documents import DECODINGS, EFFECTS, effect_columns, shown_effect
from r4r.report.sweep import Point, Sweep
from r4r.report.text import DAGGER, DOUBLE_DAGGER, Document, Grid, Text


def sweep_table(made: Sweep, command: str, name: str = "sweep", decoding: str = "mean") -> Document:
    """The document: rows are settings, columns what varies, then metrics, rows, seeds, cost and time.

    Args:
        command: that reports this sweep again.
    """
    document = Document(name, f"Sweep over {', '.join(made.axes) or 'seeds'}", command)
    for number, group in enumerate(made.groups, 1):
        which = _caption(group, number if len(made.groups) > 1 else None)
        document.grids.append(_grid(made, group, which, decoding))
        if any(point.cell.effects for point in group):
            document.grids.append(_effects(made, group, which))
        document.rows += [row for point in group for row in _rows(made, point)]
    document.problems += made.problems
    document.notes += made.notes
    document.notes += [
        "Mean ± standard deviation over seeds; of one seed, its value ± the standard error over reviews (se). Ratings "
        f"are decoded as the {decoding} of their distribution. Bold: the best of its column; underlined: the second.",
        "Cost and seconds are those of all stages that a result is made of, whichever job built them, a mean over "
        "seeds; stages that settings share are counted for each.",
    ]
    seeds = {point.cell.row.name: tuple(point.cell.results) for point in made.points if point.cell.results}
    if len(set(seeds.values())) > 1:
        document.notes.append("The rows have different seeds; see the column seeds, and the CSV file for which.")
    if made.against:
        document.notes.append(
            f"{DAGGER} differs from {made.against}: paired bootstrap over rows, p < {ALPHA} for every seed compared. "
            f"{DOUBLE_DAGGER} differs pooled over seeds (and over worlds, where seeds have rows of their own), "
            f"p < {ALPHA} after Holm's adjustment for the comparisons of its column and table."
        )
    else:
        document.notes.append("Nothing is compared; --against KEY=VALUE names the row to compare the others with.")
    if any(point.cell.effects for point in made.points):
        document.notes.append(EFFECTS)
    return document


def _caption(group: Sequence[Point], number: int | None) -> str:
    runs = [result.run for point in group for result in point.cell.results.values()]
    if not runs:
        return "no results"
    counts = [n for point in group for n in point.cell.n]
    of = " to ".join(f"{n:,}" for n in sorted({min(counts), max(counts)}))
    told = f"{', '.join(dict.fromkeys(run.dataset for run in runs))}: {of} {runs[0].record['evaluated']} rows"
    return told if number is None else f"{told} ({number})"


def _metrics(points: Sequence[Point]) -> list[str]:
    cells = [point.cell for point in points]
    return [*METRICS, *further_metrics(cells), *reason_metrics(cells)]


def _grid(made: Sweep, group: Sequence[Point], caption: str, decoding: str) -> Grid:
    metrics, further = _metrics(group), made.further
    found = {(id(p), m): spread(p.cell, m, decoding) for p in group for m in metrics}
    ranks = {}
    for metric in metrics:
        means = {one[0] for p in group if (one := found[id(p), metric])}
        ranks[metric] = sorted(means, key=lambda mean: better(metric, further) * mean)[:2]
    names = [metric_name(metric, further) for metric in metrics]
    headers = [*(made.axes or ("",)), *names, "reviews", "seeds", *COSTS.values()]
    lines = []
    for point in group:
        cell = point.cell
        line = [Text(value) for value in point.values] or [Text("all jobs")]
        for metric in metrics:
            line.append(_shown(cell, metric, found[id(point), metric], ranks[metric], decoding))
        lost = f" ({len(point.lost)} lost)" if point.lost else ""
        line += [Text(" to ".join(f"{n:,}" for n in dict.fromkeys([*cell.n[:1], *cell.n[-1:]])) or cell.status)]
        line += [Text(f"{len(cell.results)}{lost}"), *(Text(shown_cost(cell, name)) for name in COSTS)]
        lines.append(line)
    return Grid(caption, headers, lines)


def _shown(cell: Cell, metric: str, found: Spread | None, ranks: Sequence[float], decoding: str) -> Text:
    if found is None:
        return Text("—" if cell.results else cell.status)
    mark = cell.marks(metric) if decoding == "mean" else ""  # the marks compare the mean of the distribution
    alone = len(ranks) < 2  # all the same: none stands out
    return Text(f"{shown_spread(found)}{mark}", not alone and found[0] == ranks[0], not alone and found[0] == ranks[1])


def _effects(made: Sweep, group: Sequence[Point], caption: str) -> Grid:
    metrics = [metric for metric in _metrics(group) if any(metric in point.cell.effects for point in group)]
    heads = [
        head for m in metrics for head in (f"{metric_name(m, made.further)} difference", "p", "p, Holm", "visible")
    ]
    lines = [
        [Text(point.cell.row.name), *(text for m in metrics for text in shown_effect(point.cell.effects.get(m)))]
        for point in group
        if point.cell.effects
    ]
    return Grid(f"{caption}: differences from {made.against}", ["", *heads], lines)


def _rows(made: Sweep, point: Point) -> list[dict[str, object]]:
    """For the CSV file: a line a metric and decoding, and one for each job without a result."""
    first: dict[str, object] = {**dict(zip(made.axes, point.values, strict=True)), "status": "ok"}
    cell = point.cell
    rows: list[dict[str, object]] = []
    of_ratings = (*METRICS, *further_metrics([cell]))
    for metric in _metrics([point]):
        for decoding in DECODINGS if metric in of_ratings else ("",):
            found = spread(cell, metric, decoding)
            if found is None:
                continue
            mean, sd, error = found
            own = decoding in ("mean", "")
            rows.append(
                first
                | {"metric": metric, "decoding": decoding, "mean": mean}
                | {"sd": "" if sd is None else sd, "standard_error": "" if error is None else error}
                | {"n": " ".join(map(str, cell.n)), "seeds": "; ".join(map(str, cell.results))}
                | {"p": " ".join(f"{p:.4g}" for p in cell.p.get(metric, ())) if own else ""}
                | effect_columns(cell.effects.get(metric) if own else None)
                | {name: "" if (value := spent(cell, name)) is None else value for name in COSTS}
                | {"records": " ".join(str(result.run.path) for result in cell.results.values())}
            )
    for run in point.lost:
        status = "stopped at its target" if run.ok else run.record["status"]
        rows.append(first | {"status": status, "seeds": f"seed={run.seed}", "records": str(run.path)})
    return rows
