"""The job's teacher: which one, how many calls it takes at once, and what its answers cost."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from r4r.config import Config
from r4r.configuration.teachers import BatchConfig, LocalConfig, RemoteConfig, SimulatorConfig
from r4r.errors import TeacherError, TooManyFailures
from r4r.lm.fetch import identity
from r4r.progress import say
from r4r.stages.stage import Job
from r4r.store.journal import Journal, Row
from r4r.teacher.base import Answer, Call, Teacher, remote_identity
from r4r.teacher.local import LocalTeacher
from r4r.teacher.price import dollars, price_of, tokens_about
from r4r.teacher.simulator import SimulatedTeacher, simulator_identity

UNIT = 16  # prompts whose answers are kept together
CACHE = "teacher.sqlite"  # below paths.outputs: paid work is no throw-away cache
ENOUGH = 20  # calls before a share of failures says anything
ASKED = "asked"  # marks the journal's rows that hold a tally
T = TypeVar("T")


def teacher_identity(config: Config, *prompts: str) -> dict[str, Any]:
    """What of the teacher changes its answers, without loading it.

    A remote teacher's answers do not follow the seed, and are shared between seeds.

    Args:
        prompts: templates that it is asked to answer: the simulated teacher has an answer, of a version of its own, for
            each. Where none is named, all of its answers count.
    """
    teacher = config.teacher
    if isinstance(teacher, RemoteConfig):
        return remote_identity(teacher)
    if isinstance(teacher, SimulatorConfig):
        return simulator_identity(teacher.skill, config.seed, *prompts)
    return {
        "kind": teacher.kind,
        "model": teacher.model,
        "seed": config.seed,
        **identity(teacher.source, teacher.sha256, teacher.revision),
        "quantization": teacher.quantization,
        "dtype": teacher.dtype,
        "max_length": teacher.max_length,
    }


@dataclass
class Tally:
    """What calls brought and took. `paid_unknown` counts answers whose model has no price."""

    calls: int = 0
    cached: int = 0
    failed: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    dollars: float = 0.0
    paid_unknown: int = 0

    def count(self, outcomes: Iterable[Answer | TeacherError], paid_now: bool = False) -> None:
        """Add calls; with `paid_now`, tokens and dollars of those alone that were not answered by an earlier run."""
        for outcome in outcomes:
            self.calls += 1
            self.cached += outcome.cached
            self.failed += isinstance(outcome, TeacherError)
            self.retries += outcome.retries
            if not (paid_now and outcome.cached):
                self.tokens_in += outcome.tokens_in
                self.tokens_out += outcome.tokens_out
                self.dollars += outcome.dollars or 0.0
                self.paid_unknown += outcome.dollars is None

    def add(self, other: Mapping[str, Any]) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + other.get(each.name, 0))

    def facts(self) -> dict[str, Any]:
        """As manifests name it; `dollars` is None where some answer's price is not known."""
        names = ("calls", "cached", "failed", "retries", "tokens_in", "tokens_out")
        paid = None if self.paid_unknown else round(self.dollars, 6)
        return {f"teacher_{name}": getattr(self, name) for name in names} | {"dollars": paid}


class CountedTeacher:
    """A job's teacher, and the tally of what this job asked and paid."""

    def __init__(self, teacher: Teacher):
        self._teacher = teacher
        self.tally = Tally()

    @property
    def identity(self) -> dict[str, Any]:
        return self._teacher.identity

    def ask(self, calls: Sequence[Call]) -> list[Answer | TeacherError]:
        outcomes = self._teacher.ask(calls)
        self.tally.count(outcomes, paid_now=True)
        return outcomes


class Asking:
    """A stage's calls: asked of the job's teacher, tallied in the stage's journal, stopped where too many fail.

    The tally is of all answers that the artifact is made of, whichever run paid them.
    """

    def __init__(self, job: Job, journal: Journal):
        self._job = job
        self._total, self._fresh = Tally(), Tally()
        for row in journal.rows():
            self._total.add(row.get(ASKED, {}))

    def __call__(self, calls: Sequence[Call]) -> list[Answer | TeacherError]:
        """
        Raises:
            TooManyFailures: a larger share failed than teacher.max_failed_share.
            TeacherStopped: as Teacher.ask.
        """
        outcomes: list[Answer | TeacherError] = self._job.teacher.ask(calls)
        self._fresh.count(outcomes)
        self._total.count(outcomes)
        limit, failed, asked = self._job.config.teacher.max_failed_share, self._total.failed, self._total.calls
        if asked >= ENOUGH and failed > limit * asked:
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


def make_teacher(job: Job) -> CountedTeacher:
    """The teacher of the configuration; a local one loads its model now, a remote one reads its key."""
    config, teacher = job.config, job.config.teacher
    if isinstance(teacher, SimulatorConfig):
        return CountedTeacher(SimulatedTeacher(skill=teacher.skill, seed=config.seed))
    if isinstance(teacher, RemoteConfig):
        from r4r.teacher.batch import BatchTeacher
        from r4r.teacher.cache import TeacherCache
        from r4r.teacher.remote import ChatTeacher

        kind = BatchTeacher if isinstance(teacher, BatchConfig) else ChatTeacher
        cache = TeacherCache(config.paths.outputs / CACHE)
        if cache.was_emptied and next(config.paths.artifacts.glob("*/*/manifest.json"), None):
            say(
                f"  {cache.path} was there without content, beside artifacts of earlier jobs: the answers that were "
                "paid for and kept in it are lost. Stop here to put a copy back, or they may be asked, and paid, again"
            )
        return CountedTeacher(kind(teacher, cache))
    return CountedTeacher(_local(config, teacher))


def _local(config: Config, teacher: LocalConfig) -> LocalTeacher:
    from r4r.config import LLMConfig
    from r4r.lm.base import LanguageModel
    from r4r.lm.engine import HF

    spec = LLMConfig(
        name=teacher.model,
        source=teacher.source,
        sha256=teacher.sha256,
        revision=teacher.revision,
        quantization=teacher.quantization,
        dtype=teacher.dtype,
        max_length=teacher.max_length,
        batch_tokens=teacher.batch_tokens,
    )
    engine = HF(LanguageModel.load(spec, config.trainer, config.paths.cache))

    def write(
        prompts: Sequence[str], max_tokens: int, temperature: float, seed: int
    ) -> list[tuple[str, int, int, bool]]:
        from r4r.lm.write import write_texts

        return [
            (text.text, text.tokens_in, text.tokens_out, text.finished)
            for text in write_texts(engine, prompts, max_tokens, temperature, seed)
        ]

    return LocalTeacher(write, teacher_identity(config), config.seed)
