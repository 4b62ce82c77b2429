"""The deliberation: the strategy's steps in their order, each trained, then writing; the last rates (paper section 3).

A strategy lists its steps. A step that writes is trained on its lessons, writes for the training pairs, so that later
steps learn from what it really writes, and for the rows to predict. The last step rates: at once, or in the answer that
it writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast

from r4r.configuration.schema import Config
from r4r.errors import ConfigError
from r4r.experts.steps import Thinker, ThinkingRater
from r4r.pipeline.component import Component
from r4r.stages.controls import NoControl, check_control
from r4r.stages.crossfit import crossfit
from r4r.stages.distilled import distilling
from r4r.stages.further import Frozen, step_training
from r4r.stages.histories import Histories, histories
from r4r.stages.identity import llm_identity
from r4r.stages.lessons import Pairs, StepLessons, Thought
from r4r.stages.mounted import Asked, asked
from r4r.stages.pools import pools_stage
from r4r.stages.ratings import AveragedRatings, Ratings, SampledRatings
from r4r.stages.reasons import own_reviews, reasons_stage
from r4r.stages.split import split_stage
from r4r.stages.train import Training
from r4r.stages.written import Sampled, Written


@dataclass(frozen=True)
class Options:
    """How the last step learns from reasons, and how many it reads.

    Attributes:
        reason_training: own: from what each earlier step writes for its own training pairs (the paper); crossfit: from
            what one writes that learnt from the other folds.
        folds: of crossfit.
        predictor_pairs: accepted: the last step learns from the pairs that have a reason (the paper); all: from the
            whole pool, for which the earlier steps write as well.
        reasons: texts that are drawn for each row to predict; the probabilities by each are averaged. 1: the likeliest
            text alone (the paper).
        temperature: of texts that are drawn.
    """

    reason_training: Literal["own", "crossfit"] = "own"
    folds: int = 5
    predictor_pairs: Literal["accepted", "all"] = "accepted"
    reasons: int = 1
    temperature: float = 1.0


def predictions_stage(config: Config, options: Options = Options()) -> Ratings | AveragedRatings:
    """The stage whose artifact holds the predictions of the strategy.

    Raises:
        ConfigError: a step that must learn from reasons has none to learn from; or the strategy cannot have what the
            options or the control ask for.
    """
    strategy, shown, llm = config.strategy, histories(config, config.strategy.histories), llm_identity(config)
    taught = [place for place in strategy.steps if asked(config, place).expert.needs_reason]
    reasons = reasons_stage(config) if taught else None
    idle = [p for p in taught if reasons is None and asked(config, p).expert.objective.starts_from is not None]
    if idle:
        raise ConfigError(
            [
                f"experts.{idle[0]}.objective: goes on from the SFT on reasons, and with reason_source="
                f"{config.reason_source['name']} no {idle[0]} is trained; take another source, or objective=sft"
            ]
        )
    label = strategy.label
    if taught and reasons is None:
        label = strategy.label_without_reason or label
    if reasons is not None and (said := Component(config.reason_source).object.label):
        label = f"{label}, {said}"
    places = [place for place in strategy.steps if reasons or place not in taught]
    if not places or places[-1] != strategy.steps[-1]:
        raise ConfigError(
            [
                f"reason_source={config.reason_source['name']}: {strategy.steps[-1]}, the last step of "
                f"strategy={strategy.name}, learns to write reasons; choose another source"
            ]
        )
    *thinkers, last = [asked(config, place) for place in places]
    _check(config, options, thinkers, last)
    accepted = Pairs(split_stage(config), pools_stage(config), reasons)
    rated = accepted if options.predictor_pairs == "accepted" else replace(accepted, reasons=None)
    control, evaluate = Component(config.control).object, config.dataset.evaluate
    reads_at_test = last.expert.objective.material != "labels"
    shown_at_test = control.histories(config, shown)

    def taught_by(own: Asked, pairs: Pairs) -> Pairs:
        needs_review = getattr(own.expert, "needs_review", False)
        return replace(pairs, reasons=own_reviews(config, own)) if needs_review else pairs

    def trained_on(own: Asked, pairs: Pairs, learnt: tuple[Thought, ...]) -> Training:
        behind = partial(_predictor_behind, options=options, place=own.place)
        lessons = StepLessons(own, shown, taught_by(own, pairs), learnt, _summarised(config, own), llm)
        if own.expert.objective.material == "labels":
            return distilling(config, lessons)
        return step_training(config, lessons, behind)

    learnt: tuple[Thought, ...] = ()  # what earlier steps wrote for the training pairs
    writers: list[tuple[Asked, Training]] = []
    for own in thinkers:
        trained, pairs = trained_on(own, accepted, learnt), taught_by(own, accepted)
        if options.reason_training == "crossfit":
            texts: Any = crossfit(
                config, own, shown, pairs, rated, learnt, _summarised(config, own), llm, options.folds
            )
        else:
            texts = Written(own, trained, shown, rated, learnt, llm, own.max_new_tokens)
        learnt += (Thought(own, texts),)
        writers.append((own, trained))
    met = learnt if reads_at_test or control.when == "always" else ()
    check_control(control, last.place, met, bool(config.timing.rows))
    if not isinstance(control, NoControl):
        label = f"{label}, {control.name.replace('_', ' ')}"
    read = control.thoughts(config, learnt) if control.when == "always" else learnt
    trained = trained_on(last, rated, read)

    def ratings(sample: int | None) -> Ratings:
        told: tuple[Thought, ...] = ()  # what earlier steps write for the rows to predict

        def written(own: Asked, trained: Training) -> Written:
            fields = own, trained, shown_at_test, evaluate, told, llm, own.max_new_tokens
            return Written(*fields) if sample is None else Sampled(*fields, options.temperature, sample, config.seed)

        for own, own_trained in writers:
            told += (Thought(own, written(own, own_trained)),)
        answers = written(last, trained) if isinstance(last.expert, Thinker) else None
        thoughts = control.thoughts(config, told) if reads_at_test else ()
        fields = last, trained, shown_at_test, evaluate, thoughts, answers
        if sample is None:
            return Ratings(*fields, label, llm)
        return SampledRatings(*fields, f"{label}, reason {sample}", llm, sample)

    if options.reasons == 1:
        return ratings(None)
    parts = [cast(SampledRatings, ratings(sample + 1)) for sample in range(options.reasons)]
    return AveragedRatings(tuple(parts), label)


def _summarised(config: Config, own: Asked) -> Histories | None:
    """The histories as summaries, for an expert that learns to write them."""
    return histories(config, "summaries") if getattr(own.expert, "needs_summaries", False) else None


def _check(config: Config, options: Options, thinkers: Sequence[Asked], last: Asked) -> None:
    """Refuse steps in an order that gives no rating, and options that the steps have no use for."""
    strategy = config.strategy
    writes = isinstance(last.expert, Thinker)
    if writes and not isinstance(last.expert, ThinkingRater):
        raise ConfigError([f"strategy={strategy.name}: its last step, {last.place}, gives no rating"])
    for own in thinkers:
        if not isinstance(own.expert, Thinker):
            raise ConfigError([f"strategy={strategy.name}: {own.place} rates, so no step can follow it"])
    problems = []
    if options.predictor_pairs == "all" and last.expert.needs_reason:
        problems.append(
            f"method.predictor_pairs=all: {last.place}, the last step of strategy={strategy.name}, learns to write "
            "reasons, so it needs pairs that have one; take accepted"
        )
    if options.reason_training == "crossfit" and not thinkers:
        problems.append(f"method.reason_training=crossfit: {last.place} reads no reason of an earlier step; take own")
    further = [
        own.place for own in thinkers if own.expert.objective.starts_from or own.expert.objective.material != "lessons"
    ]
    if options.reason_training == "crossfit" and further:
        problems.append(
            f"method.reason_training=crossfit: the experts of the folds learn by sft alone, and "
            f"experts.{further[0]}.objective is another; take own"
        )
    distilled = last.expert.objective.material == "labels"
    if distilled and not thinkers:
        problems.append(
            f"experts.{last.place}.objective: learns the ratings that {last.place} gives when it reads reasons, and "
            "here no earlier step writes any; take strategy=distilled with a reason_source, or another objective"
        )
    if options.reasons > 1 and (distilled or not (thinkers or writes)):
        problems.append(f"method.reasons={options.reasons}: {last.place} rates without any reason; take 1")
    if options.reasons > 1 and config.timing.rows:
        problems.append(f"method.reasons={options.reasons}: predictions by several reasons are not timed; timing=none")
    if problems:
        raise ConfigError(problems)


def _predictor_behind(config: Config, options: Options, place: str) -> Frozen:
    """The strategy's last step, trained on what the step before it, of this place, writes.

    Raises:
        ConfigError: no step rates what that one writes.
    """
    final = predictions_stage(config, replace(options, reasons=1))
    assert isinstance(final, Ratings)
    if final.answers is not None or not final.thoughts or final.thoughts[-1].expert.place != place:
        raise ConfigError(
            [
                f"experts.{place}.objective.rewards: strategy={config.strategy.name} has no Predictor right behind "
                f"{place} whose error could be its reward; take another reward"
            ]
        )
    return Frozen(final.expert, final.trained)
