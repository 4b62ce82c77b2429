"""The paper's published numbers."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml


@cache
def published() -> dict[str, Any]:
    """`experiments/paper.yaml`: table -> data set -> row -> metric -> number."""
    inside = Path(__file__).parent / "paper.yaml"  # of an installed package
    path = inside if inside.exists() else Path(__file__).parents[2] / "experiments" / "paper.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def beside(table: str, dataset: str) -> tuple[str, dict[str, dict[str, float]]]:
    """(data set of the paper, row -> metric -> number) to show beside ours: the same data set's, else the first's."""
    numbers = published().get(table)
    if numbers is None:  # a table of our own
        return "", {}
    name = dataset if dataset in numbers else next(iter(numbers))
    return name, numbers[name]
