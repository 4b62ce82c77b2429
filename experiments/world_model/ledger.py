"""Feature by feature: does a person want it, how does a record do on it."""

import random

from matching import ESSAY, care, essay, sides, verdict
from wording import Style
from worlds import NAMES, Book, Row, balance, good_and_bad, listed, wants

from r4r.lexicon import NEGATIVE, POSITIVE, keyword

THROUGH = ("Go through these: {x}.", "One by one: {x}.", "Say it of each: {x}.", "Take {x} in turn.")
ALL = ("Go through all features.", "Each feature in turn.", "Say it of every feature.")
COUNTED = ("How often, and how is it?", "With how many notes speak of it.", "Count the notes.")


def standing(net: dict[str, int], name: str) -> str:
    return "none" if name not in net else "good" if net[name] > 0 else "bad" if net[name] < 0 else "mixed"


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
    """Notes of both sides, then features one by one: whether they are wanted, and what is said of them."""
    user, item = world.before(n, most)
    if not user or not item:
        return None
    mentions, net = care(user), balance(item)
    if rng.random() < 0.6:
        asked, question = list(NAMES), rng.choice(ALL)
    else:
        named = [name for name in NAMES if name in net or name in mentions]
        asked = list(dict.fromkeys(rng.sample(named, min(6, len(named))) + rng.sample(NAMES, 2)))
        rng.shuffle(asked)
        question = rng.choice(THROUGH).format(x=", ".join(name.lower() for name in asked))
    counted = rng.random() < 0.4
    if counted:
        question += f" {rng.choice(COUNTED)}"
    wish = {name: str(mentions[name]) if counted else "yes" if name in mentions else "no" for name in asked}
    told = [f"{name.lower()} {wish[name]} {standing(net, name)}" for name in asked]
    turns = [(question, "; ".join(told))]
    wanted, (good, bad) = wants(user), good_and_bad(item)
    if rng.random() < 0.6:
        turns.append((rng.choice(ESSAY), essay(rng, wanted, good, bad)))
    elif rng.random() < 0.3:
        turns.append(verdict(rng, wanted, good, bad))
    style = Style.draw(rng, raw=0.0)._replace(phrases=rng.random() < 0.85)
    head = sides(rng, style, user, item, world.reviews[n]["title"])
    return Row("ledger", [(f"{head}\n{turns[0][0]}", turns[0][1]), *turns[1:]])
