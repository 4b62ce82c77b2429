"""What follows for the rating: count of what fits, verdict, the rating to expect, the stars that were given."""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from liking import saying
from matching import ENDINGS, ENDS, HOW_FAR, essay, sides, told_of
from wording import FRAMES, Style, any_words, ask_stars, marking
from worlds import SUITS, Book, Row, good_and_bad, grade, wants

MINE = (
    "This person gives {x} on average", "Their usual rating is {x}", "Average rating by this person: {x}",
    "Mean of the person's stars = {x}", "The user's mean (all stars so far): {x}", "User, on average: {x}",
    "Stars of the listener so far, on average: {x}",
)  # fmt: skip
ITS = (
    "the record gets {x} on average", "others rate it {x}", "average rating of the record: {x}",
    "mean of the record's stars = {x}", "the record's mean (all stars by others): {x}", "record, on average: {x}",
    "stars by others so far, on average: {x}",
)  # fmt: skip
IN_A_TABLE = (  # person's average, record's average
    "{mine} / {its}", "person {mine}, record {its}", "record {its}, person {mine}", "record {its}", "{its} by others",
)  # fmt: skip
IN_NUMBERS = ("Averages", "Usual stars", "Means so far", "In numbers", "Both averages")
IN_WORDS = ("What to think of it", "Remarks on the match", "In words", "Is it for them", "Thoughts")
TO_DO = ("Question", "Your turn", "What is asked", "To do", "Now")
ASKED_OF_MATCH = {  # what a table of matches asks for
    "count": "How many wanted features are good, how many bad",
    "how far": "How far it suits",
    "in words": "What to say of it",
    "expected": "The rating to expect",
    "stars": "The stars that were given",
    "its": "What others give the record",
    "mine": "What the person gives",
}
MEAN = 3.4  # of all ratings, where a table does not show what a person gives on average
THEIRS = ("What does this person give on average?", "The person's average?", "Their mean rating?")
OF_RECORD = ("What does the record get on average?", "The record's average?", "Its mean rating by others?")
COUNT_MET = ("How many wanted features are good, how many bad?", "Count what fits and what does not.")
EXPECT = ("Which rating is to be expected, to one decimal?", "The rating to expect, with a decimal?")


def averages(rng: random.Random, user: Sequence[dict[str, Any]], item: Sequence[dict[str, Any]]) -> str:
    mine = sum(note["rating"] for note in user) / len(user)
    its = sum(note["rating"] for note in item) / len(item)
    parts = [rng.choice(MINE).format(x=f"{mine:.1f}"), rng.choice(ITS).format(x=f"{its:.1f}")]
    rng.shuffle(parts)
    joint = rng.choice((". ", "\n"))
    return joint.join(part[0].upper() + part[1:] for part in parts) + "."


def expected(mine: float, its: float, fits: int, misses: int) -> str:
    """The line that fits ratings of such worlds: both averages, how many wanted features are good, how many bad."""
    return f"{min(5.0, max(1.0, 2.0 + 0.1 * mine + 0.27 * its + 0.57 * (fits - misses))):.1f}"


class Match(NamedTuple):
    """What is known before one review, and its stars."""

    mine: float
    its: float
    wanted: list[str]
    good: list[str]
    bad: list[str]
    rating: int

    @classmethod
    def of(cls, world: Book, n: int, most: int) -> "Match | None":
        user, item = world.before(n, most)
        if not user or not item:
            return None
        wanted, (good, bad) = wants(user), good_and_bad(item)
        good = [name for name in good if name in wanted] + [name for name in good if name not in wanted]
        bad = [name for name in bad if name in wanted] + [name for name in bad if name not in wanted]
        mine, its = (sum(note["rating"] for note in notes) / len(notes) for notes in (user, item))
        return cls(mine, its, wanted, good, bad, int(world.reviews[n]["rating"]))

    def met(self) -> tuple[int, int]:
        return sum(name in self.wanted for name in self.good), sum(name in self.wanted for name in self.bad)


def drill_stars(rng: random.Random, world: Book, most: int) -> Row | None:
    """A table of matches, a line each: averages, what the record has and whether it is wanted; what follows."""
    asked = rng.sample(list(ASKED_OF_MATCH), rng.choice((1, 1, 2, 3)))
    layout, yes_no = rng.choice(IN_A_TABLE), marking(rng)
    if "mine" in asked:
        layout = IN_A_TABLE[rng.randrange(3)]
    with_averages = not {"expected", "stars", "its", "mine"}.isdisjoint(asked)
    with_verdict = "how far" not in asked and rng.random() < 0.4
    trusted = rng.random() < 0.5  # whether the verdicts follow from the matches
    in_words = {mark: rng.choice(forms) for mark, forms in ENDS.items()}
    if rng.random() < 0.4:
        in_words = {mark: " ".join(rng.sample(any_words(), rng.randint(1, 3))) for mark in ENDS}
    turns = []
    for n in rng.sample(range(len(world.reviews)), 8):
        match = Match.of(world, n, most)
        if match is None:
            continue
        match = match._replace(good=match.good[: rng.randint(0, 3)], bad=match.bad[: rng.randint(0, 3)])
        fits, misses = match.met()
        parts = told_of(rng, match.wanted, match.good, match.bad, yes_no)
        if with_verdict:
            mark = grade(fits, misses) if trusted else rng.randint(1, 5)
            told = (rng.choice(ENDS[mark]), saying(rng, mark), f"It suits them {SUITS[mark]}.")
            parts.append(rng.choice(told))
        if with_averages:
            own = layout.format(mine=f"{match.mine:.1f}", its=f"{match.its:.1f}")
            parts.insert(rng.choice((0, len(parts))), f"{own[0].upper()}{own[1:]}.")
        answers = {
            "count": f"{fits} {misses}",
            "how far": SUITS[grade(fits, misses)],
            "in words": in_words[grade(fits, misses)],
            "expected": expected(match.mine if "{mine}" in layout else MEAN, match.its, fits, misses),
            "stars": str(match.rating),
            "its": f"{match.its:.1f}",
            "mine": f"{match.mine:.1f}",
        }
        turns.append((" ".join(parts) or "Nothing is known.", "; ".join(answers[what] for what in asked)))
    return Row("drill_stars", turns, "; ".join(ASKED_OF_MATCH[what] for what in asked)) if turns else None


def stars(rng: random.Random, world: Book, n: int, most: int) -> Row | None:
    """Averages and what is thought of the match, with or without the notes: what follows, and the stars given."""
    match = Match.of(world, n, most)
    if match is None:
        return None
    user, item = world.before(n, most)
    with_notes = rng.random() < 0.6
    if not with_notes:  # what is said is then all that is known
        match = match._replace(good=match.good[:2], bad=match.bad[:2])
    fits, misses = match.met()
    # A verdict may be wrong: the features that it is said of count.
    text = essay(rng, match.wanted, match.good, match.bad, rng.choice(ENDINGS))
    title, headed = world.reviews[n]["title"], rng.random() < 0.6
    frame, joint = rng.choice(FRAMES), rng.choice(("\n", "\n\n"))
    parts = [(rng.choice(IN_NUMBERS), averages(rng, user, item)), (rng.choice(IN_WORDS), text)]
    rng.shuffle(parts)
    blocks = [f"{frame.format(x=heading)}\n{said}" if headed else said for heading, said in parts]
    if with_notes:
        blocks.insert(0, sides(rng, Style.draw(rng, raw=0.0), user, item, title))
    turns = [
        (rng.choice(THEIRS), f"{match.mine:.1f}"),
        (rng.choice(OF_RECORD), f"{match.its:.1f}"),
        (rng.choice(COUNT_MET), f"{fits} {misses}"),
        (rng.choice(HOW_FAR), SUITS[grade(fits, misses)]),
        (rng.choice(EXPECT), expected(match.mine, match.its, fits, misses)),
    ]
    turns = rng.sample(turns, rng.randint(1, 5))
    turns.insert(0 if rng.random() < 0.5 else rng.randint(0, len(turns)), ask_stars(rng, title, match.rating))
    question = f"{frame.format(x=rng.choice(TO_DO))}\n{turns[0][0]}" if headed else turns[0][0]
    return Row("stars", [(joint.join([*blocks, question]), turns[0][1]), *turns[1:]])
