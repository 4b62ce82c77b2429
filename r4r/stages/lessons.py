"""What a step of the deliberation is trained on: prompts and answers for the pairs of the experts pool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from r4r.pipeline.stage import Stage
from r4r.rows import REASONS, REVIEWS, TEXTS, Case, Lesson
from r4r.stages.histories import Histories, fitted, rows_of_pool
from r4r.stages.mounted import Asked
from r4r.stages.stage import Work
from r4r.stages.train import write_lessons


@dataclass(frozen=True)
class Pairs:
    """The training pairs of the steps: those that have a reason, or, where the job has no reasons, all of the pool.

    Attributes:
        reasons: the stage whose artifact holds rows.REASONS; None: the pairs are the pool's.
    """

    split: Any
    pools: Any
    reasons: Any = None

    def rows(self, work: Work) -> pd.DataFrame:
        """The pairs' rows (rows.REVIEWS), by row_id."""
        if self.reasons is None:
            return rows_of_pool(work, self.split, self.pools, "experts")
        row_ids = work.of(self.reasons).table(REASONS)["row_id"]
        return work.of(self.split).table(REVIEWS).set_index("row_id").loc[row_ids].reset_index()

    def lessons(self, work: Work) -> list[Lesson]:
        """What is known of each pair, in the rows' order."""
        ratings = self.rows(work)["rating"].tolist()
        reasons = [""] * len(ratings) if self.reasons is None else work.of(self.reasons).table(REASONS)["reason"]
        return [Lesson(rating, reason) for rating, reason in zip(ratings, reasons, strict=True)]


@dataclass(frozen=True)
class Thought:
    """What an earlier step wrote: the stage of its texts, and the expert that reads them."""

    expert: Asked
    texts: Any

    def of(self, work: Work) -> dict[int, str]:
        """The thought about each row, by row_id."""
        table = work.of(self.texts).table(TEXTS)
        return {
            row_id: self.expert.expert.read(text) for row_id, text in zip(table["row_id"], table["text"], strict=True)
        }


def with_thoughts(work: Work, cases: Sequence[Case], thoughts: Sequence[Thought]) -> list[Case]:
    """The cases with what the earlier steps wrote of them."""
    known = [thought.of(work) for thought in thoughts]
    return [case.thinking(*(texts[case.row_id] for texts in known)) for case in cases]


@dataclass(frozen=True)
class StepLessons(Stage):
    """Artifact: `data.parquet` (rows.LESSONS).

    Attributes:
        thoughts: what the earlier steps wrote for these pairs.
        summarised: the same histories as summaries, for an expert that learns to write them; else None.
    """

    expert: Asked
    shown: Histories
    pairs: Pairs
    thoughts: tuple[Thought, ...]
    summarised: Histories | None
    llm: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"train/{self.expert.place}.lessons"

    def build(self, work: Work) -> dict[str, Any]:
        own, chat, rows = self.expert.expert, work.job.chat, self.pairs.rows(work)
        known = self.pairs.lessons(work)
        if self.summarised is not None:
            cases = self.summarised.cases(work, rows)
            known = [replace(lesson, summarised=case) for lesson, case in zip(known, cases, strict=True)]
        cases = with_thoughts(work, self.shown.cases(work, rows), self.thoughts)
        answers = [own.target(case, lesson) for case, lesson in zip(cases, known, strict=True)]
        reserve = [len(chat.reply_ids(answer)) for answer in answers]
        fit = fitted(chat, own.prompt, cases, self.llm["max_length"], reserve, self.shown.overflow)
        lessons = [(c.row_id, prompt, a) for c, prompt, a in zip(fit.cases, fit.prompts, answers, strict=True)]
        return write_lessons(work, self.expert.place, lessons, **fit.facts)
