"""What the small base model learns from: plain questions on invented review worlds, and pages of reviews.

A row is a short conversation about one list, one review or a few notes, a table of small problems, or a page to read.
Every world has a seed of its own from `FIRST_SEED` on, which no experiment uses. Questions, answers and layouts have
words of their own, so that the experts' prompts and targets stay unseen.
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import ledger
import liking
import lists
import matching
import reading
import stars
from worlds import FIRST_SEED, PROBE_SEED, Book, Row, book

__all__ = ["FAMILIES", "FIRST_SEED", "PROBE_SEED", "Row", "book", "draw"]


class Source(NamedTuple):
    """What a row is drawn from: a world, words for lists of any words, notes a side at most."""

    rng: random.Random
    world: Book
    words: Sequence[str]
    most: int

    def any_review(self) -> int:
        return self.rng.randrange(len(self.world.reviews))


FAMILIES: dict[str, Callable[[Source], Row | None]] = {
    "drill_copy": lambda s: lists.drill_copy(s.rng, s.words),
    "drill_both": lambda s: lists.drill_both(s.rng, s.words),
    "drill_find": lambda s: lists.drill_find(s.rng, s.words),
    "drill_noun": lambda s: reading.drill_noun(s.rng),
    "drill_clause": lambda s: reading.drill_clause(s.rng),
    "drill_suit": lambda s: matching.drill_suit(s.rng),
    "drill_check": lambda s: ledger.drill_check(s.rng),
    "drill_liking": lambda s: liking.drill_liking(s.rng),
    "drill_stars": lambda s: stars.drill_stars(s.rng, s.world, s.most),
    "list": lambda s: lists.one_list(s.rng, s.words),
    "both": lambda s: lists.two_lists(s.rng, s.words),
    "pairs": lambda s: lists.pairs(s.rng, s.words),
    "numbers": lambda s: lists.numbers(s.rng),
    "nouns": lambda s: reading.nouns(s.rng),
    "review": lambda s: reading.one_review(s.rng, s.world.reviews[s.any_review()]),
    "suit": lambda s: matching.suit(s.rng),
    "weigh": lambda s: matching.weigh(s.rng),
    "person": lambda s: matching.one_side(s.rng, s.world.before(s.any_review(), s.most)[0], person=True),
    "record": lambda s: matching.one_side(s.rng, s.world.before(s.any_review(), s.most)[1], person=False),
    "meeting": lambda s: matching.two_sides(s.rng, s.world, s.any_review(), s.most),
    "ledger": lambda s: ledger.ledger(s.rng, s.world, s.any_review(), s.most),
    "stars": lambda s: stars.stars(s.rng, s.world, s.any_review(), s.most),
    "page": lambda s: reading.page(s.rng, s.world, s.any_review()),
}


def draw(rng: random.Random, family: str, world: Book, words: Sequence[str], most: int) -> Row | None:
    """One row of a family, or None where the drawn review has nothing before it.

    Args:
        words: material for lists of any words.
        most: notes a side, at most.
    """
    return FAMILIES[family](Source(rng, world, words, most))
