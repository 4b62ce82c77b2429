"""Generation-then-filter in rounds: the trained Reasoner is the teacher of the next one (as ReST-EM, arXiv 2312.06585).

Each round trains a Reasoner by SFT from a fresh adapter, has it write about every pair of the experts pool, and filters
what it wrote: threshold, reference and leak check are those of the teacher's candidates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field

from r4r.configuration.schema import Config
from r4r.errors import ConfigError
from r4r.progress import say
from r4r.rows import REASONS, Case
from r4r.stages.ask import UNIT, Asking
from r4r.stages.estimate import Estimate
from r4r.stages.filtered import Filtered
from r4r.stages.filtering import Filtering, Writing
from r4r.stages.further import with_sft
from r4r.stages.histories import fitted, histories
from r4r.stages.lessons import Pairs, StepLessons
from r4r.stages.stage import Work
from r4r.stages.teachers import in_process
from r4r.stages.train import Training, training, use_adapter
from r4r.store.journal import Journal

REASONER = "reasoner"


@dataclass(frozen=True)
class IteratedReasons(Filtering):
    """One round: the Reasoner's accepted candidates, and for the other pairs the reasons that they had.

    Attributes:
        before: the stage of the reasons that the Reasoner learnt.
        trained: the Reasoner, on StepLessons.
        candidates: of a pair, at most.
        number: of the round, from 1.
    """

    before: Any
    trained: Training
    candidates: int
    temperature: float
    max_new_tokens: int
    number: int
    seed: int

    @property
    def estimate(self) -> Estimate:
        return Estimate(lambda known: known.experts, f"pairs, up to {self.candidates} texts each")

    @property
    def attempts(self) -> tuple[int, int]:
        return self.candidates, 0

    @property
    def room(self) -> int:
        return self.max_new_tokens

    def writer(self, work: Work, journal: Journal, rows: pd.DataFrame, cases: Sequence[Case]) -> Writing:
        """The Reasoner, asked as it was taught. An answer that is cut or empty is a failure, as of any teacher."""
        engine, shown = work.job.engine, self.trained.lessons.shown
        limits = self.llm["max_length"], self.max_new_tokens
        fit = fitted(work.job.chat, self.expert.expert.prompt, shown.cases(work, rows), *limits, shown.overflow)
        use_adapter(work.job, REASONER, work.of(self.trained))
        teacher = in_process(engine, {}, self.seed * 100 + self.number, REASONER)
        lengths = [len(work.job.chat.prompt_ids(prompt)) for prompt in fit.prompts]
        most = max(map(len, engine.plan(lengths, self.max_new_tokens)), default=1)

        def groups(starts: Sequence[int]) -> Iterator[list[int]]:
            size = max(1, most // UNIT)  # as many as the engine takes at once
            for first in range(0, len(starts), size):
                yield list(starts[first : first + size])

        asking = Asking(work.job, journal, teacher)
        return Writing(asking, lambda place, _: fit.prompts[place], self.temperature, self.max_new_tokens, groups)

    def facts(self, asking: Asking) -> dict[str, Any]:
        told = asking.facts()
        names = {"teacher_calls": "written", "teacher_tokens_in": "tokens_in", "teacher_tokens_out": "tokens_out"}
        return {name: told[other] for other, name in names.items()}

    def kept(self, work: Work, accepted: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
        before = work.of(self.before).table(REASONS)
        rest = before[~before["row_id"].isin(accepted["row_id"])]
        first = int((~accepted["row_id"].isin(before["row_id"])).sum())
        say(
            f"  round {self.number}: {len(accepted)} pairs learn what the Reasoner wrote ({first} of them had no "
            f"reason), {len(rest)} keep the reason that they had"
        )
        table = pd.concat([accepted[list(REASONS)], rest]).sort_values("row_id", ignore_index=True)
        return table, {"round": self.number, "new": len(accepted), "first": first, "of_before": len(rest)}


class Iterated(Filtered):
    """The paper's source, then rounds of the same filter on what the Reasoner writes.

    Args:
        max_hinted, tau, reference: as of Filtered; tau and reference hold for every round.
        rounds: trainings of the Reasoner before its last one.
        candidates: of a pair and a round, at most: the first that is accepted stays. No candidate has a hint.
        temperature: of the Reasoner's candidates.
        label: at the end of the row's name in tables.
    """

    def __init__(
        self,
        name: str = "iterated",
        max_hinted: Annotated[int, Field(ge=0)] = 10,
        tau: Annotated[float, Field(allow_inf_nan=False)] | None = None,
        reference: Literal["review", "none"] = "review",
        rounds: Annotated[int, Field(ge=1)] = 1,
        candidates: Annotated[int, Field(ge=1)] = 4,
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
        label: str = "iterated",
    ):
        super().__init__(name, max_hinted, tau, reference)
        self.rounds, self.candidates, self.temperature, self.label = rounds, candidates, temperature, label

    def stage(self, config: Config, node: Mapping[str, Any]) -> Filtering:
        """
        Raises:
            ConfigError: the strategy does not begin with a Reasoner, who would write the candidates.
        """
        strategy = config.strategy
        if strategy.steps[0] != REASONER:
            raise ConfigError(
                [
                    f"reason_source={self.name}: the Reasoner writes the candidates, and strategy={strategy.name} does "
                    f"not begin with one but with {strategy.steps[0]}; take strategy=multistep, or "
                    "reason_source=filtered"
                ]
            )
        reasons: Filtering = super().stage(config, node)
        sft, shown = with_sft(config, REASONER), histories(config, strategy.histories)
        common: list[Any] = [getattr(reasons, each.name) for each in fields(Filtering)]
        limit = reasons.expert.max_new_tokens
        for number in range(1, self.rounds + 1):
            pairs = Pairs(reasons.shown.split, reasons.pools, reasons)
            lessons = StepLessons(reasons.expert, shown, pairs, (), None, reasons.llm)
            trained = training(sft, REASONER, lessons)
            own: list[Any] = [reasons, trained, self.candidates, self.temperature, limit, number, config.seed]
            reasons = IteratedReasons(*common, *own)
        return reasons
