"""Figure 5: what several methods say of the same reviews, from their records and the artifacts that these name."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from pydantic import ValidationError

from r4r.configuration.schema import HistoryConfig
from r4r.data.history import HistoryIndex
from r4r.errors import DataError
from r4r.report.blocks import blocks
from r4r.report.candidates import of_preset
from r4r.report.cells import Block
from r4r.report.compare import damaged, find
from r4r.report.records import Run
from r4r.report.settings import Ask
from r4r.report.tables import ALSO, CASES
from r4r.report.text import Document, Grid, Text
from r4r.rows import PREDICTIONS, REVIEWS, SUMMARIES
from r4r.store.artifact import Artifact

DETAIL = "detail.parquet"
LIMIT = 24  # cases a data set
EVERYTHING = Ask()
SAMPLE_SEED = 0
Review = dict[str, Any]  # a row of rows.REVIEWS; in a history with its `summary`, None where there is none


@dataclass(frozen=True)
class Said:
    """One method's word on a case: its ratings, and its reason; None where it gives none."""

    mean: float
    median: float
    mode: float
    reason: str | None


@dataclass(frozen=True)
class History:
    """One side's past: the newest reviews, oldest first, and number and mean rating of all before the target's time."""

    shown: list[Review]
    count: int
    mean: float  # NaN where there are none


@dataclass(frozen=True)
class Study:
    """A target review and what each method says of it.

    Attributes:
        picked: why this case is shown.
        said: by method, in the report's order; a string says why there is nothing.
    """

    dataset: str
    target: Review
    picked: str
    said: dict[str, Said | str]
    user: History
    item: History

    @property
    def means(self) -> list[float]:
        return [said.mean for said in self.said.values() if isinstance(said, Said)]

    @property
    def apart(self) -> float:
        """The disagreement: the largest mean rating minus the smallest."""
        return max(self.means) - min(self.means)


@dataclass
class Studies:
    """The report: its cases, and all that is to be said of them and of what is missing."""

    document: Document
    methods: list[str]
    cases: list[Study] = field(default_factory=list)


def case_studies(
    runs: Sequence[Run], ask: Ask = EVERYTHING, row_ids: Sequence[int] = (), limit: int = LIMIT
) -> Studies | None:
    """Cases side by side: of each data set one seed, the one that most methods have, else the lowest.

    Args:
        row_ids: the cases; none given takes `limit` of them a data set: half are those on which the methods' mean
            ratings differ most, the others a seeded sample of the rest.
    Returns:
        None where there is no record of any of the methods.
    Raises:
        DataError: a row of `row_ids` was scored in none of the data sets that are shown.
    """
    done = [run for run in of_preset(runs, ask.experiment) if run.ok]
    also = tuple(row for row in ALSO if any(row.fits(run) for run in done))
    table = replace(CASES, rows=(*CASES.rows, *also))
    found, missing = blocks(table, runs, ask)
    if not found:
        return None
    made = Studies(Document(table.name, table.title, table.command), [row.name for row in table.rows])
    scored: dict[str, pd.Index] = {}
    for block in found:
        block_scored = _add(made, block, row_ids, limit)
        made.document.problems += [f"{block.dataset}: {problem}" for problem in block.problems]
        made.document.notes += [f"{block.dataset}: {note}" for note in block.notes]
        if len(block_scored):
            scored[block.dataset] = block_scored
    made.document.problems += missing
    unknown = [row for row in row_ids if all(row not in rows for rows in scored.values())]
    if unknown and scored:
        there = "; ".join(f"{name}: {len(rows)}, from {rows.min()} to {rows.max()}" for name, rows in scored.items())
        raise DataError(f"--rows {','.join(map(str, unknown))}: not among the scored rows by row_id ({there})")
    return made


def _add(made: Studies, block: Block, row_ids: Sequence[int], limit: int) -> pd.Index:
    """Add a data set's cases, and to the block what is missing.

    Returns:
        The row ids of which some method says something.
    """
    nothing = pd.Index([], dtype="int64")
    count = Counter(seed for cell in block.cells for seed in cell.results)
    if not count:
        return nothing
    seed = min(count, key=lambda seed: (-count[seed], seed))
    told, read = _told(block, seed)
    if not read:
        return nothing
    lead = next((run for run in read if "summaries" in run.artifacts), read[0])
    try:
        rows = _read(lead, "split", lambda split: split.table(REVIEWS).set_index("row_id", drop=False))
    except DataError as error:
        block.problems.append(f"no case can be shown: {error} ({lead.path})")
        return nothing
    try:
        history = HistoryConfig.model_validate(lead.settings["dataset"].get("history", {}))
    except ValidationError:
        block.problems.append(f"no case can be shown: its dataset.history is none of today's ({lead.path})")
        return nothing
    means = pd.DataFrame({name: table["mean"] for name, table in told.items() if not isinstance(table, str)})
    picked = _pick(means, row_ids, limit)
    summaries = _summaries(block, lead)
    pasts = _pasts(history, rows, rows.loc[list(picked)], summaries)
    cases = []
    for (row_id, why), (user, item) in zip(picked.items(), pasts, strict=True):
        said = {name: _said(told[name], row_id) for name in made.methods}
        cases.append(Study(block.dataset, _row(rows, row_id), why, said, user, item))
    if cases:
        _describe(made.document, block.dataset, cases, made.methods)
    made.cases += cases
    label = lead.record["metrics"][0]["label"]
    block.notes.append(
        f"seed {seed}; {len(cases)} of {len(means):,} scored rows. Histories: the newest {history.prompt} reviews a "
        "side before the target's time, as many as the prompts show"
        + (f", and their summaries by {label}." if summaries else ".")
    )
    if not row_ids:
        block.notes.append(
            "half of the cases are those on which the methods' mean ratings differ most, where several methods are "
            f"shown; the others are a random sample (seed {SAMPLE_SEED}). They show what happens, not how often."
        )
    return means.index


def _told(block: Block, seed: int) -> tuple[dict[str, pd.DataFrame | str], list[Run]]:
    """By method, its `_predictions`, or why there are none, which the block's problems say, too; and the runs read."""
    told: dict[str, pd.DataFrame | str] = {}
    read: list[Run] = []
    for cell in block.cells:
        name, result = cell.row.name, cell.results.get(seed)
        if result is None:
            told[name] = _why(block, name, seed)
            continue
        try:
            told[name] = _predictions(result.run, result.label)
            read.append(result.run)
        except DataError as error:
            told[name] = str(error)
            block.problems.append(f"{name}, seed {seed}: {error} ({result.run.path})")
    return told, read


def _why(block: Block, name: str, seed: int) -> str:
    """Why a method has no result of this seed; the block's problems say it, too."""
    head = f"{name}, seed {seed}: "
    failed = next((problem for problem in block.problems if problem.startswith(head)), None)
    if failed:
        return failed.removeprefix(head)
    if block.cell(name).results:
        block.problems.append(f"{name}: no record for seed {seed}, the one shown")
    return f"no record for seed {seed}"


def _predictions(run: Run, label: str) -> pd.DataFrame:
    """A label's mean, median, mode and reason, by row_id.

    Raises:
        DataError: they are gone, or damaged.
    """

    def read(artifact: Artifact) -> pd.DataFrame:
        table = artifact.table(PREDICTIONS)
        detail = pd.read_parquet(artifact.path / DETAIL, columns=["row_id", "label", "reason"])
        both = table.merge(detail, on=["row_id", "label"], validate="one_to_one")
        return both[both["label"] == label].set_index("row_id")

    return _read(run, f"predict/{run.record['evaluated']}", read)


def _read(run: Run, stage: str, read: Callable[[Artifact], pd.DataFrame]) -> pd.DataFrame:
    """A table of one of the run's artifacts.

    Raises:
        DataError: it is gone, or damaged.
    """
    artifact = find(run, stage)
    if artifact is None:
        key = str(run.artifacts.get(stage))
        damage = damaged(run, stage)
        why = f"is damaged ({damage})" if damage else "is no longer on disk"
        raise DataError(f"its artifact {stage}/{key} {why}; run the job again")
    try:
        return read(artifact)
    except (OSError, ValueError) as error:
        told = " ".join(str(error).split())
        raise DataError(f"{artifact.path} cannot be read ({told}); delete it and run the job again") from error


def _summaries(block: Block, lead: Run) -> dict[int, str]:
    """The summaries that the histories showed, by row_id; empty where there are none, and then it is said."""
    if "summaries" not in lead.artifacts:
        return {}
    try:
        table = _read(lead, "summaries", lambda artifact: artifact.table(SUMMARIES))
    except DataError as error:
        block.problems.append(f"histories show no summaries: {error}")
        return {}
    return dict(zip(table["row_id"].tolist(), table["summary"], strict=True))


def _pick(means: pd.DataFrame, row_ids: Sequence[int], limit: int) -> dict[int, str]:
    """row_id -> why it is shown."""
    if row_ids:
        return {row: "asked for" for row in row_ids if row in means.index}
    apart = (means.max(axis=1) - means.min(axis=1)).sort_values(ascending=False, kind="stable")
    first = [int(row) for row in apart.index[: limit // 2]] if len(means.columns) > 1 else []
    rest = means.index.difference(first).to_series()
    drawn = rest.sample(min(len(rest), limit - len(first)), random_state=SAMPLE_SEED)
    return dict.fromkeys(first, "among the widest apart") | dict.fromkeys(sorted(drawn.tolist()), "drawn at random")


def _pasts(
    history: HistoryConfig, rows: pd.DataFrame, targets: pd.DataFrame, summaries: dict[int, str]
) -> list[tuple[History, History]]:
    """The histories of each target's user and item, in the targets' order."""
    known = HistoryIndex(rows[rows["split"].isin(history.source.split("+"))]).before(targets)
    last = history.prompt

    def reviews(row_ids: Sequence[int]) -> list[Review]:
        return [_row(rows, row_id) | {"summary": summaries.get(row_id)} for row_id in row_ids]

    return [
        (
            History(reviews(known.user_rows(k, last).tolist()), int(known.user_count[k]), float(known.user_mean[k])),
            History(reviews(known.item_rows(k, last).tolist()), int(known.item_count[k]), float(known.item_mean[k])),
        )
        for k in range(len(known))
    ]


def _row(table: pd.DataFrame, row_id: int) -> dict[str, Any]:
    return {str(column): value for column, value in table.loc[row_id].items()}


def _said(table: pd.DataFrame | str, row_id: int) -> Said | str:
    if isinstance(table, str):
        return table
    if row_id not in table.index:
        return "no prediction of this row"
    row = _row(table, row_id)
    reason = None if pd.isna(row["reason"]) else str(row["reason"])
    return Said(float(row["mean"]), float(row["median"]), float(row["mode"]), reason)


def _describe(made: Document, dataset: str, cases: Sequence[Study], methods: Sequence[str]) -> None:
    """Add the data set's grid, and a line a case and method for the CSV file."""
    lines = []
    for case in cases:
        target = case.target
        line = [Text(f"{target['row_id']}: {target['title'] or '(no title)'}"), Text(f"{target['rating']:g}")]
        line += [Text(f"{s.mean:.2f}" if isinstance(s, Said) else "none") for s in case.said.values()]
        lines.append([*line, Text(f"{case.apart:.2f}")])
        fixed = {name: target[name] for name in ("row_id", "user_id", "item_id", "title", "rating", "review")}
        for name, said in case.said.items():
            first: dict[str, object] = {"table": made.name, "dataset": dataset, **fixed, "method": name}
            ok = isinstance(said, Said)
            made.rows.append(first | ({"status": "ok", **vars(said)} if ok else {"status": str(said)}))
    made.grids.append(Grid(dataset, ["row", "true rating", *methods, "disagreement"], lines))
