"""Which examples are learnt in which step, by which process, in which passes: all of it a function of the seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from r4r.lm.batches import plan_batches
from r4r.training.ranks import added_up


@dataclass(frozen=True)
class Pass:
    """A part of a step that is computed at once.

    Attributes:
        step: number of the optimizer step, counted over all epochs.
        number: number of the pass in its step.
        examples: what is learnt; empty where the other processes have more passes than this one, or where the step
            has nothing to learn.
        weight: what the whole step's examples count, those of other passes and processes too.
        tokens: of the whole step's examples, likewise.
        is_last: whether the optimizer steps behind it.
    """

    step: int
    number: int
    examples: Sequence[Any]
    weight: float
    tokens: float
    is_last: bool


def plan_steps(count: int, batch_size: int, epochs: int, seed: int, repeats: int = 1) -> list[list[int]]:
    """Example indices of every optimizer step of every epoch.

    Args:
        repeats: steps in a row that take the same examples.
    """
    steps = []
    for epoch in range(epochs):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1000 + epoch)).tolist()
        batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
        steps += [batch for batch in batches for _ in range(repeats)]
    return steps


def share(lengths: Sequence[int], rank: int, size: int) -> list[int]:
    """The indices that fall to one process: all are dealt out, the longest first, to and fro."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    return [index for turn, index in enumerate(order) if turn % (2 * size) in (rank, 2 * size - 1 - rank)]


def count_passes(steps: Sequence[Sequence[int]], sizes: Sequence[Sequence[int]], budget: int, size: int) -> int:
    """Passes that each step takes in each process, so that none is over the budget of padded tokens.

    The fewest that do for all: Lightning accumulates the gradients of a fixed number of passes, and processes that
    share a model's weights must take the same number of them. A single text may be over the budget.

    Args:
        sizes: tokens of each text that an example brings to its step, by example.
    """
    most = 1
    for step in steps:
        of_step = [sizes[index] for index in step]
        for rank in range(size):
            mine = [length for index in share([sum(s) for s in of_step], rank, size) for length in of_step[index]]
            most = max(most, len(plan_batches(mine, budget)))
    return most


def cut(lengths: Sequence[int], passes: int) -> list[list[int]]:
    """Indices in `passes` groups of like lengths whose largest takes the fewest padded tokens.

    Groups are empty where that takes fewer.
    """
    if not lengths:
        return [[] for _ in range(passes)]
    low, high = max(lengths), len(lengths) * max(lengths)
    while low < high:
        budget = (low + high) // 2
        if len(plan_batches(lengths, budget)) <= passes:
            high = budget
        else:
            low = budget + 1
    groups = plan_batches(lengths, low)
    return groups + [[] for _ in range(passes - len(groups))]


class EpochPasses:
    """The passes of some steps, in order: what Lightning takes as a data loader."""

    def __init__(
        self, steps: Sequence[Sequence[int]], first: int, examples: Sequence[Any], objective: Any, passes: int
    ):
        """
        Args:
            steps: example indices of each step to do.
            first: number of the first of them, counted over all epochs.
            passes: of each step, in each process.
        """
        self.steps, self.first, self.examples = steps, first, examples
        self.objective, self.passes = objective, passes
        self.rank, self.size = 0, 1

    def __len__(self) -> int:
        return len(self.steps) * self.passes

    def __iter__(self) -> Iterator[Pass]:
        for step, indices in enumerate(self.steps, self.first):
            whole = [self.examples[index] for index in indices]
            sizes = [sum(self.objective.sizes(example)) for example in whole]
            mine, own = self.objective.gather([whole[row] for row in share(sizes, self.rank, self.size)], step)
            weight, tokens = added_up((own, float(sum(len(e) for e in mine))))
            for number, rows in enumerate(cut([len(e) for e in mine], self.passes)):
                examples = [mine[row] for row in rows]
                yield Pass(step, number, examples, weight, tokens, number == self.passes - 1)
