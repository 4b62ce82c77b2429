"""Logit-weighted decoding: one forward pass over prompt and rating prefix, the values' logits (paper 3.3).

Where a scale's values do not part at their first token alone (half stars, 1 to 10), each further point where they part
is read too, behind the keys and values of the prompt.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from r4r.lm.base import LanguageModel
from r4r.lm.batches import common_prefix, pad
from r4r.lm.cache import Cache, cut, extend, forward_prefix, select
from r4r.lm.rating_tokens import RatingTokens, rating_tokens
from r4r.scale import PAPER, Scale


@torch.inference_mode()
def rate(lm: LanguageModel, prompts: Sequence[Sequence[int]], scale: Scale = PAPER) -> Tensor:
    """Probabilities of the scale's values for a batch of prompts (ids up to the reply): [prompts, values], float32."""
    prefix = rating_tokens(lm.chat, scale=scale).prefix
    return rate_next(lm, [(*p, *prefix) for p in prompts], scale)


@torch.inference_mode()
def rate_next(lm: LanguageModel, encoded: Sequence[Sequence[int]], scale: Scale = PAPER) -> Tensor:
    """The same for ids that run up to where the value of the rating stands (`rating_tokens(...).prefix` read)."""
    spelled = rating_tokens(lm.chat, scale=scale)
    if len(spelled.branches) == 1:
        return spelled.probabilities([_whole(lm, encoded, spelled.branches[0].tokens)]).cpu()
    if not lm.shares_prefixes:
        found = [_whole(lm, [(*row, *b.path) for row in encoded], b.tokens) for b in spelled.branches]
        return spelled.probabilities(found).cpu()
    ids, mask = pad(encoded, "right", lm.device)
    hidden, cache = extend(lm, None, ids, mask)
    return _branch_by_branch(lm, spelled, _last(hidden, mask), cache)


def _whole(lm: LanguageModel, encoded: Sequence[Sequence[int]], tokens: Sequence[int]) -> Tensor:
    """Logits of these tokens behind each row: [rows, tokens]."""
    # Padding on the right is in no real token's past, so attention needs no mask, and its causal kernels run.
    ids, mask = pad(encoded, "right", lm.device)
    hidden = lm.hidden(input_ids=ids, use_cache=False).last_hidden_state
    return lm.logits(_last(hidden, mask))[:, list(tokens)]


def _last(hidden: Tensor, mask: Tensor) -> Tensor:
    """Of right-padded rows [rows, width, hidden], each one's last token's: [rows, hidden]."""
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]


def _branch_by_branch(lm: LanguageModel, spelled: RatingTokens, last: Tensor, cache: Cache) -> Tensor:
    """The values' probabilities, out of the state at the first branch and the cache behind it."""
    first, *further = spelled.branches
    found = [lm.logits(last)[:, list(first.tokens)]]
    rows = len(last)
    for branch in further:
        ids = torch.tensor([branch.path] * rows, device=lm.device)
        mask = torch.cat([cache.mask, cache.mask.new_ones(ids.shape)], dim=1)
        hidden, grown = extend(lm, cache, ids, mask)
        found.append(lm.logits(hidden[:, -1])[:, list(branch.tokens)])
        cache = cut(grown, len(branch.path))
    return spelled.probabilities(found).cpu()


class SharedPrefix:
    """Prompts of several pairs whose beginnings are computed once and rated many times over.

    Built from each pair's prompt; a later prompt of the same pair is read from where it departs from that one. Where
    the model's cache cannot be taken up in its middle (recurrent layers, windows), every prompt is read whole.
    """

    def __init__(self, lm: LanguageModel, prompts: Sequence[Sequence[int]], keep: Sequence[int]):
        """
        Args:
            prompts: one prompt a pair.
            keep: how many leading tokens of each to hold.
        """
        self.lm = lm
        self.prefixes = [list(p[:k]) for p, k in zip(prompts, keep, strict=True)]
        self.cache: Cache | None = None
        if lm.shares_prefixes:
            with torch.inference_mode():
                self.cache = forward_prefix(lm, self.prefixes)

    @property
    def nbytes(self) -> int:
        """Memory that the held prefixes take."""
        layers: Any = self.cache.states.layers if self.cache else ()
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)

    @torch.inference_mode()
    def rate(self, pairs: Sequence[int], prompts: Sequence[Sequence[int]], scale: Scale = PAPER) -> Tensor:
        """Probabilities [prompts, values] of these prompts, each belonging to the pair of that index."""
        if self.cache is None:
            return rate(self.lm, prompts, scale)
        spelled = rating_tokens(self.lm.chat, scale=scale)
        cache = select(self.cache, pairs)
        width = cache.mask.shape[1]
        mask = cache.mask.clone()
        rest = []
        for row, (pair, prompt) in enumerate(zip(pairs, prompts, strict=True)):
            shared = common_prefix([self.prefixes[pair], list(prompt)])
            mask[row, width - len(self.prefixes[pair]) + shared :] = 0  # cached tokens that this prompt has not
            rest.append([*prompt[shared:], *spelled.prefix])
        ids, new = pad(rest, "right", self.lm.device)
        hidden, grown = extend(self.lm, Cache(cache.states, mask), ids, torch.cat([mask, new], dim=1))
        return _branch_by_branch(self.lm, spelled, _last(hidden, new), grown)


def decode(probabilities: Tensor, scale: Scale = PAPER) -> dict[str, Tensor]:
    """Mean (the paper's, best for RMSE), median and mode (best for MAE) of [n, values] probabilities: each [n],
    float64, in the scale's own points."""
    p = probabilities.double()
    values = torch.tensor(scale.values, dtype=torch.float64)
    median = (p.cumsum(dim=1) >= 0.5).int().argmax(dim=1)
    return {"mean": p @ values, "median": values[median], "mode": values[p.argmax(dim=1)]}
