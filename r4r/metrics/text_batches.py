"""Texts into a model that scores them: by length, so that little is padded."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def by_length(lengths: Sequence[int], rows: int) -> Iterator[list[int]]:
    """Places of at most `rows` texts of about equal length; each place once."""
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    for start in range(0, len(order), rows):
        yield order[start : start + rows]


def padded(lists: Sequence[Sequence[int]], filler: int, device: torch.device) -> Tensor:
    """(texts, longest), filled up on the right."""
    longest = max(map(len, lists))
    return torch.tensor([[*values, *[filler] * (longest - len(values))] for values in lists], device=device)
