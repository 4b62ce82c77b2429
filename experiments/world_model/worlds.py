"""Invented review worlds, of seeds that no experiment uses, and what one row says of them."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from r4r.configuration.schema import WorldConfig
from r4r.data.simulator import build_world
from r4r.lexicon import ASPECTS, KINDS, NEGATIVE, POSITIVE, Kind

FIRST_SEED = 1_000_000  # of training worlds; those of the probes begin at PROBE_SEED
PROBE_SEED = 9_000_000
NAMES = tuple(ASPECTS)
PREFERENCE: Kind = "preference"
NOTHING = "None"
SUITS: dict[int, str] = {1: "not at all", 2: "hardly", 3: "partly", 4: "mostly", 5: "very much"}


class Row(NamedTuple):
    """What one row of a batch says.

    Attributes:
        family: kind of task.
        turns: question and answer, in order; none for a page.
        page: text without questions; for a drill, its heading.
    """

    family: str
    turns: list[tuple[str, str]]
    page: str = ""

    @property
    def drill(self) -> bool:
        """Whether the turns are lines of a table, in place of a conversation: few tokens for each answer."""
        return bool(self.turns and self.page)


class Book:
    """A world as the tasks need it: its reviews in order of time, with what each says, and whose and on what it is."""

    def __init__(self, config: WorldConfig):
        world = build_world(config)
        both = zip(world.rows.to_dict("records"), world.truth.reviews.to_dict("records"), strict=True)
        self.reviews: list[dict[str, Any]] = sorted((told | row for row, told in both), key=lambda r: r["timestamp"])
        self.by_user: dict[str, list[int]] = {}
        self.by_item: dict[str, list[int]] = {}
        for n, review in enumerate(self.reviews):
            self.by_user.setdefault(review["user_id"], []).append(n)
            self.by_item.setdefault(review["item_id"], []).append(n)

    def before(self, n: int, most: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The newest reviews by the user of review `n`, and those of its item by others, all older than it."""
        review = self.reviews[n]
        user = [m for m in self.by_user[review["user_id"]] if m < n][-most:]
        item = [m for m in self.by_item[review["item_id"]] if m < n][-most:]
        return [self.reviews[m] for m in user], [self.reviews[m] for m in item]


def book(seed: int) -> Book:
    """The world of a seed, its size and habits drawn by that seed.

    Raises:
        ValueError: a seed that an experiment may use.
    """
    if seed < FIRST_SEED:
        raise ValueError(f"world seed {seed}: those below {FIRST_SEED} are the experiments'")
    rng = random.Random(f"book {seed}")
    return Book(
        WorldConfig(
            seed=seed,
            users=rng.randint(24, 48),
            items=rng.randint(14, 24),
            reviews_per_user=rng.randint(8, 12),
            user_aspects=rng.choice((1, 2, 3, 4, 4, 5, 6)),
            item_aspects=rng.choice((4, 6, 6, 8, 14)),
            match_weight=rng.choice((0.7, 1.0, 1.0)),
            noise_sd=rng.choice((0.1, 0.3)),
            bias_sd=rng.choice((0.1, 0.3, 0.5)),
            chatter=rng.choice((0.0, 0.3, 0.5, 0.5)),
        )
    )


def listed(things: Sequence[str]) -> str:
    return ", ".join(things) or NOTHING


def wants(notes: Sequence[dict[str, Any]]) -> list[str]:
    """What a person looks for, by how often it comes up, then by name; a wish counts twice."""
    care: Counter[str] = Counter()
    for note in notes:
        for kind in KINDS:
            for name in note[kind]:
                care[name] += 2 if kind == PREFERENCE else 1
    return sorted(care, key=lambda name: (-care[name], name))


def balance(notes: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How much oftener each feature is praised than faulted."""
    net: Counter[str] = Counter()
    for note in notes:
        for name in note[POSITIVE]:
            net[name] += 1
        for name in note[NEGATIVE]:
            net[name] -= 1
    return dict(net)


def good_and_bad(notes: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    net = balance(notes)
    ranked = sorted(net, key=lambda name: (-abs(net[name]), name))
    return [n for n in ranked if net[n] > 0], [n for n in ranked if net[n] < 0]


def met(wanted: Sequence[str], has: Sequence[str]) -> list[str]:
    """What is in both, by name: an order that needs no look at where it stands."""
    return sorted(set(wanted) & set(has))


def grade(fits: int, misses: int) -> int:
    return min(5, max(1, 3 + fits - misses))
