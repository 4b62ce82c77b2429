"""The Summarizer: taught by the teacher, then every history review is summarised once, offline (paper 3.1)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from r4r.config import Config
from r4r.pipeline.stage import Stage
from r4r.progress import say
from r4r.rows import REVIEWS, SUMMARIES
from r4r.stages.cases import rows_of
from r4r.stages.estimate import Estimate
from r4r.stages.mounted import Asked, asked
from r4r.stages.split import split_stage
from r4r.stages.stage import Work
from r4r.stages.teach import ReviewQuestions, review_questions, teacher_summaries_stage
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

    version: ClassVar[int] = 2

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


def summarizer_stage(config: Config) -> Training:
    """The stage whose artifact is the Summarizer's adapter."""
    lessons = SummarizerLessons(
        asked(config, "summarizer"),
        split_stage(config),
        teacher_summaries_stage(config),
        review_questions(config),
    )
    return training(config, "summarizer", lessons)


def summaries_stage(config: Config) -> Summaries:
    """The stage whose artifact holds the Summarizer's summaries."""
    own = asked(config, "summarizer")
    return Summaries(
        own,
        summarizer_stage(config),
        split_stage(config),
        review_questions(config),
        config.dataset.history.source,
        own.max_new_tokens,
    )
