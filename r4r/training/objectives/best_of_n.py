"""Rejection sampling: of each prompt's answers the best one is learnt, in rounds (RAFT, arXiv 2304.06767)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from r4r.lm.base import LanguageModel
from r4r.lm.loss import Example, response_loss
from r4r.training.objectives.rollouts import Rolling


class BestOfN(Rolling):
    """Each optimizer step is a round: the adapter as it is answers the step's prompts, and learns the best answers.

    Of answers that are rewarded alike the first is the best one; a prompt whose answers are all rewarded alike is left
    out of the round, which is counted.
    """

    def __init__(
        self,
        rewards: Mapping[str, Any],
        group: Annotated[int, Field(ge=2)] = 8,
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
        start: Literal["sft", "none"] = "sft",
        lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
        lr_share: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
        epochs: Annotated[int, Field(ge=1)] | None = None,
        batch_size: Annotated[int, Field(ge=1)] | None = None,
        warmup: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None,
    ):
        """
        Args:
            rewards, group, temperature, start, lr, lr_share, epochs, batch_size, warmup: as of Rolling.
        """
        super().__init__(rewards, group, temperature, start, lr, lr_share, epochs, batch_size, warmup)

    def learn(
        self, answers: Sequence[Example], rewards: Sequence[float], groups: Sequence[Sequence[int]]
    ) -> tuple[list[Any], float]:
        learnt = []
        for places in groups:
            best = max(places, key=lambda place: rewards[place])
            if rewards[best] > min(rewards[place] for place in places):
                learnt.append(answers[best])
                self.meter.add("reward_of_best", [rewards[best]])
        return learnt, sum(self.weight(answer) for answer in learnt)

    def weight(self, example: Example) -> float:
        return float(len(example.response))

    def loss(self, lm: LanguageModel, examples: Sequence[Example]) -> Tensor:
        return response_loss(lm, examples)
