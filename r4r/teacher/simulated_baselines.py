"""How the simulated teacher answers the prompts of Rec-SAVER and EXP3RT: what of them it reads, and in which lines."""

import random
import re
from collections import Counter
from collections.abc import Iterable

from r4r.lexicon import Cue, keyword

LIKES = re.compile(r"^(?P<side>Likes|Dislikes): *(?P<words>.*)$", re.MULTILINE)
HISTORY = r"\A\s*### User Review History ###[ \t]*\n(?P<history>.*?)\n\s*### New Item ###[ \t]*\n.*?"
TRACE = re.compile(HISTORY + r"\n\s*### Task: From the user's past reviews and ratings, reason", re.DOTALL)
VERIFY = re.compile(
    HISTORY + r"\n\s*### Reasoning ###[ \t]*\n(?P<reason>.*)\n\s*### Task: Based on the above history and", re.DOTALL
)
PREFERENCES = re.compile(
    r"\A\s*### Review of the [^\n]*###[ \t]*\n(?P<review>.*)\n\s*### Task: List what the reviewer likes", re.DOTALL
)
PROFILE = re.compile(
    r"\A\s*### Preferences in the [^\n]*###[ \t]*\n(?P<entries>.*)\n\s*### Task: Write the profile of", re.DOTALL
)
PROFILED = re.compile(
    r"\A\s*### User Profile ###[ \t]*\n(?P<user>.*?)\n\s*### Item Profile ###[ \t]*\n(?P<item>.*)"
    r"\n\s*### Task: Compare the profile of the user",
    re.DOTALL,
)
A_REVIEW, A_PROFILE = 4, 5  # keywords a line, at most


def preferences(read: Iterable[Cue]) -> str:
    """What a reviewer likes (what they look for included) and dislikes, as two lines."""
    likes: list[str] = []
    dislikes: list[str] = []
    for cue in read:
        (dislikes if cue.kind == "negative" else likes).append(keyword(cue.aspect, cue.kind))
    return _lines(likes[:A_REVIEW], dislikes[:A_REVIEW])


def profile(rng: random.Random, entries: str, error: float) -> str:
    """The most frequent keywords of all entries, some of them overlooked."""
    counts: dict[str, Counter[str]] = {"Likes": Counter(), "Dislikes": Counter()}
    for side, words in _sides(entries):
        counts[side].update(word for word in words if rng.random() >= error)
    return _lines(*([word for word, _ in counts[side].most_common(A_PROFILE)] for side in ("Likes", "Dislikes")))


def as_history(text: str, whose: str) -> str:
    """A profile in the lines of a summary. What a user likes or minds is what they look for."""
    words = {side: ", ".join(found) for side, found in _sides(text)}
    likes, dislikes = words.get("Likes", ""), words.get("Dislikes", "")
    if whose == "user":
        return f"1. Profile\nUser Preference Elements: {', '.join(filter(None, (likes, dislikes)))}"
    return f"1. Profile\nPositive Aspects: {likes}\nNegative Aspects: {dislikes}"


def _sides(text: str) -> list[tuple[str, list[str]]]:
    """(Likes or Dislikes, keywords) of every such line."""
    found = []
    for match in LIKES.finditer(text):
        words = [word.strip() for word in match["words"].split(",")]
        found.append((match["side"], [word for word in words if word and word != "None"]))
    return found


def _lines(likes: list[str], dislikes: list[str]) -> str:
    return f"Likes: {', '.join(likes) or 'None'}\nDislikes: {', '.join(dislikes) or 'None'}"
