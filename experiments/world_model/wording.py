"""How notes, marks and questions are worded and laid out: drawn anew for each row, with words that mean nothing, too.

So that what is learnt does not hang on a few phrases, labels and headings.
"""

import random
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import vocabulary
from reading import BAD_LABELS, GOOD_LABELS, WISH_LABELS
from worlds import listed

from r4r.lexicon import KINDS, keyword

GAVE = (
    "What did {who} give in the end?", "Guess the stars that {who} gave.", "How many stars came of it?",
    "Which rating will {who} give it?", "Now guess the rating of {x} by {who}.", "How will {who} rate {x}?",
    "Say how many stars {who} gives to {x}.", "Predict the stars for {x}.", "Predict which rating {who} gives to {x}.",
    "By all that is said here, what rating does {x} get from {who}?", "So how many stars for {x}?",
    "Please predict: the rating of {x} for {who}?", "What would be the rating of {who} for {x}?", "The rating for {x}?",
)  # fmt: skip
WHOSE = ("this person", "this listener", "the user", "this user", "the person above")
BEFORE = ("", "", "", "From all of this: ", "Given these facts. ", "By the above: ", "Task. ", "Think of both sides. ")
AFTER = (
    "", "", "", " (1 is the lowest, 5 the highest)", " 5 is best, 1 is worst.", " Only the number.", " From 1 up to 5.",
    " (lowest 1, highest 5; give nothing else)", " Give a rating alone, no other words.",
)  # fmt: skip
FRAMES = (
    "{x}", "{x}:", "[{x}]", "== {x} ==", "** {x} **", "--- {x}", "# {x}", "## {x}", "## {x} ##", "<{x}>", "*** {x} ***",
    ":: {x} ::", "== {x}", "%% {x} %%", "~~~ {x} ~~~", "++ {x} ++", "@ {x} @", "// {x} //", "=== {x} ===", "&& {x}",
)  # fmt: skip
MATTERS = (  # how much a feature does to this person, or does not
    ("which they want", "which they do not ask for"), ("much to them", "little to them"),
    ("which matters here", "which does not matter here"), ("as they look for it", "for others"),
    ("on their list", "not on their list"), ("which they want", ""), ("dear to them", ""), ("that they ask for", ""),
    ("a wish of theirs", ""), ("a thing they value", ""),
)  # fmt: skip


OF_LABELS = ("rating", "analysis", "aspects", "elements", "output")
VERBS = ("want", "need", "value", "look for")
PERSONS = (("they", "them", ""), ("this person", "this person", "s"), ("the listener", "the listener", "s"))


def marking(rng: random.Random) -> tuple[str, str]:
    """What is said of features that matter to a person, and of the others (nothing, perhaps).

    The words may be any: which features they are said of, and of how many, is what counts.
    """
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(MATTERS)
    if kind < 0.65:
        return " ".join(rng.sample(any_words(), rng.randint(1, 3))), ""
    who, whom, ending = rng.choice(PERSONS)
    verb = rng.choice(VERBS)
    verb = verb.replace("look", "looks") if ending and verb.startswith("look") else verb + ending
    said = rng.choice(
        (
            f"{rng.choice(('which', 'that'))} {who} {verb}",
            f"{rng.choice(('important', 'key', 'good to know'))} for {whom}",
            f"a {rng.choice(('need', 'wish', 'matter'))} of {whom}",
            f"it matters for {whom}",
        )
    )
    return said, "" if rng.random() < 0.7 else rng.choice(("not so", f"nothing for {whom}", "no matter"))


@cache
def any_words() -> list[str]:
    """Plain words, those of the experts' own labels left out."""
    return [w for w in vocabulary.words() if w.isascii() and w.isalpha() and w.islower() and w not in OF_LABELS]


def ask_stars(rng: random.Random, title: str, stars: int) -> tuple[str, str]:
    """A question for the stars of a review, and the answer in the form that it asks for."""
    name = f'"{title}"' if rng.random() < 0.4 else title
    question = rng.choice(GAVE).format(x=name, who=rng.choice(WHOSE))
    question = rng.choice(BEFORE) + question + rng.choice(AFTER)
    answer = f"{stars}" if rng.random() < 0.5 else f"{stars}.0"
    if rng.random() < 0.6:
        lead = rng.choice(("Stars", "It gets", "They give", "", "", ""))
        lead = lead or " ".join(rng.sample(any_words(), rng.randint(1, 3))).title()
        lead += rng.choice((":", ":", " ="))
        told = rng.choice(("[1 to 5]", "[number, 1 to 5]", "[1-5]", "[from 1 up to 5]", "..."))
        question += rng.choice((" ", "\n")) + rng.choice(("Write:", "[Write]", "[Answer so]", "Form:", "[Form]"))
        question += f" {lead} {told}"
        answer = f"{lead} {answer}"
    return question, answer


LABEL_NOUNS = ("points", "things", "remarks", "features", "sides", "traits", "words", "items")
GOOD_WORDS = ("Good", "Positive", "Strong", "Best", "Praised", "Pleasing")
BAD_WORDS = ("Bad", "Negative", "Weak", "Worst", "Faulted", "Poor")
WISH_WORDS = ("Wanted", "Preference", "Important", "User", "Personal", "Listener")


def _labels(rng: random.Random) -> tuple[tuple[str, str, str], bool]:
    """Labels of what a note praises, faults and wishes for, and whether they tell which is which."""
    kind = rng.random()
    if kind < 0.4:
        at = rng.randrange(len(GOOD_LABELS))
        return (GOOD_LABELS[at], BAD_LABELS[at], rng.choice(WISH_LABELS)), True
    if kind < 0.75:
        noun, at = rng.choice(LABEL_NOUNS), rng.randrange(len(GOOD_WORDS))
        noun = noun.title() if rng.random() < 0.5 else noun
        return (f"{GOOD_WORDS[at]} {noun}", f"{BAD_WORDS[at]} {noun}", f"{rng.choice(WISH_WORDS)} {noun}"), True
    good, bad, wish = (" ".join(rng.sample(any_words(), rng.randint(1, 3))).title() for _ in range(3))
    return (good, bad, wish), False


class Style(NamedTuple):
    """How notes are laid out: labels by kind, how stars are written (or not), one line or several, phrases or names."""

    labels: tuple[str, str, str]
    lines: bool
    phrases: bool
    stars: str
    bullet: str
    raw: bool

    @classmethod
    def draw(cls, rng: random.Random, raw: float) -> "Style":
        labels, telling = _labels(rng)
        return cls(
            labels=labels,
            lines=rng.random() < 0.6,
            phrases=not telling or rng.random() < 0.6,
            stars=rng.choice(
                ("", "", ", {x} stars", ", {x} stars", " ({x})", ": {x} of 5", ", stars: {x}", " - rated {x}")
            ),
            bullet=rng.choice(("- ", "* ", "Note {n}: ", "({n}) ", "#{n} ", "", "{n}) ", "{n}: ", "No. {n} - ")),
            raw=rng.random() < raw,
        )

    def show(self, notes: Sequence[dict[str, Any]]) -> str:
        out = []
        for n, note in enumerate(notes, 1):
            head = self.bullet.format(n=n) + note["title"]
            head += self.stars.format(x=f"{note['rating']:.1f}")
            if self.raw:
                out.append(f"{head}\n{note['review']}")
                continue
            told = [
                f"{label}: {listed([keyword(name, kind) if self.phrases else name for name in note[kind]])}"
                for label, kind in zip(self.labels, KINDS, strict=True)
            ]
            out.append(head + ("\n" + "\n".join(told) if self.lines else ": " + "; ".join(told)))
        return "\n".join(out)
