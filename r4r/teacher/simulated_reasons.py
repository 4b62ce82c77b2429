"""How the simulated teacher summarises reviews and writes reasons: the answers to the paper's own prompts."""

import random
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from r4r.lexicon import KINDS, NEGATIVE, POSITIVE, Cue, aspects_in, cues, has_summary_lines, keyword, remark_in
from r4r.teacher.registry import Reading, answers

A_LINE = 3  # keywords at most
LINES = ("Positive Aspects", "Negative Aspects", "User Preference Elements")  # as KINDS
MIDDLE = 3.1  # rating points of a match that speaks neither for nor against
# Graded verdicts, by the rating they stand for.
VERDICTS: dict[int, tuple[str, ...]] = {
    1: ("they would dislike it", "they would strongly dislike it"),
    2: ("they would probably be disappointed by it", "it would probably disappoint them"),
    3: ("they would have mixed feelings about it", "they would find it a mixed experience"),
    4: ("they would probably like it", "it would probably please them"),
    5: ("they would love it", "they would be delighted by it"),
}
MATTERS = "important to them"  # said of each feature that the user cares about
HINT = re.compile(r"Hint: The user actually rated the item\s+([1-5](?:\.\d+)?)\s+stars")
ENTRY = re.compile(r"^(\d+)\. .*$", re.MULTILINE)


class Evidence(NamedTuple):
    """What a reason is built from: aspects, the most telling first."""

    wants: list[str]
    praised: list[str]
    criticised: list[str]


@answers("summarizer", r"\n###\s*Review:\s*(?P<review>.*?)\n\s*\nAnalyze the above customer review", version=1)
def summary(prompt: Reading, found: re.Match[str]) -> str:
    """The three lines of a review's summary."""
    read = prompt.cues(found["review"])
    lines = []
    for label, kind in zip(LINES, KINDS, strict=True):
        words = [keyword(cue.aspect, kind) for cue in read if cue.kind == kind][:A_LINE]
        lines.append(f"{label}: {', '.join(words) or 'None'}")
    return "\n".join(lines)


@answers(
    "review_inferred",
    r"\A\s*### User's Review of the .*?###[ \t]*\n(?P<review>.*)\n\s*### Task: From the above review, infer why",
    version=2,
)
def reason_from_review(prompt: Reading, found: re.Match[str]) -> str:
    """Why the user likes or dislikes an item, by the user's own review of it."""
    read = prompt.cues(found["review"])
    by = {kind: [cue.aspect for cue in read if cue.kind == kind] for kind in KINDS}
    told = MIDDLE + len(by["positive"]) - len(by["negative"])
    remark = remark_in(found["review"])
    grade = prompt.grade(told if remark is None else (told + 2 * remark) / 3)
    wants = list(dict.fromkeys(by["preference"] + by["positive"] + by["negative"]))
    return paragraph(prompt.rng, Evidence(wants, by["positive"], by["negative"]), grade)


@answers(
    "reasoner",
    r"\A\s*### User Review History ###[ \t]*\n(?P<user>.*?)\n\s*### Item Review History by Other Users ###[ \t]*\n"
    r"(?P<item>.*)\n\s*### Task: Analyze whether the user will like",
    version=2,
)
def reason_from_histories(prompt: Reading, found: re.Match[str]) -> str:
    """Whether the user will like an item, by the histories of both."""
    return match_histories(prompt, found["user"], found["item"], hint_behind(prompt, found))


def hint_behind(prompt: Reading, found: re.Match[str]) -> float | None:
    """The rating that a prompt gives away at its end, if it does."""
    hint = HINT.search(prompt.text, found.end())
    return float(hint[1]) if hint else None


def match_histories(prompt: Reading, user: str, item: str, hint: float | None) -> str:
    """Match what the user cares about with what the item is praised and criticised for."""
    care: Counter[str] = Counter()
    for cue in _read_history(prompt, user):
        care[cue.aspect] += 2 if cue.kind == "preference" else 1
    net: Counter[str] = Counter()
    for cue in _read_history(prompt, item):
        net[cue.aspect] += {"positive": 1, "negative": -1, "preference": 0}[cue.kind]
    # One mention may be chance; several show that the user cares.
    force = {aspect: 1 - 0.5**count for aspect, count in care.items()}
    sign = {aspect: (count > 0) - (count < 0) for aspect, count in net.items()}
    score = MIDDLE + sum(side * (1.2 * force[a] if a in force else 0.2) for a, side in sign.items())
    # Told how it ended, it still weighs what it read, as it does with a review's closing remark.
    grade = prompt.grade(score if hint is None else (score + 2 * hint) / 3)

    def rank(aspects: Iterable[str]) -> list[str]:
        return sorted(aspects, key=lambda a: (-force.get(a, 0), -abs(net[a]), a))

    praised, criticised = rank(a for a in sign if sign[a] > 0), rank(a for a in sign if sign[a] < 0)
    wants = sorted(care, key=lambda a: (-care[a], a))
    if hint is not None:  # told how it ended, it picks what explains that
        lean = (grade > 3) - (grade < 3)
        wants.sort(key=lambda a: -lean * sign.get(a, 0))
        praised, criticised = praised[: 2 - (lean < 0)], criticised[: 2 - (lean > 0)]
        if grade == 5:
            criticised = []
        if grade == 1:
            praised = []
    leaked = hint if hint is not None and prompt.rng.random() < prompt.error / 2 else None
    return paragraph(prompt.rng, Evidence(wants, praised, criticised), grade, leaked)


def _read_history(prompt: Reading, block: str) -> list[Cue]:
    """The cues of every entry; an entry holds summary lines or, where step 1 is ablated, a raw review."""
    starts: list[re.Match[str]] = []
    for match in ENTRY.finditer(block):
        if int(match[1]) == len(starts) + 1:  # a line that merely begins with a number is no entry
            starts.append(match)
    ends = [match.start() for match in starts[1:]] + [len(block)]
    read: list[Cue] = []
    for match, end in zip(starts, ends, strict=True) if starts else ():
        text = block[match.end() : end]
        found = [Cue(a, kind) for kind, names in aspects_in(text).items() for a in names]
        read += prompt.misread(found if has_summary_lines(text) else cues(text))
    return read


def verdict_of(reason: str) -> int | None:
    """The rating that a reason's verdict stands for, or None where it gives none."""
    verdicts = [(len(words), grade) for grade, forms in VERDICTS.items() for words in forms if words in reason]
    return max(verdicts)[1] if verdicts else None


def paragraph(rng: random.Random, evidence: Evidence, grade: int, leaked: float | None = None) -> str:
    """What the user wants, what the album offers and which of it matters to them, the verdict.

    At most 50 words, 54 where it gives the rating away.
    """
    parts = [_wants(rng, evidence.wants[:3])]
    likes, faults = (
        _and([keyword(a, kind).lower() + (f", {MATTERS}," if a in evidence.wants else "") for a in aspects[:2]])
        for aspects, kind in ((evidence.praised, POSITIVE), (evidence.criticised, NEGATIVE))
    )
    if likes and faults:
        parts.append(f"The album is praised for its {likes} but criticised for its {faults}.")
    elif likes or faults:
        parts.append(f"The album is {'praised' if likes else 'criticised'} for its {likes or faults}.")
    else:
        parts.append("Little is known of what the album does well or badly.")
    verdict = rng.choice(VERDICTS[grade])
    if leaked is not None:
        parts.append(f"They gave it {leaked:g} stars, so {verdict}.")
    else:
        parts.append(f"{rng.choice(('Overall', 'On balance'))}, {verdict}.")
    return " ".join(parts).replace(",.", ".")


def _wants(rng: random.Random, wants: list[str]) -> str:
    if not wants:
        return "It is not clear what the user cares about."
    names = _and([a.lower() for a in wants])
    return rng.choice((f"The user cares about {names}.", f"The user listens mainly for {names}."))


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + words[-1:])
