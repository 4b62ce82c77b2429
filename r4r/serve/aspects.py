"""Which aspects a reason speaks of, and the reason without one of them, or with one more.

The aspects are the keywords of the summaries that the histories show. One that a reason names by its last word alone
(`melody`, of `Catchy Melody`) counts, too.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from r4r.experts.summarizer import FIELDS
from r4r.serve.cases import Past, ServedCase

Side = Literal["wanted", "disliked", "praised", "criticised"]
SENTENCES: dict[Side, str] = {
    "wanted": "The user cares about {}.",
    "disliked": "The user does not care for {}.",
    "praised": "It is praised for its {}.",
    "criticised": "It is criticised for its {}.",
}
SIDES: dict[str, tuple[Side, Side]] = {  # of a summary's line: in the user's history, and in the item's
    "Positive Aspects": ("wanted", "praised"),
    "Negative Aspects": ("disliked", "criticised"),
    "User Preference Elements": ("wanted", "wanted"),
}
LONGEST = 60  # characters of an aspect
NONE = "none"


@dataclass(frozen=True)
class Aspect:
    """An aspect of a case.

    Attributes:
        name: as the reason has it, else as the summaries have it.
        side: who says what of it; of several, the first.
        count: mentions in the shown summaries; 0 for one that only a person named.
        named: whether the reason speaks of it.
    """

    name: str
    side: Side
    count: int
    named: bool


def aspects(case: ServedCase, reason: str | None) -> list[Aspect]:
    """The aspects of a case: those that the reason names in its order, then the others, the most frequent first."""
    text, found = reason or "", dict[str, tuple[Side, int]]()
    for keyword, side in _keywords(case):
        key = keyword.lower()
        found[key] = (found.get(key, (side, 0))[0], found.get(key, (side, 0))[1] + 1)
    spoken: dict[str, tuple[int, Aspect]] = {}
    bare = text  # of the longer names that were found in it
    for key in sorted(found, key=lambda key: (-len(key.split()), key)):
        match = _pattern(key).search(bare)
        if match:
            spoken[key] = match.start(), Aspect(match.group(), *found[key], True)
            bare = _pattern(key).sub(lambda m: " " * len(m.group()), bare)
    for key, (side, count) in found.items():
        head = key.split()[-1]
        match = None if head in spoken or head == key else _pattern(head).search(bare)
        if match and len(head) > 2:
            spoken[head] = match.start(), Aspect(match.group(), side, count, True)
    others = [Aspect(key, *known, False) for key, known in found.items() if key not in spoken]
    others.sort(key=lambda aspect: (-aspect.count, aspect.name))
    return [aspect for _, aspect in sorted(spoken.values(), key=lambda known: known[0])] + others


def strike(case: ServedCase, reason: str, name: str) -> str:
    """The reason without an aspect: it leaves lists, and one side of a "but"; other sentences that name it go whole."""
    word = " ".join(name.split()).lower()
    if not word:
        return reason
    ending = [key for key, _ in _keywords(case) if key.lower().split()[-1:] == word.split()[-1:]]
    forms = sorted({word, *(key.lower() for key in ending if word in key.lower())}, key=len, reverse=True)
    one = "|".join(_spelt(form) for form in forms)
    kept = []
    for sentence in re.split(r"(?<=[.!?])\s+", reason.strip()):
        text = re.sub(rf"\b\w+ for (?:its|the|their) (?:{one}) but\s+", "", sentence, flags=re.I)
        text = re.sub(rf"\s+but \w+ for (?:its|the|their) (?:{one})\b", "", text, flags=re.I)
        text = re.sub(rf"\b(?:{one})\s*(?:,\s*(?:and\s+|or\s+)?|\s+(?:and|or)\s+)(?=\w)", "", text, flags=re.I)
        text = re.sub(rf"(?:,\s*(?:and\s+|or\s+)?|\s+(?:and|or)\s+)(?:{one})\b", "", text, flags=re.I)
        if not re.search(rf"\b(?:{one})\b", text, re.I):
            kept.append(text if text == sentence else text[:1].upper() + text[1:])
    return " ".join(kept)


def add(reason: str, name: str, side: Side) -> str:
    """The reason with one more sentence, about an aspect."""
    return f"{reason.strip()} {SENTENCES[side].format(' '.join(name.split()))}".strip()


def _keywords(case: ServedCase) -> Iterable[tuple[str, Side]]:
    """(keyword, who says what of it) of every summary that the histories show."""
    for entries, place in ((case.user, 0), (case.item, 1)):
        for entry in entries:
            for line in _lines(entry):
                label, found, words = line.partition(":")
                if found and label.strip() in FIELDS:
                    for word in words.split(","):
                        name = " ".join(word.split()).strip(".")
                        if 1 < len(name) <= LONGEST and name.lower() != NONE:
                            yield name, SIDES[label.strip()][place]


def _lines(entry: Past) -> list[str]:
    return [] if entry.rating is None or entry.shown == entry.review else entry.shown.splitlines()


def _spelt(name: str) -> str:
    return r"\s+".join(map(re.escape, name.split()))


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"\b{_spelt(name)}\b", re.IGNORECASE)
