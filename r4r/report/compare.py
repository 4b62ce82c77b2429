"""Is a row different from the headline row, on the same reviews? From records, or from the predictions on disk."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r4r.errors import DataError
from r4r.metrics.significance import World, paired_bootstrap, paired_scores, pooled, pooled_scores
from r4r.report.records import Run

Side = tuple[Run, str]  # a record and the label in it that is meant
BROKEN = (OSError, DataError, KeyError, ValueError)  # of an artifact that is damaged or half deleted
SCORES = ("mae", "rmse")
ENDS = ("difference", "low", "high", "p")


@dataclass(frozen=True)
class Effect:
    """A row's difference from the headline row, over all seeds that allow the comparison.

    Attributes:
        difference: the row minus the headline; of errors, below zero says that the row is better.
        low, high: 95 % interval.
        visible: the smallest true difference that would have been found with 80 % probability.
        seeds, worlds: how many are pooled; seeds of one world share their rows.
        holm: p, adjusted for all comparisons of its metric in the table.
    """

    difference: float
    low: float
    high: float
    p: float
    visible: float | None
    seeds: int
    worlds: int
    holm: float = 1.0


@dataclass
class Comparison:
    """Of two rows, by metric.

    Attributes:
        p: of each seed by itself.
        effect: over the seeds.
        untold: seeds of which nothing is known.
        apart: seeds for which the two scored other rows, so that they make no pairs.
    """

    p: dict[str, list[float]]
    effect: dict[str, Effect]
    untold: list[Any]
    apart: list[Any]


def compare(row: Mapping[Any, Side], headline: Mapping[Any, Side]) -> Comparison:
    """The mean ratings of two rows, each by seed (or by whatever tells a setting's repetitions apart)."""

    def one(first: Side, second: Side) -> dict[str, dict[str, float]] | None:
        told = _recorded(first, second)
        if told is None and (world := _rated([(first, second)])):
            told = paired_bootstrap(world.truth, world.first[0], world.second[0])  # type: ignore[arg-type]
        return told

    return _compare(row, headline, SCORES, one, _rated, pooled)


def compare_reasons(row: Mapping[Any, Side], headline: Mapping[Any, Side], metric: str) -> Comparison:
    """The scores of two rows' reasons by one metric, each by seed, from the artifacts."""
    return _compare_means(row, headline, metric, lambda run, label: _reason_scores(run, label, metric))


def compare_further(row: Mapping[Any, Side], headline: Mapping[Any, Side], metric: str) -> Comparison:
    """Two rows by a metric of ratings beside MAE and RMSE, each by seed, from the predictions on disk; of seeds for
    which both define it alike."""
    row = {
        seed: side
        for seed, side in row.items()
        if seed in headline and definition(side[0], metric) == definition(headline[seed][0], metric)
    }
    return _compare_means(row, headline, metric, lambda run, label: _worth(run, label, metric))


def definition(run: Run, metric: str) -> str:
    """The settings of a further metric of ratings, in one text."""
    nodes = (run.config.get("metrics") or {}).get("ratings") or {}
    return json.dumps(nodes.get(metric), sort_keys=True)


def _compare_means(
    row: Mapping[Any, Side], headline: Mapping[Any, Side], metric: str, values: Callable[[Run, str], Any]
) -> Comparison:
    """
    Args:
        values: of a label's rows, by row_id; None where they are not at hand.
    """

    def world(pairs: Sequence[tuple[Side, Side]]) -> World | None:
        return _world(pairs, values, truth=False)

    def one(first: Side, second: Side) -> dict[str, dict[str, float]] | None:
        found = world([(first, second)])
        return None if found is None else {metric: paired_scores(found.first[0], found.second[0])}

    def all_seeds(worlds: Sequence[World]) -> dict[str, dict[str, float]]:
        return {metric: pooled_scores(worlds)}

    return _compare(row, headline, (metric,), one, world, all_seeds)


def _compare(
    row: Mapping[Any, Side],
    headline: Mapping[Any, Side],
    metrics: Sequence[str],
    one: Callable[[Side, Side], dict[str, dict[str, float]] | None],
    world: Callable[[Sequence[tuple[Side, Side]]], World | None],
    pool: Callable[[Sequence[World]], dict[str, dict[str, float]]],
) -> Comparison:
    """Seed by seed, and over all seeds whose values of both rows are at hand; of a single seed, what it says itself."""
    both = {seed: (row[seed], headline[seed]) for seed in row if seed in headline}
    pairs = {seed: pair for seed, pair in both.items() if pair[0][0].rows_scored == pair[1][0].rows_scored}
    alone = {seed: one(*pair) for seed, pair in pairs.items()}
    told = {seed: found for seed, found in alone.items() if found is not None}
    made = Comparison(
        {metric: [found[metric]["p"] for found in told.values()] for metric in metrics if told},
        {},
        [seed for seed, found in alone.items() if found is None],
        [seed for seed in both if seed not in pairs],
    )
    if len(pairs) == len(told) == 1:
        [effects], worlds = told.values(), 1
    else:
        groups: dict[Any, list[tuple[Side, Side]]] = {}  # seeds that share their rows
        for pair in pairs.values():
            groups.setdefault(pair[0][0].rows_scored, []).append(pair)
        found_worlds = [found for group in groups.values() if (found := world(group)) is not None]
        if not pairs or len(found_worlds) < len(groups):
            return made
        effects, worlds = pool(found_worlds), len(found_worlds)
    for metric in metrics:
        one_effect = effects[metric]
        if all(one_effect.get(name) is not None for name in ENDS):  # a record of an earlier version has p alone
            difference, low, high, p = (float(one_effect[name]) for name in ENDS)
            made.effect[metric] = Effect(difference, low, high, p, one_effect.get("visible"), len(pairs), worlds)
    return made


def _recorded(first: Side, second: Side) -> dict[str, dict[str, float]] | None:
    """What one of the records says of both labels, where the other record has the same scores."""
    (first_run, first_label), (second_run, second_label) = first, second
    if first_label == second_label:  # two jobs whose rows have one label: no record holds both
        return None
    for run, other_run, other in ((first_run, second_run, second_label), (second_run, first_run, first_label)):
        if _score(run, other) is None or _score(run, other) != _score(other_run, other):
            continue
        for entry in run.record.get("comparisons") or ():
            if {entry["label"], entry["against"]} == {first_label, second_label}:
                # a record's difference is that of `against` minus `label`
                turned = entry["label"] == first_label
                return {metric: _turned(entry[metric]) if turned else entry[metric] for metric in SCORES}
    return None


def _turned(effect: Mapping[str, Any]) -> dict[str, float]:
    """The same difference, seen from the other side."""
    made = dict(effect)
    if effect.get("difference") is not None:
        made["difference"] = -effect["difference"]
    if effect.get("low") is not None and effect.get("high") is not None:
        made["low"], made["high"] = -effect["high"], -effect["low"]
    return made


def _score(run: Run, label: str) -> tuple[Any, ...] | None:
    rows = [row for row in run.record["metrics"] if row["label"] == label and row["decoding"] == "mean"]
    return (rows[0]["n"], rows[0]["mae"], rows[0]["rmse"]) if rows else None


def _rated(pairs: Sequence[tuple[Side, Side]]) -> World | None:
    return _world(pairs, predictions, truth=True)


def _world(pairs: Sequence[tuple[Side, Side]], values: Callable[[Run, str], Any], truth: bool) -> World | None:
    """The values of two rows in one world, a pair of records a seed; None where any of them is not at hand."""
    try:
        tables = [[values(run, label) for run, label in pair] for pair in pairs]
        if any(table is None for pair in tables for table in pair):
            return None
        rows = tables[0][0].index
        if any(set(table.index) != set(rows) or len(table) != len(rows) for pair in tables for table in pair):
            return None
        first, second = (np.stack([pair[side].loc[rows].to_numpy(dtype=float) for pair in tables]) for side in (0, 1))
        if not truth:
            return World(first, second)
        true = _truth(pairs[0][0][0], rows)
        return None if true is None else World(first, second, true)
    except BROKEN:
        return None


def _truth(run: Run, rows: Any) -> np.ndarray | None:
    """True ratings of row_ids, float64 (rows,); None where the split is not on disk."""
    from r4r.rows import REVIEWS

    split = find(run, "split")
    return None if split is None else split.table(REVIEWS).set_index("row_id").loc[rows, "rating"].to_numpy(dtype=float)


def predictions(run: Run, label: str) -> Any:
    """The mean ratings of a label, by row_id, of the rows that the record scored; None where they are not on disk."""
    from r4r.rows import PREDICTIONS

    left_out = {row for rows in (run.record.get("excluded") or {}).values() for row in rows}
    for stage, key, own in origins(run, label):
        artifact = find(run, stage, key)
        if artifact is not None:
            table = artifact.table(PREDICTIONS)
            table = table[(table["label"] == own) & ~table["row_id"].isin(left_out)]
            if len(table):
                return table.set_index("row_id")["mean"]
    return None


def _worth(run: Run, label: str, metric: str) -> Any:
    """What a label's predictions are worth by a further metric, by row_id; None where they are not on disk, and for the
    metrics of plugins: a report runs no code that a record names."""
    import pandas as pd

    from r4r.configuration.construct import construct
    from r4r.errors import ConfigError
    from r4r.metrics.rating_metric import row_values
    from r4r.scale import PAPER, Scale

    predicted = predictions(run, label)
    truth = None if predicted is None else _truth(run, predicted.index)
    node = (run.config["metrics"].get("ratings") or {}).get(metric)
    if truth is None or node is None:
        return None
    try:
        made = construct(node, f"metrics.ratings.{metric}")
    except ConfigError:
        return None
    scale = run.config["dataset"].get("scale")
    values = row_values(metric, made, truth, predicted.to_numpy(), Scale.model_validate(scale) if scale else PAPER)
    return pd.Series(values, index=predicted.index)


def origins(run: Run, label: str) -> list[tuple[str, str, str]]:
    """Stage and key of each artifact that may hold a label's predictions, and its label there. Records of earlier
    versions do not say which one does."""
    told = (run.record.get("predicted") or {}).get(label)
    if told:
        return [(told["stage"], told["key"], told["label"])]
    return [(s, key, label) for s, key in run.artifacts.items() if s.startswith(("predict/", "reward_check/"))]


def _reason_scores(run: Run, label: str, metric: str) -> Any:
    """A label's scores, by row_id; None where they are not on disk."""
    from r4r.stages.score_reasons import SCORES as SCHEMA

    artifact = find(run, f"score_reasons/{metric}")
    if artifact is None:
        return None
    table = artifact.table(SCHEMA)
    table = table[table["label"] == label]
    return table.set_index("row_id")["score"] if len(table) else None


def find(run: Run, stage: str, key: str | None = None) -> Any:
    """A run's artifact: where its configuration says, or in the outputs folder that the record lies in now.

    Args:
        key: of another artifact of that stage than the record's.
    """
    key = key or run.artifacts.get(stage)
    found = [store.find(stage, key) for store in _stores(run)] if key else []
    return next((artifact for artifact in found if artifact is not None), None)


def damaged(run: Run, stage: str) -> str | None:
    """What is wrong with a run's artifact that `find` does not find; None where nothing lies in its place."""
    key = run.artifacts.get(stage)
    told = [store.damage(stage, key) for store in _stores(run)] if key else []
    return next(filter(None, told), None)


def _stores(run: Run) -> list[Any]:
    from r4r.store.artifact import Store

    paths = run.config.get("paths") or {}
    roots = [Path(str(paths["artifacts"]))] if paths.get("artifacts") else []
    roots += [parent / "artifacts" for parent in run.path.resolve().parents if (parent / "artifacts").is_dir()]
    return [Store(root) for root in roots]
