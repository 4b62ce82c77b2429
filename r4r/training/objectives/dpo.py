"""Preference learning: the accepted reason against a rejected one of the same pair (DPO, arXiv 2305.18290)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from r4r.errors import TrainingError
from r4r.lm.base import LanguageModel
from r4r.lm.engine import HF
from r4r.lm.loss import Example
from r4r.training.likelihood import frozen_logps, likelihood
from r4r.training.objectives.base import Material, Onward, encode
from r4r.training.switching import set_aside

Loss = Literal["sigmoid", "sigmoid_norm", "ipo"]


@dataclass(frozen=True)
class Preference:
    """A prompt with a better and a worse answer.

    Attributes:
        reference: log-likelihood of both answers, summed over their tokens, by the reference; None: not yet known.
    """

    chosen: Example
    rejected: Example
    reference: tuple[float, float] | None = None

    def __len__(self) -> int:
        return 2 * max(len(self.chosen), len(self.rejected))


class DPO(Onward):
    """The likelihood of the chosen answer is raised over that of the rejected one, measured against a reference.

    Losses and their names are those of TRL, whose DPOTrainer gives the same numbers.
    """

    material: ClassVar[Material] = "preferences"

    def __init__(
        self,
        loss: Loss = "sigmoid",
        beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1,
        margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0,
        start: Literal["sft", "none"] = "sft",
        lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
        lr_share: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
        epochs: Annotated[int, Field(ge=1)] | None = None,
        batch_size: Annotated[int, Field(ge=1)] | None = None,
        warmup: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None,
    ):
        """
        Args:
            loss: sigmoid (DPO); sigmoid_norm, the same of mean log-likelihoods a token; ipo (arXiv 2310.12036), of
                means likewise.
            beta: strength of the pull towards the reference.
            margin: how much better than the rejected answer the chosen one must be, in the units of what ranked them
                (s_eval: rating points), for the two to be learnt from.
            start, lr, lr_share, epochs, batch_size, warmup: as of Onward.
        """
        super().__init__(start, lr, lr_share, epochs, batch_size, warmup)
        self.kind, self.beta, self.margin = loss, beta, margin

    def encode(self, lm: LanguageModel, texts: Sequence[tuple[int, str, tuple[str, str]]]) -> list[Any]:
        sides = [encode(lm, [(row_id, prompt, both[side]) for row_id, prompt, both in texts]) for side in (0, 1)]
        for (row_id, _, _), chosen, rejected in zip(texts, *sides, strict=True):
            if chosen.response == rejected.response:
                raise TrainingError(f"row {row_id}: the chosen answer is the rejected one, token by token")
        return [Preference(chosen, rejected) for chosen, rejected in zip(*sides, strict=True)]

    def gather(self, examples: Sequence[Preference], step: int) -> tuple[Sequence[Preference], float]:
        around = self.around
        both = [answer for example in examples for answer in (example.chosen, example.rejected)]
        with set_aside(around.lm, around.adapter), around.lm.using(around.reference):
            logps = [sum(row) for row in frozen_logps(around.lm, both, HF(around.lm).batch_tokens)]
        known = [replace(example, reference=(logps[2 * n], logps[2 * n + 1])) for n, example in enumerate(examples)]
        return known, float(len(known))

    def weight(self, example: Preference) -> float:
        return 1.0

    def loss(self, lm: LanguageModel, examples: Sequence[Preference]) -> Tensor:
        answers = [e.chosen for e in examples] + [e.rejected for e in examples]
        found = likelihood(lm, answers)
        logps, lengths = found.logps.sum(dim=1), found.mask.sum(dim=1)
        references = [side for e in examples for side in (e.reference or (0.0, 0.0))]
        reference = torch.tensor(references, device=logps.device).view(-1, 2).T.reshape(-1)
        losses = preference_loss(self.kind, self.beta, logps, reference, lengths)
        chosen, rejected = (self.beta * (logps - reference).detach()).chunk(2)
        self.meter.add("reward_chosen", chosen.tolist())
        self.meter.add("reward_rejected", rejected.tolist())
        self.meter.add("margin/", (chosen - rejected).tolist())
        self.meter.add("accuracy", (chosen > rejected).float().tolist())
        return losses.sum()


def preference_loss(kind: Loss, beta: float, logps: Tensor, reference: Tensor, lengths: Tensor) -> Tensor:
    """The loss of each pair, [pairs].

    Args:
        logps: summed log-likelihoods of all chosen answers, then of all rejected ones, [2 * pairs].
        reference: the same by the reference.
        lengths: tokens of the answers.
    """
    ratios = logps - reference
    if kind != "sigmoid":
        ratios = ratios / lengths.clamp(min=1.0)
    chosen, rejected = ratios.chunk(2)
    if kind == "ipo":
        return (chosen - rejected - 1 / (2 * beta)) ** 2
    return -logsigmoid(beta * (chosen - rejected))
