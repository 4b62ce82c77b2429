"""Answers to one prompt side by side in one row, so that the prompt is computed once for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from r4r.lm.base import LanguageModel
from r4r.lm.batches import pad
from r4r.lm.loss import Example
from r4r.lm.memory import Shape, shape_of

TAKES_MASKS = ("sdpa", "eager")  # attention by these takes a mask of any form


@dataclass(frozen=True)
class Row:
    """A prompt and some of its answers.

    Attributes:
        places: of the answers, among all examples.
    """

    places: tuple[int, ...]
    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]

    @property
    def ids(self) -> tuple[int, ...]:
        return self.prompt + tuple(token for answer in self.answers for token in answer)

    @property
    def positions(self) -> list[int]:
        """Of each token in its own text: every answer begins where the prompt ends."""
        start = len(self.prompt)
        return [*range(start), *(start + n for answer in self.answers for n in range(len(answer)))]

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where each answer begins and ends in the row."""
        found, start = [], len(self.prompt)
        for answer in self.answers:
            found.append((start, start + len(answer)))
            start += len(answer)
        return found

    def sees(self, width: int) -> Tensor:
        """Which token sees which, [width, width]: the prompt, and of the answers its own, up to itself."""
        allowed = torch.ones(width, width, dtype=torch.bool).tril()
        for start, end in self.spans:
            allowed[start:end, len(self.prompt) : start] = False
        return allowed


def answer_states(lm: LanguageModel, examples: Sequence[Example]) -> Tensor:
    """The hidden states that foretell the examples' response tokens, [tokens, hidden], example after example.

    The same as of each example by itself, up to rounding.
    """
    rows = _rows(lm, examples)
    # Padding on the right is in no real token's past, so rows of one answer need no mask, and causal kernels run.
    ids, _ = pad([row.ids for row in rows], "right", lm.device)
    if all(len(row.answers) == 1 for row in rows):
        hidden = lm.hidden(input_ids=ids, use_cache=False).last_hidden_state
    else:
        positions, _ = pad([row.positions for row in rows], "right", lm.device)
        allowed = torch.stack([row.sees(ids.shape[1]) for row in rows])[:, None].to(lm.device)
        mask = torch.zeros(allowed.shape, dtype=lm.dtype, device=lm.device)
        mask.masked_fill_(~allowed, torch.finfo(lm.dtype).min)
        hidden = lm.hidden(
            input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False
        ).last_hidden_state
    where: dict[int, tuple[int, list[int]]] = {}  # example -> its row, and the tokens that foretell its own
    for number, row in enumerate(rows):
        for place, (start, end) in zip(row.places, row.spans, strict=True):
            where[place] = number, [len(row.prompt) - 1, *range(start, end - 1)][: end - start]
    found = [where[place] for place in range(len(examples))]
    chosen = [(number, token) for number, tokens in found for token in tokens]
    at, tokens = torch.tensor(chosen, dtype=torch.long, device=lm.device).reshape(-1, 2).unbind(1)
    return hidden[at, tokens]


def answers_a_row(prompt: int, answers: Sequence[int], shape: Shape) -> int:
    """How many answers to a prompt are cheapest side by side.

    A row computes its prompt once. But its mask has attention compute all pairs of tokens, of which a causal kernel
    leaves out half, and answers that do not see each other are among them.

    Args:
        prompt, answers: tokens of the prompt, and of each answer.
    """

    def cost(many: int) -> float:
        whole = 0.0
        for start in range(0, len(answers), many):
            length = prompt + sum(answers[start : start + many])
            pairs = length**2 * (0.5 if many == 1 else 1.0)
            whole += 2 * shape.linear * length + 4 * shape.hidden * shape.layers * pairs
        return whole

    return min(range(1, len(answers) + 1), key=cost)


def _rows(lm: LanguageModel, examples: Sequence[Example]) -> list[Row]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, example in enumerate(examples):
        groups.setdefault(example.prompt, []).append(place)
    packs = lm.shares_prefixes and lm.causal.config._attn_implementation in TAKES_MASKS
    shape = shape_of(lm.causal) if packs and len(groups) < len(examples) else None
    rows = []
    for prompt, places in groups.items():
        many = answers_a_row(len(prompt), [len(examples[p].response) for p in places], shape) if shape else 1
        for start in range(0, len(places), many):
            own = tuple(places[start : start + many])
            rows.append(Row(own, prompt, tuple(examples[place].response for place in own)))
    return rows
