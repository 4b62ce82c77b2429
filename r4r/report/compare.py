"""Is a row different from the headline row, on the same reviews? From a record, or from the predictions on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r4r.errors import DataError
from r4r.report.records import Run


def compare(first_run: Run, first: str, second_run: Run, second: str) -> Mapping[str, float] | None:
    """p of the paired bootstrap between two labels' mean ratings, by metric; None where nothing tells."""
    if first == second:  # two jobs whose rows have one label: no record holds both
        return _from_predictions(first_run, first, second_run, second)
    for run, label, other_run, other in (
        (first_run, first, second_run, second),
        (second_run, second, first_run, first),
    ):
        if _score(run, other) is None or _score(run, other) != _score(other_run, other):
            continue
        for entry in run.record.get("comparisons") or ():
            if {entry["label"], entry["against"]} == {label, other}:
                return {metric: float(entry[metric]["p"]) for metric in ("mae", "rmse")}
    return _from_predictions(first_run, first, second_run, second)


def compare_reasons(first_run: Run, first: str, second_run: Run, second: str, metric: str) -> float | None:
    """p of the paired bootstrap between two labels' scores of reasons, from the artifacts; None where they are gone."""
    from r4r.metrics.significance import paired_scores

    try:
        tables = [_reason_scores(*side, metric) for side in ((first_run, first), (second_run, second))]
    except (OSError, DataError, KeyError):  # an artifact that is damaged or half deleted
        return None
    left, right = tables
    if left is None or right is None or set(left.index) != set(right.index):
        return None
    return paired_scores(left.to_numpy(), right.loc[left.index].to_numpy())["p"]


def _reason_scores(run: Run, label: str, metric: str) -> Any:
    """A label's scores, by row_id; None where they are not on disk."""
    from r4r.stages.score_reasons import SCORES

    artifact = find(run, f"score_reasons/{metric}")
    if artifact is None:
        return None
    table = artifact.table(SCORES)
    table = table[table["label"] == label]
    return table.set_index("row_id")["score"] if len(table) else None


def _score(run: Run, label: str) -> tuple[Any, ...] | None:
    rows = [row for row in run.record["metrics"] if row["label"] == label and row["decoding"] == "mean"]
    return (rows[0]["n"], rows[0]["mae"], rows[0]["rmse"]) if rows else None


def _from_predictions(first_run: Run, first: str, second_run: Run, second: str) -> Mapping[str, float] | None:
    from r4r.metrics.significance import paired_bootstrap
    from r4r.rows import REVIEWS

    try:
        left, right = _predictions(first_run, first), _predictions(second_run, second)
        split = find(first_run, "split")
        if left is None or right is None or split is None or set(left.index) != set(right.index):
            return None
        truth = split.table(REVIEWS).set_index("row_id").loc[left.index, "rating"].to_numpy()
    except (OSError, DataError, KeyError):  # an artifact that is damaged or half deleted
        return None
    found = paired_bootstrap(truth, left["mean"].to_numpy(), right.loc[left.index, "mean"].to_numpy())
    return {metric: found[metric]["p"] for metric in ("mae", "rmse")}


def _predictions(run: Run, label: str) -> Any:
    """The mean ratings of a label, by row_id; None where they are not on disk."""
    from r4r.rows import PREDICTIONS

    for stage in run.artifacts:
        if stage.startswith(("predict/", "reward_check/")):
            artifact = find(run, stage)
            if artifact is not None:
                table = artifact.table(PREDICTIONS)
                table = table[table["label"] == label]
                if len(table):
                    return table.set_index("row_id")
    return None


def find(run: Run, stage: str) -> Any:
    """A run's artifact: where its configuration says, or in the outputs folder that the record lies in now."""
    from r4r.store.artifact import Store

    key = run.artifacts.get(stage)
    paths = run.config.get("paths") or {}
    roots = [Path(str(paths["artifacts"]))] if paths.get("artifacts") else []
    roots += [parent / "artifacts" for parent in run.path.resolve().parents if (parent / "artifacts").is_dir()]
    artifacts = [Store(root).find(stage, key) for root in roots] if key else []
    return next((artifact for artifact in artifacts if artifact is not None), None)
