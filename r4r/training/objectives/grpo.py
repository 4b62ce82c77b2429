"""Group-relative policy optimisation: answers are reinforced by how much better than their group's they are.

GRPO (arXiv 2402.03300), with the losses of Dr. GRPO (2503.20783), BNPO (2506.02864) and the clip of DAPO (2503.14476);
the ratio by tokens, or by sequences (GSPO, 2507.18071). SPEC section 8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from r4r.lm.base import LanguageModel
from r4r.lm.engine import HF
from r4r.lm.loss import Example
from r4r.training.likelihood import frozen_logps, likelihood
from r4r.training.objectives.rollouts import Rolling, Rollout

Loss = Literal["grpo", "dr_grpo", "bnpo"]
Ratio = Literal["token", "sequence"]
STEADY = 1e-4  # added to a group's standard deviation


class GRPO(Rolling):
    """Losses and their names are those of TRL, whose GRPOTrainer gives the same numbers.

    A group whose rewards are all equal has nothing to teach: it gives no gradient, not even by the pull towards the
    reference, but counts in the mean over answers.
    """

    def __init__(
        self,
        rewards: Mapping[str, Any],
        loss: Loss = "grpo",
        ratio: Ratio = "token",
        group: Annotated[int, Field(ge=2)] = 8,
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
        updates: Annotated[int, Field(ge=1)] = 1,
        clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2,
        clip_high: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.2,
        kl: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01,
        start: Literal["sft", "none"] = "sft",
        lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
        lr_share: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
        epochs: Annotated[int, Field(ge=1)] | None = None,
        batch_size: Annotated[int, Field(ge=1)] | None = None,
        warmup: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None,
    ):
        """
        Args:
            loss: grpo: mean over answers of their tokens' means, advantages in standard deviations of the group.
                bnpo: mean over all tokens of the step, so that long answers count more; likewise. dr_grpo: sum over
                tokens by the longest answer possible, advantages in units of the reward.
            ratio: of the new to the old likelihood: of each token, or of the whole answer (its mean a token).
            updates: optimizer steps on the same answers.
            clip_low, clip_high: how far below and above 1 the ratio counts; DAPO takes 0.28 above.
            kl: weight of the divergence from the reference (k3 estimator, a token); 0 computes none.
            rewards, group, temperature, start, lr, lr_share, epochs, batch_size, warmup: as of Rolling.
        """
        super().__init__(rewards, group, temperature, start, lr, lr_share, epochs, batch_size, warmup)
        self.kind, self.ratio, self.repeats, self.kl = loss, ratio, updates, kl
        self.clip = (clip_low, clip_high)

    def learn(
        self, answers: Sequence[Example], rewards: Sequence[float], groups: Sequence[Sequence[int]]
    ) -> tuple[list[Any], float]:
        around = self.around
        learnt = []
        for places in groups:
            own = [rewards[place] for place in places]
            if max(own) > min(own):
                for place, advantage in zip(places, advantages(own, self.kind != "dr_grpo"), strict=True):
                    learnt.append(Rollout(answers[place].prompt, answers[place].response, advantage=advantage))
        budget = HF(around.lm).batch_tokens
        if self.repeats > 1 and learnt:
            with around.lm.using(around.adapter):
                found = frozen_logps(around.lm, learnt, budget, self.temperature)
            learnt = [replace(rollout, old=logps) for rollout, logps in zip(learnt, found, strict=True)]
        if self.kl and learnt:
            with around.lm.using(around.reference):
                found = frozen_logps(around.lm, learnt, budget, self.temperature)
            learnt = [replace(rollout, reference=logps) for rollout, logps in zip(learnt, found, strict=True)]
        return learnt, sum(self.weight(answer) for answer in answers)

    def weight(self, example: Example) -> float:
        if self.kind == "dr_grpo":
            return float(self.room)
        return float(len(example.response)) if self.kind == "bnpo" else 1.0

    def encode(self, lm: LanguageModel, texts: Sequence[tuple[int, str, int]]) -> list[Any]:
        self.room = max((room for _, _, room in texts), default=0)
        return super().encode(lm, texts)

    def loss(self, lm: LanguageModel, examples: Sequence[Rollout]) -> Tensor:
        found = likelihood(lm, examples, self.temperature, entropy=True)
        device = found.logps.device
        old, reference = (_padded([getattr(e, name) for e in examples], device) for name in ("old", "reference"))
        scores = torch.tensor([e.advantage for e in examples], device=device)
        told = policy_loss(self.kind, self.ratio, self.clip, self.kl, found.logps, found.mask, scores, old, reference)
        tokens = float(found.mask.sum())
        self.meter.add_sum("entropy", found.entropy, tokens)
        self.meter.add_sum("clip_share", told.clipped, told.of)
        if reference is not None:
            self.meter.add_sum("kl", told.kl, tokens)
        return told.loss


class PolicyLoss(NamedTuple):
    """The loss summed over answers, and what it is made of.

    Attributes:
        clipped, of: ratios that the clip holds back, and how many there are.
        kl: summed over tokens.
    """

    loss: Tensor
    clipped: float
    of: float
    kl: float


def advantages(rewards: Sequence[float], by_deviation: bool) -> list[float]:
    """How much better than its group's mean each answer is, in standard deviations of the group or as it is."""
    values = torch.tensor(rewards, dtype=torch.float64)
    centred = values - values.mean()
    return (centred / (values.std() + STEADY) if by_deviation else centred).tolist()


def policy_loss(
    kind: Loss,
    ratio: Ratio,
    clip: tuple[float, float],
    kl: float,
    logps: Tensor,
    mask: Tensor,
    scores: Tensor,
    old: Tensor | None,
    reference: Tensor | None,
) -> PolicyLoss:
    """The clipped loss of answers, summed: over their means a token (grpo), or over their tokens.

    Args:
        logps: log-probability of each token, [answers, longest].
        mask: 1 where there is a token.
        scores: advantages, [answers].
        old: log-probabilities by the adapter that wrote the answers; None: the same one.
        reference: by the reference; None where `kl` is 0.
    """
    change = logps - (logps.detach() if old is None else old)
    lengths = mask.sum(dim=1, keepdim=True).clamp(min=1.0)
    if ratio == "sequence":
        change = (change * mask).sum(dim=1, keepdim=True) / lengths
    new, score = change.exp(), scores[:, None]
    held = new.clamp(1 - clip[0], 1 + clip[1])
    losses = -torch.min(new * score, held * score).expand_as(logps)
    where = mask if ratio == "token" else torch.ones_like(new)
    outside = ((new < 1 - clip[0]) & (score < 0)) | ((new > 1 + clip[1]) & (score > 0))
    spent = 0.0
    if reference is not None:
        away = reference - logps
        divergence = away.exp() - away - 1
        losses = losses + kl * divergence
        spent = float((divergence.detach() * mask).sum())
    summed = (losses * mask).sum(dim=1)
    loss = (summed / lengths[:, 0]).sum() if kind == "grpo" else summed.sum()
    return PolicyLoss(loss, float((outside * where).sum()), float(where.sum()), spent)


def _padded(rows: Sequence[tuple[float, ...] | None], device: torch.device) -> Tensor | None:
    known = [row for row in rows if row is not None]
    return pad_sequence([torch.tensor(row, device=device) for row in known], batch_first=True) if known else None
