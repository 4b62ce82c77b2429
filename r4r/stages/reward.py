"""The reward model: trained on a pool of its own, with the target's review in the placeholder (paper 3.4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from r4r.configuration.schema import Config
from r4r.lm.batches import common_prefix
from r4r.lm.chat import Chat
from r4r.lm.engine import Engine
from r4r.lm.rate import decode
from r4r.pipeline.stage import Stage
from r4r.rows import Case, Lesson
from r4r.stages.histories import Cut, Histories, fitted, histories, one_line, rows_of_pool
from r4r.stages.identity import llm_identity, tokenizer_identity
from r4r.stages.mounted import Asked, asked
from r4r.stages.pools import pools_stage
from r4r.stages.stage import Work
from r4r.stages.train import Training, training, write_lessons

RATING_TOKENS = 16  # room for the rating behind a prompt, on any scale


@dataclass(frozen=True)
class TargetReviews:
    """A target's own review, as it stands in the placeholder: cut, on one line. For training and analysis alone."""

    cut: Cut

    def texts(self, chat: Chat, rows: pd.DataFrame) -> list[str]:
        """The review of each row (rows.REVIEWS)."""
        return [self.cut(chat, one_line(review)) for review in rows["review"]]


def target_reviews(config: Config) -> TargetReviews:
    return TargetReviews(Cut(config.dataset.history.review_tokens, tokenizer_identity(config)))


@dataclass(frozen=True)
class RewardLessons(Stage):
    """Artifact: `data.parquet` (rows.LESSONS) of the reward pool, the review where a reason would stand."""

    expert: Asked
    shown: Histories
    pools: Any
    reviews: TargetReviews
    llm: Mapping[str, Any]

    @property
    def name(self) -> str:
        return "train/reward_model.lessons"

    def build(self, work: Work) -> dict[str, Any]:
        rows, own = rows_of_pool(work, self.shown.split, self.pools, "reward"), self.expert.expert
        chat = work.job.chat
        reviews = self.reviews.texts(chat, rows)
        cases = [case.thinking(text) for case, text in zip(self.shown.cases(work, rows), reviews, strict=True)]
        fit = fitted(chat, own.prompt, cases, self.llm["max_length"], RATING_TOKENS, self.shown.overflow)
        lessons = [
            (case.row_id, prompt, own.target(case, Lesson(rating)))
            for case, prompt, rating in zip(fit.cases, fit.prompts, rows["rating"], strict=True)
        ]
        return write_lessons(work, "reward_model", lessons, **fit.facts)


def reward_model_stage(config: Config) -> Training:
    """The stage whose artifact is the reward model's adapter."""
    lessons = RewardLessons(
        asked(config, "reward_model"),
        histories(config),
        pools_stage(config),
        target_reviews(config),
        llm_identity(config),
    )
    return training(config, "reward_model", lessons)


class RewardScorer:
    """Rates texts in the placeholder of a few pairs; what the pairs' prompts share is computed once."""

    def __init__(self, engine: Engine, ask: Asked, cases: Sequence[Case]):
        self.chat = engine.chat
        self.expert = ask.expert
        self.cases = cases
        prompts = [self._ids(case, "A") for case in cases]
        keep = [common_prefix([p, self._ids(case, "0")]) for p, case in zip(prompts, cases, strict=True)]
        self.shared = engine.share(prompts, keep, ask.place)

    @property
    def nbytes(self) -> int:
        """Memory of what is shared."""
        return self.shared.nbytes

    def _ids(self, case: Case, text: str | None) -> list[int]:
        known = case.thoughts if text is None else (*case.thoughts, text)
        return self.chat.prompt_ids(self.expert.prompt(case.thinking(*known)))

    def __call__(self, pairs: Sequence[int], texts: Sequence[str | None]) -> list[float]:
        """The reward model's expected rating for each (pair, text)."""
        prompts = [self._ids(self.cases[pair], text) for pair, text in zip(pairs, texts, strict=True)]
        scale = self.cases[0].scale
        return decode(self.shared.rate(pairs, prompts, scale), scale)["mean"].tolist()
