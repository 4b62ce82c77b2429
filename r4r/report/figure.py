"""Figures 3 and 4: a point a variant, with its spread; what has no run says so."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r4r.report.cells import METRICS, Block
from r4r.report.tables import Table
from r4r.terminal import drawn

OURS, PAPER = "#1f5fa8", "#c2571a"


def draw(table: Table, blocks: Sequence[Block], decoding: str = "mean") -> Figure:
    """Two rows of panels a data set, MAE and RMSE side by side: the values, and their differences from the headline.

    Points are means over seeds with their standard deviation, or of one seed its value with the standard error over
    reviews. Hollow diamonds are the paper's numbers, where the data set is the paper's and the number is in print.
    Differences have their 95 % intervals; without any comparison, their panels are left out.
    """
    compared = [any(cell.effects for cell in block.cells) for block in blocks]
    heights = [height for told in compared for height in ([2.9, 2.2] if told else [2.9])]
    figure = Figure(figsize=(9.0, 0.6 + sum(heights)), layout="constrained")
    figure.suptitle(table.title, fontsize=12)
    grid = iter(figure.subplots(len(heights), len(METRICS), squeeze=False, height_ratios=heights))
    names = [textwrap.fill(row.name, 11) for row in table.rows]
    for block, told in zip(blocks, compared, strict=True):
        panels = next(grid)
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
            axes.set_title(drawn(f"{block.dataset}\n{_spread(block)}"), fontsize=9, loc="left")
            axes.grid(axis="y", color="0.9")
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            if known:
                axes.legend(fontsize=8, frameon=False)
        for metric, axes in zip(METRICS, next(grid), strict=True) if told else ():
            _draw_effects(axes, block, metric, names, table.headline)
    return figure


def _draw_effects(axes: Axes, block: Block, metric: str, names: Sequence[str], headline: str) -> None:
    """Each row's difference from the headline row, with its 95 % interval."""
    axes.axhline(0, color="0.4", linewidth=1)
    for x, cell in enumerate(block.cells):
        effect = cell.effects.get(metric)
        if effect is not None:
            ends = [[effect.difference - effect.low], [effect.high - effect.difference]]
            axes.errorbar(x, effect.difference, yerr=ends, fmt="s", color=OURS, capsize=4, markersize=5)
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.margins(y=0.15)
    axes.set_ylabel(f"{metric.upper()} difference")
    axes.set_title(f"from {headline}, with 95 % intervals; above 0: worse", fontsize=9, loc="left")
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


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
