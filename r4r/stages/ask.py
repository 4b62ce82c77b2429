"""A stage's calls to the teacher: how many at once, what they cost, and when too many failed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from r4r.configuration.schema import Config
from r4r.configuration.teachers import BatchConfig, RemoteConfig
from r4r.errors import TeacherError, TooManyFailures
from r4r.stages.stage import Job
from r4r.stages.teachers import Tally
from r4r.store.journal import Journal, Row
from r4r.teacher.base import Answer, Call, Teacher
from r4r.teacher.price import dollars, price_of, tokens_about

UNIT = 16  # prompts whose answers are kept together
ENOUGH = 20  # calls before a share of failures says anything
ASKED = "asked"  # marks the journal's rows that hold a tally
T = TypeVar("T")


class Asking:
    """A stage's calls: asked of the job's teacher, tallied in the stage's journal, stopped where too many fail.

    The tally is of all answers that the artifact is made of, whichever run paid them.
    """

    def __init__(self, job: Job, journal: Journal, teacher: Teacher | None = None):
        """
        Args:
            teacher: who is asked, however many calls fail; None: the job's.
        """
        self._job, self._teacher = job, teacher
        self._total, self._fresh = Tally(), Tally()
        for row in journal.rows():
            self._total.add(row.get(ASKED, {}))

    def __call__(self, calls: Sequence[Call]) -> list[Answer | TeacherError]:
        """
        Raises:
            TooManyFailures: a larger share failed than teacher.max_failed_share.
            TeacherStopped: as Teacher.ask.
        """
        teacher: Teacher = self._teacher or self._job.teacher
        outcomes = teacher.ask(calls)
        self._fresh.count(outcomes)
        self._total.count(outcomes)
        limit, failed, asked = self._job.config.teacher.max_failed_share, self._total.failed, self._total.calls
        if self._teacher is None and asked >= ENOUGH and failed > limit * asked:
            kinds = sorted({str(outcome) for outcome in outcomes if isinstance(outcome, TeacherError)})
            raise TooManyFailures(
                f"{failed} of {asked} teacher calls failed, more than teacher.max_failed_share={limit:g} allows; "
                f"lately: {'; '.join(kinds[:3]) or 'none'}. Answers so far are kept: see to the cause, or raise it"
            )
        return outcomes

    def row(self) -> Row:
        """The tally since the last row, for the journal."""
        fresh, self._fresh = self._fresh, Tally()
        return {ASKED: asdict(fresh)}

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return self._total.facts()


def answered(journal: Journal) -> list[Row]:
    """The journal's rows without the tallies."""
    return [row for row in journal.rows() if ASKED not in row]


def groups(config: Config, units: Sequence[T]) -> Iterator[list[T]]:
    """Units of work (UNIT prompts each) by how many go to the teacher at once. A batch takes all; a server what keeps
    it busy: four rounds of the calls that it has in flight.

    What a unit holds, and what is kept of it, does not depend on it.
    """
    teacher = config.teacher
    busy = math.ceil(4 * teacher.concurrency / UNIT) if isinstance(teacher, RemoteConfig) else 1
    size = len(units) if isinstance(teacher, BatchConfig) else busy
    for start in range(0, len(units), max(1, size)):
        yield list(units[start : start + size])


def estimate(config: Config, low: int, high: int, prompts: Mapping[str, str], tokens: int, max_tokens: int) -> str:
    """What a stage would ask, for plans: calls, and for a remote teacher a bound on its tokens and dollars.

    Args:
        low, high: calls.
        prompts: the templates of one call; counted at 4 characters a token.
        tokens: what the longest texts add that fill a template.
        max_tokens: of an answer.
    """
    text = f"{low} to {high} teacher calls" if low < high else f"{high} teacher calls"
    if not isinstance(config.teacher, RemoteConfig):
        return text
    tokens_in = high * (sum(map(tokens_about, prompts.values())) + tokens)
    price = price_of(config.teacher)
    cost = dollars(price, tokens_in, high * max_tokens)
    paid = f"${cost:.2f}" if cost is not None else f"no price is known for {config.teacher.model}"
    return f"{text}, at most about {_short(tokens_in)} tokens in and {_short(high * max_tokens)} out, {paid}"


def _short(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.1f}k" if count >= 1e3 else str(count)
