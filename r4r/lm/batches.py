"""Batches by token budget, and the padding of token lists."""

from collections.abc import Sequence

import torch
from torch import Tensor


def plan_batches(lengths: Sequence[int], budget: int, extra: int = 0) -> list[list[int]]:
    """Group indices so that rows x (longest + extra) stays within the budget, longest rows first.

    The plan depends on nothing but its arguments, so an interrupted job finds the same batches again.

    Args:
        lengths: tokens of each row.
        budget: padded tokens that a batch may hold; a single row may exceed it.
        extra: tokens that each row will grow by.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        if batches and (len(batches[-1]) + 1) * (lengths[batches[-1][0]] + extra) <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def pad(rows: Sequence[Sequence[int]], side: str, device: torch.device, fill: int = 0) -> tuple[Tensor, Tensor]:
    """Token ids and mask, both [rows, longest], padded on the left or the right."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), fill, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for number, row in enumerate(rows):
        where = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[number, where] = torch.tensor(row, dtype=torch.long)
        mask[number, where] = 1
    return ids.to(device), mask.to(device)


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all rows share."""
    shortest = min(len(row) for row in rows)
    for length in range(shortest):
        if len({row[length] for row in rows}) > 1:
            return length
    return shortest
