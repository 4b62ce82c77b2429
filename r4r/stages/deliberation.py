"""The deliberation: the strategy's steps in their order, each trained, then writing; the last rates (paper section 3).

A strategy lists its steps. A step that writes is trained on its lessons, writes for the training pairs, so that later
steps learn from what it really writes, and for the rows to predict. The last step rates: at once, or in the answer that
it writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from r4r.config import Config, EvaluateConfig
from r4r.errors import ConfigError
from r4r.experts.steps import Thinker, ThinkingRater
from r4r.lm.chat import Chat
from r4r.lm.rating_tokens import rating_tokens
from r4r.pipeline.stage import Stage
from r4r.progress import say
from r4r.rows import REVIEWS, TEXTS, Case
from r4r.stages.estimate import Estimate
from r4r.stages.further import Frozen, step_training
from r4r.stages.histories import Histories, fitted, histories
from r4r.stages.identity import llm_identity
from r4r.stages.lessons import Pairs, StepLessons, Thought, with_thoughts
from r4r.stages.mounted import Asked, asked
from r4r.stages.pools import pools_stage
from r4r.stages.rate import rate_rows
from r4r.stages.reasons import reasons_stage
from r4r.stages.reward import RATING_TOKENS
from r4r.stages.split import evaluated_rows, split_stage
from r4r.stages.stage import Work
from r4r.stages.timing import Inference, Round
from r4r.stages.train import Training, use_adapter
from r4r.stages.write import write_all
from r4r.store.artifact import write_table


@dataclass(frozen=True)
class Written(Stage):
    """Artifact: `data.parquet` (rows.TEXTS), what a step writes about some rows.

    Attributes:
        rows: whose: the training pairs, or the evaluated rows.
        thoughts: what the earlier steps wrote about the same rows.
    """

    expert: Asked
    trained: Training
    shown: Histories
    rows: Pairs | EvaluateConfig
    thoughts: tuple[Thought, ...]
    llm: Mapping[str, Any]
    max_new_tokens: int

    @property
    def name(self) -> str:
        which = "experts" if isinstance(self.rows, Pairs) else self.rows.split
        return f"write/{self.expert.place}/{which}"

    @property
    def estimate(self) -> Estimate:
        if isinstance(self.rows, Pairs):
            return Estimate(lambda known: known.experts, "pairs at most")
        return Estimate(lambda known: known.evaluated, f"{self.rows.split} rows")

    def build(self, work: Work) -> dict[str, Any]:
        if isinstance(self.rows, Pairs):
            rows = self.rows.rows(work)
        else:
            rows = evaluated_rows(self.rows, work.of(self.shown.split).table(REVIEWS))
        cases = with_thoughts(work, self.shown.cases(work, rows), self.thoughts)
        own = self.expert.expert
        limits = self.llm["max_length"], self.max_new_tokens
        fit = fitted(work.job.chat, own.prompt, cases, *limits, self.shown.overflow)
        use_adapter(work.job, self.expert.place, work.of(self.trained))
        row_ids = [case.row_id for case in cases]
        what = f"by the {self.expert.place}"
        table, facts = write_all(work, self.expert.place, row_ids, fit.prompts, self.max_new_tokens, what)
        write_table(work.folder / "data.parquet", table, TEXTS)
        return facts | fit.facts


@dataclass(frozen=True)
class Ratings(Stage):
    """Artifact: `data.parquet` (rows.PREDICTIONS); `detail.parquet` adds the reason, and each value's probability.

    Attributes:
        thoughts: what the earlier steps wrote about the evaluated rows.
        answers: where the last step writes before it rates, its texts; else None.
    """

    version: ClassVar[int] = 2

    expert: Asked
    trained: Training
    shown: Histories
    evaluate: EvaluateConfig
    thoughts: tuple[Thought, ...]
    answers: Written | None
    label: str
    llm: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"predict/{self.evaluate.split}"

    @property
    def estimate(self) -> Estimate:
        return Estimate(lambda known: known.evaluated, f"{self.evaluate.split} rows")

    def build(self, work: Work) -> dict[str, Any]:
        rows = evaluated_rows(self.evaluate, work.of(self.shown.split).table(REVIEWS))
        cases = with_thoughts(work, self.shown.cases(work, rows), self.thoughts)
        texts: dict[int, str] = {}
        if self.answers is not None:
            table = work.of(self.answers).table(TEXTS)
            texts = dict(zip(table["row_id"].tolist(), table["text"], strict=True))
        encoded, unfinished, facts = [], 0, {}
        if self.answers is None:
            fit = fitted(
                work.job.chat,
                self.expert.expert.prompt,
                cases,
                self.llm["max_length"],
                RATING_TOKENS,
                self.shown.overflow,
            )
            cases, facts = fit.cases, fit.facts
        for case in cases:
            ids, finished = self._encode(work.job.chat, case, texts.get(case.row_id, ""))
            encoded.append(ids)
            unfinished += not finished
        if self.answers is not None:
            facts = {"answers_without_rating": unfinished}
            reasons = {row_id: self.expert.expert.read(text) for row_id, text in texts.items()}
            if unfinished:
                say(f"  {unfinished} of {len(cases)} answers never came to a rating; it was asked for where they end")
        else:
            reasons = {case.row_id: "\n".join(case.thoughts) for case in cases if case.thoughts}
        use_adapter(work.job, self.expert.place, work.of(self.trained))
        row_ids = [case.row_id for case in cases]
        return facts | rate_rows(work, self.expert.place, row_ids, encoded, reasons, self.label, self.shown.scale)

    def _encode(self, chat: Chat, case: Case, answer: str) -> tuple[list[int], bool]:
        """Token ids up to where the rating's value stands, and whether the answer had come to it."""
        own = self.expert.expert
        head, finished = own.head(answer) if self.answers is not None else ("", True)
        return [*chat.prompt_ids(own.prompt(case)), *rating_tokens(chat, head, self.shown.scale).prefix], finished

    def infer(self, work: Work, rows: pd.DataFrame) -> Inference:  # type: ignore[override]
        """Every step that writes, then the rating, afresh."""
        cases, chat = self.shown.cases(work, rows), work.job.chat
        writers = [thought.texts for thought in self.thoughts] + ([self.answers] if self.answers is not None else [])
        for stage in (*writers, self):
            use_adapter(work.job, stage.expert.place, work.of(stage.trained))
        read = [thought.expert.expert.read for thought in self.thoughts]

        def known(place: int, texts: Sequence[str]) -> Case:
            return cases[place].thinking(*(own_read(text) for own_read, text in zip(read, texts, strict=False)))

        def round_of(stage: Written) -> Round:
            ask = stage.expert.expert.prompt
            return Round(stage.expert.place, lambda place, texts: ask(known(place, texts)), stage.max_new_tokens)

        def encode(place: int, texts: Sequence[str]) -> tuple[list[int], bool]:
            answer = texts[-1] if self.answers is not None else ""
            ids, finished = self._encode(chat, known(place, texts[: len(read)]), answer)
            return ids, finished and self.answers is not None

        return Inference([round_of(stage) for stage in writers], self.expert.place, encode, self.shown.scale)


def predictions_stage(config: Config) -> Ratings:
    """The stage whose artifact holds the predictions of the strategy.

    Raises:
        ConfigError: a step that must learn from reasons has none to learn from.
    """
    strategy, shown, llm = config.strategy, histories(config, config.strategy.histories), llm_identity(config)
    taught = [place for place in strategy.steps if asked(config, place).expert.needs_reason]
    reasons = reasons_stage(config) if taught else None
    label = strategy.label
    if taught and reasons is None:
        label = strategy.label_without_reason or label
    places = [place for place in strategy.steps if reasons or place not in taught]
    if not places or places[-1] != strategy.steps[-1]:
        raise ConfigError(
            [
                f"reason_source={config.reason_source['name']}: {strategy.steps[-1]}, the last step of "
                f"strategy={strategy.name}, learns to write reasons; choose another source"
            ]
        )
    experts = [asked(config, place) for place in places]
    pairs = Pairs(split_stage(config), pools_stage(config), reasons)
    evaluate = config.dataset.evaluate
    learnt: tuple[Thought, ...] = ()  # what earlier steps wrote for the training pairs
    told: tuple[Thought, ...] = ()  # and for the rows to predict
    for own in experts:
        is_last, writes = own is experts[-1], isinstance(own.expert, Thinker)
        if is_last and writes and not isinstance(own.expert, ThinkingRater):
            raise ConfigError([f"strategy={strategy.name}: its last step, {own.place}, gives no rating"])
        if not is_last and not writes:
            raise ConfigError([f"strategy={strategy.name}: {own.place} rates, so no step can follow it"])
        summarised = histories(config, "summaries") if getattr(own.expert, "needs_summaries", False) else None
        lessons = StepLessons(own, shown, pairs, learnt, summarised, llm)
        trained = step_training(config, lessons, lambda sft, place=own.place: _predictor_behind(sft, place))
        answers = Written(own, trained, shown, evaluate, told, llm, own.max_new_tokens) if writes else None
        if is_last:
            return Ratings(own, trained, shown, evaluate, told, answers, label, llm)
        learnt += (Thought(own, Written(own, trained, shown, pairs, learnt, llm, own.max_new_tokens)),)
        told += (Thought(own, answers),)
    raise AssertionError("a strategy has a last step")


def _predictor_behind(config: Config, place: str) -> Frozen:
    """The strategy's last step, trained on what the step before it, of this place, writes.

    Raises:
        ConfigError: no step rates what that one writes.
    """
    final = predictions_stage(config)
    if final.answers is not None or not final.thoughts or final.thoughts[-1].expert.place != place:
        raise ConfigError(
            [
                f"experts.{place}.objective.rewards: strategy={config.strategy.name} has no Predictor right behind "
                f"{place} whose error could be its reward; take another reward"
            ]
        )
    return Frozen(final.expert, final.trained)
