"""How the simulated teacher answers the prompts of the baselines: few-shot ratings, Rec-SAVER and EXP3RT."""

import re
from collections import Counter
from collections.abc import Iterable

from r4r.lexicon import Cue, keyword
from r4r.teacher.registry import Reading, answers
from r4r.teacher.simulated_reasons import MIDDLE, hint_behind, match_histories, verdict_of

PAST_RATING = re.compile(r", Rating: ([1-5](?:\.\d+)?)$", re.MULTILINE)
LIKES = re.compile(r"^(?P<side>Likes|Dislikes): *(?P<words>.*)$", re.MULTILINE)
HISTORY = r"\A\s*### User Review History ###[ \t]*\n(?P<history>.*?)\n\s*### New Item ###[ \t]*\n.*?"
PROFILE = r"\A\s*### Preferences in the [^\n]*###[ \t]*\n(?P<entries>.*)\n\s*### Task: Write the profile of"
A_REVIEW, A_PROFILE = 4, 5  # keywords a line, at most


@answers(
    "fewshot",
    r"\A\s*Here is the user's rating history:[ \t]*\n(?P<history>.*)\n\s*Based on the above rating history",
    version=1,
)
def few_shot_rating(prompt: Reading, found: re.Match[str]) -> str:
    """The mean of the past ratings; now and then, it chats instead of answering."""
    past = [float(rating) for rating in PAST_RATING.findall(found["history"])]
    grade = prompt.grade(sum(past) / len(past) if past else MIDDLE)
    if prompt.slips():
        return f"I think that they would be fine with it, {grade} perhaps."
    return prompt.rng.choice((f"{grade}", f"{grade}.0", f"{grade} stars"))


@answers(
    "exp3rt_preferences",
    r"\A\s*### Review of the [^\n]*###[ \t]*\n(?P<review>.*)\n\s*### Task: List what the reviewer likes",
    version=1,
)
def review_preferences(prompt: Reading, found: re.Match[str]) -> str:
    """What a reviewer likes and dislikes."""
    return preferences(prompt.cues(found["review"]))


@answers("exp3rt_user_profile", PROFILE, version=1)
@answers("exp3rt_item_profile", PROFILE, version=1)
def profile(prompt: Reading, found: re.Match[str]) -> str:
    """The most frequent keywords of all entries, some of them overlooked."""
    counts: dict[str, Counter[str]] = {"Likes": Counter(), "Dislikes": Counter()}
    for side, words in _sides(found["entries"]):
        counts[side].update(word for word in words if not prompt.slips())
    return _lines(*([word for word, _ in counts[side].most_common(A_PROFILE)] for side in ("Likes", "Dislikes")))


@answers(
    "rec_saver_verify",
    HISTORY + r"\n\s*### Reasoning ###[ \t]*\n(?P<reason>.*)\n\s*### Task: Based on the above history and",
    version=1,
)
def recovered_rating(prompt: Reading, found: re.Match[str]) -> str:
    """The rating that a trace lets expect."""
    return str(prompt.grade(verdict_of(found["reason"]) or MIDDLE))


@answers("rec_saver_reason", HISTORY + r"\n\s*### Task: From the user's past reviews and ratings, reason", version=1)
def trace(prompt: Reading, found: re.Match[str]) -> str:
    """A reason from the user's history alone."""
    return match_histories(prompt, found["history"], "", hint_behind(prompt, found))


@answers(
    "exp3rt_reason",
    r"\A\s*### User Profile ###[ \t]*\n(?P<user>.*?)\n\s*### Item Profile ###[ \t]*\n(?P<item>.*)"
    r"\n\s*### Task: Compare the profile of the user",
    version=1,
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
