"""Cells into a document: the numbers as the paper prints them, with the paper's beside."""

from collections.abc import Sequence

from r4r.report.cells import METRICS, Block, Cell
from r4r.report.tables import Table
from r4r.report.text import DAGGER, Document, Grid, Text

DECODINGS = ("mean", "median", "mode")


def document(table: Table, blocks: Sequence[Block], missing: Sequence[str] = (), decoding: str = "mean") -> Document:
    """The table, a grid a data set. The best of each column is bold.

    Args:
        missing: sentences on data sets without records.
        decoding: of the rating: mean (the paper's), median or mode.
    """
    made = Document(table.name, table.title, table.command)
    for block in blocks:
        made.grids.append(_grid(block, decoding))
        made.problems += [f"{block.dataset}: {problem}" for problem in block.problems]
        made.notes += [f"{block.dataset}: {note}" for note in block.notes]
        if block.paper != block.dataset:
            made.notes.append(
                f"{block.dataset}: the paper has no such data; its numbers for {block.paper} stand beside. Compare the "
                "order of the rows, not the values."
            )
        made.rows += [row for cell in block.cells for row in _rows(table, block, cell)]
    made.problems += missing
    made.notes += [
        "Mean ± standard deviation over seeds; of one seed, its value ± the standard error over reviews (se). "
        f"Ratings are decoded as the {decoding} of their distribution. Bold: the best of its column."
    ]
    return made


def _grid(block: Block, decoding: str) -> Grid:
    headers = ["", "MAE", "RMSE", "reviews", "seeds"]
    headers += [f"paper, {block.paper}: {metric.upper()}" for metric in METRICS]
    best = {
        metric: min((cell.over_seeds(metric, decoding)[0] for cell in block.cells if cell.results), default=None)
        for metric in METRICS
    }
    published = {
        metric: min((numbers[metric] for numbers in block.published.values()), default=None) for metric in METRICS
    }
    lines = []
    for cell in block.cells:
        line = [Text(cell.row.name)]
        for metric in METRICS:
            line.append(_shown(cell, metric, decoding, best[metric]))
        line.append(Text(" to ".join(f"{n:,}" for n in dict.fromkeys([*cell.n[:1], *cell.n[-1:]])) or cell.status))
        line.append(Text(str(len(cell.results))))
        for metric in METRICS:
            number = block.published.get(cell.row.paper, {}).get(metric)
            line.append(Text("—" if number is None else f"{number:.4f}", number == published[metric] and bool(number)))
        lines.append(line)
    return Grid(block.dataset, headers, lines)


def _shown(cell: Cell, metric: str, decoding: str, best: float | None) -> Text:
    if not cell.results:
        return Text(cell.status)
    mean, sd = cell.over_seeds(metric, decoding)
    error = cell.standard_error(metric, decoding)
    spread = f" ± {sd:.4f}" if sd is not None else f" ± {error:.4f} se" if error is not None else ""
    # the marks compare the mean of the distribution, whichever decoding is shown
    mark = DAGGER if decoding == "mean" and cell.differs(metric) else ""
    return Text(f"{mean:.4f}{spread}{mark}", mean == best)


def _rows(table: Table, block: Block, cell: Cell) -> list[dict[str, object]]:
    """For the CSV file: a line a decoding and metric, or one that says why there is none."""
    first: dict[str, object] = {
        "table": table.name,
        "dataset": block.dataset,
        "row": cell.row.name,
        "status": cell.status,
    }
    published = block.published.get(cell.row.paper, {}) if block.paper == block.dataset else {}
    if not cell.results:
        return [first | {"metric": metric, "paper": published.get(metric, "")} for metric in METRICS]
    found: list[dict[str, object]] = []
    for decoding in DECODINGS:
        for metric in METRICS:
            mean, sd = cell.over_seeds(metric, decoding)
            error = cell.standard_error(metric, decoding)
            found.append(
                first
                | {
                    "decoding": decoding,
                    "metric": metric,
                    "mean": mean,
                    "sd": "" if sd is None else sd,
                    "standard_error": "" if error is None else error,
                    "n": " ".join(map(str, cell.n)),
                    "seeds": " ".join(map(str, cell.results)),
                    "p": " ".join(f"{p:.4g}" for p in cell.p.get(metric, ())) if decoding == "mean" else "",
                    "paper": published.get(metric, "") if decoding == "mean" else "",
                    "records": " ".join(str(result.run.path) for result in cell.results.values()),
                }
            )
    return found
