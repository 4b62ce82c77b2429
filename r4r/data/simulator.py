"""A review world whose truth is known: who cares about which aspect, which item is good or bad at which.

It plants what Reason4Rec claims of real data: a rating is the match of a user's preferences with an item's qualities,
plus bias and noise, and a review tells of that match in words. The truth serves analyses and tests alone; a row gives
it away only through its review.
"""

import random
from dataclasses import dataclass

import numpy as np
import pandas as pd

from r4r.configuration.schema import WorldConfig
from r4r.data.review_text import write_review
from r4r.errors import ConfigError
from r4r.lexicon import ASPECTS

NAMES = tuple(ASPECTS)
MEAN_RATING = 3.1
GOOD_SHARE = 0.57  # of item qualities; people mostly buy what turns out well
START, YEARS = 1_325_376_000, 3  # 2012-01-01 UTC; rows spread over this many years
FIRST = (
    "Silver", "Quiet", "Midnight", "Golden", "Broken", "Distant", "Paper", "Northern", "Velvet", "Hollow",
    "Crimson", "Winter", "Restless", "Faded", "Glass", "Burning", "Little", "Lost", "Salt", "Copper", "Wandering",
    "Marble", "Amber", "Second", "Secret", "Early", "Iron", "Blue", "Gentle", "Foreign",
)  # fmt: skip
SECOND = (
    "Harbor", "River", "Letters", "Garden", "Station", "Mirrors", "Horses", "Orchard", "Lantern", "Parade",
    "Valley", "Kingdom", "Weather", "Sparrow", "Avenue", "Bridges", "Summer", "Island", "Carnival", "Meadow",
    "Radio", "Signals", "Thunder", "Window", "Comet", "Market", "Desert", "Engine", "Castle", "Tides", "Lullaby",
    "Mountain", "Shadows", "Highway", "Festival", "Atlas", "Machine", "Roses", "Satellite", "Cathedral",
)  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """What was planted.

    Attributes:
        users: user_id, aspect, weight (about 1): the aspects that a user cares about.
        items: item_id, aspect, quality (+1 or -1): the aspects that an item is known for.
        reviews: one row a review, in the order of `World.rows`: user_id, item_id; positive, negative, preference
            (tuples of aspects that the text praises, faults, and says to matter); bias (mean plus user and item bias,
            rating points), match (rating points from shared aspects).
    """

    users: pd.DataFrame
    items: pd.DataFrame
    reviews: pd.DataFrame


@dataclass(frozen=True)
class World:
    """Raw rows (user_id, item_id, title, rating, review, timestamp; in no order of time) and the truth behind them."""

    rows: pd.DataFrame
    truth: Truth


def build_world(world: WorldConfig, category: str = "Music") -> World:
    """The world of a seed: equal settings give equal rows.

    Args:
        world: sizes and effects. `reviews_per_user` is a mean (at least 2 each).
        category: of the items; the lexicon speaks of music only.

    Raises:
        ConfigError: where the sizes cannot hold, or the category is not music.
    """
    _check(world, category)
    rng = np.random.default_rng([world.seed, 4])
    talk = random.Random(f"reviews {world.seed}")
    cares = _choose(rng, world.users, world.user_aspects) * rng.uniform(0.5, 1.5, (world.users, len(NAMES)))
    known = _choose(rng, world.items, world.item_aspects)
    quality = known * np.where(rng.random(known.shape) < GOOD_SHARE, 1, -1)
    users, items = _pairs(rng, world)
    match = world.match_weight * (cares[users] * quality[items]).sum(axis=1)
    user_bias, item_bias = rng.normal(0, world.bias_sd, world.users), rng.normal(0, world.bias_sd, world.items)
    bias = MEAN_RATING + user_bias[users] + item_bias[items]
    rating = np.clip(np.rint(bias + match + rng.normal(0, world.noise_sd, len(users))), 1, 5)
    seconds = rng.integers(START, START + YEARS * 365 * 86_400, len(users))
    written = [
        write_review(talk, cares[u], quality[i], int(r), world.chatter)
        for u, i, r in zip(users, items, rating, strict=True)
    ]
    user_ids, item_ids = [f"U{n:05d}" for n in range(world.users)], [f"A{n:05d}" for n in range(world.items)]
    titles = _titles(talk, world.items)
    keys = {"user_id": [user_ids[u] for u in users], "item_id": [item_ids[i] for i in items]}
    rows = pd.DataFrame(
        keys
        | {
            "title": [titles[i] for i in items],
            "rating": rating.astype(float),
            "review": [text for text, _ in written],
            "timestamp": seconds,
        }
    )
    voiced = {kind: [tuple(v.get(kind, ())) for _, v in written] for kind in ("positive", "negative", "preference")}
    return World(
        rows,
        Truth(
            users=_long(cares, user_ids, "user_id", "weight"),
            items=_long(quality, item_ids, "item_id", "quality"),
            reviews=pd.DataFrame(keys | voiced | {"bias": bias, "match": match}),
        ),
    )


def _check(world: WorldConfig, category: str) -> None:
    problems = []
    if "music" not in category.lower():
        problems.append(f"dataset.category '{category}': the simulated world sells music only; use 'Music'")
    for key in ("user_aspects", "item_aspects"):
        if getattr(world, key) > len(NAMES):
            problems.append(f"dataset.world.{key} is {getattr(world, key)}; the lexicon has {len(NAMES)} aspects")
    if world.reviews_per_user > world.items:
        problems.append(
            f"dataset.world.reviews_per_user ({world.reviews_per_user}) exceeds dataset.world.items ({world.items}); "
            "a user reviews an item once"
        )
    room = _title_room()
    if world.items > room:
        problems.append(f"dataset.world.items is {world.items}; there are {room} titles to give")
    if problems:
        raise ConfigError(problems)


def _choose(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """0/1 matrix (count, aspects), `size` ones a row, some aspects a little commoner than others."""
    keys = rng.gumbel(size=(count, len(NAMES))) + np.linspace(0.5, -0.5, len(NAMES))
    chosen = np.zeros((count, len(NAMES)))
    np.put_along_axis(chosen, np.argsort(-keys, axis=1)[:, :size], 1.0, axis=1)
    return chosen


def _pairs(rng: np.random.Generator, world: WorldConfig) -> tuple[np.ndarray, np.ndarray]:
    """User and item of each review; no pair twice, item popularity mildly skewed (top item about 3x the median)."""
    appeal = -0.6 * np.log(rng.permutation(world.items) + world.items / 5)
    counts = np.minimum(2 + rng.poisson(world.reviews_per_user - 2, world.users), world.items)
    picks = [np.argsort(-(appeal + rng.gumbel(size=world.items)))[:count] for count in counts]
    users = np.repeat(np.arange(world.users), counts)
    order = rng.permutation(len(users))
    return users[order], np.concatenate(picks)[order]


def _long(matrix: np.ndarray, ids: list[str], key: str, value: str) -> pd.DataFrame:
    at, aspect = np.nonzero(matrix)
    return pd.DataFrame({key: [ids[n] for n in at], "aspect": [NAMES[a] for a in aspect], value: matrix[at, aspect]})


def _title_room() -> int:
    return len(FIRST) * len(SECOND) ** 2


def _titles(talk: random.Random, count: int) -> list[str]:
    """Unique invented titles of two or three words that share words, as real ones do."""
    titles: dict[str, None] = {}
    while len(titles) < count:
        a, b, c = talk.choice(FIRST), talk.choice(SECOND), talk.choice(SECOND)
        forms = (f"{a} {b}", f"{a} {b}", f"The {a} {b}", f"{b} of {c}", f"{a} {b} {c}")
        # Small catalogues use every form; a large one has only the longest form to grow in.
        title = talk.choice(forms) if len(titles) < 2_000 else forms[-1]
        if b != c or not title.endswith(f"{b} {c}"):
            titles[title] = None
    return list(titles)
