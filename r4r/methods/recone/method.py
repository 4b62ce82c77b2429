"""RecOne as a method: a cold start by SFT on traces, then RecZero's training."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from r4r.methods.recone.traces import REWRITE, KeptTraces, Traces
from r4r.methods.reczero.expert import PROMPT
from r4r.methods.reczero.predictions import SHOWN, Model, model_at
from r4r.pipeline.stage import Stage, Unkeyed
from r4r.prompts.render import template
from r4r.stages.ask import estimate
from r4r.stages.further import with_sft
from r4r.stages.histories import ENTRY
from r4r.stages.identity import teacher_identity
from r4r.stages.lessons import Pairs, StepLessons
from r4r.stages.pools import expert_pairs
from r4r.stages.reasons import Teaching
from r4r.stages.stage import Job
from r4r.stages.train import Training, training

PLACE = "recone"


class RecOne:
    """Learns four steps from a teacher, then by rewards as RecZero does.

    Args:
        history: reviews a side that a prompt shows, the latest ones.
    """

    uses = frozenset({"dataset", "llm", "teacher", "experts", "recipe"})
    experts = frozenset({PLACE})
    instead: ClassVar[Mapping[str, str]] = SHOWN

    def __init__(self, name: str = "recone", history: Annotated[int, Field(ge=1)] = 10):
        self.name, self.history = name, history

    def stages(self, job: Job) -> Stage:
        """The stage whose artifact holds the predictions."""
        model = model_at(job.config, PLACE, self.history)
        return model.predictions(model.reinforced(cold_start(model)), "RecOne")


def cold_start(model: Model) -> Training:
    """SFT on the teacher's traces."""
    pairs = model.pairs
    lessons = StepLessons(
        model.own, model.shown, Pairs(pairs.split, pairs.pools, kept_traces(model)), (), None, model.llm
    )
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
