"""Self-distillation: a rating expert that reads no reason learns the ratings that it gives itself with reasons.

What is learnt at the rating's place is a mixture of the true rating and of the probabilities of the scale's values by
the expert that reads reasons (soft labels, arXiv 1503.02531), so that reasons help in training and cost nothing after.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from r4r.lm.base import LanguageModel
from r4r.lm.batches import pad
from r4r.lm.loss import Example
from r4r.lm.rating_tokens import RatingTokens, rating_tokens
from r4r.scale import Scale
from r4r.training.objectives.base import Material, Objective, encode
from r4r.training.objectives.sft import rating_places


@dataclass(frozen=True)
class Graded:
    """A rating to learn, and how likely each value of the scale is held to be.

    Attributes:
        response: the answer that states the true rating.
        probabilities: of the scale's values, in their order.
    """

    response: str
    probabilities: tuple[float, ...]
    scale: Scale


@dataclass(frozen=True)
class Labelled:
    """A lesson with its soft label.

    Attributes:
        form: places of the response's tokens that count in the loss and are not the rating's.
        rating: places of the tokens that spell the true rating.
        spelled: how the scale's values are spelled.
    """

    lesson: Example
    form: tuple[int, ...]
    rating: tuple[int, ...]
    probabilities: tuple[float, ...]
    spelled: RatingTokens

    @property
    def texts(self) -> list[tuple[int, ...]]:
        """Token ids of the lesson, which leads to the first point where the values part; and those up to each further
        such point."""
        head = (*self.lesson.prompt, *self.spelled.prefix)
        return [
            (*self.lesson.prompt, *self.lesson.response),
            *((*head, *branch.path) for branch in self.spelled.branches[1:]),
        ]

    def __len__(self) -> int:
        return len(self.spelled.branches) * max(map(len, self.texts))


class Distilled(Objective):
    """SFT, but that the rating's part in the loss is mixed with the cross-entropy to the soft label."""

    material: ClassVar[Material] = "labels"

    def __init__(
        self,
        soft_weight: Annotated[float, Field(ge=0, le=1)] = 0.5,
        loss_on: Literal["response", "digit"] = "response",
    ):
        """
        Args:
            soft_weight: of the soft label in the rating's part of the loss; the true rating has the rest. 0 is SFT.
            loss_on: as of SFT.
        """
        self.soft_weight, self.loss_on = soft_weight, loss_on

    def encode(self, lm: LanguageModel, texts: Sequence[tuple[int, str, Graded]]) -> list[Any]:
        lessons = encode(lm, [(row_id, prompt, graded.response) for row_id, prompt, graded in texts])
        labelled: list[Any] = []
        for lesson, (row_id, _, graded) in zip(lessons, texts, strict=True):
            rating = rating_places(lm, row_id, graded.response)
            form = () if self.loss_on == "digit" else tuple(n for n in lesson.places if n not in rating)
            spelled = rating_tokens(lm.chat, scale=graded.scale)
            labelled.append(Labelled(lesson, form, rating, graded.probabilities, spelled))
        return labelled

    def weight(self, example: Labelled) -> float:
        return float(len(example.form) + len(example.rating))

    def loss(self, lm: LanguageModel, examples: Sequence[Labelled]) -> Tensor:
        # Padding on the right is in no real token's past, so attention needs no mask, and its causal kernels run.
        ids, _ = pad([text for example in examples for text in example.texts], "right", lm.device)
        hidden = lm.hidden(input_ids=ids, use_cache=False).last_hidden_state
        branches = examples[0].spelled.branches
        firsts = [n * len(branches) for n in range(len(examples))]  # where each example's lesson stands
        hard = torch.zeros((), device=lm.device)
        for part, share in (("form", 1.0), ("rating", 1 - self.soft_weight)):
            learnt = [
                (row, e.lesson, place) for row, e in zip(firsts, examples, strict=True) for place in vars(e)[part]
            ]
            if learnt:
                at = [(row, len(lesson.prompt) - 1 + place) for row, lesson, place in learnt]
                labels = torch.tensor([lesson.response[place] for _, lesson, place in learnt], device=lm.device)
                hard = hard + share * cross_entropy(_logits(lm, hidden, at), labels, reduction="sum")
        ends = [len(e.lesson.prompt) + len(e.spelled.prefix) - 1 for e in examples]
        logits = [
            _logits(lm, hidden, [(row + n, end + len(branch.path)) for row, end in zip(firsts, ends, strict=True)])
            for n, branch in enumerate(branches)
        ]
        found = [each[:, list(branch.tokens)] for each, branch in zip(logits, branches, strict=True)]
        logps = examples[0].spelled.logps(found)
        labels = torch.tensor([e.probabilities for e in examples], device=lm.device)
        soft = -(labels * logps).sum(dim=1)
        entropy = -torch.special.xlogy(labels, labels).sum(dim=1)
        self.meter.add("soft_label_kl", (soft.detach() - entropy).tolist())
        return hard + self.soft_weight * soft.sum()


def _logits(lm: LanguageModel, hidden: Tensor, at: Sequence[tuple[int, int]]) -> Tensor:
    """Logits behind these tokens, [tokens, vocabulary]; each as its text's row and its place there."""
    rows, places = torch.tensor(at, device=lm.device).T
    return lm.logits(hidden[rows, places])
