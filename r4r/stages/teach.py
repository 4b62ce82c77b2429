"""The teacher summarises a sample of train reviews: the Summarizer's training texts (paper 3.1)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from r4r.configuration.schema import Config
from r4r.errors import DataError, TeacherError
from r4r.experts.summarizer import is_empty
from r4r.lm.chat import Chat
from r4r.pipeline.stage import Stage, Unkeyed
from r4r.progress import say
from r4r.rows import REVIEWS, SUMMARIES
from r4r.scale import Scale
from r4r.stages.ask import estimate
from r4r.stages.ask_all import ask_all, usable
from r4r.stages.identity import teacher_identity, tokenizer_identity
from r4r.stages.mounted import Asked, asked
from r4r.stages.split import split_stage
from r4r.stages.stage import Work
from r4r.store.artifact import write_table

Ask = Callable[[str, str, str, str], str]
"""(category, title, rating as the scale writes it, review) -> a prompt about one review."""


@dataclass(frozen=True)
class ReviewQuestions:
    """How a prompt is told of one review.

    Attributes:
        review_tokens: what the review is cut to.
        tokenizer: identity of the tokenizer that counts them.
    """

    category: str
    scale: Scale
    review_tokens: int
    tokenizer: Mapping[str, Any]

    def prompts(self, chat: Chat, ask: Ask, rows: pd.DataFrame) -> list[str]:
        """A prompt a row (rows.REVIEWS)."""
        return [
            ask(self.category, title, self.scale.text(rating), chat.clip(review, self.review_tokens))
            for title, rating, review in zip(rows["title"], rows["rating"], rows["review"], strict=True)
        ]


def review_questions(config: Config) -> ReviewQuestions:
    dataset = config.dataset
    return ReviewQuestions(
        dataset.category, dataset.rating_scale, dataset.history.review_tokens, tokenizer_identity(config)
    )


@dataclass(frozen=True)
class TeacherSummaries(Stage):
    """Artifact: `data.parquet` (rows.SUMMARIES) of the summarised sample.

    Attributes:
        expert: the Summarizer, whose question the teacher answers.
        teacher: identity of the teacher.
        count: train reviews that are summarised, where there are so many.
        max_empty_share: of summaries that name nothing; more of them are an error.
    """

    version: ClassVar[int] = 4

    expert: Asked
    split: Any
    questions: ReviewQuestions
    teacher: Mapping[str, Any]
    temperature: float | None
    max_tokens: int
    count: int
    seed: int
    max_empty_share: Unkeyed
    takes: Unkeyed

    @property
    def name(self) -> str:
        return "teacher_summaries"

    @property
    def estimate(self) -> Any:
        return self.takes.value

    def build(self, work: Work) -> dict[str, Any]:
        rows, own = work.of(self.split).table(REVIEWS), self.expert.expert
        train = rows[(rows["split"] == "train") & (rows["review"].str.strip() != "")]
        sample = train.sample(min(self.count, len(train)), random_state=self.seed).sort_values("row_id")

        table, facts = ask_all(
            work,
            "teacher summaries",
            sample["row_id"].tolist(),
            self.questions.prompts(work.job.chat, own.teacher_prompt, sample),
            self.temperature,
            self.max_tokens,
            read=usable_summary(own),
        )
        kept, dropped = usable(table, "teacher summaries")
        empty = check_empty(kept["answer"], self.max_empty_share.value)
        write_table(work.folder / "data.parquet", kept.rename(columns={"answer": "summary"}), SUMMARIES)
        return {"kept": len(kept), "dropped": dropped, "empty": empty, **facts}


def teacher_summaries_stage(config: Config) -> TeacherSummaries:
    """The stage of the teacher's summaries."""
    teacher, own, count = config.teacher, asked(config, "summarizer"), config.dataset.pools.summaries
    prompts = own.identity()["prompts"]
    takes = estimate(config, count, count, prompts, config.dataset.history.review_tokens, teacher.summary_max_tokens)
    return TeacherSummaries(
        own,
        split_stage(config),
        review_questions(config),
        teacher_identity(config, *prompts),
        teacher.summary_temperature,
        teacher.summary_max_tokens,
        count,
        config.seed,
        Unkeyed(teacher.max_empty_share),
        Unkeyed(f"up to {takes}"),
    )


def usable_summary(expert: Any) -> Callable[[int, str], str]:
    """How a teacher's answer is read, as `ask_all` wants it: its three lines, or a TeacherError where there are none.

    Args:
        expert: the Summarizer.
    """

    def read(place: int, text: str) -> str:
        summary: str | None = expert.read(text, once=True)
        if summary is None:
            raise TeacherError("not the three lines of a summary")
        return summary

    return read


def check_empty(summaries: "pd.Series[str]", most: float) -> int:
    """How many summaries name nothing in any of their lines; a review may say nothing, but hardly most of them.

    Args:
        most: the share of them that is allowed.
    Raises:
        DataError: there are more.
    """
    empty = int(summaries.map(is_empty).sum())
    if empty > most * len(summaries):
        raise DataError(
            f"{empty} of {len(summaries)} teacher summaries name nothing: no aspect and no preference. That is more "
            f"than teacher.max_empty_share={most:g} allows. Take a stronger teacher, or look at the reviews and allow "
            "more"
        )
    if empty:
        say(f"  {empty} of {len(summaries)} teacher summaries name nothing; they are kept")
    return empty
