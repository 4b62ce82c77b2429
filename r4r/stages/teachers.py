"""The teacher of a job: made of its configuration, and a tally of what it is asked and paid."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from r4r.configuration.schema import Config
from r4r.configuration.teachers import BatchConfig, LocalConfig, RemoteConfig, SimulatorConfig
from r4r.errors import TeacherError
from r4r.progress import say
from r4r.stages.identity import teacher_identity
from r4r.teacher.base import Answer, Call, Teacher
from r4r.teacher.local import LocalTeacher
from r4r.teacher.simulator import SimulatedTeacher

if TYPE_CHECKING:
    from r4r.lm.engine import Engine

CACHE = "teacher.sqlite"  # below paths.outputs: paid work is no throw-away cache


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


def make_teacher(config: Config) -> CountedTeacher:
    """The teacher of the configuration; a local one loads its model now, a remote one reads its key."""
    teacher = config.teacher
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
    from r4r.configuration.schema import LLMConfig
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
    return in_process(engine, teacher_identity(config), config.seed)


def in_process(engine: "Engine", identity: dict[str, Any], seed: int, adapter: str | None = None) -> LocalTeacher:
    """A model of this process as a teacher.

    Args:
        adapter: the expert that writes, ready on the base model; None: the bare base model.
    """

    def write(
        prompts: Sequence[str], max_tokens: int, temperature: float, seed: int
    ) -> list[tuple[str, int, int, bool]]:
        from r4r.lm.write import write_texts

        return [
            (text.text, text.tokens_in, text.tokens_out, text.finished)
            for text in write_texts(engine, prompts, max_tokens, temperature, seed, adapter)
        ]

    return LocalTeacher(write, identity, seed)
