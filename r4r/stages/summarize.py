"""The Summarizer: taught by the teacher, then every history review is summarised once, offline (paper 3.1).

What histories show in place of the Summarizer's summaries: the teacher's own, or, as a bound for what this step can
give, what the simulated world planted in each review.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from r4r.configuration.schema import Config
from r4r.experts.summarizer import FIELDS
from r4r.lexicon import KINDS, keyword
from r4r.pipeline.stage import Stage, Unkeyed
from r4r.progress import say
from r4r.rows import REVIEWS, SUMMARIES
from r4r.stages.ask_all import ask_all, usable
from r4r.stages.cases import rows_of
from r4r.stages.estimate import Estimate
from r4r.stages.identity import teacher_identity
from r4r.stages.mounted import Asked, asked
from r4r.stages.planted import PlantedWorld, planted_world
from r4r.stages.split import split_stage
from r4r.stages.stage import Work
from r4r.stages.teach import (
    ReviewQuestions,
    check_empty,
    review_questions,
    teacher_summaries_stage,
    usable_summary,
)
from r4r.stages.train import Training, training, use_adapter, write_lessons
from r4r.stages.write import write_all
from r4r.store.artifact import write_table


@dataclass(frozen=True)
class SummarizerLessons(Stage):
    """Artifact: `data.parquet` (rows.LESSONS), the teacher's summaries as the Summarizer is to write them."""

    expert: Asked
    split: Any
    taught: Any
    questions: ReviewQuestions

    @property
    def name(self) -> str:
        return "train/summarizer.lessons"

    def build(self, work: Work) -> dict[str, Any]:
        taught = work.of(self.taught).table(SUMMARIES)
        rows = work.of(self.split).table(REVIEWS).set_index("row_id").loc[taught["row_id"]].reset_index()
        own = self.expert.expert
        prompts = self.questions.prompts(work.job.chat, own.prompt, rows)
        answers = [own.target(summary) for summary in taught["summary"]]
        return write_lessons(work, "summarizer", list(zip(taught["row_id"], prompts, answers, strict=True)))


@dataclass(frozen=True)
class Summaries(Stage):
    """Artifact: `data.parquet` (rows.SUMMARIES) of every row that a history may show."""

    version: ClassVar[int] = 3

    expert: Asked
    summarizer: Training
    split: Any
    questions: ReviewQuestions
    source: str
    max_new_tokens: int

    @property
    def name(self) -> str:
        return "summaries"

    @property
    def estimate(self) -> Estimate:
        return Estimate(lambda known: known.history, "reviews")

    def build(self, work: Work) -> dict[str, Any]:
        rows, own = rows_of(self.source, work.of(self.split).table(REVIEWS)), self.expert.expert
        use_adapter(work.job, self.expert.place, work.of(self.summarizer))
        prompts = self.questions.prompts(work.job.chat, own.prompt, rows)
        table, facts = write_all(
            work, self.expert.place, rows["row_id"].tolist(), prompts, self.max_new_tokens, "summaries"
        )
        tidied = table["text"].map(own.read)
        malformed = int(tidied.isna().sum())
        if malformed:
            say(f"  {malformed} of {len(table)} summaries lack one of the three lines; they are shown as written")
        table = table.assign(summary=tidied.fillna(table["text"]))
        write_table(work.folder / "data.parquet", table, SUMMARIES)
        return facts | {"malformed": malformed}


@dataclass(frozen=True)
class TeacherHistories(Stage):
    """Artifact: `data.parquet` (rows.SUMMARIES) of every row that a history may show, by the teacher.

    A review without text, and one for which the teacher gives no summary, are shown as naming nothing; both are
    counted.

    Attributes:
        teacher: identity of the teacher.
        max_empty_share: of summaries that name nothing; more of them are an error.
    """

    expert: Asked
    split: Any
    questions: ReviewQuestions
    source: str
    teacher: Mapping[str, Any]
    temperature: float | None
    max_tokens: int
    max_empty_share: Unkeyed

    @property
    def name(self) -> str:
        return "summaries"

    @property
    def estimate(self) -> Estimate:
        return Estimate(lambda known: known.history, "teacher calls")

    def build(self, work: Work) -> dict[str, Any]:
        rows, own = rows_of(self.source, work.of(self.split).table(REVIEWS)), self.expert.expert
        told = rows[rows["review"].str.strip() != ""]
        table, facts = ask_all(
            work,
            "teacher summaries of histories",
            told["row_id"].tolist(),
            self.questions.prompts(work.job.chat, own.teacher_prompt, told),
            self.temperature,
            self.max_tokens,
            read=usable_summary(own),
        )
        kept, dropped = usable(table, "teacher summaries")
        empty = check_empty(kept["answer"], self.max_empty_share.value)
        said = dict(zip(kept["row_id"], kept["answer"], strict=True))
        summaries = [said.get(row_id, own.nothing) for row_id in rows["row_id"]]
        write_table(
            work.folder / "data.parquet",
            pd.DataFrame({"row_id": rows["row_id"].to_numpy(), "summary": summaries}),
            SUMMARIES,
        )
        silent = len(rows) - len(told)
        return {"kept": len(kept), "dropped": dropped, "empty": empty, "reviews_without_text": silent, **facts}


@dataclass(frozen=True)
class PlantedSummaries(Stage):
    """Artifact: `data.parquet` (rows.SUMMARIES) of every row that a history may show, by the truth behind it."""

    world: PlantedWorld
    source: str

    @property
    def name(self) -> str:
        return "summaries"

    def build(self, work: Work) -> dict[str, Any]:
        rows = self.world.reviews(rows_of(self.source, work.of(self.world.split).table(REVIEWS)))
        lines = [
            [", ".join(keyword(aspect, kind) for aspect in aspects) or "None" for aspects in rows[kind]]
            for kind in KINDS
        ]
        summaries = [
            "\n".join(f"{field}: {said}" for field, said in zip(FIELDS, three, strict=True))
            for three in zip(*lines, strict=True)
        ]
        write_table(work.folder / "data.parquet", rows.assign(summary=summaries), SUMMARIES)
        return {"kept": len(rows)}


def summarizer_stage(config: Config) -> Training:
    """The stage whose artifact is the Summarizer's adapter."""
    lessons = SummarizerLessons(
        asked(config, "summarizer"),
        split_stage(config),
        teacher_summaries_stage(config),
        review_questions(config),
    )
    return training(config, "summarizer", lessons)


def summaries_stage(config: Config) -> Stage:
    """The stage whose artifact holds the summaries that histories show: by `dataset.history.summaries`."""
    own, shown, teacher = asked(config, "summarizer"), config.dataset.history, config.teacher
    if shown.summaries == "planted":
        return PlantedSummaries(planted_world(config), shown.source)
    if shown.summaries == "teacher":
        prompts = own.identity()["prompts"]
        return TeacherHistories(
            own,
            split_stage(config),
            review_questions(config),
            shown.source,
            teacher_identity(config, *prompts),
            teacher.summary_temperature,
            teacher.summary_max_tokens,
            Unkeyed(teacher.max_empty_share),
        )
    return Summaries(
        own,
        summarizer_stage(config),
        split_stage(config),
        review_questions(config),
        shown.source,
        own.max_new_tokens,
    )
