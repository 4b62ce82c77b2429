"""What stands beside a row's MAE and RMSE: further metrics of ratings, scores of its reasons, what its result costs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from r4r.report.cells import METRICS, Cell, Result
from r4r.report.compare import definition
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


def further_metrics(cells: Sequence[Cell]) -> dict[str, Mapping[str, Any]]:
    """Name -> title and direction of the metrics of ratings beside MAE and RMSE that some of the cells have."""
    each = (result.run.record.get("rating_metrics") or {} for cell in cells for result in cell.results.values())
    return {name: own for found in each for name, own in found.items()}


def reason_metrics(cells: Sequence[Cell]) -> list[str]:
    """The scores of reasons that some of the cells have."""
    found = (_reason_scores(result.run) for cell in cells for result in cell.results.values())
    return list(dict.fromkeys(str(score["metric"]) for scores in found for score in scores))


def of_one_model(cells: Sequence[Cell]) -> list[str]:
    """Leave each metric the scores of one model, that of the newest record: those of two do not compare.

    Returns:
        A sentence on each model whose scores were taken out of the cells.
    """
    newest_last = sorted((r.run for cell in cells for r in cell.results.values()), key=lambda run: run.started)
    models = {score["metric"]: score["model"] for run in newest_last for score in _reason_scores(run)}
    told: dict[tuple[str, str], None] = {}
    for cell in cells:
        for seed, result in cell.results.items():
            foreign = [s for s in _reason_scores(result.run) if s["model"] != models[s["metric"]]]
            if not foreign:
                continue
            told |= dict.fromkeys((s["metric"], s["model"]) for s in foreign)
            record = result.run.record
            metrics = {s["metric"] for s in foreign}
            own = [s for s in _reason_scores(result.run) if s["metric"] not in metrics]
            kept = {k: v for k, v in result.run.artifacts.items() if k not in {f"score_reasons/{m}" for m in metrics}}
            changed = {**record, "artifacts": kept, "reasons": {**record["reasons"], "scores": own}}
            cell.results[seed] = replace(result, run=replace(result.run, record=changed))
    return [
        f"{metric_name(metric)} by {model} was left out: the other scores are by {models[metric]}."
        for metric, model in told
    ]


def of_one_definition(cells: Sequence[Cell]) -> list[str]:
    """Leave each further metric of ratings the values of one definition, that of the newest record.

    Returns:
        A sentence on each metric of which values were taken out of the cells.
    """
    newest_last = sorted((r.run for cell in cells for r in cell.results.values()), key=lambda run: run.started)
    kept = {name: definition(run, name) for run in newest_last for name in run.record.get("rating_metrics") or {}}
    left_out: dict[str, int] = {}
    for cell in cells:
        for seed, result in cell.results.items():
            told = result.run.record.get("rating_metrics") or {}
            own = {name: about for name, about in told.items() if definition(result.run, name) == kept[name]}
            for name in told.keys() - own.keys():
                left_out[name] = left_out.get(name, 0) + 1
            if len(own) < len(told):
                record = {**result.run.record, "rating_metrics": own}
                cell.results[seed] = replace(result, run=replace(result.run, record=record))
    return [
        f"{name} of {count} record{'s' if count > 1 else ''} was left out: the newest has metrics.ratings.{name}="
        f"{kept[name]}, and those have another."
        for name, count in left_out.items()
    ]


def spread(cell: Cell, metric: str, decoding: str = "mean") -> Spread | None:
    """A metric's mean over the repetitions that have it."""
    scores = [score for result in cell.results.values() if (score := _score(result, metric, decoding))]
    if not scores:
        return None
    values, errors = zip(*scores, strict=True)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), sd, None if None in errors else float(np.mean(errors))


def shown_spread(found: Spread) -> str:
    mean, sd, error = found
    return f"{mean:.4f}" + (f" ± {sd:.4f}" if sd is not None else f" ± {error:.4f} se" if error is not None else "")


def better(metric: str, further: Mapping[str, Any]) -> int:
    """1 where less is better, -1 where more is.

    Args:
        further: as `further_metrics` gives them.
    """
    if metric in further:
        return -1 if further[metric]["higher_is_better"] else 1
    return 1 if metric in METRICS else -1


def metric_name(metric: str, further: Mapping[str, Any] | None = None) -> str:
    if further and metric in further:
        return str(further[metric]["title"])
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


def _reason_scores(run: Run) -> Sequence[Mapping[str, Any]]:
    return (run.record.get("reasons") or {}).get("scores") or []


def _score(result: Result, metric: str, decoding: str) -> tuple[float, float | None] | None:
    """A result's value and standard error; None where it has not got the metric."""
    if metric in METRICS or metric in (result.run.record.get("rating_metrics") or {}):
        own = result.scores(decoding)
        return own[metric], own[f"{metric}_se"]
    reasons = _reason_scores(result.run)
    return next(((s["mean"], s["se"]) for s in reasons if (s["label"], s["metric"]) == (result.label, metric)), None)
