"""The rating in an answer that should be a rating and nothing else."""

import re

from r4r.scale import PAPER, Scale

RATING = re.compile(
    r"(?:[^\w.-])*(?:(?:predicted )?rating\W*?)?(-?\d+(?:\.\d+)?)\s*(?:stars?|(?:/|out of)\s*(\d+(?:\.\d+)?))?\W*",
    re.IGNORECASE,
)


def parse_rating(answer: str, scale: Scale = PAPER) -> float | None:
    """The rating that an answer states and nothing else: "4", "4.5 stars", "Rating: 4/5". None for all other text, and
    for what lies beyond the scale."""
    found = RATING.fullmatch(answer.strip())
    if not found or (found[2] and float(found[2]) != scale.highest):
        return None
    value = float(found[1])
    return value if scale.lowest <= value <= scale.highest else None
