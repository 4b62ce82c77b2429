"""Feature by feature: does a person want it, how does a record do on it; and the stars that follow from a verdict."""

import random
from collections.abc import Sequence
from typing import Any

from matching import GAVE, Style, care, essay, sides, verdict
from worlds import NAMES, Book, Row, balance, good_and_bad, listed, wants

from r4r.lexicon import NEGATIVE, POSITIVE, keyword

THROUGH = ("Go through these: {x}.", "One by one: {x}.", "Say it of each: {x}.", "Take {x} in turn.")
ALL_TOLD = ("Go through what the record is known for.", "Each feature of the record?", "Take its features in turn.")
MINE = ("This person gives {x} on average", "Their usual rating is {x}", "Average rating by this person: {x}")
ITS = ("the record gets {x} on average", "others rate it {x}", "average rating of the record: {x}")


def wish(times: int) -> str:
    return "not wanted" if not times else "wanted" if times == 1 else "much wanted"


def standing(net: dict[str, int], name: str) -> str:
    return "unknown" if name not in net else "praised" if net[name] > 0 else "faulted" if net[name] < 0 else "mixed"


def drill_check(rng: random.Random) -> Row:
    """Wishes against a record's features: for each of these whether it is wanted, and good or bad."""
    turns = []
    for _ in range(rng.randint(2, 3)):
        wanted = rng.sample(NAMES, rng.randint(1, 4))
        known = list(
            dict.fromkeys(rng.sample(wanted, rng.randint(0, len(wanted))) + rng.sample(NAMES, rng.randint(1, 3)))
        )
        rng.shuffle(known)
        good = {name for name in known if rng.random() < 0.55}
        said = [keyword(name, POSITIVE if name in good else NEGATIVE) for name in known]
        answer = [
            f"{name.lower()} {'yes' if name in wanted else 'no'} {'good' if name in good else 'bad'}" for name in known
        ]
        turns.append((f"{listed(wanted)} / {listed(said)}", "; ".join(answer)))
    return Row("drill_check", turns, "Each feature: wanted? good or bad?")


def ledger(rng: random.Random, world: Book, n: int, most: int) -> Row | None:
    """Notes of both sides, then features one by one: how much they are wanted, and what is said of them."""
    user, item = world.before(n, most)
    if not user or not item:
        return None
    mentions, net = care(user), balance(item)
    known = [name for name in NAMES if name in net]
    turns = []
    for _ in range(rng.randint(1, 2)):
        if rng.random() < 0.4 and known:
            asked, question = known, rng.choice(ALL_TOLD)
        else:
            named = [name for name in NAMES if name in net or name in mentions]
            asked = list(dict.fromkeys(rng.sample(named, min(4, len(named))) + rng.sample(NAMES, 2)))
            rng.shuffle(asked)
            question = rng.choice(THROUGH).format(x=", ".join(name.lower() for name in asked))
        told = [f"{name.lower()}: {wish(mentions[name])}, {standing(net, name)}" for name in asked]
        turns.append((question, "\n".join(told)))
    if rng.random() < 0.5:
        turns.append(verdict(rng, wants(user)[:4], *good_and_bad(item)))
    head = sides(rng, Style.draw(rng, raw=0.0), user, item, world.reviews[n]["title"])
    return Row("ledger", [(f"{head}\n{turns[0][0]}", turns[0][1]), *turns[1:]])


def averages(rng: random.Random, user: Sequence[dict[str, Any]], item: Sequence[dict[str, Any]]) -> str:
    mine = sum(note["rating"] for note in user) / len(user)
    its = sum(note["rating"] for note in item) / len(item)
    parts = [rng.choice(MINE).format(x=f"{mine:.1f}"), rng.choice(ITS).format(x=f"{its:.1f}")]
    rng.shuffle(parts)
    joint = rng.choice((". ", "\n"))
    return joint.join(part[0].upper() + part[1:] for part in parts) + "."


def stars(rng: random.Random, world: Book, n: int, most: int) -> Row | None:
    """Averages and what is thought of the match, with or without the notes: the stars that the person then gave."""
    user, item = world.before(n, most)
    if not user or not item:
        return None
    wanted, (good, bad) = wants(user)[:4], good_and_bad(item)
    thought = essay(rng, wanted, good, bad) if rng.random() < 0.7 else verdict(rng, wanted, good, bad)[1] + "."
    parts = [averages(rng, user, item), thought]
    rng.shuffle(parts)
    if rng.random() < 0.25:
        parts.insert(0, sides(rng, Style.draw(rng, raw=0.0), user, item, world.reviews[n]["title"]))
    return Row("stars", [("\n".join([*parts, rng.choice(GAVE)]), f"{int(world.reviews[n]['rating'])}")])
