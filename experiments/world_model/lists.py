"""Lists, people and numbers: copying, looking up, comparing, counting."""

import random
from collections.abc import Sequence

from worlds import NAMES, NOTHING, Row, listed

from r4r.data.simulator import FIRST, SECOND
from r4r.lexicon import KINDS, keyword

REPEAT = ("Repeat the list.", "Say it again.", "Copy the list.", "Which things are on the list?", "Read it to me.")
AFTER = ("What comes after {x}?", "Which one follows {x}?", "Next after {x}?")
BEFORE = ("What comes before {x}?", "Which one is just before {x}?")
MEMBER = ("Is {x} on the list?", "Does the list have {x}?", "Can you find {x} there?")
COUNT = ("How many are there?", "Count them.", "How long is the list?")
BOTH = ("Which are in both?", "What do they have in common?", "Name those on both lists.", "What do both share?")
ONLY = ("Which are only in {x}?", "What does {x} have that the other has not?", "Name those on {x} alone.")
LIST_NAMES = (
    ("List one", "List two"), ("The first list", "The second list"), ("A", "B"), ("Left", "Right"), ("Mine", "Yours"),
    ("The listener wants", "The album has"), ("Her list", "His list"),
)  # fmt: skip
PEOPLE = ("Anna", "Tom", "Maria", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas")
HOLDS = ("What does {x} have?", "What belongs to {x}?", "And {x}?")
OWNER = ("Who has {x}?", "Whose is {x}?")


def _things(rng: random.Random, count: int, words: Sequence[str]) -> list[str]:
    """Distinct things of one kind: features, short phrases, titles, or words of any sort."""
    kind = rng.random()
    if kind < 0.25:
        return rng.sample(NAMES, min(count, len(NAMES)))
    if kind < 0.5:
        return [keyword(name, rng.choice(KINDS)) for name in rng.sample(NAMES, min(count, len(NAMES)))]
    if kind < 0.6:
        firsts, seconds = rng.sample(FIRST, count), rng.sample(SECOND, count)
        return [f"{a} {b}" for a, b in zip(firsts, seconds, strict=True)]
    chosen = rng.sample(words, count)
    return [word.capitalize() for word in chosen] if kind < 0.75 else chosen


def _show(rng: random.Random, things: Sequence[str]) -> str:
    joint = rng.choice((", ", ", ", ", ", "; ", "\n- "))
    return ("\n- " if joint == "\n- " else " ") + (joint.join(things) or NOTHING)


def one_list(rng: random.Random, words: Sequence[str]) -> Row:
    things = _things(rng, rng.randint(2, 9), words)
    turns: list[tuple[str, str]] = []
    for _ in range(rng.randint(2, 4)):
        at, kind = rng.randrange(len(things)), rng.random()
        if kind < 0.35:
            turns.append((rng.choice(REPEAT), listed(things)))
        elif kind < 0.55 and at:
            turns.append((rng.choice(AFTER).format(x=things[at - 1]), things[at]))
        elif kind < 0.65 and at:
            turns.append((rng.choice(BEFORE).format(x=things[at]), things[at - 1]))
        elif kind < 0.85:
            asked = things[at] if rng.random() < 0.5 else _things(rng, 1, words)[0]
            turns.append((rng.choice(MEMBER).format(x=asked), "yes" if asked in things else "no"))
        else:
            turns.append((rng.choice(COUNT), str(len(things))))
    first, answer = turns[0]
    return Row(
        "list",
        [(f"{rng.choice(('List', 'Here is a list', 'Things'))}:{_show(rng, things)}\n{first}", answer), *turns[1:]],
    )


def two_lists(rng: random.Random, words: Sequence[str]) -> Row:
    pool = _things(rng, rng.randint(4, 9), words)
    pool = [thing for thing in pool if thing not in PEOPLE]
    shared = rng.sample(pool, rng.randint(0, min(4, len(pool))))
    rest = [thing for thing in pool if thing not in shared]
    cut = rng.randint(0, len(rest))
    left, right = shared + rest[:cut], shared + rest[cut:]
    rng.shuffle(left)
    rng.shuffle(right)
    names = rng.choice(LIST_NAMES)
    head = f"{names[0]}:{_show(rng, left)}\n{names[1]}:{_show(rng, right)}\n"
    turns: list[tuple[str, str]] = []
    for _ in range(rng.randint(1, 3)):
        kind = rng.random()
        if kind < 0.55:
            turns.append((rng.choice(BOTH), listed([thing for thing in left if thing in right])))
        elif kind < 0.85:
            mine, other, name = (left, right, names[0]) if rng.random() < 0.5 else (right, left, names[1])
            turns.append((rng.choice(ONLY).format(x=name), listed([thing for thing in mine if thing not in other])))
        else:
            turns.append(("How many do they share?", str(len(shared))))
    return Row("both", [(head + turns[0][0], turns[0][1]), *turns[1:]])


def pairs(rng: random.Random, words: Sequence[str]) -> Row:
    people = rng.sample(PEOPLE, rng.randint(2, 6))
    things = _things(rng, len(people), words)
    joint = rng.choice((": ", " has ", " - "))
    order = rng.sample(range(len(people)), rng.randint(1, min(3, len(people))))
    turns = []
    for n in order:
        if rng.random() < 0.6:
            turns.append((rng.choice(HOLDS).format(x=people[n]), things[n]))
        else:
            turns.append((rng.choice(OWNER).format(x=things[n]), people[n]))
    head = "\n".join(f"{person}{joint}{thing}" for person, thing in zip(people, things, strict=True))
    return Row("pairs", [(f"{head}\n{turns[0][0]}", turns[0][1]), *turns[1:]])


def numbers(rng: random.Random) -> Row:
    marks = [rng.randint(1, 5) for _ in range(rng.randint(2, 7))]
    head = f"{rng.choice(('Numbers', 'Ratings', 'Marks'))}: {', '.join(map(str, marks))}\n"
    mean = sum(marks) / len(marks)
    common = max(marks, key=marks.count)
    asked = rng.choice(marks)
    turns = rng.sample(
        [
            ("Which is the highest?", str(max(marks))),
            ("Which is the lowest?", str(min(marks))),
            ("Which comes up most?", str(common)),
            ("What is the mean, as a whole number?", str(int(mean + 0.5))),
            (f"How many times {asked}?", str(marks.count(asked))),
            ("Say them again.", ", ".join(map(str, marks))),
        ],
        3,
    )
    if rng.random() < 0.4:
        a, b = sorted(rng.sample(range(10, 51), 2))
        one, two = f"{a / 10:.1f}", f"{b / 10:.1f}"
        turns = [
            (f"Which is more, {one} or {two}?" if rng.random() < 0.5 else f"Which is more, {two} or {one}?", two),
            (f"Nearest whole number to {two}?", str(int(b / 10 + 0.5))),
            (f"Between {one} and {two}, as a whole number?", str(int((a + b) / 20 + 0.5))),
        ]
        head = ""
    return Row("numbers", [(head + turns[0][0], turns[0][1]), *turns[1:]])


def drill_copy(rng: random.Random, words: Sequence[str]) -> Row:
    turns = []
    last = rng.random()
    for _ in range(rng.randint(2, 4)):
        things = _things(rng, rng.randint(2, 7), words)
        answer = things if last < 0.7 else things[1:] if last < 0.85 else things[-2:]
        turns.append((listed(things), listed(answer)))
    return Row(
        "drill_copy", turns, "The same" if last < 0.7 else "Without the first" if last < 0.85 else "The last two"
    )


def drill_both(rng: random.Random, words: Sequence[str]) -> Row:
    turns = []
    kind = rng.random()
    for _ in range(rng.randint(2, 4)):
        pool = _things(rng, rng.randint(3, 7), words)
        shared = rng.sample(pool, rng.randint(0, min(3, len(pool))))
        rest = [thing for thing in pool if thing not in shared]
        cut = rng.randint(0, len(rest))
        left, right = shared + rest[:cut], shared + rest[cut:]
        rng.shuffle(left)
        rng.shuffle(right)
        answer = [t for t in left if (t in right) == (kind < 0.7)]
        turns.append((f"{listed(left)} / {listed(right)}", listed(answer)))
    return Row("drill_both", turns, "In both" if kind < 0.7 else "In the first only")


def drill_find(rng: random.Random, words: Sequence[str]) -> Row:
    """Look up what belongs to a name, or what follows a thing."""
    if rng.random() < 0.5:
        people = rng.sample(PEOPLE, rng.randint(3, 7))
        things = _things(rng, len(people), words)
        head = "; ".join(f"{person}: {thing}" for person, thing in zip(people, things, strict=True))
        order = rng.sample(range(len(people)), len(people) - 1)
        return Row("drill_find", [(people[n], things[n]) for n in order], f"Who has what\n{head}")
    things = _things(rng, rng.randint(4, 9), words)
    order = rng.sample(range(len(things) - 1), min(4, len(things) - 1))
    return Row("drill_find", [(things[n], things[n + 1]) for n in order], f"What comes next\n{listed(things)}")
