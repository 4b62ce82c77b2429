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
    """A training text as token ids: what is read, and what is learnt."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


def response_loss(lm: LanguageModel, examples: Sequence[Example]) -> Tensor:
    """Summed cross-entropy over the response tokens of all examples: a scalar, float32."""
    # Padding on the right is in no real token's past, so attention needs no mask, and its causal kernels run.
    ids, _ = pad([(*e.prompt, *e.response) for e in examples], "right", lm.device)
    hidden = lm.hidden(input_ids=ids, use_cache=False).last_hidden_state
    rows = [n for n, e in enumerate(examples) for _ in e.response]
    places = [len(e.prompt) - 1 + step for e in examples for step in range(len(e.response))]
    labels = torch.tensor([token for e in examples for token in e.response], device=lm.device)
    chosen = hidden[torch.tensor(rows, device=lm.device), torch.tensor(places, device=lm.device)]
    return cross_entropy(lm.logits(chosen), labels, reduction="sum")
