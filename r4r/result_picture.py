"""A picture of what a job found: errors with their intervals, and on the simulated world how its steps fared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r4r.terminal import drawn

OWN, OTHER, WEAK = "#1f5fa8", "0.45", "#c2571a"


def draw_result(record: Mapping[str, Any], path: Path) -> None:
    """Write a PNG.

    Args:
        record: its scores, comparisons and findings.
    """
    from matplotlib.figure import Figure  # not pyplot: a job has no window

    steps = _steps(record["findings"])
    figure = Figure(figsize=(10.5 if steps else 7.5, 3.8), layout="constrained")
    panels = figure.subplots(1, 3 if steps else 2, squeeze=False)[0]
    scores = [row for row in record["metrics"] if row["decoding"] == "mean"]
    compared = {entry["label"]: entry for entry in record["comparisons"]}
    for metric, axes in zip(("mae", "rmse"), panels, strict=False):
        for place, row in enumerate(scores):
            effect = compared.get(row["label"], {}).get(metric, {})
            told = f"  {_compared(effect)}" if effect else ""
            color = OWN if place == 0 else OTHER
            error = row[f"{metric}_se"]
            spread = None if error is None else 1.96 * error
            axes.errorbar(row[metric], place, xerr=spread, fmt="o", color=color, capsize=3)
            axes.annotate(
                told, (row[metric], place), xytext=(0, 5), textcoords="offset points", fontsize=7, ha="center"
            )
        axes.set_yticks(range(len(scores)), [drawn(row["label"]) for row in scores], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel(f"{metric.upper()}, 95 % interval over {scores[0]['n']} {record['evaluated']} rows", fontsize=8)
        axes.margins(y=0.12)
    for axes in panels:
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    if steps:
        axes = panels[-1]
        names, values, colors = zip(*steps, strict=True)
        axes.barh(range(len(steps)), values, color=colors)
        for place, value in enumerate(values):
            axes.annotate(f" {value:.2f}", (value, place), va="center", fontsize=8)
        axes.set_yticks(range(len(steps)), names, fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.12)
        axes.set_xlabel("against what was planted", fontsize=8)
    figure.suptitle(drawn(f"{record['name']}: {record['dataset']}, seed {record['seed']}"), fontsize=10)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _steps(findings: Any) -> list[tuple[str, float, str]]:
    """(name, share, colour) of each bar."""
    bars: list[tuple[str, float, str]] = []
    for found in findings:
        if found["kind"] == "summaries":
            bars.append(("Summarizer's aspects, F1", found["f1"], OWN))
            bars.append(("another review's, F1", found["chance"], WEAK))
        elif "accepted_agree" in found:
            bars.append(("accepted reasons that agree", found["accepted_agree"], OWN))
            bars.append(("rejected reasons that agree", found["rejected_agree"], WEAK))
    return bars


def _compared(effect: Mapping[str, float]) -> str:
    return f"p = {effect['p']:.3f}" if effect["p"] >= 0.001 else "p < 0.001"
