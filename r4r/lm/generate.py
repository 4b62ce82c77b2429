"""Batched generation: the prefix that all prompts share is computed once, finished rows leave the batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from r4r.lm.base import LanguageModel
from r4r.lm.batches import common_prefix, pad
from r4r.lm.cache import extend, forward_prefix
from r4r.lm.decoding import steps


@torch.inference_mode()
def generate(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 0.0,
    seeds: Sequence[int] = (),
) -> list[list[int]]:
    """New token ids of each prompt, end-of-turn token included where it was reached.

    Args:
        prompts: token ids, one batch.
        temperature: 0 takes the likeliest token each time; above, each row samples by its own seed, so that its text
            does not depend on the batch that it is in.
        seeds: one a prompt; needed above a temperature of 0.
    """
    chances = _chances(seeds, max_new_tokens, lm.device) if temperature > 0 else None
    shared = min(common_prefix(prompts), min(len(p) for p in prompts) - 1) if lm.shares_prefixes else 0
    cache = forward_prefix(lm, [list(prompts[0][:shared])], rows=len(prompts)) if shared else None
    ids, mask = pad([p[shared:] for p in prompts], "left", lm.device)
    if cache is not None:
        mask = torch.cat([cache.mask, mask], dim=1)
    out: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # which prompt each row of the cache belongs to
    writing = torch.ones(len(prompts), dtype=torch.bool)
    hidden, cache = extend(lm, cache, ids, mask)
    logits = lm.logits(hidden[:, -1])
    decoding = steps(lm, cache, max_new_tokens - 1)
    del cache  # the steps have their own copy where they are recorded
    for step in range(max_new_tokens):
        tokens = logits.argmax(dim=-1) if chances is None else _sample(logits / temperature, chances[rows, step])
        for place, token in enumerate(tokens.tolist()):
            if writing[place]:
                out[rows[place]].append(token)
                writing[place] = token not in lm.chat.end_ids
        if step + 1 == max_new_tokens or not writing.any():
            break
        if writing.sum() <= decoding.shrink_at * len(rows):
            kept = writing.nonzero().flatten().tolist()
            rows = [rows[place] for place in kept]
            decoding = decoding.keep(kept)
            tokens = tokens[kept]
            writing = writing[kept]
        logits = decoding.next(tokens)
    return out


def _chances(seeds: Sequence[int], steps: int, device: torch.device) -> Tensor:
    """A number in [0, 1) for each row and step: [rows, steps]."""
    drawn = [torch.rand(steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
    return torch.stack(drawn).to(device)


def _sample(logits: Tensor, chances: Tensor) -> Tensor:
    """The token at which the cumulated probability passes the row's number: [rows, vocabulary], [rows] -> [rows]."""
    reached = logits.double().softmax(dim=-1).cumsum(dim=-1)
    token = torch.searchsorted(reached, chances[:, None] * reached[:, -1:], right=True)
    return token.flatten().clamp(max=logits.shape[-1] - 1)
