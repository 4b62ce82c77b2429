"""How likely a model finds answers, token by token, with logits computed for the answers' tokens alone."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from r4r.lm.base import LanguageModel
from r4r.lm.batches import plan_batches
from r4r.lm.loss import Example
from r4r.lm.memory import in_halves
from r4r.training.packing import answer_states

CHUNK = 256  # tokens whose entropies are computed at once: each has a row as wide as the vocabulary


class Likelihood(NamedTuple):
    """Of a batch of answers, padded on the right with zeros.

    Attributes:
        logps: log-probability of each token, [answers, longest], float32.
        mask: 1 where there is a token, [answers, longest], float32.
        entropy: summed over all tokens, in nats, without a graph; 0 where it was not asked for.
    """

    logps: Tensor
    mask: Tensor
    entropy: float = 0.0


def likelihood(
    lm: LanguageModel, examples: Sequence[Example], temperature: float = 1.0, entropy: bool = False
) -> Likelihood:
    """Log-probabilities of the examples' responses, with a graph to the active adapter's weights.

    A prompt of several examples is computed once.
    """
    labels = torch.tensor([token for e in examples for token in e.response], device=lm.device)
    logits = lm.logits(answer_states(lm, examples)) / temperature
    flat = -cross_entropy(logits, labels, reduction="none")
    lengths = [len(e.response) for e in examples]
    logps = pad_sequence(list(flat.split(lengths)), batch_first=True)
    mask = pad_sequence([torch.ones(length, device=lm.device) for length in lengths], batch_first=True)
    return Likelihood(logps, mask, entropy_of(logits.detach()) if entropy else 0.0)


@torch.no_grad()
def entropy_of(logits: Tensor) -> float:
    """Summed entropy of rows of logits [tokens, vocabulary], in nats."""
    total = 0.0
    for part in logits.split(CHUNK):
        logps = part.log_softmax(dim=-1)
        total -= float((logps.exp() * logps).sum())
    return total


@torch.no_grad()
def frozen_logps(
    lm: LanguageModel, examples: Sequence[Example], budget: int, temperature: float = 1.0
) -> list[tuple[float, ...]]:
    """The same with the adapter that is active, as numbers, in batches of so many padded tokens, or in parts of them
    where memory runs out.

    Returns:
        The log-probabilities of each example's response tokens.
    """

    def some(places: Sequence[int]) -> list[tuple[float, ...]]:
        own = [examples[place] for place in places]
        logps = likelihood(lm, own, temperature).logps.tolist()
        return [tuple(row[: len(example.response)]) for example, row in zip(own, logps, strict=True)]

    found: dict[int, tuple[float, ...]] = {}
    for places in plan_batches([len(e) for e in examples], budget):
        found.update(zip(places, in_halves(some, places, "weigh"), strict=True))
    return [found[place] for place in range(len(examples))]
