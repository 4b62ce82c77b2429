"""How well the frozen Predictor tells the rating, given the reason (SPEC section 8)."""

from collections.abc import Sequence
from typing import ClassVar

from r4r.rewards.base import Bench, Known, Reward
from r4r.scale import Scale
from r4r.training.objectives.rollouts import Answer


class RatingError(Reward):
    """Minus the Predictor's absolute error, in rating points. The Predictor is the one behind the SFT adapter."""

    needs: ClassVar[frozenset[str]] = frozenset({"predictor"})

    def worst(self, scale: Scale) -> float:
        return scale.lowest - scale.highest

    def rewards(self, answers: Sequence[Answer], known: Sequence[Known], bench: Bench) -> Sequence[float | None]:
        texts = [bench.expert.read(answer.text) for answer in answers]
        ratings = bench.raters["predictor"](known, texts)
        return [
            -abs(pair.rating - rating) if text else None
            for pair, text, rating in zip(known, texts, ratings, strict=True)
        ]
