"""Reasons against what was planted in the simulated world: is the verdict right, are the features that it names?"""

import re
from collections.abc import Mapping
from typing import Any

from r4r.lexicon import ASPECTS, NEGATIVE, POSITIVE, Cue, cues
from r4r.stages.planted import PlantedWorld, planted_grade
from r4r.teacher.simulated_reasons import verdict_of

MODEL = "the planted truth"
WANTS = re.compile(r"(?:cares about|listens mainly for) ([^.]*)\.")
WORD = re.compile(r"\w+")


def right_verdict(world: PlantedWorld, row: Any, reason: str) -> float:
    """1 where a reason's verdict is on the side of the planted match, else 0.

    Args:
        row: of `PlantedWorld.reviews`.
    """
    return float(verdict_is_right(reason, planted_grade(row.match)))


def claims_share(world: PlantedWorld, row: Any, reason: str) -> float:
    """The share of a reason's claims on a row of `PlantedWorld.reviews` that are true, 0 to 1."""
    return true_claims(reason, world.cares.get(row.user_id, {}), world.known_for.get(row.item_id, {}))


def verdict_is_right(reason: str, grade: int) -> bool:
    """Whether a reason's verdict is on the side (like, dislike, mixed) of a rating from 1 to 5; false without one."""
    told = verdict_of(reason)
    return told is not None and (told > 3) - (told < 3) == (grade > 3) - (grade < 3)


def true_claims(reason: str, cares: Mapping[str, float], known_for: Mapping[str, int]) -> float:
    """The share of a reason's claims that are true, 0 to 1; 0 where it claims nothing.

    Claims are the aspects that it says the user cares about, and those that it praises or faults in the item.

    Args:
        cares: what the user cares about, aspect -> weight.
        known_for: what the item is good (1) or bad (-1) at, by aspect.
    """
    claims = _claims(reason)
    qualities = {POSITIVE: 1, NEGATIVE: -1}
    true = [
        known_for.get(claim.aspect) == qualities[claim.kind] if claim.kind in qualities else claim.aspect in cares
        for claim in claims
    ]
    return sum(true) / len(true) if true else 0.0


def _claims(reason: str) -> set[Cue]:
    wanted = {word for said in WANTS.findall(reason.lower()) for word in WORD.findall(said)}
    return {Cue(name, "preference") for name in ASPECTS if name.lower() in wanted} | {
        cue for cue in cues(reason) if cue.kind != "preference"
    }
