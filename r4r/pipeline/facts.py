"""Facts that a build returns for its manifest: what is read of them again has a form."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

TEACHER = ("teacher_calls", "teacher_cached", "teacher_tokens_in", "teacher_tokens_out", "dollars")
OWN = ("train_tokens", "tokens_in", "tokens_out")  # the job's own model's: trained on, read and written
COUNTED = (*OWN, *TEACHER)


def settled(value: Any) -> Any:
    """Facts as JSON knows them: numpy's values as Python's, tuples as lists."""
    if isinstance(value, dict):
        return {name: settled(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [settled(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def facts_fault(facts: Any, taken: Mapping[str, Any]) -> str | None:
    """What is wrong with what a build returned, in words; None where nothing is.

    Args:
        taken: what the manifest holds besides.
    """
    if not isinstance(facts, dict):
        return f"returned {facts!r:.80}; it should return a dictionary of facts for the manifest, at least {{}}"
    for name in sorted(facts.keys() & taken.keys()):
        return f"returned a fact named {name}, which the manifest has of its own; give it another name"
    for name in COUNTED:
        value = facts.get(name, 0)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not (number or (name == "dollars" and value is None)):
            return f"returned {name}={value!r:.80}; costs are numbers (dollars: None where the price is not known)"
    excluded = facts.get("excluded", {})
    if not (isinstance(excluded, dict) and all(_is_rows(rows) for rows in excluded.values())):
        return f"returned excluded={excluded!r:.80}; it should map each cause to a list of row_ids"
    return None


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, int) and not isinstance(row, bool) for row in value)
