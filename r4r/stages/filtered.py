"""Generation-then-filter: the teacher writes reasons, the reward model keeps the good ones (paper Algorithm 1)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from r4r.configuration.schema import Config
from r4r.errors import DataError, TeacherError
from r4r.pipeline.stage import Stage, Unkeyed
from r4r.progress import bar, say
from r4r.reasons.acceptance import acceptance, plot_acceptance
from r4r.reasons.filter import Pair, generate_then_filter
from r4r.rows import CANDIDATES, REASONS, Case
from r4r.stages.ask import UNIT, Asking, answered, groups
from r4r.stages.histories import Histories, fitted, histories, one_line, rows_of_pool
from r4r.stages.identity import llm_identity
from r4r.stages.mounted import Asked, asked
from r4r.stages.pools import expert_pairs, pools_stage
from r4r.stages.reasons import ReasonSource, Teaching, reasoner_prompt, takes_of, teaching
from r4r.stages.reward import RATING_TOKENS, RewardScorer, TargetReviews, reward_model_stage, target_reviews
from r4r.stages.stage import Job, Work
from r4r.stages.train import Training, use_adapter
from r4r.store.artifact import write_json, write_table
from r4r.store.journal import Journal
from r4r.teacher.base import Call


@dataclass(frozen=True)
class FilteredReasons(Stage):
    """Artifact: `data.parquet` (rows.REASONS), one reason a kept pair; `candidates.parquet` (rows.CANDIDATES), every
    attempt; `acceptance.json` and `acceptance.png`.

    Attributes:
        expert: the Reasoner, whose prompt the teacher answers.
        judge: the reward model as it asks.
        tau: threshold of s_eval, in rating points.
        reference: review | none: what a candidate's error is compared with.
    """

    version: ClassVar[int] = 2

    pools: Any
    teaching: Teaching
    takes: Unkeyed
    expert: Asked
    judge: Asked
    reward_model: Training
    shown: Histories
    reviews: TargetReviews
    llm: Mapping[str, Any]
    max_hinted: int
    tau: float
    reference: str

    @property
    def name(self) -> str:
        return "reasons"

    @property
    def estimate(self) -> Any:
        return self.takes.value

    def build(self, work: Work) -> dict[str, Any]:
        rows = rows_of_pool(work, self.shown.split, self.pools, "experts")
        reviews = self.reviews.texts(work.job.chat, rows)
        cases = self._fitting(work, self.shown.cases(work, rows), reviews)
        use_adapter(work.job, "reward_model", work.of(self.reward_model))
        journal = Journal(work.folder / "rows.jsonl")
        asking = Asking(work.job, journal)
        starts = range(0, len(rows), UNIT)
        with bar("generate, then filter", len(starts), len(journal)) as advance:
            for group in groups(work.job.config, [start for start in starts if str(start) not in journal]):
                places = [p for start in group for p in range(start, min(start + UNIT, len(rows)))]
                pairs = [
                    Pair(cases[p].row_id, float(rows["rating"].iloc[p]), reviews[p], cases[p].title) for p in places
                ]
                candidates, failures = generate_then_filter(
                    pairs,
                    self._writer(asking, [cases[p] for p in places], [pair.rating for pair in pairs]),
                    _Scorer(work.job, self.judge, [cases[p] for p in places]),
                    self.max_hinted,
                    self.tau,
                    self.reference,
                    self.shown.scale,
                )
                failed = [{"failure": str(failure)} for failure in failures]
                for start in group:
                    own = {case.row_id for case in cases[start : start + UNIT]}
                    kept_rows = [c for c in candidates if c["row_id"] in own]
                    journal.append(str(start), [*kept_rows, *failed, asking.row()])
                    failed = []  # they name no pair: the group's first unit holds them
                    advance(1, f"{sum(c['accepted'] for c in candidates)} of {len(pairs)} accepted")
        return self._keep(work, journal, len(rows)) | asking.facts() | {"engine": work.job.engine.about}

    def _fitting(self, work: Work, cases: Sequence[Case], reviews: Sequence[str]) -> list[Case]:
        """The cases, histories shortened where the reward model could not read them with the longest text."""
        chat = work.job.chat
        longest = [max(len(chat.reply_ids(text)), self.teaching.max_tokens) + RATING_TOKENS for text in reviews]

        def prompt(case: Case) -> str:
            return self.judge.expert.prompt(case.thinking(""))

        return fitted(chat, prompt, cases, self.llm["max_length"], longest, self.shown.overflow).cases

    def _writer(
        self, asking: Asking, cases: Sequence[Case], ratings: Sequence[float]
    ) -> Callable[[Sequence[int], int, bool], list[str | TeacherError]]:
        """The teacher as `generate_then_filter` wants it. Hinted prompts, too, show histories without ratings."""
        teaching = self.teaching

        def write(pairs: Sequence[int], attempt: int, hinted: bool) -> list[str | TeacherError]:
            prompts = [reasoner_prompt(self.expert, cases[n], ratings[n] if hinted else None) for n in pairs]
            calls = [Call(p, teaching.temperature, teaching.max_tokens, attempt) for p in prompts]
            return [a if isinstance(a, TeacherError) else one_line(a.text) for a in asking(calls)]

        return write

    def _keep(self, work: Work, journal: Journal, pairs: int) -> dict[str, Any]:
        done = answered(journal)
        failures = pd.Series([r["failure"] for r in done if "failure" in r], dtype=object).value_counts()
        table = pd.DataFrame([row for row in done if "failure" not in row], columns=list(CANDIDATES))
        write_table(work.folder / "candidates.parquet", table, CANDIDATES)
        report = acceptance(table, pairs) | {"teacher_failures": failures.to_dict()}
        write_json(work.folder / "acceptance.json", report)
        plot_acceptance(table, self.tau, work.folder / "acceptance.png")
        kept = table[table["accepted"].astype(bool)].sort_values("row_id")
        say(f"  accepted a reason for {len(kept)} of {pairs} pairs; candidates: {report['by_cause']}")
        if kept.empty:
            raise DataError(
                f"the filter accepted no reason for any of {pairs} pairs ({report['by_cause']}); "
                "raise reason_source.tau, train the reward model longer, or take reason_source=history"
            )
        write_table(work.folder / "data.parquet", kept, REASONS)
        return report


class _Scorer:
    """The reward model for a group of pairs, by units. What a unit's prompts share is computed once and held for all of
    its candidates as long as `llm.prefix_gb` has room; without, it is computed again for every attempt."""

    def __init__(self, job: Job, judge: Asked, cases: Sequence[Case]):
        self._job, self._judge, self._cases = job, judge, cases
        self._held: dict[int, RewardScorer] = {}
        # vLLM keeps what prompts share by itself, and is the faster the more it is given
        self._unit = UNIT if job.engine_choice()[0] == "hf" else len(cases)
        self._room = job.engine.prefix_bytes

    def __call__(self, pairs: Sequence[int], texts: Sequence[str | None]) -> list[float]:
        ratings: list[float] = []
        size = self._unit
        for start, chosen in groupby(zip(pairs, texts, strict=True), key=lambda pair: pair[0] // size * size):
            unit = self._cases[start : start + size]
            scorer = self._held.get(start) or RewardScorer(self._job.engine, self._judge, unit)
            if start not in self._held and scorer.nbytes <= self._room:
                self._held[start] = scorer
                self._room -= scorer.nbytes
            own, shown = zip(*chosen, strict=True)
            ratings += scorer([pair - start for pair in own], shown)
        return ratings


class Filtered(ReasonSource):
    """The paper's source: candidates without, then with the hint; the first that is close enough to the review stays.

    Args:
        max_hinted: candidates with the hint, after the one without.
        tau: threshold of s_eval, in rating points; None: the data set's.
        reference: review (the paper), or none: the prediction without any reason.
    """

    asks_teacher: ClassVar[bool] = True

    def __init__(
        self,
        name: str = "filtered",
        max_hinted: Annotated[int, Field(ge=0)] = 10,
        tau: Annotated[float, Field(allow_inf_nan=False)] | None = None,
        reference: Literal["review", "none"] = "review",
    ):
        super().__init__(name)
        self.max_hinted, self.tau, self.reference = max_hinted, tau, reference

    def stage(self, config: Config, node: Mapping[str, Any]) -> FilteredReasons:
        pairs = expert_pairs(config)
        return FilteredReasons(
            pools_stage(config),
            teaching(config, "hint"),
            takes_of(config, pairs, pairs * (1 + self.max_hinted)),
            asked(config, "reasoner"),
            asked(config, "reward_model"),
            reward_model_stage(config),
            histories(config),
            target_reviews(config),
            llm_identity(config),
            self.max_hinted,
            config.dataset.tau if self.tau is None else self.tau,
            self.reference,
        )
