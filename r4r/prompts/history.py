"""The history block that the reasoner's and the rating prompts share (paper 3.2, 3.3)."""

from collections.abc import Iterable

EMPTY = "(no reviews yet)"


def history_block(entries: Iterable[tuple[str, float | None, str]]) -> str:
    """Numbered entries, oldest first.

    Args:
        entries: (title, rating or None where the prompt must not show it, summary or review text).
    """
    blocks = []
    for number, (title, rating, text) in enumerate(entries, 1):
        head = f"{number}. {title}" if rating is None else f"{number}. {title}, Rating: {rating:.1f}"
        blocks.append(f"{head}\n{text}")
    return "\n".join(blocks) or EMPTY
