"""The rating in an answer that should be a rating and nothing else."""

import re

from r4r.scale import PAPER, Scale

RATING = re.compile(
    r"\W*(?:(?:predicted )?rating\W*)?(?<!\.)(?P<value>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
    r"\s*(?:stars?|(?:/|out of)\s*(?P<most>[0-9]+(?:\.[0-9]+)?))?\W*",
    re.IGNORECASE,
)


def parse_rating(answer: str, scale: Scale = PAPER) -> float | None:
    """The rating that an answer states and nothing else: "4", "4.5 stars", "Rating: 4/5". None for all other text.

    Args:
        scale: what the rating is on. Answers beyond it, out of another highest rating, or below zero where it has no
            such ratings, are no rating on it. A dash behind a word is no minus sign.
    """
    found = RATING.fullmatch(answer.strip())
    if not found or (found["most"] and float(found["most"]) != scale.values[-1]):
        return None
    value = float(found["value"])
    if re.search(r"(?<![^\s:=])[-\u2212]$", answer.strip()[: found.start("value")]):
        value = -value
    return scale.settled(value)
