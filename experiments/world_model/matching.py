"""Several notes: what a person looks for, what a record is good at, whether they meet."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from liking import saying
from reading import BAD_LABELS, GOOD_LABELS, WISH_LABELS
from wording import FRAMES, Style, ask_stars, marking
from worlds import NAMES, SUITS, Book, Row, good_and_bad, grade, listed, met, wants

from r4r.lexicon import KINDS, NEGATIVE, POSITIVE, Kind, keyword

MATTER = ("What matters most to this person?", "Which features does this person look for?", "What do they care about?")
OFTEN = ("How many notes speak of the {x}?", "How often does the {x} come up?")
MEAN = ("What is the average rating, as a whole number?", "What do they give on average?", "The usual rating?")
STRENGTHS = ("What is the record good at?", "Which features are praised more often than faulted?", "Its strong points?")
FAULTS = ("What is the record bad at?", "Which features are faulted more often than praised?", "Its weak points?")
FITS = ("Which wanted features does the record do well?", "What would please this person?", "What fits?")
MISSES = ("Which wanted features does the record do badly?", "What would let this person down?", "What does not fit?")
HOW_FAR = ("How far does it suit this person?", "How well do they match?", "Does it suit them?")
GRADE = ("Start at 3, add 1 for each that fits, take 1 off for each that does not.", "Which grade from 1 to 5 follows?")
ESSAY = ("Tell in a few sentences whether it suits this person.", "Explain in your own words.", "Why, or why not?")


BY_PERSON = (
    "Notes by one person",
    "What the listener said",
    "By this person",
    "Notes of the person",
    "One person on records",
)
ON_RECORD = ("Notes on {x}", "What others say of {x}", "Others on {x}", "On the record {x}", "What is said of {x}")
ENDS: dict[int, tuple[str, ...]] = {
    1: (
        "It suits them not at all.", "They will not stand it.", "A bad match for them.", "They would hate it.",
        "It is the worst thing for them.", "So they will not like it at all.", "All in all: no, never.",
    ),
    2: (
        "It suits them hardly.", "They may well regret it.", "Rather not for them.", "It would let them down.",
        "More bad than good for them.", "So they will be less than happy with it.", "All in all: rather no.",
    ),
    3: (
        "It suits them partly.", "They may go either way.", "Neither good nor bad for them.",
        "They may feel mixed about it.", "As much for it as against it.", "So they will be of two minds about it.",
        "All in all: yes and no.",
    ),
    4: (
        "It suits them mostly.", "They should be pleased.", "Rather a good match for them.",
        "It would make them happy.", "More good than bad for them.", "So they will be quite happy with it.",
        "All in all: rather yes.",
    ),
    5: (
        "It suits them very much.", "They cannot go wrong with it.", "A great match for them.",
        "They would enjoy all of it.", "It is the best thing for them.", "So they will be very happy with it.",
        "All in all: yes, always.",
    ),
}  # what may follow a match, by its grade  # fmt: skip
ENDINGS = ("follows", "any", "none")  # of an essay: by the match, whatever it is like, not there


HAS = ("The record has {x}.", "It is known for {x}.", "Others like the {x}.")
LACKS = ("It also has {x}.", "Others complain of {x}.", "It is let down by {x}.")
HAS_AND_LACKS = (
    "It has {x} but also {y}.", "Others like {x} yet complain of {y}.", "The record has {x}, though {y}.",
    "With {x} but {y}.", "For it: {x}; against it: {y}.",
)  # fmt: skip


def one_side(rng: random.Random, notes: Sequence[dict[str, Any]], person: bool) -> Row | None:
    """Notes by one person, or on one record: what is common to them."""
    if not notes:
        return None
    style = Style.draw(rng, raw=0.25 if len(notes) <= 3 else 0.0)
    named = [name for name in NAMES if any(name in note[kind] for note in notes for kind in KINDS)]
    asked = rng.sample(named, min(3, len(named))) or [rng.choice(NAMES)]
    mean = int(sum(note["rating"] for note in notes) / len(notes) + 0.5)
    good, bad = good_and_bad(notes)
    turns = [
        (
            rng.choice(OFTEN).format(x=name.lower()),
            str(sum(any(name in note[kind] for kind in KINDS) for note in notes)),
        )
        for name in asked
    ]
    if style.stars:
        turns.append((rng.choice(MEAN), str(mean)))
    if person:
        turns.append((rng.choice(MATTER), listed(wants(notes)[:4])))
    else:
        turns += [(rng.choice(STRENGTHS), listed(good)), (rng.choice(FAULTS), listed(bad))]
    rng.shuffle(turns)
    head = rng.choice(
        ("Notes by one person", "What a listener said") if person else ("Notes on one record", "What others say")
    )
    return Row(
        "person" if person else "record", [(f"{head}\n{style.show(notes)}\n{turns[0][0]}", turns[0][1]), *turns[1:]]
    )


def drill_suit(rng: random.Random) -> Row:
    """Short lists of wishes against good and bad features: what fits, what does not, how far."""
    turns = []
    for _ in range(rng.randint(2, 3)):
        wanted = rng.sample(NAMES, rng.randint(1, 4))
        known = list(dict.fromkeys(rng.sample(wanted, rng.randint(0, len(wanted))) + rng.sample(NAMES, 1)))
        rng.shuffle(known)
        good = [name for name in known if rng.random() < 0.55]
        bad = [name for name in known if name not in good]
        fits, misses = met(wanted, good), met(wanted, bad)
        seen = (
            f"{listed(wanted)} / {listed([keyword(n, POSITIVE) for n in good] + [keyword(n, NEGATIVE) for n in bad])}"
        )
        turns.append((seen, f"{listed(fits)}; {listed(misses)}; {SUITS[grade(len(fits), len(misses))]}"))
    return Row("drill_suit", turns, "What fits; what does not; how far")


def suit(rng: random.Random) -> Row:
    """A wish list against what a record does well and badly."""
    wanted = rng.sample(NAMES, rng.randint(1, 5))
    known = list(dict.fromkeys(rng.sample(wanted, rng.randint(0, len(wanted))) + rng.sample(NAMES, rng.randint(0, 3))))
    rng.shuffle(known)
    good = [name for name in known if rng.random() < 0.6]
    bad = [name for name in known if name not in good]
    fits, misses = met(wanted, good), met(wanted, bad)
    mark = grade(len(fits), len(misses))
    phrases = rng.random() < 0.5
    at = rng.randrange(len(GOOD_LABELS))

    def say(names: Sequence[str], kind: Kind) -> str:
        return listed([keyword(name, kind) if phrases else name for name in names])

    parts = [
        f"{rng.choice(WISH_LABELS)}: {listed(wanted)}",
        f"{GOOD_LABELS[at]}: {say(good, POSITIVE)}\n{BAD_LABELS[at]}: {say(bad, NEGATIVE)}",
    ]
    if rng.random() < 0.3:
        parts.reverse()
    turns = [
        (rng.choice(FITS), listed(fits)),
        (rng.choice(MISSES), listed(misses)),
        (rng.choice(HOW_FAR), SUITS[mark]),
    ]
    turns = turns[: rng.randint(1, 3)] if rng.random() < 0.6 else [turns[2]]
    if rng.random() < 0.6:
        turns.append((rng.choice(GRADE), str(mark)))
    if rng.random() < 0.25:
        turns.append((rng.choice(ESSAY), essay(rng, wanted, good, bad)))
    return Row("suit", [("\n".join(parts) + "\n" + turns[0][0], turns[0][1]), *turns[1:]])


def care(notes: Sequence[dict[str, Any]]) -> Counter[str]:
    """How many notes speak of each feature."""
    return Counter(name for note in notes for name in {name for kind in KINDS for name in note[kind]})


def sides(
    rng: random.Random, style: Style, user: Sequence[dict[str, Any]], item: Sequence[dict[str, Any]], title: str
) -> str:
    """Notes by a person and on a record, one above the other, each under a heading."""
    frame = rng.choice(FRAMES)
    both = [
        f"{frame.format(x=rng.choice(BY_PERSON))}\n{style.show(user)}",
        f"{frame.format(x=rng.choice(ON_RECORD).format(x=title))}\n{style.show(item)}",
    ]
    if rng.random() < 0.25:
        both.reverse()
    return rng.choice(("\n", "\n\n")).join(both)


def verdict(rng: random.Random, wanted: Sequence[str], good: Sequence[str], bad: Sequence[str]) -> tuple[str, str]:
    fits, misses = [n for n in wanted if n in good], [n for n in wanted if n in bad]
    return rng.choice(HOW_FAR), SUITS[grade(len(fits), len(misses))]


def two_sides(rng: random.Random, world: Book, n: int, most: int) -> Row | None:
    """Notes by a person and on a record that they do not know yet: what they want, what it has, how it ends."""
    user, item = world.before(n, most)
    if not user or not item:
        return None
    style = Style.draw(rng, raw=0.2 if most <= 3 else 0.0)
    wanted = wants(user)
    good, bad = good_and_bad(item)
    fits, misses = met(wanted, good), met(wanted, bad)
    turns = [
        (rng.choice(MATTER), listed(wanted[:4])),
        (rng.choice(STRENGTHS), listed(good)),
        (rng.choice(FAULTS), listed(bad)),
        (rng.choice(FITS), listed(fits)),
        (rng.choice(MISSES), listed(misses)),
    ]
    share = rng.choice((0.0, 0.0, 0.3, 0.8))  # at once, or step by step
    turns = [turn for turn in turns if rng.random() < share]
    if not turns or rng.random() < 0.7:
        turns.append(
            verdict(rng, wanted, good, bad)
            if rng.random() < 0.3
            else (rng.choice(ESSAY), essay(rng, wanted, good, bad))
        )
    if rng.random() < 0.4:
        mine = sum(note["rating"] for note in user) / len(user)
        its = sum(note["rating"] for note in item) / len(item)
        told = f"This person gives {mine:.1f} on average, the record gets {its:.1f}. " if rng.random() < 0.7 else ""
        question, answer = ask_stars(rng, world.reviews[n]["title"], int(world.reviews[n]["rating"]))
        turns.append((told + question, answer))
    head = sides(rng, style, user, item, world.reviews[n]["title"])
    return Row("meeting", [(f"{head}\n{turns[0][0]}", turns[0][1]), *turns[1:]])


def _joined(names: Sequence[str]) -> str:
    low = [name.lower() for name in names]
    return " and ".join([", ".join(low[:-1])] * (len(low) > 1) + low[-1:])


def told_of(
    rng: random.Random, wanted: Sequence[str], good: Sequence[str], bad: Sequence[str], yes_no: tuple[str, str]
) -> list[str]:
    """What a record does well and badly, with what is said of features that are wanted or not.

    A sentence for each side, or one for both.
    """
    joint = rng.choice(("; ", ", ", " and ")) if any(yes_no) else " and "
    sides = []
    for names, kind in ((good, POSITIVE), (bad, NEGATIVE)):
        told = []
        for name in names:
            said = yes_no[0] if name in wanted else yes_no[1]
            told.append(keyword(name, kind).lower() + (f", {said}" if said else ""))
        sides.append(joint.join(told))
    if all(sides) and rng.random() < 0.5:
        return [rng.choice(HAS_AND_LACKS).format(x=sides[0], y=sides[1])]
    return [rng.choice(says).format(x=side) for side, says in zip(sides, (HAS, LACKS), strict=True) if side]


def essay(
    rng: random.Random, wanted: Sequence[str], good: Sequence[str], bad: Sequence[str], ending: str = ENDINGS[0]
) -> str:
    """Whether a record suits a person, in sentences: both sides, where they meet, one of ENDINGS."""
    fits, misses = [n for n in wanted if n in good], [n for n in wanted if n in bad]
    mark = grade(len(fits), len(misses))
    one_by_one = rng.random() < 0.6
    if rng.random() < 0.6:  # what the other side speaks of comes first
        good = [*fits, *(n for n in good if n not in fits)]
        bad = [*misses, *(n for n in bad if n not in misses)]
        if not one_by_one:
            wanted = [*fits, *misses, *(n for n in wanted if n not in fits and n not in misses)]
    hopes, most = _joined(wanted[: rng.randint(2, 3)]), rng.randint(2, 4)
    person = [
        rng.choice(("This person wants {x}.", "{x} matters to them.", "What they look for is {x}.")).format(x=hopes)
    ]
    if not wanted:
        person = ["What this person wants is unclear."]
    yes_no = marking(rng) if one_by_one else ("", "")
    record = told_of(rng, wanted, good[:most], bad[:most], yes_no)
    parts = [*person, *record] if rng.random() < 0.7 else [*record, *person]
    if fits and not one_by_one:
        parts.append(rng.choice(("It meets the wish for {x}.", "So {x} will please.")).format(x=_joined(fits)))
    if misses and not one_by_one:
        parts.append(rng.choice(("It misses on {x}.", "But {x} will not please.")).format(x=_joined(misses)))
    if ending != "none":
        said = mark if ending == "follows" else rng.randint(1, 5)
        parts.append(rng.choice(ENDS[said]) if rng.random() < 0.5 else saying(rng, said))
    return " ".join(part[0].upper() + part[1:] for part in parts)


def weigh(rng: random.Random) -> Row:
    """Two averages and a verdict in words: which number follows."""
    mine, its = rng.randint(15, 50) / 10, rng.randint(15, 50) / 10
    mark = rng.randint(1, 5)
    expected = (mine + its) / 2 + 0.7 * (mark - 3)
    told = [
        f"This person gives {mine:.1f} on average.",
        f"The record gets {its:.1f} on average.",
        f"It suits them {SUITS[mark]}.",
    ]
    rng.shuffle(told)
    return Row("weigh", [(" ".join(told) + " Which rating follows?", str(min(5, max(1, int(expected + 0.5)))))])
