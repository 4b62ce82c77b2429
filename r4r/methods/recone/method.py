"""RecOne as a method: a cold start by SFT on traces, then RecZero's training."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from r4r.errors import DataError
from r4r.methods.recone.traces import REWRITE, KeptTraces, Traces
from r4r.methods.reczero.expert import PROMPT
from r4r.methods.reczero.predictions import SHOWN, Model, model_at
from r4r.pipeline.stage import Stage, Unkeyed
from r4r.prompts.render import template
from r4r.rows import Lesson
from r4r.stages.ask import estimate
from r4r.stages.further import with_sft
from r4r.stages.histories import ENTRY
from r4r.stages.identity import teacher_identity
from r4r.stages.lessons import Pairs, StepLessons
from r4r.stages.pools import expert_pairs
from r4r.stages.reasons import Teaching
from r4r.stages.stage import Job, Work
from r4r.stages.train import Training, training

PLACE = "recone"
LABELS = {"own": "RecOne", "others": "RecOne, traces of other pairs"}


class RecOne:
    """Learns four steps from a teacher, then by rewards as RecZero does.

    Args:
        history: reviews a side that a prompt shows, the latest ones.
        traces: what the cold start writes behind a pair's prompt: own: the trace of that pair. others: the trace of
            another pair with its rating, which teaches the four steps and nothing of the pair; a control that tells the
            form from the reasoning, and the place to begin where the base model does not keep the form by itself.
    """

    uses = frozenset({"dataset", "llm", "teacher", "experts", "recipe"})
    experts = frozenset({PLACE})
    instead: ClassVar[Mapping[str, str]] = SHOWN

    def __init__(
        self,
        name: str = "recone",
        history: Annotated[int, Field(ge=1)] = 10,
        traces: Literal["own", "others"] = "own",
    ):
        self.name, self.history, self.traces = name, history, traces

    def stages(self, job: Job) -> Stage:
        """The stage whose artifact holds the predictions."""
        model = model_at(job.config, PLACE, self.history)
        seed = job.config.seed if self.traces == "others" else None
        return model.predictions(model.reinforced(cold_start(model, seed)), LABELS[self.traces])


@dataclass(frozen=True)
class Strangers(Pairs):
    """The pairs, each with the rating and the trace of another pair that `seed` draws; all of them are learnt once."""

    seed: int = 0

    def lessons(self, work: Work) -> list[Lesson]:
        """
        Raises:
            DataError: there is one pair alone.
        """
        known = super().lessons(work)
        if len(known) < 2:
            raise DataError("method.traces=others needs two traces that can be learnt from, and there is one")
        circle = Random(self.seed).sample(range(len(known)), len(known))
        after = dict(zip(circle, circle[1:] + circle[:1], strict=True))
        return [known[after[place]] for place in range(len(known))]


def cold_start(model: Model, strangers: int | None) -> Training:
    """SFT on the teacher's traces.

    Args:
        strangers: the seed by which each pair is given another pair's trace; None: each keeps its own.
    """
    learnt = (model.pairs.split, model.pairs.pools, kept_traces(model))
    pairs = Pairs(*learnt) if strangers is None else Strangers(*learnt, seed=strangers)
    lessons = StepLessons(model.own, model.shown, pairs, (), None, model.llm)
    return training(with_sft(model.config, PLACE), PLACE, lessons)


def kept_traces(model: Model) -> KeptTraces:
    """The stage that keeps the traces to learn from."""
    config, teacher, count = model.config, model.config.teacher, expert_pairs(model.config)
    entry = (model.shown.raw.tokens if model.shown.raw else 0) + ENTRY

    def teaching(*prompts: str) -> tuple[Teaching, Unkeyed]:
        texts = {name: template(name) for name in prompts}
        takes = estimate(config, 0 if len(prompts) > 1 else count, count, texts, 2 * entries * entry, limit)
        return Teaching(teacher_identity(config, PROMPT), teacher.reason_temperature, limit, texts), Unkeyed(takes)

    entries, limit = model.shown.newest, teacher.reason_max_tokens
    first, takes = teaching(PROMPT)
    again, takes_again = teaching(PROMPT, REWRITE)
    return KeptTraces(Traces(model.own, model.shown, model.pairs, first, takes), again, takes_again)
