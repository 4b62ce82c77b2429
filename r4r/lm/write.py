"""Texts for prompts: encode, batch by length, generate, decode."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from r4r.errors import ModelError
from r4r.lm.engine import Engine


@dataclass(frozen=True)
class Written:
    text: str
    tokens_in: int
    tokens_out: int
    finished: bool  # False: cut at the token limit


def encode_prompts(engine: Engine, prompts: Sequence[str], reserve: int) -> list[list[int]]:
    """Prompts as token ids.

    Raises:
        ModelError: naming the prompt that leaves no room for `reserve` more tokens.
    """
    encoded = []
    for number, prompt in enumerate(prompts):
        ids = engine.chat.prompt_ids(prompt)
        if len(ids) + reserve > engine.spec.max_length:
            raise ModelError(
                f"prompt {number} takes {len(ids)} tokens, and with {reserve} more it is over max_length="
                f"{engine.spec.max_length} of {engine.spec.name}; lower dataset.history.prompt or "
                f"dataset.history.review_tokens (prompt begins: {prompt[:80]!r})"
            )
        encoded.append(ids)
    return encoded


def write_batches(
    engine: Engine,
    prompts: Sequence[str],
    max_new_tokens: int,
    adapter: str | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    done: Collection[int] = (),
) -> Iterator[tuple[list[int], list[Written]]]:
    """Answers a unit of work at a time: (which prompts, their texts).

    A text depends on its prompt and the seed (and, of equal prompts, on which one it is), never on the unit it is in.

    Args:
        done: places of prompts that are left out; a unit that they fill is not computed.
    """
    encoded = encode_prompts(engine, prompts, max_new_tokens)
    seeds = row_seeds(seed, prompts)
    for unit in engine.plan([len(e) for e in encoded], max_new_tokens):
        places = [place for place in unit if place not in done]
        if not places:
            continue
        own = [seeds[p] for p in places]
        outs = engine.write([encoded[p] for p in places], adapter, max_new_tokens, temperature, own)
        texts = [
            Written(engine.chat.text(out), len(encoded[p]), len(out), bool(out) and out[-1] in engine.chat.end_ids)
            for p, out in zip(places, outs, strict=True)
        ]
        yield places, texts


def row_seeds(seed: int, prompts: Sequence[str]) -> list[int]:
    """A seed (31 bits) for each prompt: of the job's seed, the prompt, and how many equal ones came before."""
    seen: Counter[str] = Counter()
    seeds = []
    for prompt in prompts:
        told = f"{seed} {seen[prompt]} {prompt}".encode("utf-8", "replace")
        seeds.append(int.from_bytes(hashlib.sha256(told).digest()[:4], "big") >> 1)
        seen[prompt] += 1
    return seeds


def write_texts(
    engine: Engine,
    prompts: Sequence[str],
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    adapter: str | None = None,
) -> list[Written]:
    """Answers in the prompts' order; without an adapter, the bare base model's."""
    found: dict[int, Written] = {}
    for places, texts in write_batches(engine, prompts, max_new_tokens, adapter, temperature, seed):
        found.update(zip(places, texts, strict=True))
    return [found[place] for place in range(len(prompts))]
