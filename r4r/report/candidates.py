"""Which records may stand in a table: those with the preset's settings, or with what a whole sweep was given as well.

The rule. A record belongs to a row by its method, strategy and reason source, and stands in it if all other settings
are those of the preset as composed for that row. What `dataset`, `llm`, `teacher` and `recipe` hold may differ, if it
does so for the table as a whole: of the settings that records have there, the one that most rows have makes the table,
and of equal ones that which is nearer to the preset. `--set` says which it is to be. All other records are variants.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from r4r.report.records import Run
from r4r.report.settings import Ask, Differences, Distance, data_settings, distance, said
from r4r.report.tables import SMOKE, Row, Table
from r4r.rows import label_beside

SHOWN = 6  # variants named in a sentence


@dataclass(frozen=True)
class Candidate:
    """A record that says something of a row.

    Attributes:
        label: the row's in the record.
        distance: of the record's settings from the preset's.
    """

    row: Row
    run: Run
    label: str
    distance: Distance


@dataclass
class Standing:
    """What a table is made of.

    Attributes:
        setting: what all its records have beside the preset's settings.
        chosen: the records that stand in it.
        variants: all others, and how they differ from the table's settings.
    """

    setting: Differences = field(default_factory=dict)
    chosen: list[Candidate] = field(default_factory=list)
    variants: list[tuple[Candidate, Differences]] = field(default_factory=list)

    @property
    def runs(self) -> list[Run]:
        """The records that stand in the table, each once."""
        return list({id(one.run): one.run for one in self.chosen}.values())

    def remarks(self) -> list[str]:
        """Sentences on what the records have beside the preset's settings, and on variants."""
        told = list(dict.fromkeys(f"{one.row.name} with {said(beyond)}" for one, beyond in self.variants))
        more = [f"{len(told) - SHOWN} more"] if len(told) > SHOWN else []
        setting = [f"all records have, beside the preset's settings: {said(self.setting)}"] if self.setting else []
        variants = [f"with other settings, in no row: {'; '.join([*told[:SHOWN], *more])}"] if told else []
        return setting + variants


def of_preset(runs: Sequence[Run], experiment: str | None) -> list[Run]:
    """The runs of a preset; without one, all but those of the smoke preset."""
    return [run for run in runs if (run.experiment == experiment if experiment else run.experiment != SMOKE)]


def standing(table: Table, runs: Sequence[Run], ask: Ask) -> Standing:
    """Sort scored records of one data set, the oldest first.

    Raises:
        DataError: the preset cannot be composed as asked.
    """
    found = [candidate for run in runs for row in table.rows for candidate in _candidates(table, row, run, ask)]
    made = Standing(_setting([one for one in found if not one.distance.own], ask))
    for one in found:
        if one.distance.fits(made.setting):
            made.chosen.append(one)
        else:
            made.variants.append((one, _beyond(one.distance, made.setting)))
    return made


def same_rows(table: Table, stands: Standing) -> tuple[Standing, list[str]]:
    """Only what scored the same rows: of one setting of the data set, seeds of worlds of their own included, one split.

    Returns:
        What is left; and a sentence where something was left out.
    """
    best: dict[str, Run] = {}
    for run in sorted(stands.runs, key=lambda run: (run.experiment == table.name, run.started)):
        best[data_settings(run)] = run  # the last one stands
    others = [run for run in stands.runs if run.rows_scored != best[data_settings(run)].rows_scored]
    if not others:
        return stands, []
    left_out = {id(run) for run in others}
    kept = dict.fromkeys(str(best[data_settings(run)].path) for run in others)
    sentence = (
        f"{records(others)} scored other rows or another split and {'is' if len(others) == 1 else 'are'} left out: "
        f"{paths(others)}. The table shows what scored the rows of {', '.join(kept)}."
    )
    return replace(stands, chosen=[one for one in stands.chosen if id(one.run) not in left_out]), [sentence]


def records(runs: Sequence[Run]) -> str:
    return "1 record" if len(runs) == 1 else f"{len(runs)} records"


def paths(runs: Sequence[Run]) -> str:
    shown = ", ".join(str(run.path) for run in runs[:3])
    return shown + (", ..." if len(runs) > 3 else "")


def _candidates(table: Table, row: Row, run: Run, ask: Ask) -> list[Candidate]:
    """What a record says of a row: as a job of it, or as one that scored it beside its own method."""
    if not (run.ok and run.record.get("metrics")):
        return []
    labels = [str(score["label"]) for score in run.record["metrics"]]
    label = row.label or labels[0]
    setting, reference = row.setting(run), None
    if setting is None:
        setting, reference = row.settings[0], row.reference(run)
        if reference is None:
            return []
        beside = label_beside(label, reference)
        label = beside if beside in labels else label
    if label not in labels:
        return []
    return [Candidate(row, run, label, distance(table, row, setting, run, ask, reference))]


def _setting(found: Sequence[Candidate], ask: Ask) -> Differences:
    """What most rows have in common beside the preset's settings."""
    if ask.given:
        return {}
    best: Differences = {}
    rank: tuple[int, int, int, str] | None = None
    for setting in {repr(one.distance.shared): one.distance.shared for one in found}.values():
        own = [one for one in found if one.distance.fits(setting)]
        rows = {one.row.name for one in own}
        cells = {(one.row.name, one.run.seed) for one in own}
        this = len(rows), len(cells), -len(setting), max(one.run.started for one in own)
        if rank is None or this > rank:
            best, rank = setting, this
    return best


def _beyond(found: Distance, setting: Differences) -> Differences:
    """How a record's settings differ from the table's."""
    mine = {**found.shared, **found.own}
    theirs = {key: pair for key, pair in setting.items() if key in found.keys}
    beyond = {key: pair for key, pair in mine.items() if theirs.get(key) != pair}
    return beyond | {key: (preset, value) for key, (value, preset) in theirs.items() if key not in mine}


def of_own_code(rows: Mapping[str, Iterable[Mapping[str, str]]]) -> list[str]:
    """A sentence for each row that is made with code or prompts outside r4r's release.

    Args:
        rows: those of each job of a row (see `Run.own_code`), by the row's name.
    """
    files = {name: sorted({file for job in jobs for file in job}) for name, jobs in rows.items()}
    told = "made with code or prompts outside r4r's release"
    return [f"{name}: {told}: {', '.join(own)}." for name, own in files.items() if own]
