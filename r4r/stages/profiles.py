"""Preferences and profiles of EXP3RT: which reviews are read, which profiles are written, each text once."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from r4r.config import Config, DatasetConfig
from r4r.experts.exp3rt import NONE, Exp3rt
from r4r.prompts.history import EMPTY
from r4r.rows import REVIEWS, Case, Schema
from r4r.stages.cases import make_cases
from r4r.stages.histories import clipped_reviews, one_line
from r4r.stages.stage import Job, Work

PREFERENCES: Schema = {"row_id": "int64", "preferences": "str"}
PROFILES: Schema = {"row_id": "int64", "user_profile": "str", "item_profile": "str"}


def shown_rows(dataset: DatasetConfig, rows: pd.DataFrame, targets: pd.DataFrame) -> pd.DataFrame:
    """The rows (rows.REVIEWS) that the histories of the targets show, by row_id."""
    own = dict(zip(rows["row_id"].tolist(), rows["row_id"].astype(str), strict=True))
    shown = {
        int(text)
        for case in make_cases(dataset, rows, targets, own)
        for side in (case.user_history, case.item_history)
        for _, _, text in side
    }
    return rows[rows["row_id"].isin(shown)].sort_values("row_id").reset_index(drop=True)


def preference_prompts(job: Job, rows: pd.DataFrame) -> list[str]:
    """The extraction prompt for each row, its review cut to dataset.history.review_tokens."""
    category = job.config.dataset.category
    return [
        Exp3rt.preferences_prompt(category, title, rating, one_line(review))
        for title, rating, review in zip(rows["title"], rows["rating"], clipped_reviews(job, rows), strict=True)
    ]


def bare_cases(dataset: DatasetConfig, rows: pd.DataFrame, targets: pd.DataFrame) -> list[Case]:
    """Cases for prompts that show no history: title, category and averages are what they give."""
    return make_cases(dataset, rows, targets, defaultdict(str))


@dataclass(frozen=True)
class ProfilePlan:
    """The distinct profile prompts of some targets: targets with the same past share a profile.

    Attributes:
        prompts: each once.
        row_ids: of each prompt, the first target that needs it.
        places: a target's row_id -> the places in `prompts` of its user's and its item's; None: nothing is known.
    """

    prompts: list[str]
    row_ids: list[int]
    places: dict[int, tuple[int | None, int | None]]


def plan_profiles(
    dataset: DatasetConfig, rows: pd.DataFrame, targets: pd.DataFrame, preferences: Mapping[int, str]
) -> ProfilePlan:
    """Profiles of what was known before each target's time.

    Args:
        preferences: by row_id; a row without any counts as one whose review says nothing.
    """
    texts = {row_id: preferences.get(row_id, NONE) for row_id in rows["row_id"].tolist()}
    found: dict[str, tuple[int, int]] = {}

    def place(row_id: int, prompt: str) -> int:
        return found.setdefault(prompt, (len(found), row_id))[0]

    places = {
        case.row_id: (
            place(case.row_id, Exp3rt.user_profile_prompt(case.user_history)) if case.user_history else None,
            place(case.row_id, Exp3rt.item_profile_prompt(case.category, case.title, case.item_history))
            if case.item_history
            else None,
        )
        for case in make_cases(dataset, rows, targets, texts)
    }
    return ProfilePlan(list(found), [row_id for _, row_id in found.values()], places)


def planned(work: Work, targets: pd.DataFrame) -> ProfilePlan:
    """As `plan_profiles`, of the preferences that the stage before wrote."""
    preferences = work.inputs["preferences"].table(PREFERENCES)
    known = dict(zip(preferences["row_id"].tolist(), preferences["preferences"], strict=True))
    return plan_profiles(work.job.config.dataset, work.inputs["split"].table(REVIEWS), targets, known)


def complete(plan: ProfilePlan, written: dict[int, str]) -> pd.DataFrame:
    """PROFILES of the targets that lack none; where nothing is known of a side, its profile says so."""
    rows = []
    for row_id, places in plan.places.items():
        user, item = (EMPTY if place is None else written.get(place) for place in places)
        if user is not None and item is not None:
            rows.append({"row_id": row_id, "user_profile": user, "item_profile": item})
    return pd.DataFrame(rows, columns=list(PROFILES))


def profile_facts(config: Config) -> dict[str, Any]:
    """What, beside its inputs, shapes the histories that preferences and profiles are made of."""
    history = config.dataset.history.model_dump(mode="json", include={"prompt", "source"})
    return {"category": config.dataset.category, "history": history}
