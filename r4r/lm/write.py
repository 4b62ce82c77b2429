"""Texts for prompts: encode, batch by length, generate, decode."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from r4r.errors import ModelError
from r4r.lm.base import LanguageModel
from r4r.lm.batches import plan_batches
from r4r.lm.generate import generate


@dataclass(frozen=True)
class Written:
    text: str
    tokens_in: int
    tokens_out: int
    finished: bool  # False: cut at the token limit


def encode_prompts(lm: LanguageModel, prompts: Sequence[str], reserve: int) -> list[list[int]]:
    """Prompts as token ids.

    Raises:
        ModelError: naming the prompt that leaves no room for `reserve` more tokens.
    """
    encoded = []
    for number, prompt in enumerate(prompts):
        ids = lm.chat.prompt_ids(prompt)
        if len(ids) + reserve > lm.spec.max_length:
            raise ModelError(
                f"prompt {number} takes {len(ids)} tokens, and with {reserve} more it is over max_length="
                f"{lm.spec.max_length} of {lm.spec.name}; lower dataset.history.prompt or "
                f"dataset.history.review_tokens (prompt begins: {prompt[:80]!r})"
            )
        encoded.append(ids)
    return encoded


def write_batches(
    lm: LanguageModel,
    prompts: Sequence[str],
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    skip: Sequence[int] | frozenset[int] = (),
) -> Iterator[tuple[int, list[int], list[Written]]]:
    """Answers batch by batch: (batch number, which prompts, their texts). Batches in `skip` are not computed.

    The batches depend on the prompts alone, so an interrupted caller finds the same ones again.
    """
    encoded = encode_prompts(lm, prompts, max_new_tokens)
    for number, places in enumerate(plan_batches([len(e) for e in encoded], lm.spec.batch_tokens, max_new_tokens)):
        if number in skip:
            continue
        outs = generate(lm, [encoded[p] for p in places], max_new_tokens, temperature, seed * 100_003 + number)
        texts = [
            Written(lm.chat.text(out), len(encoded[p]), len(out), bool(out) and out[-1] in lm.chat.end_ids)
            for p, out in zip(places, outs, strict=True)
        ]
        yield number, places, texts


def write_texts(
    lm: LanguageModel, prompts: Sequence[str], max_new_tokens: int, temperature: float = 0.0, seed: int = 0
) -> list[Written]:
    """Answers in the prompts' order."""
    found: dict[int, Written] = {}
    for _, places, texts in write_batches(lm, prompts, max_new_tokens, temperature, seed):
        found.update(zip(places, texts, strict=True))
    return [found[place] for place in range(len(prompts))]
