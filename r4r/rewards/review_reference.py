"""How close a reason comes to the target's review in the Reward Model's eyes (paper 3.4)."""

from collections.abc import Sequence
from typing import ClassVar

from r4r.rewards.base import Bench, Known, Reward
from r4r.scale import Scale
from r4r.training.objectives.rollouts import Answer


class ReviewReference(Reward):
    """Minus s_eval of Algorithm 1: the Reward Model's error given the review, less its error given the reason."""

    needs: ClassVar[frozenset[str]] = frozenset({"reward_model"})

    def worst(self, scale: Scale) -> float:
        return scale.lowest - scale.highest

    def rewards(self, answers: Sequence[Answer], known: Sequence[Known], bench: Bench) -> Sequence[float | None]:
        texts = [bench.expert.read(answer.text) for answer in answers]
        pairs = {pair.case.row_id: pair for pair in known}
        rated = bench.raters["reward_model"]([*known, *pairs.values()], [*texts, *(p.review for p in pairs.values())])
        by_reason, by_review = rated[: len(texts)], dict(zip(pairs, rated[len(texts) :], strict=True))
        return [
            abs(pair.rating - by_review[pair.case.row_id]) - abs(pair.rating - rating) if text else None
            for pair, text, rating in zip(known, texts, by_reason, strict=True)
        ]
