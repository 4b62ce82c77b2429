"""The rating in an answer that should be a rating and nothing else."""

import re

RATING = re.compile(
    r"\W*(?:(?:predicted )?rating\W*)?([1-5](?:\.\d+)?)\s*(?:stars?|(?:/|out of)\s*5)?\W*", re.IGNORECASE
)


def parse_rating(answer: str) -> float | None:
    """The rating that an answer states and nothing else: "4", "4.5 stars", "Rating: 4/5". None for all other text."""
    found = RATING.fullmatch(answer.strip())
    value = float(found[1]) if found else None
    return value if value is not None and value <= 5 else None
