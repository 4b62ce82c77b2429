"""ROUGE-L: the longest common subsequence of words (Lin 2004)."""

import re
from collections import defaultdict
from collections.abc import Sequence

MODEL = "ROUGE-L F1 of lower-case words, no stemming"
WORD = re.compile(r"[^\W_]+")


def rouge_l(reasons: Sequence[str], reviews: Sequence[str]) -> list[float]:
    """F1 of each reason against its review, 0 to 1; 0 where one of the two has no word."""
    return [_f1(WORD.findall(a.lower()), WORD.findall(b.lower())) for a, b in zip(reasons, reviews, strict=True)]


def _f1(reason: list[str], review: list[str]) -> float:
    common = longest_common_subsequence(reason, review)
    return 2 * common / (len(reason) + len(review)) if common else 0.0


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Its length. Bit-parallel (Hyyrö 2004): a column of the usual table is one integer."""
    places: defaultdict[str, int] = defaultdict(int)
    for place, word in enumerate(first):
        places[word] |= 1 << place
    full = (1 << len(first)) - 1
    column = full  # a zero bit: the table grows by one at this place
    for word in second:
        met = column & places[word] if word in places else 0
        column = ((column + met) | (column - met)) & full
    return len(first) - column.bit_count()
