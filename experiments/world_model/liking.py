"""Words of liking and disliking, and the stars that they stand for."""

import random

from worlds import Row

LEADS = ("", "", "", "In the end, ", "On the whole, ", "I think ", "All told, ", "It seems that ", "So ", "In short, ")
WHO = (("they", "them"), ("this person", "this person"), ("the listener", "the listener"), ("the user", "the user"))
WHAT = ("it", "this", "the record", "this album")
MAY = ("will", "should", "may", "must", "would", "can only")
FEELS: dict[int, tuple[str, ...]] = {  # what a person does
    1: ("hate {x}", "strongly dislike {x}", "dislike {x}", "very much dislike {x}", "find {x} bad"),
    2: ("be disappointed by {x}", "regret {x}", "be somewhat disappointed with {x}", "probably find {x} poor"),
    3: ("have mixed feelings about {x}", "feel mixed about {x}", "find {x} mixed", "half like {x}", "not mind {x}"),
    4: ("like {x}", "probably like {x}", "enjoy {x}", "be pleased with {x}", "be happy with {x}", "find {x} good"),
    5: ("love {x}", "be delighted by {x}", "love all of {x}", "be delighted with {x}", "find {x} great"),
}
DOES: dict[int, tuple[str, ...]] = {  # what a record does to a person
    1: ("be hated by {x}", "be all wrong for {x}"),
    2: ("disappoint {x}", "probably disappoint {x}", "be a poor choice for {x}"),
    3: ("be a mixed experience for {x}", "leave {x} with mixed feelings", "please {x} in part"),
    4: ("please {x}", "probably please {x}", "be liked by {x}"),
    5: ("delight {x}", "be loved by {x}", "be a great delight for {x}"),
}
QUESTIONS = ("How many stars?", "Stars", "From 1 to 5", "Which rating does it stand for?", "Words into stars")


def saying(rng: random.Random, stars: int) -> str:
    """A sentence that says how much somebody will like a record."""
    (who, whom), what, may = rng.choice(WHO), rng.choice(WHAT), rng.choice(MAY)
    if may == "would" and who == "they":  # so the experts' own reasons end
        may = "will"
    if rng.random() < 0.6:
        said = f"{who} {may} {rng.choice(FEELS[stars]).format(x=what)}"
    else:
        said = f"{what} {may} {rng.choice(DOES[stars]).format(x=whom)}"
    said = f"{rng.choice(LEADS)}{said}."
    return said[0].upper() + said[1:]


def drill_liking(rng: random.Random) -> Row:
    """Sentences of liking, a line each, and the stars that each stands for."""
    marks = [rng.randint(1, 5) for _ in range(rng.randint(6, 12))]
    return Row("drill_liking", [(saying(rng, mark), str(mark)) for mark in marks], rng.choice(QUESTIONS))
