"""Predictions of a job's method and of its references, scored on the same rows."""

from typing import Any

import numpy as np

from r4r.configuration.construct import construct
from r4r.data.history import HistoryIndex
from r4r.errors import DataError
from r4r.metrics.rating import DECODINGS, align, rating_error, segments
from r4r.metrics.rating_metric import measured, row_values
from r4r.metrics.significance import paired_bootstrap, paired_scores
from r4r.pipeline.stage import Stage
from r4r.records import cost, training_pairs
from r4r.rows import PREDICTIONS, label_beside
from r4r.stages.cases import rows_of
from r4r.stages.score_reasons import score_reasons
from r4r.stages.split import all_rows, targets
from r4r.stages.stage import Job


def _relabelled(work: Job, final: Stage, references: dict[str, Stage]) -> dict[tuple[str, str], str]:
    """(key of a method's last stage, label) -> its label in this job, where a method before it has the label."""
    taken: set[str] = set()
    found: dict[tuple[str, str], str] = {}
    for name, stage in {"": final, **references}.items():
        labels = set(work.materialize(stage).table(PREDICTIONS)["label"])
        found |= {(stage.key, label): label_beside(label, name) for label in labels & taken}
        taken |= labels
    return found


def score(work: Job, final: Stage, references: dict[str, Stage]) -> dict[str, Any]:
    """Predictions of the method and its references, scored on the same rows.

    Returns:
        metrics (a row a label and decoding, the method's first), rating_metrics (name -> title and direction of those
        beside MAE and RMSE), segments, comparisons of the method's first label with every other (first minus other),
        training_pairs (label -> how many, see there), cost, artifacts (stage -> key), predicted (label -> stage, key
        and label of the artifact that holds its predictions), excluded (cause -> row ids): what an analysis left out,
        and so is scored for no label; where the configuration has metrics of reasons, reasons
        (see `score_reasons`).
    """

    predicted: dict[str, Any] = {}
    origins: dict[str, dict[str, str]] = {}
    pairs: dict[str, int | None] = {}
    truth = targets(work)
    finals = [final, *references.values()]
    renamed = _relabelled(work, final, references)
    excluded = work.materialize(final).manifest.get("excluded", {})
    dropped = {row_id for row_ids in excluded.values() for row_id in row_ids}
    truth = truth[~truth["row_id"].isin(dropped)].reset_index(drop=True)
    for stage in finals:
        table = work.materialize(stage).table(PREDICTIONS)
        table = table[~table["row_id"].isin(dropped)]
        if table.empty:
            raise DataError(f"{stage.name}: predicts none of the {len(truth)} rows to score")
        for own in table["label"].unique():
            label = renamed.get((stage.key, own), own)
            predicted[label] = align(truth, table, own)
            origins[label] = {"stage": stage.name, "key": stage.key, "label": own}
            pairs[label] = training_pairs(work, stage)
    ratings, scale = truth["rating"].to_numpy(), work.config.dataset.rating_scale
    known = HistoryIndex(rows_of(work.config.dataset.history.source, all_rows(work))).before(truth)
    headline, *others = predicted
    nodes, plugins = work.config.metrics.ratings, work.config.plugins
    more = {name: construct(node, f"metrics.ratings.{name}", plugins) for name, node in nodes.items()}
    metrics: list[dict[str, Any]] = []
    worth: dict[tuple[str, str], np.ndarray] = {}  # (label, further metric) -> of each row
    parts = []
    for label, table in predicted.items():
        values = {name: table[name].to_numpy() for name in DECODINGS}
        for name in DECODINGS:
            if name == "mean" or (values[name] != values["mean"]).any():
                row = {"label": label, "decoding": name, **rating_error(ratings, values[name])}
                for own, metric in more.items():
                    found = row_values(own, metric, ratings, values[name], scale)
                    row |= measured(own, found)
                    if name == "mean":
                        worth[label, own] = found
                metrics.append(row)
        lengths = known.user_count, known.item_count
        parts += [{"label": label, **row} for row in segments(truth, values["mean"], *lengths, scale=scale)]
    first = predicted[headline]["mean"].to_numpy()
    comparisons = [
        {
            "label": label,
            "against": headline,
            **paired_bootstrap(ratings, first, predicted[label]["mean"].to_numpy()),
            **{own: paired_scores(worth[headline, own], worth[label, own]) for own in more},
        }
        for label in others
    ]
    scored = {}
    # a reference may have a stage of the same name: the method's own is the record's
    artifacts = {stage.name: stage.key for each in reversed(finals) for stage in each.upstream()}
    if work.config.metrics.of_reasons:
        reasons = score_reasons(work, finals, truth, renamed)
        artifacts |= reasons.pop("artifacts")
        scored = {"reasons": reasons}
    return {
        "evaluated": work.config.dataset.evaluate.split,
        "excluded": excluded,
        "training_pairs": pairs,
        "metrics": metrics,
        "rating_metrics": {
            name: {"title": str(metric.title), "higher_is_better": bool(metric.higher_is_better)}
            for name, metric in more.items()
        },
        "segments": parts,
        "comparisons": comparisons,
        "cost": cost(work, final),
        "artifacts": artifacts,
        "predicted": origins,
        **scored,
    }
