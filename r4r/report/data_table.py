"""Table 1: the prepared data sets beside the paper's."""

from collections.abc import Sequence
from typing import Any

from r4r.report.candidates import of_preset
from r4r.report.compare import find
from r4r.report.paper import published
from r4r.report.records import Run
from r4r.report.settings import Ask
from r4r.report.tables import axes, command
from r4r.report.text import Document, Grid, Text

EVERYTHING = Ask()
COLUMNS = ("train", "valid", "test", "users", "items")


def data_table(runs: Sequence[Run], ask: Ask = EVERYTHING) -> Document | None:
    """Counts of each data set's newest split (of the table's own preset, where it has one), from the artifact.

    A data set that is neither asked for nor the paper's, and has no split, is named and has no line.

    Returns:
        None where no job of any of the data sets was done.
    """
    runs = of_preset(runs, ask.experiment)
    wanted = list(ask.datasets or dict.fromkeys([*axes("table1")["dataset"], *(run.dataset for run in runs)]))
    made = Document("table1", "Table 1: the data", command("table1"))
    grid = Grid("reviews, users and items", ["", *COLUMNS], [])
    paper = published()["table1"]
    seen = False
    for name in wanted:
        own = [run for run in runs if run.dataset == name]
        counts = _counts(made, name, own)
        theirs = paper.get(name, {})
        seen = seen or any(run.ok for run in own)
        if not (counts or theirs or ask.datasets):
            continue
        lines = [(name, [f"{counts[c]:,}" if counts else "missing" for c in COLUMNS])]
        if theirs:
            lines.append((f"{name}, paper", [f"{theirs[c]:,}" for c in COLUMNS]))
        if counts and theirs:
            lines.append((f"{name}, difference", [f"{counts[c] / theirs[c] - 1:+.1%}" for c in COLUMNS]))
        grid.lines += [[Text(head), *map(Text, cells)] for head, cells in lines]
        for column in COLUMNS:
            made.rows.append(
                {
                    "table": "table1",
                    "dataset": name,
                    "status": "ok" if counts else "missing",
                    "count": column,
                    "value": counts[column] if counts else "",
                    "paper": theirs.get(column, ""),
                }
            )
    made.grids.append(grid)
    return made if seen else None


def _counts(made: Document, name: str, runs: Sequence[Run]) -> dict[str, Any] | None:
    """The newest counts; why there are none, and that older splits differ, goes into the document."""
    found: dict[str, tuple[dict[str, Any], Run]] = {}  # key of the split -> counts; the last one stands
    for run in sorted(runs, key=lambda run: (run.experiment == "table1", run.started)):
        artifact = find(run, "split")
        if artifact is not None:
            try:
                counts = artifact.json("table1.json")["table1"]
            except (OSError, ValueError, KeyError) as error:
                made.problems.append(f"{name}: {artifact.path} cannot be read ({type(error).__name__}: {error})")
                continue
            key = run.artifacts["split"]
            found.pop(key, None)
            found[key] = (counts, run)
    if not found:
        if runs and not runs[-1].ok:
            made.problems.append(f"{name}: the newest job {runs[-1].said()} ({runs[-1].path})")
        else:
            reason = "the splits of its records are not on disk" if runs else "no record"
            made.problems.append(f"{name}: {reason}; run {made.command} dataset={name}")
        return None
    *older, (key, (counts, run)) = found.items()
    if older:
        made.notes.append(
            f"{name}: {len(older)} other split{'s' if len(older) > 1 else ''} of it "
            f"({', '.join(old for old, _ in older)}) left out; the table shows {key}, of {run.path}."
        )
    return counts
