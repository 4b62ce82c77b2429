"""Logit-weighted decoding: one forward pass over prompt and rating prefix, the five digits' logits (paper 3.3)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from r4r.lm.base import LanguageModel
from r4r.lm.batches import common_prefix, pad
from r4r.lm.cache import Cache, extend, forward_prefix, select
from r4r.lm.rating_tokens import RATINGS, RatingTokens, rating_tokens


@torch.inference_mode()
def rate(lm: LanguageModel, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Probabilities of the ratings 1 to 5 for one batch of prompts (ids up to the reply): [prompts, 5], float32."""
    prefix = rating_tokens(lm.chat).prefix
    return rate_next(lm, [(*p, *prefix) for p in prompts])


@torch.inference_mode()
def rate_next(lm: LanguageModel, encoded: Sequence[Sequence[int]]) -> Tensor:
    """The same for ids that run up to where the digit of the rating stands."""
    # Padding on the right is in no real token's past, so attention needs no mask, and its causal kernels run.
    ids, _ = pad(encoded, "right", lm.device)
    hidden = lm.hidden(input_ids=ids, use_cache=False).last_hidden_state
    last = torch.tensor([len(row) - 1 for row in encoded], device=lm.device)
    return _probabilities(lm, hidden[torch.arange(len(encoded), device=lm.device), last], rating_tokens(lm.chat))


class SharedPrefix:
    """Prompts of several pairs whose beginnings are computed once and rated many times over.

    Built from each pair's prompt; a later prompt of the same pair is read from where it departs from that one.
    """

    def __init__(self, lm: LanguageModel, prompts: Sequence[Sequence[int]], keep: Sequence[int]):
        """
        Args:
            prompts: one prompt a pair.
            keep: how many leading tokens of each to hold.
        """
        self.lm = lm
        self.prefixes = [list(p[:k]) for p, k in zip(prompts, keep, strict=True)]
        with torch.inference_mode():
            self.cache = forward_prefix(lm, self.prefixes)

    @property
    def nbytes(self) -> int:
        """Memory that the held prefixes take."""
        layers: Any = self.cache.states.layers
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)

    @torch.inference_mode()
    def rate(self, pairs: Sequence[int], prompts: Sequence[Sequence[int]]) -> Tensor:
        """Probabilities [prompts, 5] of these prompts, each belonging to the pair of that index."""
        spelled = rating_tokens(self.lm.chat)
        cache = select(self.cache, pairs)
        width = cache.mask.shape[1]
        mask = cache.mask.clone()
        rest = []
        for row, (pair, prompt) in enumerate(zip(pairs, prompts, strict=True)):
            shared = common_prefix([self.prefixes[pair], list(prompt)])
            mask[row, width - len(self.prefixes[pair]) + shared :] = 0  # cached tokens that this prompt has not
            rest.append([*prompt[shared:], *spelled.prefix])
        ids, new = pad(rest, "right", self.lm.device)
        last = new.sum(dim=1) - 1
        hidden, _ = extend(self.lm, Cache(cache.states, mask), ids, torch.cat([mask, new], dim=1))
        chosen = hidden[torch.arange(len(rest), device=last.device), last]
        return _probabilities(self.lm, chosen, spelled)


def _probabilities(lm: LanguageModel, hidden: Tensor, spelled: RatingTokens) -> Tensor:
    return lm.logits(hidden)[:, list(spelled.digits)].softmax(dim=-1).cpu()


def decode(probabilities: Tensor) -> dict[str, Tensor]:
    """Mean (the paper's, best for RMSE), median and mode (best for MAE) of [n, 5] probabilities: each [n], float64."""
    p = probabilities.double()
    ratings = torch.tensor(RATINGS, dtype=torch.float64)
    median = (p.cumsum(dim=1) >= 0.5).int().argmax(dim=1)
    return {"mean": p @ ratings, "median": ratings[median], "mode": ratings[p.argmax(dim=1)]}
