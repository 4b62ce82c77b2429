"""What a step of the deliberation writes about some rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r4r.configuration.schema import EvaluateConfig
from r4r.pipeline.stage import Stage
from r4r.rows import REVIEWS, TEXTS
from r4r.stages.estimate import Estimate
from r4r.stages.histories import Histories, fitted
from r4r.stages.lessons import Thought, with_thoughts
from r4r.stages.mounted import Asked
from r4r.stages.split import evaluated_rows
from r4r.stages.stage import Work
from r4r.stages.train import Training, use_adapter
from r4r.stages.write import write_all
from r4r.store.artifact import write_table


@dataclass(frozen=True)
class Written(Stage):
    """Artifact: `data.parquet` (rows.TEXTS), what a step writes about some rows.

    Attributes:
        rows: whose: training pairs (a Pairs, or a fold of them), or the evaluated rows.
        thoughts: what the earlier steps wrote about the same rows.
    """

    expert: Asked
    trained: Training
    shown: Histories
    rows: Any
    thoughts: tuple[Thought, ...]
    llm: Mapping[str, Any]
    max_new_tokens: int

    @property
    def name(self) -> str:
        which = self.rows.split if isinstance(self.rows, EvaluateConfig) else "experts"
        return f"write/{self.expert.place}/{which}"

    @property
    def estimate(self) -> Estimate:
        if isinstance(self.rows, EvaluateConfig):
            return Estimate(lambda known: known.evaluated, f"{self.rows.split} rows")
        return Estimate(lambda known: known.experts, "pairs at most")

    def build(self, work: Work) -> dict[str, Any]:
        if isinstance(self.rows, EvaluateConfig):
            rows = evaluated_rows(self.rows, work.of(self.shown.split).table(REVIEWS))
        else:
            rows = self.rows.rows(work)
        cases = with_thoughts(work, self.shown.cases(work, rows), self.thoughts)
        own = self.expert.expert
        limits = self.llm["max_length"], self.max_new_tokens
        fit = fitted(work.job.chat, own.prompt, cases, *limits, self.shown.overflow)
        use_adapter(work.job, self.expert.place, work.of(self.trained))
        row_ids = [case.row_id for case in cases]
        what = f"by the {self.expert.place}"
        table, facts = write_all(
            work, self.expert.place, row_ids, fit.prompts, self.max_new_tokens, what, *self._sampling
        )
        write_table(work.folder / "data.parquet", table, TEXTS)
        return facts | fit.facts

    @property
    def _sampling(self) -> tuple[float, int]:
        """Temperature and seed of the texts: the likeliest token each time."""
        return 0.0, 0


@dataclass(frozen=True)
class Sampled(Written):
    """One of several texts that a step writes about each row, drawn at a temperature.

    Attributes:
        sample: which one, from 1.
    """

    temperature: float
    sample: int
    seed: int

    @property
    def name(self) -> str:
        return f"{super().name}.{self.sample}"

    @property
    def _sampling(self) -> tuple[float, int]:
        return self.temperature, self.seed * 1000 + self.sample
