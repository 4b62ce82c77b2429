"""A soft limit of an answer's length (arXiv 2503.14476)."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from r4r.rewards.base import Bench, Known, Reward
from r4r.scale import Scale
from r4r.training.objectives.rollouts import Answer


class Length(Reward):
    """0 for an answer that leaves room, then falling in a line to -1 for one that takes all its room."""

    def __init__(
        self,
        weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
        buffer: Annotated[float, Field(gt=0, le=1)] = 0.25,
    ):
        """
        Args:
            weight: of this component in the sum.
            buffer: share of max_new_tokens, at its end, in which the reward falls.
        """
        super().__init__(weight)
        self.buffer = buffer

    def worst(self, scale: Scale) -> float:
        return -1.0

    def rewards(self, answers: Sequence[Answer], known: Sequence[Known], bench: Bench) -> Sequence[float | None]:
        free = [answer.room * (1 - self.buffer) for answer in answers]
        return [-max(0.0, answer.tokens - own) / (answer.room - own) for answer, own in zip(answers, free, strict=True)]
