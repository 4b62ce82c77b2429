"""Records into the cells of a table: one result a row and seed, then mean and standard deviation over seeds.

The rule. A record stands for a row by its configuration (method, strategy, reason source). Records of the smoke preset
count only where they are asked for. Of one data set, only records that scored the same rows of the same split are put
side by side: those of the table's own preset first, else the newest. Two records of one row and seed with the same
artifact keys or scores are the same result; of different ones the newest stands, and the report says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from r4r.report.compare import compare
from r4r.report.paper import beside
from r4r.report.records import Run
from r4r.report.tables import SMOKE, Row, Setting, Table, axes
from r4r.report.text import DAGGER

METRICS = ("mae", "rmse")
ALPHA = 0.05  # paired bootstrap


@dataclass(frozen=True)
class Result:
    """What one job says of one row."""

    run: Run
    label: str

    def scores(self, decoding: str) -> Mapping[str, Any]:
        """n, mae, mae_se, rmse, rmse_se. A method that gives one number a row has it for every decoding."""
        own = {row["decoding"]: row for row in self.run.record["metrics"] if row["label"] == self.label}
        return own.get(decoding, own["mean"])

    def same(self, other: "Result") -> bool:
        """The same artifacts, or the same scores to the four digits of a table.

        A reference is scored again in every job it stands beside, and engines and batches round otherwise.
        """
        if self.run.method == other.run.method and self.run.artifacts == other.run.artifacts:
            return True
        mine, others = self.scores("mean"), other.scores("mean")
        return mine["n"] == others["n"] and all(abs(mine[name] - others[name]) < 5e-5 for name in METRICS)


@dataclass
class Cell:
    """A row's results on one data set.

    Attributes:
        results: by seed, in order.
        p: metric -> p of the paired bootstrap against the headline row, one a seed that allows the comparison.
        status: ok, failed, missing, or not built.
    """

    row: Row
    results: dict[int, Result] = field(default_factory=dict)
    p: dict[str, list[float]] = field(default_factory=dict)
    status: str = "ok"

    def over_seeds(self, metric: str, decoding: str = "mean") -> tuple[float, float | None]:
        """Mean, and standard deviation (n - 1) where there are two seeds or more."""
        values = np.array([result.scores(decoding)[metric] for result in self.results.values()], dtype=float)
        return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None

    def standard_error(self, metric: str, decoding: str = "mean") -> float | None:
        """Over rows, averaged over seeds; None where a record has none."""
        values = [result.scores(decoding)[f"{metric}_se"] for result in self.results.values()]
        return None if None in values else float(np.mean(values))

    @property
    def n(self) -> list[int]:
        return sorted({int(result.scores("mean")["n"]) for result in self.results.values()})

    def differs(self, metric: str) -> bool:
        """Whether the difference from the headline is significant for every seed that could be compared."""
        return bool(self.p.get(metric)) and max(self.p[metric]) < ALPHA


@dataclass
class Block:
    """A table's cells on one data set.

    Attributes:
        problems: sentences: what failed or is missing.
        notes: sentences: what the reader should know of the numbers.
        paper, published: the paper's data set that is shown beside, and its numbers.
    """

    dataset: str
    cells: list[Cell]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    paper: str = ""
    published: dict[str, dict[str, float]] = field(default_factory=dict)

    def cell(self, name: str) -> Cell:
        return next(cell for cell in self.cells if cell.row.name == name)


def blocks(
    table: Table, runs: Sequence[Run], datasets: Sequence[str] = (), experiment: str | None = None
) -> tuple[list[Block], list[str]]:
    """A table's blocks, one a data set that some job of the table was run on.

    Args:
        datasets: only these; none given takes all.
        experiment: only records of this preset.
    Returns:
        The blocks, and a sentence for each data set that is asked for (or in the preset's sweep) and has no record.
    """
    runs = chosen(runs, experiment)
    own = [run for run in runs if any(row.fits(run) for row in table.rows)]
    there = dict.fromkeys(run.dataset for run in own)
    wanted = list(datasets or dict.fromkeys([*axes(table.name)["dataset"], *there]))
    missing = [
        f"{name}: no record of a job of {table.name}; run {table.command} dataset={name}"
        for name in wanted
        if name not in there
    ]
    return [_block(table, runs, name) for name in wanted if name in there], missing


def chosen(runs: Sequence[Run], experiment: str | None) -> list[Run]:
    """The runs of a preset; without one, all but those of the smoke preset."""
    return [run for run in runs if (run.experiment == experiment if experiment else run.experiment != SMOKE)]


def _block(table: Table, runs: Sequence[Run], dataset: str) -> Block:
    runs = [run for run in runs if run.dataset == dataset]
    own = [run for run in runs if any(row.fits(run) for row in table.rows)]
    scored = [run for run in own if run.ok and run.record.get("metrics")]
    paper, published = beside(table.name, dataset) if table.headline else ("", {})
    block = Block(dataset, [Cell(row) for row in table.rows], paper=paper, published=published)
    if scored:
        best = max(scored, key=lambda run: (run.experiment == table.name, run.started))
        others = [run for run in scored if run.rows_scored != best.rows_scored]
        if others:
            block.notes.append(
                f"{_records(others)} scored other rows or another split and {_are(others)} left out: {_paths(others)}. "
                f"The table shows what scored the rows of {best.path}."
            )
        runs = [run for run in runs if not run.ok or run.rows_scored == best.rows_scored]
    for cell in block.cells:
        _fill(cell, runs, block)
    _explain(block, runs, table)
    if table.headline:
        _compare(block, table)
    _models(block)
    return block


def _fill(cell: Cell, runs: Sequence[Run], block: Block) -> None:
    """The newest result of each seed: of a job of this row, or of one that scored it as a reference."""
    found: dict[int, list[Result]] = {}
    for run in runs:  # the oldest first
        if run.ok and run.record.get("metrics"):
            label = cell.row.label or str(run.record["metrics"][0]["label"])
            has = any(row["label"] == label for row in run.record["metrics"])
            if has and (cell.row.fits(run) or cell.row.is_reference(run)):
                found.setdefault(run.seed, []).append(Result(run, label))
    for seed in sorted(found):
        results = found[seed]
        newest = results[-1]
        different = [result.run for result in results[:-1] if not result.same(newest)]
        cell.results[seed] = newest
        if different:
            block.notes.append(
                f"{cell.row.name}, seed {seed}: {_records(different)} had another result than the newest, "
                f"{newest.run.path}, which stands: {_paths(different)}."
            )


def _explain(block: Block, runs: Sequence[Run], table: Table) -> None:
    """Name the rows and seeds without a result, and why; rows that the same jobs make, in one sentence."""
    seeds = [int(seed) for seed in axes(table.name).get("seed", ())]
    absent: dict[tuple[Setting, tuple[int, ...]], list[str]] = {}
    for cell in block.cells:
        row = cell.row
        failed = {run.seed: run for run in runs if not run.ok and row.fits(run) and run.seed not in cell.results}
        for seed, run in sorted(failed.items()):
            block.problems.append(f"{row.name}, seed {seed}: {run.said()} ({run.path})")
        lacking = tuple(seed for seed in seeds if seed not in cell.results and seed not in failed)
        nothing = not cell.results and not failed
        if not cell.results:
            cell.status = "failed" if failed else "missing" if row.exists else "not built"
        if cell.status == "not built":
            block.problems.append(f"{row.name}: not built, there is no conf/method/{row.settings[0].method}.yaml")
        elif lacking or nothing:
            absent.setdefault((row.settings[0], lacking), []).append(row.name)
    for (setting, lacking), names in absent.items():
        which = f" for seed {', '.join(map(str, lacking))}" if lacking else ""
        parts = [table.command, f"dataset={block.dataset}", setting.overrides(axes(table.name))]
        parts += [f"seed={','.join(map(str, lacking))}"] if lacking else []
        block.problems.append(f"{', '.join(names)}: no record{which}; run {' '.join(part for part in parts if part)}")


def _compare(block: Block, table: Table) -> None:
    headline = block.cell(table.headline)
    untold: dict[str, list[int]] = {}
    for cell in block.cells:
        for seed in sorted(cell.results.keys() & headline.results.keys()) if cell is not headline else ():
            first, second = headline.results[seed], cell.results[seed]
            found = compare(first.run, first.label, second.run, second.label)
            if found is None:
                untold.setdefault(cell.row.name, []).append(seed)
            for metric, p in (found or {}).items():
                cell.p.setdefault(metric, []).append(p)
    name = headline.row.name
    if any(cell.p for cell in block.cells):
        told = f"{DAGGER} differs from {name}: paired bootstrap over rows, p < {ALPHA} for every seed compared."
        block.notes.insert(0, told)
    if untold:
        rows = "; ".join(f"{row} (seed {', '.join(map(str, seeds))})" for row, seeds in untold.items())
        block.notes.append(
            f"Not compared with {name}, since no record compares the two and their predictions are not on disk: {rows}."
        )


def _models(block: Block) -> None:
    """Say so where rows come from different base models or numbers of rows."""
    models: dict[str, list[str]] = {}
    for cell in block.cells:
        if cell.row.settings[0].method in ("reason4rec", "reward_check"):
            for result in cell.results.values():
                models.setdefault(str((result.run.config.get("llm") or {}).get("name")), []).append(cell.row.name)
    if len(models) > 1:
        told = "; ".join(f"{model}: {', '.join(dict.fromkeys(names))}" for model, names in sorted(models.items()))
        block.notes.append(f"The rows come from different base models ({told}); they do not compare.")
    asked = {
        str((result.run.config.get("teacher") or {}).get("model"))
        for cell in block.cells
        for result in cell.results.values()
        if result.run.method == "fewshot"
    }
    if asked:
        block.notes.append(f"The few-shot row asked {', '.join(sorted(asked))}; the paper asked gpt-4o.")
    if len({n for cell in block.cells for n in cell.n}) > 1:
        block.notes.append("The rows were scored on different numbers of reviews; they do not compare.")
    excluded = {
        len({row for rows in result.run.record["excluded"].values() for row in rows})
        for cell in block.cells
        for result in cell.results.values()
        if result.run.record.get("excluded")
    }
    if excluded:
        block.notes.append(f"{' or '.join(map(str, sorted(excluded)))} reviews were left out by the analysis itself.")


def _records(runs: Sequence[Run]) -> str:
    return "1 record" if len(runs) == 1 else f"{len(runs)} records"


def _are(runs: Sequence[Run]) -> str:
    return "is" if len(runs) == 1 else "are"


def _paths(runs: Sequence[Run]) -> str:
    shown = ", ".join(str(run.path) for run in runs[:3])
    return shown + (", ..." if len(runs) > 3 else "")
