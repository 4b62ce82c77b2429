"""Cells into a document: the numbers as the paper prints them, with the paper's beside; then effects and variants."""

from collections.abc import Sequence

from r4r.metrics.significance import POWER
from r4r.report.beside import COSTS, Spread, metric_name, reason_metrics, shown_cost, shown_spread, spent, spread
from r4r.report.cells import METRICS, Block, Cell
from r4r.report.compare import Effect
from r4r.report.settings import Differences, said
from r4r.report.tables import Table
from r4r.report.text import Document, Grid, Text

DECODINGS = ("mean", "median", "mode")
VARIANTS = 12  # lines at most


def document(table: Table, blocks: Sequence[Block], missing: Sequence[str] = (), decoding: str = "mean") -> Document:
    """The table, a grid a data set. The best of each column is bold. A second grid has the differences from the
    headline row, a third the results with other settings.

    Args:
        missing: sentences on data sets without results.
        decoding: of the rating: mean (the paper's), median or mode.
    """
    made = Document(table.name, table.title, table.command)
    for block in blocks:
        made.grids.append(_grid(block, decoding))
        if any(cell.effects for cell in block.cells):
            made.grids.append(_effects(block, table.headline))
        if table.beside:
            made.grids.append(_beside(block))
        if block.variants:
            made.grids.append(_variants(made, block, decoding))
        made.problems += [f"{block.dataset}: {problem}" for problem in block.problems]
        made.notes += [f"{block.dataset}: {note}" for note in block.notes]
        if block.paper and block.paper != block.dataset:
            made.notes.append(
                f"{block.dataset}: the paper has no such data; its numbers for {block.paper} stand beside. Compare the "
                "order of the rows, not the values."
            )
        made.rows += [row for cell in block.cells for row in _rows(table, block, cell, {})]
        made.rows += [row for cell, beyond in block.variants for row in _rows(table, block, cell, beyond)]
    made.problems += missing
    made.notes += [
        "Mean ± standard deviation over seeds; of one seed, its value ± the standard error over reviews (se). "
        f"Ratings are decoded as the {decoding} of their distribution. Bold: the best of its column."
    ]
    if any(cell.effects for block in blocks for cell in block.cells):
        made.notes.append(EFFECTS)
    return made


EFFECTS = (
    "Differences are pooled over the seeds that both rows have; of errors, below zero says that the row is better. In "
    "brackets: 95 % interval. Visible: the smallest true difference that the comparison would have found with "
    f"{POWER:.0%} probability; where it is large, to find none says little."
)


def shown_effect(effect: Effect | None, digits: int = 4) -> list[Text]:
    """Difference with its interval, p, p adjusted, smallest visible difference."""
    if effect is None:
        return [Text("—")] * 4
    low, high = (f"{value:+.{digits}f}" for value in (effect.low, effect.high))
    visible = "—" if effect.visible is None else f"{effect.visible:.{digits}f}"
    return [
        Text(f"{effect.difference:+.{digits}f} [{low}, {high}]"),
        *(Text(f"{p:.4f}" if p >= 1e-4 else "< 0.0001") for p in (effect.p, effect.holm)),
        Text(visible),
    ]


def _caption(block: Block) -> str:
    """The data set, and in a few words the settings that are not the preset's."""
    told = [f"{key}={value}" for key, (value, _) in block.setting.items()]
    more = [f"{len(told) - 4} more settings"] if len(told) > 4 else []
    return f"{block.dataset} with {', '.join([*told[:4], *more])}" if told else block.dataset


def _effects(block: Block, headline: str) -> Grid:
    headers = ["", *(h for m in METRICS for h in (f"{m.upper()} difference", "p", "p, Holm", "visible"))]
    lines = []
    for cell in block.cells:
        if cell.effects:
            lines.append([Text(cell.row.name), *(t for m in METRICS for t in shown_effect(cell.effects.get(m)))])
    return Grid(f"{block.dataset}: differences from {headline}", headers, lines)


def _beside(block: Block) -> Grid:
    """Scores of reasons, with the differences that the errors have too, and what each result costs."""
    metrics = [m for m in reason_metrics(block.cells) if sum(spread(cell, m) is not None for cell in block.cells) > 1]
    heads = [head for m in metrics for head in (metric_name(m), "difference", "p", "p, Holm", "visible")]
    lines = []
    for cell in block.cells:
        line = [Text(cell.row.name)]
        for metric in metrics:
            found = spread(cell, metric)
            line.append(Text("—") if found is None else Text(f"{shown_spread(found)}{cell.marks(metric)}"))
            line += shown_effect(cell.effects.get(metric))
        lines.append([*line, *(Text(shown_cost(cell, name)) for name in COSTS)])
    return Grid(f"{block.dataset}: reasons, and what a result costs", ["", *heads, *COSTS.values()], lines)


def _variants(made: Document, block: Block, decoding: str) -> Grid:
    """Results of the table's rows with other settings than the table's."""
    lines = []
    for cell, beyond in block.variants[:VARIANTS]:
        line = [Text(f"{cell.row.name} with {said(beyond)}")]
        line += [_shown(cell, metric, decoding, None) for metric in METRICS]
        lines.append([*line, Text(_range(cell.n)), Text(str(len(cell.results)))])
    if len(block.variants) > VARIANTS:
        made.notes.append(f"{block.dataset}: {len(block.variants) - VARIANTS} more variants stand in the CSV file.")
    made.notes.append(
        f"{block.dataset}: variants are no results of the table's rows: their settings differ from the table's as they "
        "say. --set KEY=VALUE makes a setting the table's."
    )
    return Grid(f"{block.dataset}: variants", ["", "MAE", "RMSE", "reviews", "seeds"], lines)


def _grid(block: Block, decoding: str) -> Grid:
    more = block.more
    trained = any(cell.pairs for cell in block.cells)
    headers = ["", "MAE", "RMSE", *(own["title"] for own in more.values())]
    headers += [*(["training pairs"] if trained else []), "reviews", "seeds"]
    headers += [f"paper, {block.paper}: {metric.upper()}" for metric in METRICS if block.paper]
    best = {
        metric: min((cell.over_seeds(metric, decoding)[0] for cell in block.cells if cell.results), default=None)
        for metric in METRICS
    }
    for metric, own in more.items():
        found = [cell.over_seeds(metric, decoding)[0] for cell in block.cells if cell.results]
        best[metric] = (max if own["higher_is_better"] else min)(found, default=None)
    published = {
        metric: min((numbers[metric] for numbers in block.published.values()), default=None) for metric in METRICS
    }
    lines = []
    for cell in block.cells:
        line = [Text(cell.row.name)]
        for metric in (*METRICS, *more):
            line.append(_shown(cell, metric, decoding, best[metric]))
        if trained:
            line.append(Text(_range(cell.pairs) or "—"))
        line.append(Text(_range(cell.n) or cell.status))
        line.append(Text(str(len(cell.results))))
        for metric in METRICS if block.paper else ():
            number = block.published.get(cell.row.paper, {}).get(metric)
            line.append(Text("—" if number is None else f"{number:.4f}", number == published[metric] and bool(number)))
        lines.append(line)
    return Grid(_caption(block), headers, lines)


def _shown(cell: Cell, metric: str, decoding: str, best: float | None) -> Text:
    if not cell.results:
        return Text(cell.status)
    mean, sd = cell.over_seeds(metric, decoding)
    # the marks compare the mean of the distribution, whichever decoding is shown
    mark = cell.marks(metric) if decoding == "mean" else ""
    return Text(f"{shown_spread((mean, sd, cell.standard_error(metric, decoding)))}{mark}", mean == best)


def _range(counts: Sequence[int]) -> str:
    """The least and the most of some sorted counts."""
    return " to ".join(f"{n:,}" for n in dict.fromkeys([*counts[:1], *counts[-1:]]))


def _rows(table: Table, block: Block, cell: Cell, beyond: Differences) -> list[dict[str, object]]:
    """For the CSV file: a line a decoding and metric, or one that says why there is none.

    Args:
        beyond: how a variant's settings differ from the table's.
    """
    first: dict[str, object] = {
        "table": table.name,
        "dataset": block.dataset,
        "row": cell.row.name,
        "status": "variant" if beyond else cell.status,
        "settings": " ".join(f"{key}={value}" for key, (value, _) in {**block.setting, **beyond}.items()),
    }
    published = block.published.get(cell.row.paper, {}) if block.paper == block.dataset else {}
    if not cell.results:
        return [first | {"metric": metric, "paper": published.get(metric, "")} for metric in METRICS]
    counted = {
        "n": " ".join(map(str, cell.n)),
        "training_pairs": " ".join(map(str, cell.pairs)),
        "seeds": " ".join(map(str, cell.results)),
    }
    costs = {name: "" if (value := spent(cell, name)) is None else value for name in COSTS} if table.beside else {}
    last = costs | {"records": " ".join(str(result.run.path) for result in cell.results.values())}

    def line(metric: str, decoding: str, found: Spread, compared: bool) -> dict[str, object]:
        mean, sd, error = found
        return (
            first
            | {"decoding": decoding, "metric": metric, "mean": mean}
            | {"sd": "" if sd is None else sd, "standard_error": "" if error is None else error}
            | counted
            | {"p": " ".join(f"{p:.4g}" for p in cell.p.get(metric, ())) if compared else ""}
            | effect_columns(cell.effects.get(metric) if compared else None)
            | {"paper": published.get(metric, "") if compared and not beyond else ""}
            | last
        )

    lines = [
        line(
            metric,
            decoding,
            (*cell.over_seeds(metric, decoding), cell.standard_error(metric, decoding)),
            decoding == "mean",
        )
        for decoding in DECODINGS
        for metric in (*METRICS, *(block.more if not beyond else ()))
    ]
    of_reasons = reason_metrics([cell]) if table.beside else []
    return lines + [line(metric, "", found, True) for metric in of_reasons if (found := spread(cell, metric))]


def effect_columns(effect: Effect | None) -> dict[str, object]:
    """For the CSV file."""
    names = ("difference", "low", "high", "p", "holm", "visible", "worlds")
    told = {} if effect is None else vars(effect)
    return {"p_pooled" if name == "p" else name: "" if told.get(name) is None else told[name] for name in names}
