"""How a simulated user writes about an item: opinions, wishes and chatter, in many forms, with slips.

The words are the lexicon's. The rating colours the closing remark and is never stated.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from r4r.lexicon import (
    ASPECTS,
    BAD,
    ENJOY,
    GOOD,
    GRUMBLE,
    LOSES,
    LOST_BY,
    MILD,
    PITIED,
    PREFERENCES,
    PRIZED,
    REMARKS,
    SALUTE,
    STRONG,
    SUFFER,
    WINS,
    WON_BY,
    conjugate,
)

NAMES = tuple(ASPECTS)
MAX_WORDS = 76
MAX_SENTENCES = 7
CHATTER = (
    "I bought this for {kin} as a birthday present", "it arrived {time} and in one piece", "{kin} put me on to this",
    "I found it {found}", "I have followed this band for years", "I had not heard of them until {since}",
    "shipping took longer than promised", "I ordered a second copy for {kin}", "I saw them live {time}",
    "I played it {listen} all weekend", "this replaces my old cassette", "I first heard it {found}",
    "{kin} keeps borrowing it", "it came {time} as advertised", "I am writing this after {many} listens",
    "my expectations were modest", "the seller answered quickly", "I mostly listen to it {listen}",
    "I got it {time} with a gift card", "I have owned it since {since}", "it was a blind buy", "it has {num} songs",
    "{kin} and I disagree about this one", "I do not write reviews often", "it was on my wish list for ages",
    "I gave it a few spins before writing this", "the disc played fine", "I heard about it {found}",
    "I am new to this kind of music", "it is their {nth} release I believe", "I took it along on vacation {time}",
    "the download went without trouble", "I wanted something for long car trips", "it was on while we had dinner",
    "it was delivered to {kin} by mistake", "I have not heard their earlier ones", "{kin} asked for it {time}",
    "I missed it when it came out", "a song from it was in a movie I saw {time}", "I traded an old game for it",
    "so here is what I think", "I have a shelf full of their stuff", "it was recommended {found}",
)  # fmt: skip
FILL = {
    "kin": ("my brother", "my sister", "my dad", "my wife", "my husband", "a friend", "my daughter", "my neighbor",
            "a coworker", "my roommate", "my aunt", "my boss"),
    "time": ("last week", "on Tuesday", "in spring", "before Christmas", "last summer", "in March", "the other day",
             "on a rainy Sunday", "a month ago"),
    "since": ("last week", "last summer", "this spring", "Christmas", "college", "March"),
    "found": ("at the office", "in a small shop downtown", "at a flea market", "on late night radio", "at a party",
              "on a music blog", "at the library"),
    "listen": ("on the bus", "in the garden", "on my phone", "in the car", "at work", "while cooking", "at home"),
    "num": ("nine", "ten", "eleven", "twelve", "fourteen"),
    "nth": ("second", "third", "latest"),
    "many": ("a few", "several", "a dozen"),
}  # fmt: skip
TAILS = ("even after many listens", "which I did not expect", "for my taste at least", "especially on the slower songs",
         "more so than on their last one", "from what I can tell", "as far as I am concerned",
         "and I have heard a lot of this stuff", "most of all near the end", "and {kin} agrees")  # fmt: skip
PRAISE = (
    "{n} {be} {how}{good}", "{n} {be} {how}{good}", "I {enjoy} {n}", "{n} {does}", "{n} {does}", "I was {won} {n}",
    "you get {adj} {bare} here", "{adj} {bare} throughout", "{n} {be} {prize}", "I found {n} {how}{good}",
    "{n} {wins}", "{salute} {n}", "if you like {good} {bare} this one is for you", "{adj} {bare} all the way",
)  # fmt: skip
FAULT = (
    "{n} {be} {how}{bad}", "{n} {be} {how}{bad}", "I {suffer} {n}", "{n} {does}", "{n} {does}", "I was {lost} {n}",
    "{adj} {bare} throughout", "{n} {be} {pity}", "I found {n} {how}{bad}", "{n} {loses}", "{grumble} {n}",
    "{n} {be} not {good} at all", "sadly {n} {be} {bad}", "I was not ready for such {bad} {bare}",
)  # fmt: skip


@dataclass
class Sentence:
    text: str
    place: float  # sort key within the review, about 0 (first) to 1 (last)
    voiced: dict[str, list[str]] = field(default_factory=dict)  # kind -> aspects


def write_review(
    talk: random.Random, cares: np.ndarray, quality: np.ndarray, rating: int, chatter: float
) -> tuple[str, dict[str, list[str]]]:
    """A review, and the aspects that it voices by kind ("positive", "negative", "preference").

    Args:
        cares: the user's weight of each aspect, 0 where they do not care.
        quality: the item's quality in each aspect, +1 or -1, 0 where it is known for neither.
        rating: 1 to 5.
        chatter: share of sentences that say nothing of an aspect.
    """
    sentences = _opinions(talk, cares, quality) + _preferences(talk, cares, quality)
    idle_count = _idle_count(talk, len(sentences), chatter) or int(not sentences)
    talk.shuffle(sentences)
    sentences = sentences[: MAX_SENTENCES - idle_count]
    idle = []
    if idle_count and talk.random() < 0.7:
        near = rating if talk.random() < 0.85 else min(5, max(1, rating + talk.choice((-1, 1))))
        idle.append(Sentence(talk.choice(REMARKS[near]), talk.uniform(0.3, 1.1)))
    for form in talk.sample(CHATTER, idle_count - len(idle)):
        idle.append(Sentence(form.format(**{k: talk.choice(v) for k, v in FILL.items()}), talk.random()))
    while idle and sum(len(s.text.split()) for s in sentences + idle) > MAX_WORDS:
        idle.pop()
    voiced: dict[str, list[str]] = {}
    ordered = sorted(sentences + idle, key=lambda s: s.place)
    for sentence in ordered:
        for kind, aspects in sentence.voiced.items():
            voiced.setdefault(kind, []).extend(a for a in aspects if a not in voiced.get(kind, ()))
    return _finish(talk, [s.text for s in ordered], rating), voiced


def _idle_count(talk: random.Random, opinions: int, chatter: float) -> int:
    """Sentences that say nothing of an aspect, so that they make up the wanted share."""
    if chatter == 1:
        return MAX_SENTENCES
    total = min(opinions / (1 - chatter), MAX_SENTENCES)
    return int(total * chatter + talk.random())


def _opinions(talk: random.Random, cares: np.ndarray, quality: np.ndarray) -> list[Sentence]:
    """What the item is like in the aspects that this user cares about, now and then in another."""
    spoken = [int(a) for a in np.flatnonzero(cares * quality) if talk.random() < 0.92]
    others: list[int] = [int(a) for a in np.flatnonzero((quality != 0) & (cares == 0))]
    if others and talk.random() < (0.8 if not spoken else 0.2):
        spoken.append(talk.choice(others))
    talk.shuffle(spoken)
    parts = [(NAMES[a], quality[a] > 0, _clause(talk, NAMES[a], quality[a] > 0, cares[a])) for a in spoken[:4]]
    out = []
    while parts:
        first = parts.pop(0)
        told = [first]
        text = first[2]
        if parts and talk.random() < 0.55:
            told.append(parts.pop(0))
            same = told[1][1] == first[1]
            joint = talk.choice((", and ", ", plus ")) if same else talk.choice((", but ", ", though ", "; still, "))
            text += joint + told[1][2]
        if talk.random() < 0.6:
            text += ", " + talk.choice(TAILS).format(kin=talk.choice(FILL["kin"]))
        voiced: dict[str, list[str]] = {}
        for name, good, _ in told:
            voiced.setdefault("positive" if good else "negative", []).append(name)
        out.append(Sentence(text, talk.uniform(0.15, 0.9), voiced))
    return out


def _preferences(talk: random.Random, cares: np.ndarray, quality: np.ndarray) -> list[Sentence]:
    """Up to two statements of what the user wants, most of them about what the item touched on."""
    weights = cares * np.where(quality != 0, 2.0, 1.0)
    count = (talk.random() < 0.65) + (talk.random() < 0.15)
    chosen = dict.fromkeys(talk.choices(range(len(NAMES)), weights.tolist(), k=count)) if count else {}
    out = []
    for a in chosen:
        noun, plural = _noun(talk, NAMES[a])
        text = talk.choice(PREFERENCES).format(n=noun, be="are" if plural else "is")
        out.append(Sentence(text, talk.uniform(0, 0.7), {"preference": [NAMES[a]]}))
    return out


def _noun(talk: random.Random, name: str) -> tuple[str, bool]:
    words = ASPECTS[name]
    noun = talk.choice(words.singular + words.plural)
    return noun, noun in words.plural


def _clause(talk: random.Random, name: str, good: bool, weight: float) -> str:
    """One opinion on one aspect; a user who cares more speaks more strongly."""
    words = ASPECTS[name]
    if talk.random() < 0.25:
        return talk.choice(words.good_idioms if good else words.bad_idioms)
    noun, plural = _noun(talk, name)
    how = talk.choice(STRONG if weight > 1.0 else MILD) + " " if talk.random() < 0.35 else ""
    fields = {
        "n": f"{talk.choice(('the', 'the', 'the', 'their'))} {noun}",
        "bare": noun,
        "be": "are" if plural else "is",
        "how": how,
        "good": _either(talk, words.good, GOOD),
        "bad": _either(talk, words.bad, BAD),
        "adj": _either(talk, words.good, GOOD) if good else _either(talk, words.bad, BAD),
        "does": conjugate(talk.choice(words.good_does if good else words.bad_does), plural),
        "enjoy": talk.choice(ENJOY),
        "suffer": talk.choice(SUFFER),
        "won": talk.choice(WON_BY),
        "lost": talk.choice(LOST_BY),
        "wins": talk.choice(WINS),
        "loses": talk.choice(LOSES),
        "prize": talk.choice(PRIZED),
        "pity": talk.choice(PITIED),
        "salute": talk.choice(SALUTE),
        "grumble": talk.choice(GRUMBLE),
    }
    return talk.choice(PRAISE if good else FAULT).format(**fields)


def _either(talk: random.Random, own: Sequence[str], general: Sequence[str]) -> str:
    return talk.choice(own if talk.random() < 0.6 else general)


def _finish(talk: random.Random, sentences: list[str], rating: int) -> str:
    """Capitals and stops, and the slips of people in a hurry."""
    out = []
    loud = talk.random() < (0.3 if rating >= 4 else 0.1)
    for text in sentences:
        stop = "!" if loud and talk.random() < 0.5 else "."
        out.append(text[0].upper() + text[1:] + stop)
    review = " ".join(out)
    if talk.random() < 0.1:
        review = review.lower()
    if talk.random() < 0.1:
        at = talk.randrange(1, max(2, len(review) - 2))
        if review[at : at + 2].isalpha():
            review = review[:at] + review[at + 1] + review[at] + review[at + 2 :]
    return review
