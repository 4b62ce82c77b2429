"""The truth behind the simulated world, for controls, bounds and analyses: never for a prompt of the method itself."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from r4r.configuration.schema import Config, WorldConfig
from r4r.data.simulator import MEAN_RATING, Truth, build_world
from r4r.errors import ConfigError
from r4r.scale import PAPER
from r4r.stages.split import split_stage
from r4r.teacher.simulated_reasons import Evidence, paragraph


@dataclass(frozen=True)
class PlantedWorld:
    """What was planted, as a field of the stages that are told of it."""

    split: Any
    world: WorldConfig
    category: str

    @cached_property
    def truth(self) -> Truth:
        return build_world(self.world, self.category).truth

    def reviews(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows (rows.REVIEWS) with what was planted in each review: positive, negative, preference, bias, match."""
        return rows.merge(self.truth.reviews, on=["user_id", "item_id"], how="left", validate="one_to_one")

    @cached_property
    def cares(self) -> Mapping[str, Mapping[str, float]]:
        """user_id -> aspect -> weight, the aspects that matter most first."""
        told = self.truth.users.sort_values(["user_id", "weight"], ascending=[True, False])
        return {
            str(user): dict(zip(group["aspect"], group["weight"], strict=True))
            for user, group in told.groupby("user_id")
        }

    @cached_property
    def known_for(self) -> Mapping[str, Mapping[str, int]]:
        """item_id -> aspect -> quality, 1 or -1."""
        return {
            str(item): dict(zip(group["aspect"], group["quality"], strict=True))
            for item, group in self.truth.items.groupby("item_id")
        }


def planted_grade(match: float) -> int:
    """The rating that a planted match of user and item stands for, biases and noise left out."""
    return int(min(PAPER.highest, max(PAPER.lowest, round(MEAN_RATING + match))))


def planted_reason(world: PlantedWorld, row: Any, draw: random.Random) -> str:
    """The reason that who knows the truth would give for a row of `PlantedWorld.reviews`, in the teacher's words.

    It says what the user cares about, what the item is good and bad at, what of it matters to the user, and the verdict
    of the match. Biases and noise are no part of it.
    """
    cares, qualities = world.cares.get(row.user_id, {}), world.known_for.get(row.item_id, {})
    sides: dict[int, list[str]] = {1: [], -1: []}
    for aspect in sorted(qualities, key=lambda a: (-cares.get(a, 0.0), a)):
        sides[int(qualities[aspect])].append(aspect)
    return paragraph(draw, Evidence(list(cares), sides[1], sides[-1]), planted_grade(row.match))


def planted_world(config: Config) -> PlantedWorld:
    """The world of a job on simulated reviews.

    Raises:
        ConfigError: the reviews are real, so that no truth behind them is known.
    """
    dataset = config.dataset
    if dataset.source != "simulated":
        raise ConfigError(
            [
                f"dataset={dataset.name}: nobody knows the truth behind real reviews; oracles and planted summaries "
                "are for dataset=simulated and its kin"
            ]
        )
    return PlantedWorld(split_stage(config), dataset.world, dataset.category)
