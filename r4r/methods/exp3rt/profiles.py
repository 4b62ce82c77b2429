"""Preferences and profiles of EXP3RT: which reviews are read, which profiles are written, each text once."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from r4r.configuration.schema import Config
from r4r.data.history import HistoryIndex
from r4r.methods.exp3rt.experts import NONE
from r4r.prompts.history import EMPTY
from r4r.rows import REVIEWS, TEXTS, Schema
from r4r.stages.cases import rows_of
from r4r.stages.histories import Histories, bare_histories, one_line
from r4r.stages.items import Described, described
from r4r.stages.mounted import Asked
from r4r.stages.stage import Work
from r4r.stages.teach import ReviewQuestions

Side = Literal["user", "item"]
SIDES: tuple[Side, Side] = ("user", "item")
EXTRACTOR, RATER = "exp3rt_preferences", "exp3rt"
PROFILERS: dict[Side, str] = {"user": "exp3rt_user_profile", "item": "exp3rt_item_profile"}

PREFERENCES: Schema = {"row_id": "int64", "preferences": "str"}


@dataclass(frozen=True)
class Profiled(Described):
    """Cases whose prompts show profiles and the item's description in place of histories."""

    def _texts(self, work: Work, rows: pd.DataFrame) -> Mapping[int, str]:
        return defaultdict(str)


@dataclass(frozen=True)
class PreferenceHistories(Histories):
    """Histories that show the preferences in each review.

    Attributes:
        preferences: the stage that wrote them (PREFERENCES); a row without any counts as one whose review says nothing.
    """

    preferences: Any = None

    def _texts(self, work: Work, rows: pd.DataFrame) -> Mapping[int, str]:
        table = work.of(self.preferences).table(PREFERENCES)
        return defaultdict(lambda: NONE, zip(table["row_id"].tolist(), table["preferences"], strict=True))


def profiled(config: Config) -> Profiled:
    """What the prompt for the rating is made from, profiles apart."""
    bare = described(bare_histories(config), config)
    return Profiled(**vars(bare))


def preference_histories(config: Config, preferences: Any) -> PreferenceHistories:
    """What the prompts for profiles are made from."""
    return PreferenceHistories(**vars(bare_histories(config)), preferences=preferences)


def shown_rows(shown: Histories, work: Work, targets: pd.DataFrame) -> pd.DataFrame:
    """The rows (rows.REVIEWS) that the histories of the targets show, by row_id."""
    rows = work.of(shown.split).table(REVIEWS)
    known = HistoryIndex(rows_of(shown.source, rows)).before(targets)
    sides = (side(place, shown.newest) for place in range(len(targets)) for side in (known.user_rows, known.item_rows))
    wanted = {row_id for side in sides for row_id in side.tolist()}
    return rows[rows["row_id"].isin(wanted)].sort_values("row_id").reset_index(drop=True)


def preference_prompts(work: Work, questions: ReviewQuestions, expert: Asked, rows: pd.DataFrame) -> list[str]:
    """The extraction prompt for each row, its review cut and on one line."""

    def ask(category: str, title: str, rating: str, review: str) -> str:
        return str(expert.expert.prompt(category, title, rating, one_line(review)))

    return questions.prompts(work.job.chat, ask, rows)


@dataclass(frozen=True)
class ProfilePlan:
    """The distinct profile prompts of one side of some targets: targets with the same past share a profile.

    Attributes:
        prompts: each once.
        row_ids: of each prompt, the first target that needs it.
        places: a target's row_id -> the place of its profile in `prompts`; None: nothing is known.
    """

    prompts: list[str]
    row_ids: list[int]
    places: dict[int, int | None]

    def profiles(self, written: Mapping[int, str]) -> pd.DataFrame:
        """The profile (rows.TEXTS) of each target that has one; where nothing is known, the profile says so.

        Args:
            written: place in `prompts` -> the profile; a place that is missing got none.
        """
        found = [
            {"row_id": row_id, "text": EMPTY if place is None else written[place]}
            for row_id, place in self.places.items()
            if place is None or place in written
        ]
        return pd.DataFrame(found, columns=list(TEXTS))


def plan_profiles(
    work: Work, shown: PreferenceHistories, expert: Asked, side: Side, targets: pd.DataFrame
) -> ProfilePlan:
    """Profiles of what was known before each target's time."""
    found: dict[str, tuple[int, int]] = {}
    places: dict[int, int | None] = {}
    for case in shown.cases(work, targets):
        past = case.user_history if side == "user" else case.item_history
        own = (len(found), case.row_id)
        places[case.row_id] = found.setdefault(expert.expert.prompt(case), own)[0] if past else None
    return ProfilePlan(list(found), [row_id for _, row_id in found.values()], places)
