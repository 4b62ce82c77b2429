"""Reviews: what they are about, what they praise, blame and wish for."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from worlds import NAMES, PREFERENCE, Book, Row, listed

from r4r.data.review_text import write_review
from r4r.lexicon import ASPECTS, BAD, GOOD, KINDS, NEGATIVE, POSITIVE, Kind, keyword

NOUNS = {noun: name for name, words in ASPECTS.items() for noun in (*words.singular, *words.plural)}
GOOD_LABELS = ("Good", "Pros", "Strong", "Praised", "Likes", "Pleased by", "Plus", "Well done")
BAD_LABELS = ("Bad", "Cons", "Weak", "Faulted", "Dislikes", "Let down by", "Minus", "Badly done")
WISH_LABELS = ("Wants", "Looks for", "Cares for", "Needs", "Important", "Values", "Wishes", "Listens for")
LABELS: tuple[tuple[Kind, Sequence[str]], ...] = (
    (POSITIVE, GOOD_LABELS), (NEGATIVE, BAD_LABELS), (PREFERENCE, WISH_LABELS),
)  # fmt: skip
SAYINGS: dict[str, str] = {POSITIVE: "praise", NEGATIVE: "blame", PREFERENCE: "wish", "": "nothing"}
PRAISE = ("Which features does it praise?", "What is good here?", "What does the writer like?", "Name what is praised.")
BLAME = ("Which features does it fault?", "What is bad here?", "What does the writer dislike?", "Name what is faulted.")
WISH = ("Which features matter to the writer?", "What does the writer look for?", "What does the writer care about?")
IN_SHORT = ("In two words each.", "Use short phrases.", "As short phrases.")
SAID_OF = ("What does it say of the {x}?", "And of the {x}?", "What about the {x}?")
TELL_ALL = ("Sum it up as {x}.", "Tell it as {x}.", "Put it as {x}.", "List {x}.")
STARS = ("How many stars would the writer give?", "Which rating goes with it?", "Stars?", "What is the rating?")
ABOUT = ("Which feature is this about?", "Which feature?", "What is it about?")
TONE = ("Praise or blame?", "Is it praise, blame or a wish?", "Does the writer like it?")


def drill_noun(rng: random.Random) -> Row:
    if rng.random() < 0.5:
        return Row("drill_noun", [(noun, NOUNS[noun]) for noun in rng.sample(sorted(NOUNS), 6)], "Feature")
    turns = []
    for name in rng.sample(NAMES, 5):
        tone: Kind = rng.choice((POSITIVE, NEGATIVE))
        own = ASPECTS[name]
        text = rng.choice(
            (
                f"{rng.choice(own.good if tone == POSITIVE else own.bad)} {rng.choice(own.singular + own.plural)}",
                rng.choice(own.good_idioms if tone == POSITIVE else own.bad_idioms),
                f"{rng.choice(GOOD if tone == POSITIVE else BAD)} {rng.choice(own.singular + own.plural)}",
            )
        )
        turns.append((text, keyword(name, tone)))
    return Row("drill_noun", turns, "In two words")


def drill_clause(rng: random.Random) -> Row:
    """Reviews of one or two opinions, a line each: what they praise, blame and wish for."""
    turns = []
    for _ in range(rng.randint(3, 6)):
        cares, quality = np.zeros(len(NAMES)), np.zeros(len(NAMES))
        for n in rng.sample(range(len(NAMES)), rng.choice((1, 1, 2))):
            cares[n], quality[n] = rng.uniform(0.5, 1.5), rng.choice((-1, 1))
        text, voiced = write_review(rng, cares, quality, rng.randint(1, 5), chatter=rng.choice((0.0, 0.0, 0.3)))
        turns.append((text, listed([keyword(name, kind) for kind in KINDS for name in voiced.get(kind, ())])))
    return Row("drill_clause", turns, "What it says")


def nouns(rng: random.Random) -> Row:
    asked = rng.sample(sorted(NOUNS), 4)
    if rng.random() < 0.5:
        return Row("nouns", [(f"{noun}\n{rng.choice(ABOUT)}", NOUNS[noun]) for noun in asked])
    name = rng.choice(NAMES)
    tone: Kind = rng.choice((POSITIVE, NEGATIVE))
    own = ASPECTS[name]
    word = rng.choice(own.good if tone == POSITIVE else own.bad)
    noun = rng.choice(own.singular + own.plural)
    return Row("nouns", [(f"{word} {noun}\n{rng.choice(TONE)}", SAYINGS[tone]), ("In two words?", keyword(name, tone))])


def one_review(rng: random.Random, review: dict[str, Any]) -> Row:
    ask: dict[Kind, Sequence[str]] = {POSITIVE: PRAISE, NEGATIVE: BLAME, PREFERENCE: WISH}
    turns: list[tuple[str, str]] = []
    asked = rng.sample(KINDS, 3)
    short = rng.random() < 0.5
    whole = rng.random()
    if whole < 0.6:
        for kind in asked:
            names = [keyword(name, kind) for name in review[kind]] if short else list(review[kind])
            hint = f" {rng.choice(IN_SHORT)}" if short and kind != PREFERENCE else ""
            turns.append((rng.choice(ask[kind]) + hint, listed(names)))
    if whole >= 0.4:
        labels = [rng.choice(words) for _, words in LABELS]
        lines = [
            f"{label}: {listed([keyword(n, kind) if short else n for n in review[kind]])}"
            for label, kind in zip(labels, KINDS, strict=True)
        ]
        joint = "\n" if rng.random() < 0.6 else "; "
        wanted = f"{labels[0]}, {labels[1]}, {labels[2]}" + (", in short phrases" if short else "")
        turns.append((rng.choice(TELL_ALL).format(x=wanted), joint.join(lines)))
    if rng.random() < 0.4:
        told = [(name, kind) for kind in (POSITIVE, NEGATIVE) for name in review[kind]]
        name, kind = rng.choice(told) if told and rng.random() < 0.7 else (rng.choice(NAMES), "")
        if not kind:
            kind = next((k for k in (POSITIVE, NEGATIVE, PREFERENCE) if name in review[k]), "")
        turns.append((rng.choice(SAID_OF).format(x=name.lower()), SAYINGS[kind]))
    if rng.random() < 0.25:
        turns.append((rng.choice(STARS), f"{int(review['rating'])}"))
    rng.shuffle(turns)
    return Row("review", [(f"{review['review']}\n{turns[0][0]}", turns[0][1]), *turns[1:]])


def page(rng: random.Random, world: Book, n: int) -> Row | None:
    """Reviews by one person and on one record, then what that person said of it."""
    user, item = world.before(n, rng.randint(1, 4))
    if not user or not item:
        return None
    last = world.reviews[n]
    told = "\n".join(f"{note['title']}, {note['rating']:.1f} stars\n{note['review']}" for note in user)
    said = "\n".join(f"{note['rating']:.1f} stars\n{note['review']}" for note in item)
    ends = (
        f"{last['rating']:.1f} stars\n{last['review']}"
        if rng.random() < 0.6
        else f"{last['review']}\n{last['rating']:.1f} stars"
    )
    return Row(
        "page", [], f"Reviews by one listener\n{told}\nReviews of {last['title']}\n{said}\nThe listener on it\n{ends}"
    )
