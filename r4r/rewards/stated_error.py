"""How close the rating that an answer states is to the true one (arXiv 2510.23077)."""

from collections.abc import Sequence
from typing import Any

from r4r.reasons.rating import parse_rating
from r4r.rewards.base import Bench, Known, Reward
from r4r.scale import Scale
from r4r.training.objectives.rollouts import Answer


class StatedError(Reward):
    """1 - |error| / largest error. An answer that states no rating on the scale counts as the largest error."""

    def misfit(self, expert: Any) -> str:
        if hasattr(expert, "stated"):
            return ""
        return "its ratings are read off the logits, and not off its answers" if expert.rates else "it states no rating"

    def worst(self, scale: Scale) -> float:
        return 0.0

    def rewards(self, answers: Sequence[Answer], known: Sequence[Known], bench: Bench) -> Sequence[float | None]:
        found: list[float | None] = []
        for answer, pair in zip(answers, known, strict=True):
            scale = pair.case.scale
            stated = parse_rating(bench.expert.stated(answer.text), scale)
            span = scale.highest - scale.lowest
            found.append(None if stated is None else 1 - abs(pair.rating - stated) / span)
        return found
