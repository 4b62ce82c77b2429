"""Figures 3 and 4: a point a variant, with its spread; what has no run says so."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from r4r.report.cells import METRICS, Block
from r4r.report.tables import Table

OURS, PAPER = "#1f5fa8", "#c2571a"


def draw(table: Table, blocks: Sequence[Block], decoding: str = "mean") -> Figure:
    """A row of panels a data set, MAE and RMSE side by side.

    Points are means over seeds with their standard deviation, or of one seed its value with the standard error over
    reviews. Hollow diamonds are the paper's numbers, where the data set is the paper's and the number is in print.
    """
    figure = Figure(figsize=(9.0, 0.6 + 2.9 * len(blocks)), layout="constrained")
    figure.suptitle(table.title, fontsize=12)
    grid = figure.subplots(len(blocks), len(METRICS), squeeze=False)
    names = [textwrap.fill(row.name, 11) for row in table.rows]
    for block, panels in zip(blocks, grid, strict=True):
        for metric, axes in zip(METRICS, panels, strict=True):
            # the paper's numbers stand beside ours only where both are of the same data
            published = block.published if block.paper == block.dataset else {}
            for x, cell in enumerate(block.cells):
                if cell.results:
                    mean, sd = cell.over_seeds(metric, decoding)
                    spread = sd if sd is not None else cell.standard_error(metric, decoding)
                    label = "r4r" if not axes.get_legend_handles_labels()[1] else None
                    axes.errorbar(x, mean, yerr=spread, fmt="o", color=OURS, capsize=4, markersize=6, label=label)
                else:
                    axes.axvspan(x - 0.4, x + 0.4, color="0.94")
                    place = axes.get_xaxis_transform()
                    text = {"failed": "run failed", "missing": "no run"}.get(cell.status, cell.status)
                    axes.text(x, 0.06, text, transform=place, ha="center", fontsize=8, color="0.35")
            known = [
                (x + 0.15, published[row.paper][metric]) for x, row in enumerate(table.rows) if row.paper in published
            ]
            if known:
                axes.plot(*zip(*known, strict=True), "D", mfc="none", color=PAPER, markersize=7, label="paper")
            axes.set_xticks(range(len(names)), names, fontsize=9)
            axes.set_xlim(-0.5, len(names) - 0.5)
            axes.margins(y=0.15)
            axes.set_ylabel(metric.upper())
            axes.set_title(f"{block.dataset} ({_spread(block)})", fontsize=9, loc="left")
            axes.grid(axis="y", color="0.9")
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            if known:
                axes.legend(fontsize=8, frameon=False)
    return figure


def _spread(block: Block) -> str:
    """What the error bars are."""
    counts = {len(cell.results) for cell in block.cells if cell.results}
    if counts == {1}:
        return "one seed, bars: standard error over reviews"
    if 1 in counts:
        return "bars: sd over seeds (se over reviews where one seed)"
    return f"bars: sd over {'-'.join(map(str, sorted({min(counts), max(counts)})))} seeds" if counts else "no run"


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """`name.png` and `name.pdf`, the same bytes for the same picture."""
    png, pdf = folder / f"{name}.png", folder / f"{name}.pdf"
    figure.savefig(png, dpi=150, metadata={"Software": None})
    figure.savefig(pdf, metadata={"CreationDate": None})
    return [png, pdf]
