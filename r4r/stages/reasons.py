"""Where the training reasons come from (paper 3.2, Table 4): what a source is, and those without a filter.

A source is a class here or elsewhere and a file in `conf/reason_source/`. One that makes its texts from the pairs
derives from `TextSource`, one that asks the teacher from `TeacherSource`; any other says itself what its stage is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from r4r.configuration.schema import Config
from r4r.errors import TeacherError
from r4r.experts.steps import hinted
from r4r.pipeline.component import Component
from r4r.pipeline.stage import Stage, Unkeyed
from r4r.prompts.render import render, template
from r4r.reasons.leak import leaks_rating
from r4r.rows import REASONS, Case
from r4r.scale import Scale
from r4r.stages.ask import estimate
from r4r.stages.ask_all import ask_all, usable
from r4r.stages.histories import Cut, Histories, histories, one_line, rows_of_pool
from r4r.stages.identity import prompt_texts, teacher_identity, tokenizer_identity
from r4r.stages.mounted import Asked, asked
from r4r.stages.pools import expert_pairs, pools_stage
from r4r.stages.reward import TargetReviews
from r4r.stages.split import split_stage
from r4r.stages.stage import Work
from r4r.store.artifact import write_table

TITLE_TOKENS = 20  # of a history entry's title, about: for plans only


class ReasonSource:
    """Gives each pair of the experts pool a reason to learn, or drops the pair.

    Attributes:
        asks_teacher: whether the job's teacher is asked.
        label: what the row's name in tables says of the source; empty: nothing.
    """

    asks_teacher: ClassVar[bool] = False
    label: str = ""

    def __init__(self, name: str):
        self.name = name

    def stage(self, config: Config, node: Mapping[str, Any]) -> Stage | None:
        """The stage whose artifact holds `data.parquet` (rows.REASONS); None: the experts learn without reasons.

        Args:
            config: the job's.
            node: the source's own settings with their `_target_`: a stage's key holds them.
        """
        raise NotImplementedError


class NoReasons(ReasonSource):
    """Table 4, without reason: steps that learn from reasons are left out."""

    def stage(self, config: Config, node: Mapping[str, Any]) -> None:
        return None


class TextSource(ReasonSource):
    """A source that makes its texts from the pairs and their own reviews."""

    def texts(self, pairs: pd.DataFrame, reviews: Sequence[str]) -> list[str]:
        """A reason for each pair; an empty one drops the pair, which is counted.

        Args:
            pairs: rows.REVIEWS.
            reviews: the same rows' own reviews, on one line, cut to what the Reasoner may write.
        """
        raise NotImplementedError

    def stage(self, config: Config, node: Mapping[str, Any]) -> Stage:
        reviews = reviews_to_write(config, asked(config, "reasoner"))
        return TextReasons(Component(node), split_stage(config), pools_stage(config), reviews)


class ReviewGuided(TextSource):
    """Table 4, review-guided: the target's own review is the text to learn."""

    def texts(self, pairs: pd.DataFrame, reviews: Sequence[str]) -> list[str]:
        return list(reviews)


@dataclass(frozen=True)
class TextReasons(Stage):
    """Artifact: `data.parquet` (rows.REASONS) of a TextSource."""

    source: Component
    split: Any
    pools: Any
    reviews: TargetReviews

    @property
    def name(self) -> str:
        return "reasons"

    def build(self, work: Work) -> dict[str, Any]:
        rows = rows_of_pool(work, self.split, self.pools, "experts")
        texts = self.source.object.texts(rows, self.reviews.texts(work.job.chat, rows))
        kept = rows.assign(reason=texts)
        kept = kept[kept["reason"] != ""]
        write_table(work.folder / "data.parquet", kept, REASONS)
        return {"pairs": len(rows), "kept": len(kept), "dropped": {"empty text": len(rows) - len(kept)}}


@dataclass(frozen=True)
class OwnReviews(TextReasons):
    """The targets' own reviews, for a step that learns to write them.

    Attributes:
        place: the step's.
    """

    place: str

    @property
    def name(self) -> str:
        return f"train/{self.place}.reviews"


def own_reviews(config: Config, own: Asked) -> OwnReviews:
    """The stage of the reviews that a step learns to write."""
    source = Component({"_target_": f"{__name__}.{ReviewGuided.__name__}", "name": "review"})
    return OwnReviews(source, split_stage(config), pools_stage(config), reviews_to_write(config, own), own.place)


def reviews_to_write(config: Config, own: Asked) -> TargetReviews:
    """Targets' own reviews, cut to what an expert may write."""
    limit = min(config.dataset.history.review_tokens, own.max_new_tokens)
    return TargetReviews(Cut(limit, tokenizer_identity(config)))


class TeacherSource(ReasonSource):
    """A source whose reasons the teacher writes, one a pair, unfiltered.

    Attributes:
        prompt_files: files of r4r/prompts that its questions are made from, beside the Reasoner's own.
        tells_rating: whether the questions hold the true rating, which a reason then may not give away.
    """

    asks_teacher: ClassVar[bool] = True
    prompt_files: ClassVar[tuple[str, ...]] = ()
    tells_rating: ClassVar[bool] = False

    def question(self, ask: Asked, case: Case, rating: float, review: str) -> str:
        """What the teacher is asked about one pair.

        Args:
            ask: the Reasoner as it is mounted.
            case: the pair's.
            rating, review: the target's own.
        """
        raise NotImplementedError

    def stage(self, config: Config, node: Mapping[str, Any]) -> Stage:
        pairs = expert_pairs(config)
        return AskedReasons(
            Component(node),
            pools_stage(config),
            histories(config),
            asked(config, "reasoner"),
            TargetReviews(Cut(config.dataset.history.review_tokens, tokenizer_identity(config))),
            teaching(config, *self.prompt_files),
            takes_of(config, pairs, pairs),
        )


class ReviewInferred(TeacherSource):
    """Table 4, review-inferred: the teacher reads the target's own review."""

    prompt_files = ("review_inferred",)

    def question(self, ask: Asked, case: Case, rating: float, review: str) -> str:
        return review_inferred_prompt(case, review)


class HistoryInferred(TeacherSource):
    """Table 4, history-inferred: the teacher answers the Reasoner's prompt."""

    def question(self, ask: Asked, case: Case, rating: float, review: str) -> str:
        return reasoner_prompt(ask, case)


class HintInferred(TeacherSource):
    """Table 5, hint-inferred: the same prompt with the true rating as a hint; histories stay without ratings."""

    prompt_files = ("hint",)
    tells_rating = True

    def question(self, ask: Asked, case: Case, rating: float, review: str) -> str:
        return reasoner_prompt(ask, case, rating)


@dataclass(frozen=True)
class Teaching:
    """The teacher's part in a stage that asks it for reasons.

    Attributes:
        teacher: what tells the teacher's answers from another's.
        prompts: texts of the prompt files that are not an expert's own.
    """

    teacher: Mapping[str, Any]
    temperature: float | None
    max_tokens: int
    prompts: Mapping[str, str]


def teaching(config: Config, *prompts: str) -> Teaching:
    """The job's teacher, as it is asked for reasons."""
    teacher = config.teacher
    texts = {name: template(name) for name in prompts}
    answered = teacher_identity(config, "reasoner", "review_inferred", *prompts)
    return Teaching(answered, teacher.reason_temperature, teacher.reason_max_tokens, texts)


@dataclass(frozen=True)
class AskedReasons(Stage):
    """Artifact: `data.parquet` (rows.REASONS) of a TeacherSource."""

    source: Component
    pools: Any
    shown: Histories
    reasoner: Asked
    reviews: TargetReviews
    teaching: Teaching
    takes: Unkeyed

    @property
    def name(self) -> str:
        return "reasons"

    @property
    def estimate(self) -> Any:
        return self.takes.value

    def build(self, work: Work) -> dict[str, Any]:
        rows, source = rows_of_pool(work, self.shown.split, self.pools, "experts"), self.source.object
        known = zip(self.shown.cases(work, rows), rows["rating"], self.reviews.texts(work.job.chat, rows), strict=True)
        titles = rows["title"].tolist()
        table, facts = ask_all(
            work,
            "teacher reasons",
            rows["row_id"].tolist(),
            [source.question(self.reasoner, case, rating, review) for case, rating, review in known],
            self.teaching.temperature,
            self.teaching.max_tokens,
            read=lambda place, text: read_reason(text, source.tells_rating, titles[place], self.shown.scale),
        )
        kept, dropped = usable(table, "teacher reasons")
        write_table(work.folder / "data.parquet", kept.rename(columns={"answer": "reason"}), REASONS)
        return {"pairs": len(table), "kept": len(kept), "dropped": dropped, **facts}


def reasons_stage(config: Config) -> Stage | None:
    """The stage of the training reasons that the configuration chooses; None: there are none."""
    return Component(config.reason_source).object.stage(config, config.reason_source)


def takes_of(config: Config, least: int, most: int) -> Unkeyed:
    """What the teacher's reasons take: calls, and for a remote teacher tokens and dollars at most."""
    shown = histories(config)
    entry = shown.raw.tokens if shown.raw else asked(config, "summarizer").max_new_tokens
    tokens = max(2 * shown.newest * (entry + TITLE_TOKENS), config.dataset.history.review_tokens)
    prompts = prompt_texts("reasoner", "hint")
    return Unkeyed(estimate(config, least, most, prompts, tokens, config.teacher.reason_max_tokens))


def reasoner_prompt(ask: Asked, case: Case, hint_rating: float | None = None) -> str:
    """The Reasoner's prompt to the teacher, with the target's rating as a hint where one is given."""
    prompt: str = ask.expert.prompt(case)
    return prompt if hint_rating is None else hinted(prompt, hint_rating, case.scale)


def review_inferred_prompt(case: Case, review: str) -> str:
    """The teacher's prompt for a reason read out of the target's own review: for training and analysis only."""
    return render("review_inferred", category=case.category, title=case.title, review=review)


def read_reason(text: str, hinted: bool, title: str, scale: Scale) -> str:
    """A reason on one line.

    Args:
        title: of the target, which a reason may name.

    Raises:
        TeacherError: it was written with the rating as a hint, and gives it away.
    """
    if hinted and leaks_rating(text, [title], scale):
        raise TeacherError("gives away the rating")
    return one_line(text)
