"""The history block that the reasoner's and the rating prompts share (paper 3.2, 3.3)."""

from collections.abc import Iterable

from r4r.scale import PAPER, Scale

EMPTY = "(no reviews yet)"


def history_block(entries: Iterable[tuple[str, float | None, str]], scale: Scale = PAPER) -> str:
    """Numbered entries, oldest first.

    Args:
        entries: (title, rating or None where the prompt must not show it, summary or review text) of each.
        scale: of the ratings.
    """
    blocks = []
    for number, (title, rating, text) in enumerate(entries, 1):
        head = f"{number}. {title}" if rating is None else f"{number}. {title}, Rating: {scale.text(rating)}"
        blocks.append(f"{head}\n{text}")
    return "\n".join(blocks) or EMPTY
