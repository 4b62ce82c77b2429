"""A teacher that needs no model: it reads the prompt it is sent through the lexicon, and errs as models do.

It sees the text of the call and nothing else: not the planted truth, not the rating unless the prompt states it. At
temperature t it overlooks or mistakes each cue with probability (1 - skill) * min(1, t), so that it summarises almost
rightly at 0.2 and reasons often wrongly at 1.0. Tokens are estimated from words (4 tokens to 3 words).
"""

import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from r4r.errors import AnswerCut, CallRejected, TeacherError
from r4r.lexicon import ASPECTS, KINDS, Cue, aspects_in, cues, has_summary_lines, keyword, remark_in
from r4r.teacher import simulated_baselines as baselines
from r4r.teacher.base import Answer, Call
from r4r.teacher.simulated_judge import JUDGE, grade_of_review, judged

VERSION = 2  # raise whenever an answer to some call changes
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

SUMMARIZER = re.compile(r"\n###\s*Review:\s*(?P<review>.*?)\n\s*\nAnalyze the above customer review", re.DOTALL)
REVIEW_INFERRED = re.compile(
    r"\A\s*### User's Review of the .*?###[ \t]*\n(?P<review>.*)\n\s*### Task: From the above review, infer why",
    re.DOTALL,
)
REASONER = re.compile(
    r"\A\s*### User Review History ###[ \t]*\n(?P<user>.*?)\n\s*### Item Review History by Other Users ###[ \t]*\n"
    r"(?P<item>.*)\n\s*### Task: Analyze whether the user will like",
    re.DOTALL,
)
FEW_SHOT = re.compile(
    r"\A\s*Here is the user's rating history:[ \t]*\n(?P<history>.*)\n\s*Based on the above rating history", re.DOTALL
)
PAST_RATING = re.compile(r", Rating: ([1-5](?:\.\d+)?)$", re.MULTILINE)
HINT = re.compile(r"Hint: The user actually rated the item\s+([1-5](?:\.\d+)?)\s+stars")
ENTRY = re.compile(r"^(\d+)\. .*$", re.MULTILINE)


class Evidence(NamedTuple):
    """What a reason is built from: aspects, the most telling first."""

    wants: list[str]
    praised: list[str]
    criticised: list[str]


class SimulatedTeacher:
    """Answers the summarizer, reasoner (with or without hint), review-inferred, few-shot rating and judge's prompts,
    and those of Rec-SAVER and EXP3RT.

    Args:
        skill: chance, 0 to 1, that it reads a cue rightly at temperature 1.
        seed: another seed errs elsewhere.
    """

    def __init__(self, skill: float, seed: int):
        self.skill = skill
        self.seed = seed

    @property
    def identity(self) -> dict[str, Any]:
        return {"kind": "simulator", "version": VERSION, "skill": self.skill, "seed": self.seed}

    def ask(self, calls: Sequence[Call]) -> list[Answer | TeacherError]:
        return [self._answer(call) for call in calls]

    def _answer(self, call: Call) -> Answer | TeacherError:
        error = (1 - self.skill) * min(1.0, call.temperature)
        rng = self._dice(call)
        if found := JUDGE.search(call.prompt):
            text = _judgement(rng, found["reason"], found["review"], error)
        elif found := SUMMARIZER.search(call.prompt):
            text = _summary(rng, _misread(rng, cues(found["review"]), error))
        elif found := REVIEW_INFERRED.search(call.prompt):
            text = _from_review(rng, found["review"], error)
        elif found := REASONER.search(call.prompt):
            hint = HINT.search(call.prompt, found.end())
            text = _from_histories(rng, found["user"], found["item"], float(hint[1]) if hint else None, error)
        elif found := FEW_SHOT.search(call.prompt):
            text = _rating(rng, found["history"], error)
        elif found := baselines.PREFERENCES.search(call.prompt):
            text = baselines.preferences(_misread(rng, cues(found["review"]), error))
        elif found := baselines.PROFILE.search(call.prompt):
            text = baselines.profile(rng, found["entries"], error)
        elif found := baselines.VERIFY.search(call.prompt):
            text = str(_grade(rng, _verdict(found["reason"]) or MIDDLE, error))
        elif found := baselines.TRACE.search(call.prompt):
            hint = HINT.search(call.prompt, found.end())
            text = _from_histories(rng, found["history"], "", float(hint[1]) if hint else None, error)
        elif found := baselines.PROFILED.search(call.prompt):
            hint = HINT.search(call.prompt, found.end())
            user, item = (baselines.as_history(found[side], side) for side in ("user", "item"))
            text = _from_histories(rng, user, item, float(hint[1]) if hint else None, error)
        else:
            start = " ".join(call.prompt.split())[:60]
            return CallRejected(
                f"the simulated teacher knows the summarizer, reasoner, review-inferred, "
                f"few-shot rating, judge's, Rec-SAVER and EXP3RT prompts only; "
                f"this one, beginning '{start}', is none of them. Use another teacher for it"
            )
        length = _tokens(text)
        if length > call.max_tokens:
            return AnswerCut(f"the answer was cut off: it takes about {length} tokens, max_tokens is {call.max_tokens}")
        return Answer(text, _tokens(call.prompt), length)

    def _dice(self, call: Call) -> random.Random:
        # At temperature 0 a model repeats itself, so that attempts agree.
        attempt = call.attempt if call.temperature > 0 else 0
        key = f"{self.seed}|{call.temperature!r}|{attempt}|{call.prompt}"
        return random.Random(hashlib.sha256(key.encode()).digest())


def _tokens(text: str) -> int:
    return math.ceil(len(text.split()) * 4 / 3)


def _misread(rng: random.Random, read: Iterable[Cue], error: float) -> list[Cue]:
    """The cues as remembered: some lost, fewer taken for another aspect or for the contrary."""
    kept: dict[Cue, None] = {}
    for aspect, kind in read:
        if rng.random() < error:
            slip = rng.random()
            if slip < 0.6:
                continue
            if slip < 0.8 or kind == "preference":
                aspect = rng.choice(list(ASPECTS))
            else:
                kind = "negative" if kind == "positive" else "positive"
        kept[Cue(aspect, kind)] = None
    return list(kept)


def _summary(rng: random.Random, read: list[Cue]) -> str:
    lines = []
    for label, kind in zip(LINES, KINDS, strict=True):
        words = [keyword(cue.aspect, kind) for cue in read if cue.kind == kind][:A_LINE]
        lines.append(f"{label}: {', '.join(words) or 'None'}")
    return "\n".join(lines)


def _from_review(rng: random.Random, review: str, error: float) -> str:
    read = _misread(rng, cues(review), error)
    by = {kind: [cue.aspect for cue in read if cue.kind == kind] for kind in KINDS}
    told = MIDDLE + len(by["positive"]) - len(by["negative"])
    remark = remark_in(review)
    grade = _grade(rng, told if remark is None else (told + 2 * remark) / 3, error)
    wants = list(dict.fromkeys(by["preference"] + by["positive"] + by["negative"]))
    return _paragraph(rng, Evidence(wants, by["positive"], by["negative"]), grade)


def _from_histories(rng: random.Random, user: str, item: str, hint: float | None, error: float) -> str:
    """Match what the user cares about with what the item is praised and criticised for."""
    care: Counter[str] = Counter()
    for cue in _read_history(rng, user, error):
        care[cue.aspect] += 2 if cue.kind == "preference" else 1
    net: Counter[str] = Counter()
    for cue in _read_history(rng, item, error):
        net[cue.aspect] += {"positive": 1, "negative": -1, "preference": 0}[cue.kind]
    # One mention may be chance; several show that the user cares.
    force = {aspect: 1 - 0.5**count for aspect, count in care.items()}
    sign = {aspect: (count > 0) - (count < 0) for aspect, count in net.items()}
    score = MIDDLE + sum(side * (1.2 * force[a] if a in force else 0.2) for a, side in sign.items())
    # Told how it ended, it still weighs what it read, as it does with a review's closing remark.
    grade = _grade(rng, score if hint is None else (score + 2 * hint) / 3, error)

    def rank(aspects: Iterable[str]) -> list[str]:
        return sorted(aspects, key=lambda a: (-force.get(a, 0), -abs(net[a]), a))

    praised, criticised = rank(a for a in sign if sign[a] > 0), rank(a for a in sign if sign[a] < 0)
    wants = sorted(care, key=lambda a: (-care[a] - (sign.get(a, 0) != 0), a))
    if hint is not None:  # told how it ended, it picks what explains that
        lean = (grade > 3) - (grade < 3)
        wants.sort(key=lambda a: -lean * sign.get(a, 0))
        praised, criticised = praised[: 2 - (lean < 0)], criticised[: 2 - (lean > 0)]
        if grade == 5:
            criticised = []
        if grade == 1:
            praised = []
    leaked = hint if hint is not None and rng.random() < error / 2 else None
    return _paragraph(rng, Evidence(wants, praised, criticised), grade, leaked)


def _read_history(rng: random.Random, block: str, error: float) -> list[Cue]:
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
        read += _misread(rng, found if has_summary_lines(text) else cues(text), error)
    return read


def _rating(rng: random.Random, history: str, error: float) -> str:
    """The mean of the past ratings; now and then, it chats instead of answering."""
    past = [float(rating) for rating in PAST_RATING.findall(history)]
    grade = _grade(rng, sum(past) / len(past) if past else MIDDLE, error)
    if rng.random() < error:
        return f"I think that they would be fine with it, {grade} perhaps."
    return rng.choice((f"{grade}", f"{grade}.0", f"{grade} stars"))


def _judgement(rng: random.Random, reason: str, review: str, error: float) -> str:
    """The score of a reason; now and then, it chats instead of answering."""
    told, said = _misread(rng, cues(reason), error), _misread(rng, cues(review), error)
    score = judged(told, said, _verdict(reason), grade_of_review(review, said))
    return f"They agree to some degree, {score} perhaps." if rng.random() < error else str(score)


def _verdict(reason: str) -> int | None:
    """The rating that a reason's verdict stands for, or None where it gives none."""
    verdicts = [(len(words), grade) for grade, forms in VERDICTS.items() for words in forms if words in reason]
    return max(verdicts)[1] if verdicts else None


def _grade(rng: random.Random, score: float, error: float) -> int:
    slip = rng.choice((-1, 1)) if rng.random() < error else 0
    return min(5, max(1, round(score) + slip))


def _paragraph(rng: random.Random, evidence: Evidence, grade: int, leaked: float | None = None) -> str:
    """At most 50 words: what the user wants, what the album offers, whether these meet, the verdict."""
    praised, criticised = evidence.praised[:2], evidence.criticised[:2]
    fits, fails = [a for a in praised if a in evidence.wants], [a for a in criticised if a in evidence.wants]
    wants = list(dict.fromkeys(fits + fails + evidence.wants))[: 3 if len(fits + fails) > 2 else 2]
    parts = [_wants(rng, wants)]
    likes = _and([keyword(a, "positive").lower() for a in praised])
    faults = _and([keyword(a, "negative").lower() for a in criticised])
    if likes and faults:
        parts.append(f"The album is praised for its {likes} but criticised for its {faults}.")
    elif likes or faults:
        parts.append(f"The album is {'praised' if likes else 'criticised'} for its {likes or faults}.")
    else:
        parts.append("Little is known of what the album does well or badly.")
    if fits and fails:
        parts.append(f"The {fits[0].lower()} would suit them, while the {fails[0].lower()} would not.")
    elif fits:
        parts.append(f"The {_and([a.lower() for a in fits])} would suit them.")
    elif fails:
        parts.append(f"The {_and([a.lower() for a in fails])} would put them off.")
    verdict = rng.choice(VERDICTS[grade])
    if leaked is not None:
        parts.append(f"They gave it {leaked:g} stars, so {verdict}.")
    else:
        parts.append(f"{rng.choice(('Overall', 'On balance'))}, {verdict}.")
    return " ".join(parts)


def _wants(rng: random.Random, wants: list[str]) -> str:
    if not wants:
        return "It is not clear what the user cares about."
    names = _and([a.lower() for a in wants])
    return rng.choice((f"The user cares about {names}.", f"The user listens mainly for {names}."))


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1])] * (len(words) > 1) + words[-1:])
