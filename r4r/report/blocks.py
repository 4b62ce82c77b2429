"""Records into a table's blocks, one a data set.

Which records may stand in a table, `candidates` says. Of one data set, only records that scored the same rows of the
same split are put side by side: those of the table's own preset first, else the newest. Where seeds make worlds of
their own, that is so for each seed. Two records of one row and seed with the same artifact keys or scores are the same
result; of different ones the newest stands, and the report says so.
"""

from collections.abc import Sequence
from dataclasses import replace

from r4r.metrics.significance import ALPHA, holm
from r4r.report.beside import of_one_definition, of_one_model, reason_metrics
from r4r.report.candidates import Standing, of_own_code, of_preset, paths, records, same_rows, standing
from r4r.report.cells import Block, Cell, Result
from r4r.report.compare import compare, compare_reasons
from r4r.report.paper import beside
from r4r.report.records import Run
from r4r.report.settings import Ask, Differences, said
from r4r.report.tables import Setting, Table, axes
from r4r.report.text import DAGGER, DOUBLE_DAGGER

EVERYTHING = Ask()


def blocks(table: Table, runs: Sequence[Run], ask: Ask = EVERYTHING) -> tuple[list[Block], list[str]]:
    """A table's blocks, one a data set that has a result of a job of one of its rows.

    Returns:
        The blocks; and sentences on each data set that is asked for, or that jobs of the table tried, and has none.
    Raises:
        DataError: the preset cannot be composed as asked.
    """
    runs = of_preset(runs, ask.experiment)
    own = [run for run in runs if any(row.fits(run) for row in table.rows)]
    made: list[Block] = []
    missing: list[str] = []
    for name in ask.datasets or dict.fromkeys(run.dataset for run in own):
        here = [run for run in runs if run.dataset == name]
        stands = standing(table, here, ask)
        # scored beside other methods alone, rows make no table: every job has some of them
        if any(one.row.fits(one.run) for one in stands.chosen):
            made.append(_block(table, here, name, ask, stands))
            continue
        missing.append(f"{name}: no record of a job of {table.name}; run {table.command} dataset={name}")
        failed = [run for run in here if not run.ok and run in own]
        missing += [f"{name}: the newest job {run.said()} ({run.path})" for run in failed[-1:]]
        missing += [f"{name}: {sentence}" for sentence in stands.remarks()]
    return made, missing


def _block(table: Table, runs: Sequence[Run], dataset: str, ask: Ask, stands: Standing) -> Block:
    paper, published = beside(table.name, dataset) if table.headline else ("", {})
    block = Block(dataset, [Cell(row) for row in table.rows], stands.setting, paper=paper, published=published)
    kept, left_out = same_rows(table, stands)
    block.notes += left_out
    for cell in block.cells:
        _fill(cell, kept, block, table)
    block.notes += of_one_definition(block.cells)
    if table.beside:
        block.notes += of_one_model(block.cells)
    _vary(block, stands)
    _explain(block, runs, table, ask)
    if table.headline:
        _compare(block, table)
    _remark(block)
    return block


def _fill(cell: Cell, stands: Standing, block: Block, table: Table) -> None:
    """The newest result of each seed: of a job of this row, or of one that scored it as a reference. Where scores of
    reasons stand beside, jobs of the table's own preset have them, and go before others."""
    found: dict[int, list[Result]] = {}
    own = sorted(stands.chosen, key=lambda one: table.beside and one.run.experiment == table.name)
    for one in own:  # the oldest first
        if one.row is cell.row:
            found.setdefault(one.run.seed, []).append(Result(one.run, one.label))
    for seed in sorted(found):
        *older, newest = found[seed]
        different = [result.run for result in older if not result.same(newest)]
        cell.results[seed] = newest
        if different:
            block.notes.append(
                f"{cell.row.name}, seed {seed}: {records(different)} had another result than the newest, "
                f"{newest.run.path}, which stands: {paths(different)}."
            )


def _vary(block: Block, stands: Standing) -> None:
    """Gather the results with other settings, by row and setting."""
    made: dict[str, tuple[Cell, Differences]] = {}
    for one, beyond in stands.variants:
        if not one.row.fits(one.run) and not one.distance.own:  # scored beside a variant, for its sake
            continue
        key = f"{one.row.name} {beyond}"
        cell, _ = made.setdefault(key, (Cell(one.row), beyond))
        cell.results[one.run.seed] = Result(one.run, one.label)
    block.variants = list(made.values())


def _explain(block: Block, runs: Sequence[Run], table: Table, ask: Ask) -> None:
    """Name the rows without a result and why, and the seeds that were asked for; rows of the same jobs together."""
    absent: dict[tuple[Setting, tuple[int, ...]], list[str]] = {}
    for cell in block.cells:
        row = cell.row
        failed = {run.seed: run for run in runs if not run.ok and row.fits(run) and run.seed not in cell.results}
        for seed, run in sorted(failed.items()):
            block.problems.append(f"{row.name}, seed {seed}: {run.said()} ({run.path})")
        lacking = tuple(seed for seed in ask.seeds if seed not in cell.results and seed not in failed)
        nothing = not cell.results and not failed
        if not cell.results:
            cell.status = "failed" if failed else "missing" if row.exists else "not built"
        if cell.status == "not built":
            block.problems.append(f"{row.name}: not built, there is no conf/method/{row.settings[0].method}.yaml")
        elif lacking or nothing:
            absent.setdefault((row.settings[0], lacking), []).append(row.name)
    given = [f"{key}={value}" for key, (value, _) in block.setting.items()] or list(ask.given)
    for (setting, lacking), names in absent.items():
        which = f" for seed {', '.join(map(str, lacking))}" if lacking else ""
        parts = [table.command, f"dataset={block.dataset}", setting.overrides(axes(table.name)), *given]
        parts += [f"seed={','.join(map(str, lacking))}"] if lacking else []
        block.problems.append(f"{', '.join(names)}: no record{which}; run {' '.join(part for part in parts if part)}")
    seeds = {cell.row.name: tuple(cell.results) for cell in block.cells if cell.results}
    if len(set(seeds.values())) > 1:
        told = "; ".join(f"{name}: {', '.join(map(str, has))}" for name, has in seeds.items())
        block.notes.append(f"The rows have different seeds ({told}).")


def _compare(block: Block, table: Table) -> None:
    headline = block.cell(table.headline)
    name = headline.row.name
    theirs = {seed: (result.run, result.label) for seed, result in headline.results.items()}
    untold: dict[str, list[int]] = {}
    for cell in block.cells:
        if cell is headline or not (cell.results.keys() & theirs.keys()):
            continue
        own = {seed: (result.run, result.label) for seed, result in cell.results.items()}
        found = compare(own, theirs)
        cell.p, cell.effects = found.p, found.effect
        for metric in reason_metrics([cell, headline]) if table.beside else ():
            of_reasons = compare_reasons(own, theirs, metric)
            cell.p |= of_reasons.p
            cell.effects |= of_reasons.effect
        if found.untold:
            untold[cell.row.name] = found.untold
    for metric in dict.fromkeys(metric for cell in block.cells for metric in cell.effects):
        told = [cell for cell in block.cells if metric in cell.effects]
        adjusted = holm([cell.effects[metric].p for cell in told])
        for cell, p in zip(told, adjusted, strict=True):
            cell.effects[metric] = replace(cell.effects[metric], holm=p)
    if any(cell.p for cell in block.cells):
        worlds = max((effect.worlds for cell in block.cells for effect in cell.effects.values()), default=1)
        over = f"over {worlds} worlds and the rows in them" if worlds > 1 else "over rows"
        block.notes.insert(
            0,
            f"{DAGGER} differs from {name}: paired bootstrap over rows, p < {ALPHA} for every seed compared. "
            f"{DOUBLE_DAGGER} differs from {name} pooled over seeds ({over}), p < {ALPHA} after Holm's adjustment for "
            "the comparisons of its column.",
        )
    if untold:
        rows = "; ".join(f"{row} (seed {', '.join(map(str, seeds))})" for row, seeds in untold.items())
        block.notes.append(
            f"Not compared with {name}, since no record compares the two and their predictions are not on disk: {rows}."
        )


def _remark(block: Block) -> None:
    """Say what else the reader should know of the records."""
    runs = [result.run for cell in block.cells for result in cell.results.values()]
    if block.setting:
        block.notes.insert(0, f"All records have, beside the preset's settings: {said(block.setting)}.")
    block.notes += of_own_code(
        {cell.row.name: [r.run.code_behind(r.label) for r in cell.results.values()] for cell in block.cells}
    )
    asked = {str((run.config.get("teacher") or {}).get("model")) for run in runs if run.method == "fewshot"}
    if asked:
        block.notes.append(f"The few-shot row asked {', '.join(sorted(asked))}; the paper asked gpt-4o.")
    counts: dict[int, set[int]] = {}  # seeds may have worlds, and so reviews, of their own
    for cell in block.cells:
        for seed, result in cell.results.items():
            counts.setdefault(seed, set()).add(int(result.scores("mean")["n"]))
    if any(len(found) > 1 for found in counts.values()):
        block.notes.append("The rows were scored on different numbers of reviews; they do not compare.")
    left_out = [run.record["excluded"] for run in runs if run.record.get("excluded")]
    if left_out:
        sizes = sorted({len({row for rows in excluded.values() for row in rows}) for excluded in left_out})
        block.notes.append(f"{' or '.join(map(str, sizes))} reviews were left out by the analysis itself.")
