"""A key-value cache of a batch with its mask: computed once, copied to rows, cut, extended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache as States
from transformers.cache_utils import DynamicLayer

from r4r.lm.architecture import own_cache
from r4r.lm.base import LanguageModel
from r4r.lm.batches import pad

AHEAD = 64  # tokens


class RoomyLayer(DynamicLayer):
    """Keeps room for the tokens to come, where transformers' copies all that it holds for each new one.

    The first tokens take what they need; room is made from the next ones on, so that a held prefix has none.
    """

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add [rows, heads, new, size]; gives all so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._rooms = [key_states, value_states]
            self.keys, self.values = key_states, value_states
            return key_states, value_states
        held = self.get_seq_length()
        length = held + key_states.shape[2]
        for place, new in enumerate((key_states, value_states)):
            room = self._rooms[place]
            if length > room.shape[2]:
                self._rooms[place] = room.new_empty((*room.shape[:2], length + AHEAD, room.shape[3]))
                self._rooms[place][:, :, :held] = room[:, :, :held]
            self._rooms[place][:, :, held:length] = new
        keys, values = (room[:, :, :length] for room in self._rooms)
        self.keys, self.values = keys, values
        return keys, values


@dataclass
class Cache:
    """Keys and values of the tokens so far; `mask` [rows, tokens] is 0 where a token is padding or ruled out."""

    states: States
    mask: Tensor


def forward_prefix(lm: LanguageModel, prefixes: Sequence[Sequence[int]], rows: int | None = None) -> Cache:
    """Compute the cache of the prefixes, padded on the left; one prefix may be copied to many rows.

    For models with `shares_prefixes` alone.
    """
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
    states = cache.states if cache else no_states() if lm.shares_prefixes else own_cache(lm.causal)
    out = lm.hidden(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        use_cache=True,
        **{lm.cache_argument: states},
    )
    return out.last_hidden_state, Cache(states, mask)


def select(cache: Cache, rows: Sequence[int]) -> Cache:
    """A cache of these rows, in this order; a row may be taken more than once. Where layers hold more than keys and
    values, the old cache is consumed."""
    index = torch.tensor(rows, device=cache.mask.device)
    mask = cache.mask.index_select(0, index)
    layers: Any = cache.states.layers
    if any(type(layer) is not RoomyLayer for layer in layers):
        cache.states.reorder_cache(index)  # type: ignore[arg-type]
        return Cache(cache.states, mask)
    states = no_states()
    for number, layer in enumerate(layers):
        states.update(layer.keys.index_select(0, index), layer.values.index_select(0, index), number)
    return Cache(states, mask)


def cut(cache: Cache, tokens: int) -> Cache:
    """The cache without its last tokens (it is consumed)."""
    layers: Any = cache.states.layers
    for layer in layers:
        layer.keys, layer.values = layer.keys[:, :, :-tokens], layer.values[:, :, :-tokens]
    return Cache(cache.states, cache.mask[:, :-tokens])


def no_states() -> States:
    """A cache without tokens, for models with `shares_prefixes`."""
    return States(layer_class_to_replicate=RoomyLayer)
