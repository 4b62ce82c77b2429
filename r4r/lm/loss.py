"""The language-model loss on response tokens only, with logits computed nowhere else."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from r4r.lm.base import LanguageModel
from r4r.lm.batches import pad


@dataclass(frozen=True)
class Example:
    """A training text as token ids: what is read, and what is learnt.

    Attributes:
        learnt: places of the response tokens that count in the loss; None: all of them.
    """

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    learnt: tuple[int, ...] | None = None

    @property
    def places(self) -> Sequence[int]:
        """Places in the response of the tokens that count in the loss."""
        return range(len(self.response)) if self.learnt is None else self.learnt

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


def response_loss(lm: LanguageModel, examples: Sequence[Example]) -> Tensor:
    """Summed cross-entropy over the learnt response tokens of all examples: a scalar, float32."""
    # Padding on the right is in no real token's past, so attention needs no mask, and its causal kernels run.
    ids, _ = pad([(*e.prompt, *e.response) for e in examples], "right", lm.device)
    hidden = lm.hidden(input_ids=ids, use_cache=False).last_hidden_state
    rows = [n for n, e in enumerate(examples) for _ in e.places]
    places = [len(e.prompt) - 1 + place for e in examples for place in e.places]
    labels = torch.tensor([e.response[place] for e in examples for place in e.places], device=lm.device)
    chosen = hidden[torch.tensor(rows, device=lm.device), torch.tensor(places, device=lm.device)]
    return cross_entropy(lm.logits(chosen), labels, reduction="sum")
