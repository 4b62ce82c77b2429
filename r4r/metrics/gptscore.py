"""GPTScore as the paper has it: a judge says, from 0 to 100, how well a reason's meaning matches the review (4.1.2)."""

import re

SCORE = re.compile(r"\W*(?:(?:gpt)?score\W*)?(\d{1,3}(?:\.\d+)?)\s*(?:points?|%|(?:/|out of)\s*100)?\W*", re.IGNORECASE)


def parse_score(answer: str) -> float | None:
    """The score that an answer states and nothing else: "85", "Score: 85", "85/100". None for all other text."""
    text = answer.strip()
    found = None if text.startswith(("-", "−")) else SCORE.fullmatch(text)
    value = float(found[1]) if found else None
    return value if value is not None and value <= 100 else None
