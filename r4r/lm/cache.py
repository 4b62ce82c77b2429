"""A key-value cache of a batch with its mask: computed once, copied to rows, cut, extended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from r4r.lm.base import LanguageModel
from r4r.lm.batches import pad


@dataclass
class Cache:
    """Keys and values of the tokens so far; `mask` [rows, tokens] is 0 where a token is padding or ruled out."""

    states: DynamicCache
    mask: Tensor


def forward_prefix(lm: LanguageModel, prefixes: Sequence[Sequence[int]], rows: int | None = None) -> Cache:
    """Compute the cache of the prefixes, padded on the left; one prefix may be copied to many rows."""
    ids, mask = pad(prefixes, "left", lm.device)
    _, cache = extend(lm, None, ids, mask)
    return cache if rows is None else select(cache, [0] * rows)


def extend(lm: LanguageModel, cache: Cache | None, ids: Tensor, mask: Tensor) -> tuple[Tensor, Cache]:
    """Read more tokens behind the cache.

    Args:
        ids: [rows, new].
        mask: [rows, cached + new].

    Returns:
        The new tokens' hidden states [rows, new, hidden], and the cache grown by them (the old one is consumed).
    """
    new = ids.shape[1]
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -new:]
    out = lm.hidden(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=DynamicCache() if cache is None else cache.states,
        use_cache=True,
    )
    return out.last_hidden_state, Cache(out.past_key_values, mask)


def select(cache: Cache, rows: Sequence[int]) -> Cache:
    """A new cache of these rows, in this order; a row may be taken more than once."""
    index = torch.tensor(rows, device=cache.mask.device)
    states = DynamicCache()
    layers: Any = cache.states.layers
    for number, layer in enumerate(layers):
        states.update(layer.keys.index_select(0, index), layer.values.index_select(0, index), number)
    return Cache(states, cache.mask.index_select(0, index))
