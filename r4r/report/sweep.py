"""Any sweep: which settings vary among jobs' records, and what each setting gave over its seeds.

What varies is found from the records: every setting that a job's command line named and that two jobs have otherwise.
Where jobs that agree in these differ in anything else that their method reads, or in the user's own code, that becomes
an axis as well, so that no mean is taken over jobs of unlike settings. Seeds, of any part of the job, tell the
repetitions of a setting apart.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from r4r.configuration.targets import close_names
from r4r.errors import DataError
from r4r.metrics.significance import holm
from r4r.report.beside import further_metrics, of_one_definition, reason_metrics
from r4r.report.cells import Cell, Result
from r4r.report.compare import Side, compare, compare_further, compare_reasons
from r4r.report.records import RESULT, Run
from r4r.report.settings import as_text, data_settings, read_settings
from r4r.report.tables import Row

SAME_JOB = (
    "name",
    "paths",
    "logger",
    "hydra",
    "target",
    "plan",
    "experiment",
    "plugins",
    "verbose",
)  # no part of a result
MULTIRUN = "multirun.yaml"
ABSENT = "—"  # the value of a setting that a job has not
SOURCE = "source"  # the axis of versions of the user's own code
Values = tuple[str, ...]
"""A point's value of each axis."""


@dataclass
class Point:
    """A setting: its value of each axis, its results by repetition, and the jobs that gave none.

    Attributes:
        lost: failed and unfinished jobs, and jobs that stopped at a target, without a later one that was scored.
    """

    values: Values
    cell: Cell
    lost: list[Run] = field(default_factory=list)


@dataclass
class Sweep:
    """Jobs by setting.

    Attributes:
        axes: the settings that vary, as on a command line.
        groups: points that scored the same rows, of each repetition that they share; those of two groups do not
            compare.
        against: the row that the others are compared with, in words; empty: none.
        problems: a sentence for each job without a result.
        notes: what else the reader should know.
    """

    axes: tuple[str, ...]
    groups: list[list[Point]]
    against: str = ""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def points(self) -> list[Point]:
        return [point for group in self.groups for point in group]

    @property
    def further(self) -> dict[str, Mapping[str, Any]]:
        """Name -> title and direction of the metrics of ratings beside MAE and RMSE."""
        return further_metrics([point.cell for point in self.points])


def sweep(runs: Sequence[Run], against: Sequence[str] = ()) -> Sweep:
    """Sort jobs by what varies among them.

    Args:
        runs: the oldest first.
        against: settings of the row to compare with (`KEY=VALUE`), or the label of a reference that every job scored.
    Raises:
        DataError: there is no record, or `against` is not one row.
    """
    if not runs:
        raise DataError(f"there is no record to report on; name folders that hold result.json files or {MULTIRUN}")
    axes, seeds = _axes(runs), _seeds(runs)
    found: dict[Values, list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(value_of(run, axis) for axis in axes), []).append(run)
    notes: list[str] = []
    points = [_point(axes, seeds, values, found[values], notes) for values in sorted(found, key=_order)]
    made = Sweep(axes, _groups(points), notes=notes)
    for point in points:
        made.problems += [
            f"{point.cell.row.name}: {repetition(run, seeds)}: {_why(run)} ({run.path})" for run in point.lost
        ]
    if len(made.groups) > 1:
        made.notes.append(
            "Settings in different tables scored other rows, or rows of another split; their values do not compare."
        )
    if SOURCE in axes:
        files = ", ".join(sorted(_edited(runs, [axis for axis in axes if axis != SOURCE])))
        made.notes.append(
            f"Code changed between jobs of the same settings ({files}); each version of it is a setting of its own "
            f"(column {SOURCE})."
        )
    if against:
        _compare(made, against)
    return made


def value_of(run: Run, key: str) -> str:
    """A job's value of a setting or config group, or which version of the user's own code it ran."""
    if key == SOURCE:
        told = json.dumps(run.own_code, sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:8] if run.own_code else ABSENT
    if key in run.choices:
        return as_text(run.choices[key])
    value: Any = run.settings
    for part in key.split("."):
        value = value.get(part, ABSENT) if isinstance(value, Mapping) else ABSENT
    return as_text(value)


def number(text: str) -> float | None:
    """The number that a value is, if it is one."""
    try:
        return float(text)
    except ValueError:
        return None


def repetition(run: Run, seeds: Sequence[str]) -> str:
    """What tells a job from others of its setting: its seeds."""
    return " ".join(f"{key}={value_of(run, key)}" for key in seeds)


def is_seed(key: str) -> bool:
    last = key.rpartition(".")[2]
    return last == "seed" or last.endswith("_seed")


def not_started(folder: Path, runs: Sequence[Run]) -> list[str]:
    """The jobs of a sweep that have no record, as their overrides: it was stopped before their turn, or still runs.

    Args:
        folder: of the sweep, with Hydra's `multirun.yaml`; nothing is known of one without.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        told = yaml.safe_load((folder / MULTIRUN).read_text(encoding="utf-8"))["hydra"]
        if not str(told["sweeper"]["_target_"]).endswith(".BasicSweeper"):  # others choose their jobs as they go
            return []
        params = [f"{key}={value}" for key, value in (told["sweeper"].get("params") or {}).items()]
        parsed = OverridesParser.create().parse_overrides([*params, *told["overrides"]["task"]])
        jobs = [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError, HydraException):
        return []
    here = folder.resolve()
    known = {tuple(sorted(run.record["overrides"])) for run in runs if here in run.path.resolve().parents}
    read = {run.path.resolve() for run in runs}
    damaged = {path.parent.name.partition("-")[0] for path in here.glob(f"*/{RESULT}") if path not in read}
    missing = [job for number, job in enumerate(jobs) if str(number) not in damaged]
    return [" ".join(job) for job in missing if tuple(sorted(job)) not in known]


def _named(run: Run) -> Iterator[str]:
    """The keys of a job's overrides."""
    for override in run.record.get("overrides") or ():
        key = str(override).lstrip("+~").partition("=")[0]
        if key and key.partition(".")[0].partition("/")[0] not in SAME_JOB:
            yield key


def _seeds(runs: Sequence[Run]) -> tuple[str, ...]:
    """The seeds that vary; at least the job's own."""
    named = dict.fromkeys(key for run in runs for key in _named(run) if is_seed(key) and key != "seed")
    found = ["seed", *(key for key in named if len({value_of(run, key) for run in runs}) > 1)]
    for group in _alike(runs, found):  # a preset may set others
        read = [read_settings(run) for run in group]
        keys = dict.fromkeys(key for one in read for key in one if is_seed(key) and key not in found)
        found += [key for key in keys if len({as_text(one[key]) for one in read if key in one}) > 1]
    return tuple(found)


def _axes(runs: Sequence[Run]) -> tuple[str, ...]:
    """The settings that vary: what command lines name, then what else tells jobs of one setting apart."""
    named = dict.fromkeys(key for run in runs for key in _named(run) if not is_seed(key))
    axes = [key for key in named if len({value_of(run, key) for run in runs}) > 1]
    more: dict[str, None] = {}
    for group in _alike(runs, axes):
        read = [read_settings(run) for run in group]
        keys = sorted({key for one in read for key in one})
        more |= dict.fromkeys(k for k in keys if not is_seed(k) and len({as_text(one.get(k)) for one in read}) > 1)
    axes += more
    return (*axes, SOURCE) if _edited(runs, axes) else tuple(axes)


def _edited(runs: Sequence[Run], axes: Sequence[str]) -> set[str]:
    """The files of code that jobs which agree in all axes had in several versions, as far as their records say."""
    found: set[str] = set()
    for group in _alike([run for run in runs if "source" in run.record], axes):
        files = {file for run in group for file in run.own_code}
        found |= {file for file in files if len({run.own_code.get(file) for run in group}) > 1}
    return found


def _alike(runs: Sequence[Run], axes: Sequence[str]) -> Iterable[list[Run]]:
    """Jobs that have the same value of each axis."""
    found: dict[Values, list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(value_of(run, axis) for axis in axes), []).append(run)
    return found.values()


def _order(values: Values) -> tuple[Any, ...]:
    """Numbers by size, then words."""
    return tuple((0, number(value) or 0.0, "") if number(value) is not None else (1, 0.0, value) for value in values)


def _point(axes: Sequence[str], seeds: Sequence[str], values: Values, runs: Sequence[Run], notes: list[str]) -> Point:
    """The newest result of each repetition; of a repetition without one, its newest job."""
    name = " ".join(f"{axis}={value}" for axis, value in zip(axes, values, strict=True)) or "all jobs"
    point = Point(values, Cell(Row(name, ())))
    scored: dict[str, Run] = {}
    lost: dict[str, Run] = {}
    older = gone = stale = 0
    for run in runs:
        which = repetition(run, seeds)
        if run.ok and run.record.get("metrics"):
            older += which in scored
            scored[which] = run
        else:
            lost[which] = run
    for which in sorted(scored):
        point.cell.results[which] = Result(scored[which], str(scored[which].record["metrics"][0]["label"]))
        gone += which in lost and lost[which].started <= scored[which].started
        stale += which in lost and lost[which].started > scored[which].started
    point.lost = [run for which, run in lost.items() if which not in scored]
    notes += [f"{name}: {sentence}" for sentence in of_one_definition([point.cell])]
    if older:
        notes.append(f"{name}: {older} older record{'s' if older > 1 else ''} of the same setting and seed left aside.")
    if gone:
        notes.append(f"{name}: {gone} job{'s' if gone > 1 else ''} failed or broke off, and a later one was scored.")
    if stale:
        notes.append(
            f"{name}: {stale} job{'s' if stale > 1 else ''} failed or broke off after the one that stands here."
        )
    splits = {run.artifacts["split"] for run in scored.values() if "split" in run.artifacts}
    if len(splits) > len({data_settings(run) for run in scored.values()}):
        notes.append(
            f"{name}: the review file changed between its jobs; its mean is over {len(splits)} versions of it."
        )
    if not scored:
        point.cell.status = "failed" if any(run.record["status"] == "failed" for run in point.lost) else "unfinished"
    return point


def _why(run: Run) -> str:
    if run.ok:
        return f"stopped at target={run.config.get('target')}, nothing was scored"
    return run.said()


def _groups(points: Sequence[Point]) -> list[list[Point]]:
    """Points that scored the same rows together; those without a result stand with the first."""
    groups: list[list[Point]] = []
    for point in points:
        fitting = next((g for g in groups if all(_same_rows(point, other) for other in g)), None)
        if fitting is None:
            groups.append([point])
        else:
            fitting.append(point)
    return groups


def _same_rows(first: Point, second: Point) -> bool:
    ours, theirs = ({r: one.run.rows_scored for r, one in p.cell.results.items()} for p in (first, second))
    if not ours or not theirs:
        return True
    shared = ours.keys() & theirs.keys()
    if not shared:
        return bool(set(ours.values()) & set(theirs.values()))
    return all(ours[which] == theirs[which] for which in shared)


def _compare(made: Sweep, against: Sequence[str]) -> None:
    """Compare every point with one of its group, or with the reference that its own jobs scored beside it."""
    made.against = " ".join(against)
    headlines = _chosen(made, against)
    for group, headline in zip(made.groups, headlines, strict=True):
        if headline is None and any(headlines):
            names = "; ".join(point.cell.row.name for point in group)
            made.notes.append(f"Not compared, as none of these rows has {made.against}: {names}.")
            continue
        jobs = [run for point in group for run, _ in _sides(point).values()]
        if headline is None and len({json.dumps(run.code_behind(made.against)) for run in jobs}) > 1:
            told = "its code changed from job to job"
            made.notes.append(f"Not compared with {made.against}: {told}.")
            continue
        for point in group:
            if point is not headline:
                own = _sides(point)
                _add(
                    made,
                    point,
                    own,
                    _sides(headline) if headline else {r: (run, made.against) for r, (run, _) in own.items()},
                )
        for metric in dict.fromkeys(metric for point in group for metric in point.cell.effects):
            compared = [point.cell for point in group if metric in point.cell.effects]
            for cell, p in zip(compared, holm([cell.effects[metric].p for cell in compared]), strict=True):
                cell.effects[metric] = replace(cell.effects[metric], holm=p)


def _add(made: Sweep, point: Point, own: Mapping[Any, Side], theirs: Mapping[Any, Side]) -> None:
    found = compare(own, theirs)
    point.cell.p, point.cell.effects = found.p, found.effect
    beside = [compare_further(own, theirs, metric) for metric in further_metrics([point.cell])]
    beside += [compare_reasons(own, theirs, metric) for metric in reason_metrics([point.cell])]
    for each in beside:
        point.cell.p |= each.p
        point.cell.effects |= each.effect
    name = point.cell.row.name
    for seeds, why in (
        (found.apart, "the two scored other rows"),
        (found.untold, "no record compares the two and their predictions are not on disk"),
    ):
        if seeds:
            made.notes.append(f"{name}: not compared with {made.against} for {', '.join(map(str, seeds))}: {why}.")
    if own and not own.keys() & theirs.keys():
        made.notes.append(f"{name}: not compared with {made.against}: the two have no seed in common.")


def _sides(point: Point) -> dict[Any, Side]:
    return {which: (result.run, result.label) for which, result in point.cell.results.items()}


def _chosen(made: Sweep, against: Sequence[str]) -> list[Point | None]:
    """The one point of each group that `against` means; None throughout where it is the label of a reference.

    Raises:
        DataError: no point has these settings, or several of a group have.
    """
    wanted = " ".join(against)
    labels = {str(s["label"]) for p in made.points for r in p.cell.results.values() for s in r.run.record["metrics"]}
    references = sorted(labels - {result.label for point in made.points for result in point.cell.results.values()})
    if wanted in references:
        return [None] * len(made.groups)
    asked = [part for override in against for part in override.split()]
    chosen: list[Point | None] = []
    for group in made.groups:
        fitting = [p for p in group if all(any(_is(a, v, part) for a, v in _pairs(made, p)) for part in asked)]
        if len(fitting) > 1:
            names = "; ".join(point.cell.row.name for point in fitting)
            raise DataError(f"--against {wanted}: {len(fitting)} rows have that: {names}; name one")
        chosen += fitting or [None]
    if not any(chosen):
        more = f"; references that the jobs scored: {', '.join(references)}" if references else ""
        names = close_names(wanted, [point.cell.row.name for point in made.points])
        raise DataError(f"--against {wanted}: no row of this sweep has that; {names}{more}")
    return chosen


def _pairs(made: Sweep, point: Point) -> Iterator[tuple[str, str]]:
    return zip(made.axes, point.values, strict=True)


def _is(axis: str, value: str, part: str) -> bool:
    key, _, wanted = part.partition("=")
    same = wanted == value or (number(wanted) is not None and number(wanted) == number(value))
    return key == axis and same
