"""Which tokens spell a rating: derived from the training string, per tokenizer and scale (SPEC section 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from r4r.errors import ModelError
from r4r.lm.chat import Chat
from r4r.scale import PAPER, Scale

Tokens = tuple[int, ...]


def rating_text(rating: float, scale: Scale = PAPER) -> str:
    """The training target of the rating experts (paper 3.3), with the value of the scale nearest to the rating."""
    return f"Predicted Rating: {scale.text(rating)}"


@dataclass(frozen=True)
class Branch:
    """A point where the strings of a scale's values part.

    Attributes:
        path: tokens behind the prefix that lead to it.
        tokens: those with which some value goes on; two or more.
    """

    path: Tokens
    tokens: Tokens


@dataclass(frozen=True)
class RatingTokens:
    """How a scale's values are spelled.

    Attributes:
        prefix: tokens before the values part, shared by all of them.
        tails: each value's tokens behind the prefix, in the scale's order.
        branches: where the values part, the first with an empty path. The paper's scale has no other.
    """

    prefix: Tokens
    tails: tuple[Tokens, ...]
    branches: tuple[Branch, ...]

    @property
    def digits(self) -> Tokens:
        """Each value's first token behind the prefix: of the paper's scale, the five digits."""
        return tuple(tail[0] for tail in self.tails)

    def probabilities(self, logits: Sequence[Tensor]) -> Tensor:
        """Probabilities of the scale's values, [rows, values], float32: the likelihood of each value's whole string
        among the strings of all values. A token is one of those that some value goes on with, so one that must come is
        certain, and the product over a value's tokens is that over its branches.

        Args:
            logits: of each branch's tokens, [rows, tokens] (log-probabilities do as well: a constant a row drops out).
        """
        return self._totals(logits).softmax(dim=-1)

    def logps(self, logits: Sequence[Tensor]) -> Tensor:
        """Logarithms of the same, [rows, values], float32."""
        return self._totals(logits).log_softmax(dim=-1)

    def _totals(self, logits: Sequence[Tensor]) -> Tensor:
        """Log-likelihood of each value's whole string, [rows, values]."""
        likelihoods = [found.float().log_softmax(dim=-1) for found in logits]
        rows = likelihoods[0].shape[0]
        values = []
        for tail in self.tails:
            total = torch.zeros(rows, device=likelihoods[0].device)
            for branch, found in zip(self.branches, likelihoods, strict=True):
                if tail[: len(branch.path)] == branch.path:
                    total = total + found[:, branch.tokens.index(tail[len(branch.path)])]
            values.append(total)
        return torch.stack(values, dim=1)


@lru_cache(maxsize=16)
def rating_tokens(chat: Chat, head: str = "", scale: Scale = PAPER) -> RatingTokens:
    """Derive the tokens from the scale's training strings: of the paper's, `Predicted Rating: 1.0` to `5.0`.

    Args:
        head: what the reply says before the rating; its tokens are part of the prefix.

    Raises:
        ModelError: the tokenizer has no stable prefix, or does not tell the values apart.
    """
    spelled = [tuple(chat.reply_ids(head + rating_text(value, scale), end=False)) for value in scale.values]
    shared = 0
    while all(len(ids) > shared for ids in spelled) and len({ids[shared] for ids in spelled}) == 1:
        shared += 1
    example = rating_text(scale.highest, scale)
    if shared == 0:
        raise ModelError(f"this tokenizer has no stable prefix before the value of '{example}'")
    tails = tuple(ids[shared:] for ids in spelled)
    for value, tail in zip(scale.values, tails, strict=True):
        alike = [other for other in tails if other[: len(tail)] == tail]
        if len(alike) > 1:
            raise ModelError(
                f"this tokenizer does not tell '{rating_text(value, scale)}' from the other ratings of the scale: its "
                "tokens are, or begin, another's"
            )
    if head and tails != rating_tokens(chat, "", scale).tails:
        raise ModelError(f"this tokenizer has no stable prefix: it splits '{example}' by what stands before it")
    return RatingTokens(spelled[0][:shared], tails, _branches(tails))


def _branches(tails: Sequence[Tokens]) -> tuple[Branch, ...]:
    paths = sorted({tail[:length] for tail in tails for length in range(len(tail))}, key=lambda path: (len(path), path))
    branches = []
    for path in paths:
        going_on = [tail for tail in tails if tail[: len(path)] == path]
        tokens = tuple(dict.fromkeys(tail[len(path)] for tail in going_on))
        if len(tokens) > 1:
            branches.append(Branch(path, tokens))
    return tuple(branches)
