"""Generation-then-filter, whoever writes the candidates: the reward model keeps the good ones (paper Algorithm 1)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import pandas as pd

from r4r.errors import DataError, TeacherError
from r4r.pipeline.stage import Stage
from r4r.progress import bar, say
from r4r.reasons.acceptance import acceptance, plot_acceptance
from r4r.reasons.filter import Pair, generate_then_filter
from r4r.rows import CANDIDATES, REASONS, Case
from r4r.stages.ask import UNIT, Asking, answered
from r4r.stages.histories import Histories, fitted, one_line, rows_of_pool
from r4r.stages.mounted import Asked
from r4r.stages.reward import RATING_TOKENS, RewardScorer, TargetReviews
from r4r.stages.stage import Job, Work
from r4r.stages.train import Training, use_adapter
from r4r.store.artifact import write_json, write_table
from r4r.store.journal import Journal
from r4r.teacher.base import Call


class Writing:
    """Who writes candidates, by answering prompts: the teacher, or an expert in a teacher's place."""

    def __init__(
        self,
        asking: Asking,
        prompt: Callable[[int, bool], str],
        temperature: float | None,
        max_tokens: int,
        groups: Callable[[Sequence[int]], Iterable[list[int]]],
    ):
        """
        Args:
            prompt: what is asked about the pair of a place, without or with the hint.
            max_tokens: of a candidate.
            groups: units of work (by their first pairs, UNIT pairs each) by how many are written at once.
        """
        self.asking, self.groups = asking, groups
        self._prompt, self._temperature, self._max_tokens = prompt, temperature, max_tokens

    def __call__(
        self, places: Sequence[int], pairs: Sequence[int], attempt: int, hinted: bool
    ) -> list[str | TeacherError]:
        """A candidate or a typed failure for each pair.

        Args:
            places: of a group's pairs among all.
            pairs: which of the group.
        """
        prompts = [self._prompt(places[pair], hinted) for pair in pairs]
        calls = [Call(prompt, self._temperature, self._max_tokens, attempt) for prompt in prompts]
        return [a if isinstance(a, TeacherError) else one_line(a.text) for a in self.asking(calls)]


@dataclass(frozen=True)
class Filtering(Stage):
    """Artifact: `data.parquet` (rows.REASONS), one reason a kept pair; `candidates.parquet` (rows.CANDIDATES), every
    attempt; `acceptance.json` and `acceptance.png`.

    Attributes:
        expert: the Reasoner, whose prompt is answered.
        judge: the reward model as it asks.
        tau: threshold of s_eval, in rating points.
        reference: review | none: what a candidate's error is compared with.
    """

    pools: Any
    expert: Asked
    judge: Asked
    reward_model: Training
    shown: Histories
    reviews: TargetReviews
    llm: Mapping[str, Any]
    tau: float
    reference: str

    @property
    def name(self) -> str:
        return "reasons"

    @property
    def attempts(self) -> tuple[int, int]:
        """Candidates of a pair without the hint, then with it, at most."""
        raise NotImplementedError

    @property
    def room(self) -> int:
        """Tokens of a candidate, at most."""
        raise NotImplementedError

    def writer(self, work: Work, journal: Journal, rows: pd.DataFrame, cases: Sequence[Case]) -> Writing:
        """Who writes the candidates of these pairs.

        Args:
            rows: rows.REVIEWS.
            cases: of the same pairs, as the reward model reads them.
        """
        raise NotImplementedError

    def facts(self, asking: Asking) -> dict[str, Any]:
        """What the candidates took, for the manifest."""
        return asking.facts()

    def build(self, work: Work) -> dict[str, Any]:
        rows = rows_of_pool(work, self.shown.split, self.pools, "experts")
        reviews = self.reviews.texts(work.job.chat, rows)
        cases = self._fitting(work, self.shown.cases(work, rows), reviews)
        use_adapter(work.job, "reward_model", work.of(self.reward_model))
        journal = Journal(work.folder / "rows.jsonl")
        writing = self.writer(work, journal, rows, cases)
        unhinted, max_hinted = self.attempts
        starts = range(0, len(rows), UNIT)
        with bar("generate, then filter", len(starts), len(journal)) as advance:
            for group in writing.groups([start for start in starts if str(start) not in journal]):
                places = [p for start in group for p in range(start, min(start + UNIT, len(rows)))]
                pairs = [
                    Pair(cases[p].row_id, float(rows["rating"].iloc[p]), reviews[p], cases[p].title) for p in places
                ]
                candidates, failures = generate_then_filter(
                    pairs,
                    partial(writing, places),
                    _Scorer(work.job, self.judge, [cases[p] for p in places]),
                    max_hinted,
                    self.tau,
                    self.reference,
                    self.shown.scale,
                    unhinted,
                )
                failed = [{"failure": str(failure)} for failure in failures]
                for start in group:
                    own = {case.row_id for case in cases[start : start + UNIT]}
                    kept_rows = [c for c in candidates if c["row_id"] in own]
                    journal.append(str(start), [*kept_rows, *failed, writing.asking.row()])
                    failed = []  # they name no pair: the group's first unit holds them
                    advance(1, f"{sum(c['accepted'] for c in candidates)} of {len(pairs)} accepted")
        return self._keep(work, journal, len(rows)) | self.facts(writing.asking) | {"engine": work.job.engine.about}

    def _fitting(self, work: Work, cases: Sequence[Case], reviews: Sequence[str]) -> list[Case]:
        """The cases, histories shortened where the reward model could not read them with the longest text."""
        chat = work.job.chat
        longest = [max(len(chat.reply_ids(text)), self.room) + RATING_TOKENS for text in reviews]

        def prompt(case: Case) -> str:
            return self.judge.expert.prompt(case.thinking(""))

        return fitted(chat, prompt, cases, self.llm["max_length"], longest, self.shown.overflow).cases

    def _keep(self, work: Work, journal: Journal, pairs: int) -> dict[str, Any]:
        done = answered(journal)
        failures = pd.Series([r["failure"] for r in done if "failure" in r], dtype=object).value_counts()
        table = pd.DataFrame([row for row in done if "failure" not in row], columns=list(CANDIDATES))
        write_table(work.folder / "candidates.parquet", table, CANDIDATES)
        report = acceptance(table, pairs) | {"teacher_failures": failures.to_dict()}
        write_json(work.folder / "acceptance.json", report)
        plot_acceptance(table, self.tau, work.folder / "acceptance.png")
        accepted = table[table["accepted"].astype(bool)].sort_values("row_id")
        lost = f"; no candidate: {report['teacher_failures']}" if len(failures) else ""
        say(f"  accepted a reason for {len(accepted)} of {pairs} pairs; candidates: {report['by_cause']}{lost}")
        kept, facts = self.kept(work, accepted)
        if table.empty:
            told = f"; most often: {failures.index[0]}" if len(failures) else ""
            raise DataError(f"the teacher gave no reason for any of {pairs} pairs{told}")
        if kept.empty:
            raise DataError(
                f"the filter accepted no reason for any of {pairs} pairs ({report['by_cause']}); "
                "raise reason_source.tau, train the reward model longer, or take reason_source=history"
            )
        write_table(work.folder / "data.parquet", kept, REASONS)
        return report | facts

    def kept(self, work: Work, accepted: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
        """The reasons to learn, by row_id, and facts for the manifest.

        Args:
            accepted: rows.CANDIDATES, one a pair, by row_id.
        """
        return accepted, {}


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
