"""Controls: what the last step is told in place of a reason, or all steps in place of a history, to see what these are
worth. An error that a control does not raise was never owed to what the control took away.

A control is a class here or elsewhere and a file in `conf/control/`. One that makes its texts from the reasons derives
from `ReasonControl`.
"""

import random
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import pandas as pd

from r4r.configuration.schema import Config, Seed
from r4r.errors import ConfigError, DataError
from r4r.pipeline.component import Component
from r4r.rows import REVIEWS, Case
from r4r.stages.histories import Histories
from r4r.stages.lessons import Thought
from r4r.stages.planted import PlantedWorld, planted_reason, planted_world
from r4r.stages.stage import Work

When = Literal["test", "always"]
Thoughts = tuple[Thought, ...]
SENTENCE = re.compile(r"(?<=[.!?])\s+")


class Control:
    """A method as it is, for the controls to derive from.

    Attributes:
        of_reasons: whether it is about what earlier steps wrote: of strategies whose last step reads none, it is
            refused.
        when: test: what is trained never meets the control; always: the last step learns under it, too.
    """

    of_reasons: ClassVar[bool] = True
    when: When = "test"

    def __init__(self, name: str):
        self.name = name

    def thoughts(self, config: Config, told: Thoughts) -> Thoughts:
        """What the last step reads, given what the earlier steps wrote.

        Raises:
            ConfigError: the data set lacks what the control needs.
        """
        return told

    def histories(self, config: Config, shown: Histories) -> Histories:
        """What all steps are shown of the evaluated rows' past."""
        return shown


class NoControl(Control):
    """The method as it is."""

    of_reasons = False


class ReasonControl(Control):
    """Other texts in place of the reasons."""

    def __init__(self, name: str, when: When = "test", seed: Seed = 0):
        """
        Args:
            name: of the option.
            when: test, or always: the last step learns from such texts, too.
            seed: of what is drawn, if anything is.
        """
        super().__init__(name)
        self.when, self.seed = when, seed

    def texts(self, reasons: Sequence[str]) -> list[str]:
        """A text for each reason, in their order: those of all rows that are rated, or learnt from."""
        raise NotImplementedError

    def thoughts(self, config: Config, told: Thoughts) -> Thoughts:
        return tuple(ControlledThought(thought.expert, thought.texts, Component(config.control)) for thought in told)


@dataclass(frozen=True)
class ControlledThought(Thought):
    """What a control makes of what an earlier step wrote."""

    control: Component

    def of(self, work: Work) -> dict[int, str]:
        known = super().of(work)
        row_ids = sorted(known)
        return dict(zip(row_ids, self.control.object.texts([known[row_id] for row_id in row_ids]), strict=True))


class ShuffledReasons(ReasonControl):
    """Each pair gets the reason of another pair."""

    def texts(self, reasons: Sequence[str]) -> list[str]:
        return [reasons[place] for place in strangers(range(len(reasons)), self.seed, "pairs")]


class VerdictAlone(ReasonControl):
    """The last sentence of each reason: what it comes to. A reason of one sentence is its own verdict."""

    def texts(self, reasons: Sequence[str]) -> list[str]:
        return [SENTENCE.split(reason.strip())[-1] for reason in reasons]


class AspectsAlone(ReasonControl):
    """All of each reason but its last sentence: what speaks for and against. Of one sentence, nothing is left."""

    def texts(self, reasons: Sequence[str]) -> list[str]:
        return [" ".join(SENTENCE.split(reason.strip())[:-1]) for reason in reasons]


class NoReason(Control):
    """The last step reads no reason, and learns from the same pairs as ever: reasons apart from the pairs that have
    one."""

    when = "always"

    def thoughts(self, config: Config, told: Thoughts) -> Thoughts:
        return ()


class Oracle(Control):
    """A reason written from the truth behind the simulated world: a bound for what reasons can be worth."""

    def __init__(self, name: str, says: Literal["reason", "verdict"] = "reason", when: When = "always", seed: Seed = 0):
        """
        Args:
            name: of the option.
            says: reason: planted preferences, planted qualities and the verdict of their match; verdict: that alone.
            when: always, so that the last step knows what such a text is worth; or test.
            seed: of the wording.
        """
        super().__init__(name)
        self.says, self.when, self.seed = says, when, seed

    def thoughts(self, config: Config, told: Thoughts) -> Thoughts:
        world = planted_world(config)
        return tuple(PlantedThought(thought.expert, None, Component(config.control), world) for thought in told[:1])

    def text(self, reason: str) -> str:
        """What is said of a planted reason."""
        return SENTENCE.split(reason)[-1] if self.says == "verdict" else reason


@dataclass(frozen=True)
class PlantedThought(Thought):
    """What the truth would say of every row."""

    control: Component
    world: PlantedWorld
    wording: int = 2  # of the simulated teacher's reasons

    def of(self, work: Work) -> dict[int, str]:
        own = self.control.object
        rows: Any = self.world.reviews(work.of(self.world.split).table(REVIEWS))
        return {
            row.row_id: own.text(planted_reason(self.world, row, random.Random(f"{own.seed} {row.row_id}")))
            for row in rows.itertuples()
        }


class ShuffledHistories(Control):
    """Each evaluated row shows the history and the average of another row's user, to every step."""

    of_reasons = False

    def __init__(self, name: str, seed: Seed = 0):
        super().__init__(name)
        self.seed = seed

    def histories(self, config: Config, shown: Histories) -> Histories:
        return StrangersHistories(**{f.name: getattr(shown, f.name) for f in fields(shown)}, strangers_seed=self.seed)


@dataclass(frozen=True)
class StrangersHistories(Histories):
    """Histories with the users' sides exchanged between the rows."""

    strangers_seed: int = 0

    def cases(self, work: Work, targets: pd.DataFrame) -> list[Case]:
        cases = super().cases(work, targets)
        others = strangers(targets["user_id"].tolist(), self.strangers_seed, "users")
        return [
            replace(case, user_history=cases[other].user_history, user_average=cases[other].user_average)
            for case, other in zip(cases, others, strict=True)
        ]


def strangers(groups: Sequence[Hashable], seed: int, what: str) -> list[int]:
    """For each place another place, of another group: a permutation drawn by the seed.

    Args:
        groups: the group of each place.
        what: the groups are, in words.

    Raises:
        DataError: one group has more than half of the places.
    """
    sizes = Counter(groups)
    largest = max(sizes.values(), default=0)
    if 2 * largest > len(groups):
        raise DataError(
            f"{len(groups)} rows of {len(sizes)} {what} cannot be shuffled so that each row gets what belongs to "
            f"another of the {what}; evaluate more rows (dataset.evaluate.max_rows)"
        )
    draw = random.Random(seed)
    order = list(sizes)
    draw.shuffle(order)
    rank = {group: place for place, group in enumerate(order)}
    chance = [draw.random() for _ in groups]
    places = sorted(range(len(groups)), key=lambda place: (rank[groups[place]], chance[place]))
    found = [0] * len(groups)
    for at, place in enumerate(places):  # the groups lie in blocks, none longer than the shift
        found[place] = places[(at + largest) % len(places)]
    return found


def check_control(control: Control, last: str, told: Thoughts, timed: bool) -> None:
    """Whether a control can be had.

    Args:
        last: the last step.
        told: what the earlier steps write.
        timed: whether predictions are to be timed.

    Raises:
        ConfigError: it cannot.
    """
    if control.of_reasons and not told:
        raise ConfigError(
            [
                f"control={control.name}: {last}, the last step, reads no reason of an earlier step, so there is none "
                "to replace; take strategy=multistep with a reason_source, or control=none"
            ]
        )
    if timed and not isinstance(control, NoControl):
        raise ConfigError([f"control={control.name}: what a control predicts is not timed; set timing=none"])
