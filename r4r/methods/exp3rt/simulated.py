"""How the simulated teacher answers EXP3RT's prompts: preferences, profiles and reasons from both profiles."""

import re
from collections import Counter
from collections.abc import Iterable

from r4r.lexicon import Cue, keyword
from r4r.methods.exp3rt.experts import ITEM_PROFILE, PREFERENCES, REASON, USER_PROFILE
from r4r.teacher.registry import Reading, answers
from r4r.teacher.simulated_reasons import hint_behind, match_histories

LIKES = re.compile(r"^(?P<side>Likes|Dislikes): *(?P<words>.*)$", re.MULTILINE)
PROFILE = r"\A\s*### Preferences in the [^\n]*###[ \t]*\n(?P<entries>.*)\n\s*### Task: Write the profile of"
A_REVIEW, A_PROFILE = 4, 5  # keywords a line, at most


@answers(
    PREFERENCES,
    r"\A\s*### Review of the [^\n]*###[ \t]*\n(?P<review>.*)\n\s*### Task: List what the reviewer likes",
    version=1,
)
def review_preferences(prompt: Reading, found: re.Match[str]) -> str:
    """What a reviewer likes and dislikes."""
    return preferences(prompt.cues(found["review"]))


@answers(USER_PROFILE, PROFILE, version=1)
@answers(ITEM_PROFILE, PROFILE, version=1)
def profile(prompt: Reading, found: re.Match[str]) -> str:
    """The most frequent keywords of all entries, some of them overlooked."""
    counts: dict[str, Counter[str]] = {"Likes": Counter(), "Dislikes": Counter()}
    for side, words in _sides(found["entries"]):
        counts[side].update(word for word in words if not prompt.slips())
    return _lines(*([word for word, _ in counts[side].most_common(A_PROFILE)] for side in ("Likes", "Dislikes")))


@answers(
    REASON,
    r"\A\s*### User Profile ###[ \t]*\n(?P<user>.*?)\n\s*### Item Profile ###[ \t]*\n(?P<item>.*)"
    r"\n\s*### Task: Compare the profile of the user",
    version=2,
)
def reason_from_profiles(prompt: Reading, found: re.Match[str]) -> str:
    """A reason from the profiles of both sides."""
    user, item = (as_history(found[side], side) for side in ("user", "item"))
    return match_histories(prompt, user, item, hint_behind(prompt, found))


def preferences(read: Iterable[Cue]) -> str:
    """What a reviewer likes (what they look for included) and dislikes, as two lines."""
    likes: list[str] = []
    dislikes: list[str] = []
    for cue in read:
        (dislikes if cue.kind == "negative" else likes).append(keyword(cue.aspect, cue.kind))
    return _lines(likes[:A_REVIEW], dislikes[:A_REVIEW])


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
