"""The steps of writing: one more token of each row at a time, behind what is cached.

On a GPU a step of an 8B model is some thousand kernels, which Python launches more slowly than they run. Where that can
be, the step is recorded once as a CUDA graph and replayed for each token: over rooms of a fixed length, of which a mask
says how much is filled.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache as States
from transformers.cache_utils import DynamicLayer

from r4r.lm.base import LanguageModel
from r4r.lm.cache import Cache, extend, no_states, select
from r4r.lm.memory import is_out_of_memory
from r4r.progress import say

LEAST_STEPS = 8  # fewer are over before a recording has paid
Replay = Callable[[], Tensor]


class Steps(Protocol):
    """Rows that are being written.

    Attributes:
        shrink_at: rows that are finished leave when this share of them, or less, is still writing.
    """

    shrink_at: float

    def next(self, tokens: Tensor) -> Tensor:
        """Read the token of each row, [rows]; logits of the next one, [rows, vocabulary], float32."""

    def keep(self, rows: Sequence[int]) -> "Steps":
        """Go on with these rows alone (this object is consumed)."""


def steps(lm: LanguageModel, cache: Cache, most: int) -> Steps:
    """The steps behind a cache, which is consumed.

    Args:
        most: how many steps are to come.
    """
    if most >= LEAST_STEPS and lm.records_steps:
        try:
            return Recorded(lm, cache, most)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            cause = error.__context__ or error  # what the step asked for, and not what became of the recording
            first = (str(cause).strip().splitlines() or ["no detail"])[0]
            say(
                f"  a step of {lm.spec.name} cannot be recorded ({first}): written without, as by llm.cuda_graphs=false"
            )
            lm.records_steps = False
    return Growing(lm, cache)


class Growing:
    """Each step is computed as it comes."""

    shrink_at = 0.75

    def __init__(self, lm: LanguageModel, cache: Cache):
        self.lm, self.cache = lm, cache

    def next(self, tokens: Tensor) -> Tensor:
        mask = torch.cat([self.cache.mask, self.cache.mask.new_ones(len(tokens), 1)], dim=1)
        hidden, self.cache = extend(self.lm, self.cache, tokens[:, None], mask)
        return self.lm.logits(hidden[:, -1])

    def keep(self, rows: Sequence[int]) -> Steps:
        return Growing(self.lm, select(self.cache, rows))


class Recorded:
    """One step is recorded, and replayed for each token; for models with `shares_prefixes` alone.

    What a replay reads lies in tensors that stay where they are: the tokens, their positions, the place in the rooms
    that they go to, and the mask.
    """

    shrink_at = 0.5  # each time the rows become fewer, a step is recorded anew

    def __init__(self, lm: LanguageModel, cache: Cache, most: int):
        self.lm, self.most = lm, most
        rows, held = cache.mask.shape
        self.known = torch.cat([cache.mask, cache.mask.new_zeros(rows, most)], dim=1)
        self.held = held
        self.place = torch.tensor([held], device=lm.device)
        self.positions = cache.mask.sum(dim=1, keepdim=True)
        self.ids = torch.zeros((rows, 1), dtype=torch.long, device=lm.device)
        least = torch.finfo(lm.dtype).min
        self.mask = torch.full((rows, 1, 1, held + most), least, dtype=lm.dtype, device=lm.device)
        self.mask.masked_fill_(self.known.bool()[:, None, None], 0)
        self.mask.index_fill_(3, self.place, 0)
        layers: Any = cache.states.layers
        self.rooms: list[Any] = [Room(layer.keys, layer.values, most, self.place) for layer in layers]
        self.states = States(layers=self.rooms)
        self._replay = record(self._compute)

    def _compute(self) -> Tensor:
        out = self.lm.hidden(
            input_ids=self.ids,
            attention_mask=self.mask,
            position_ids=self.positions,
            use_cache=True,
            **{self.lm.cache_argument: self.states},
        )
        return self.lm.logits(out.last_hidden_state[:, -1])

    def next(self, tokens: Tensor) -> Tensor:
        self.ids.copy_(tokens[:, None])
        logits = self._replay()
        self.known[:, self.held] = 1
        self.held += 1
        self.place.add_(1)
        self.positions.add_(1)
        if self.held < self.mask.shape[3]:
            self.mask.index_fill_(3, self.place, 0)
        return logits

    def keep(self, rows: Sequence[int]) -> Steps:
        done = self.held
        most = self.known.shape[1] - done
        index = torch.tensor(rows, device=self.lm.device)
        states = no_states()
        for number, room in enumerate(self.rooms):
            keys, values = (kept[:, :, :done].index_select(0, index) for kept in (room.keys, room.values))
            states.update(keys, values, number)
        mask = self.known[:, :done].index_select(0, index)
        self.rooms, self.states, self._replay = [], None, None  # type: ignore[assignment]
        return steps(self.lm, Cache(states, mask), most)


class Room(DynamicLayer):
    """A layer's keys and values [rows, heads, length, size] with room to come; new ones go to `place`."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, more: int, place: Tensor):
        super().__init__()
        self.lazy_initialization(keys, values)
        self.place = place
        self.keys: Tensor
        self.values: Tensor
        self.keys, self.values = (
            torch.cat([held, held.new_zeros((*held.shape[:2], more, held.shape[3]))], dim=2) for held in (keys, values)
        )

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Put [rows, heads, 1, size] in its place; gives the whole rooms."""
        self.keys.index_copy_(2, self.place, key_states)
        self.values.index_copy_(2, self.place, value_states)
        return self.keys, self.values


def record(compute: Callable[[], Tensor]) -> Replay:
    """Record what is launched on a GPU, as a CUDA graph.

    Returns:
        What launches it again, on the same tensors, and gives the one that holds the result.
    """
    before, beside = torch.cuda.current_stream(), torch.cuda.Stream()
    beside.wait_stream(before)
    with torch.cuda.stream(beside):  # what kernels choose and allocate at first is no part of the recording
        compute()
        with _waiting_refused():
            compute()
    before.wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            result = compute()
    finally:
        torch.cuda.set_stream(before)  # where a recording fails, PyTorch leaves its own stream in place

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


@contextmanager
def _waiting_refused() -> Iterator[None]:
    """Refuse a step that waits for the GPU before it is recorded: a recording that breaks off may leave PyTorch's
    allocator and its random numbers as in a recording, and what comes later fails."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
