"""What stands beside a row's rating errors: the scores of its reasons, and what its result costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from r4r.report.cells import METRICS, Cell
from r4r.report.records import Run

REASON_METRICS = {
    "gptscore": "GPTScore",
    "bleurt": "BLEURT",
    "similarity": "similarity",
    "rouge_l": "ROUGE-L",
    "planted_verdict": "right verdict",
    "planted_claims": "true claims",
}
COSTS = {"train_tokens": "trained tokens", "dollars": "$", "wall_s": "s"}
Spread = tuple[float, float | None, float | None]
"""Mean over repetitions, their standard deviation (None for one alone), the standard error over rows."""


def reason_metrics(cells: Sequence[Cell]) -> list[str]:
    """The scores of reasons that some of the cells have."""
    found = (result.run.record.get("reasons") or {} for cell in cells for result in cell.results.values())
    return list(dict.fromkeys(str(score["metric"]) for one in found for score in one.get("scores") or ()))


def spread(cell: Cell, metric: str, decoding: str = "mean") -> Spread | None:
    """A metric's mean over the repetitions that have it."""
    if metric in METRICS:
        return (*cell.over_seeds(metric, decoding), cell.standard_error(metric, decoding)) if cell.results else None
    scores = [score for result in cell.results.values() if (score := _reason_score(result.run, result.label, metric))]
    if not scores:
        return None
    values, errors = [score["mean"] for score in scores], [score["se"] for score in scores]
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), sd, None if None in errors else float(np.mean(errors))


def shown_spread(found: Spread) -> str:
    mean, sd, error = found
    return f"{mean:.4f}" + (f" ± {sd:.4f}" if sd is not None else f" ± {error:.4f} se" if error is not None else "")


def better(metric: str) -> int:
    """1 where less is better, -1 where more is."""
    return 1 if metric in METRICS else -1


def metric_name(metric: str) -> str:
    return metric.upper() if metric in METRICS else REASON_METRICS.get(metric, metric)


def spent(cell: Cell, name: str) -> float | None:
    """One of COSTS, its mean over repetitions; None where a record does not say."""
    values = [((result.run.record.get("cost") or {}).get("total") or {}).get(name) for result in cell.results.values()]
    told = [value for value in values if value is not None]
    return float(np.mean(told)) if told and len(told) == len(values) else None


def shown_cost(cell: Cell, name: str) -> str:
    found = spent(cell, name)
    if found is None:
        return "—"
    return f"{found:.4f}" if name == "dollars" else f"{found:,.0f}"


def _reason_score(run: Run, label: str, metric: str) -> Mapping[str, Any] | None:
    scores = (run.record.get("reasons") or {}).get("scores") or []
    return next((s for s in scores if (s["label"], s["metric"]) == (label, metric)), None)
