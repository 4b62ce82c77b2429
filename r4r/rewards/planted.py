"""Whether a reason is true, by what the simulated world planted: to watch what other rewards do to the truth."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from r4r.rewards.base import Bench, Known, Reward
from r4r.scale import Scale
from r4r.training.objectives.rollouts import Answer


class Planted(Reward):
    """The planted truth of an answer, 0 to 1. With a weight of 0 it is measured at each step, but not rewarded."""

    needs: ClassVar[frozenset[str]] = frozenset({"planted"})

    def __init__(
        self,
        what: Literal["verdict", "claims"] = "verdict",
        weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0,
    ):
        """
        Args:
            what: verdict: 1 where it is on the side of the planted match; claims: the share of true claims on what the
                user cares about and what the item is good and bad at.
            weight: of this component in the sum.
        """
        self.what, self.weight = what, weight

    def worst(self, scale: Scale) -> float:
        return 0.0

    def rewards(self, answers: Sequence[Answer], known: Sequence[Known], bench: Bench) -> Sequence[float | None]:
        return list(bench.raters[f"planted_{self.what}"](known, [bench.expert.read(answer.text) for answer in answers]))
