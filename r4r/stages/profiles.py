"""Preferences and profiles of EXP3RT: which reviews are read, which profiles are written, each text once."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from r4r.config import Config, DatasetConfig
from r4r.experts.exp3rt import NONE
from r4r.prompts.history import EMPTY
from r4r.rows import REVIEWS, Case, Schema
from r4r.stages.cases import make_cases
from r4r.stages.histories import clipped_reviews, one_line
from r4r.stages.identity import cut_facts, prompt_texts
from r4r.stages.items import with_metadata
from r4r.stages.stage import Job, Work
from r4r.stages.train import make_expert

Side = Literal["user", "item"]
SIDES: tuple[Side, Side] = ("user", "item")
EXTRACTOR, RATER = "exp3rt_preferences", "exp3rt"
PROFILERS: dict[Side, str] = {"user": "exp3rt_user_profile", "item": "exp3rt_item_profile"}

PREFERENCES: Schema = {"row_id": "int64", "preferences": "str"}
PROFILES: Schema = {"row_id": "int64", "profile": "str"}  # of one side of each target


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
    dataset, expert = job.config.dataset, _expert(job.config, EXTRACTOR)
    return [
        expert.prompt(dataset.category, title, dataset.rating_scale.text(rating), one_line(review))
        for title, rating, review in zip(rows["title"], rows["rating"], clipped_reviews(job, rows), strict=True)
    ]


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
        """PROFILES of the targets that have one; where nothing is known, the profile says so.

        Args:
            written: place in `prompts` -> the profile; a place that is missing got none.
        """
        found = [
            {"row_id": row_id, "profile": EMPTY if place is None else written[place]}
            for row_id, place in self.places.items()
            if place is None or place in written
        ]
        return pd.DataFrame(found, columns=list(PROFILES))


def plan_profiles(work: Work, side: Side, targets: pd.DataFrame) -> ProfilePlan:
    """Profiles of what was known before each target's time, made of the preferences that the stage before wrote.

    A row without preferences counts as one whose review says nothing.
    """
    config, rows = work.job.config, work.inputs["split"].table(REVIEWS)
    table = work.inputs["preferences"].table(PREFERENCES)
    known = dict(zip(table["row_id"].tolist(), table["preferences"], strict=True))
    texts = {row_id: known.get(row_id, NONE) for row_id in rows["row_id"].tolist()}
    expert = _expert(config, PROFILERS[side])
    found: dict[str, tuple[int, int]] = {}
    places: dict[int, int | None] = {}
    for case in make_cases(config.dataset, rows, targets, texts):
        past = case.user_history if side == "user" else case.item_history
        places[case.row_id] = found.setdefault(expert.prompt(case), (len(found), case.row_id))[0] if past else None
    return ProfilePlan(list(found), [row_id for _, row_id in found.values()], places)


def profiled_cases(work: Work, targets: pd.DataFrame) -> list[Case]:
    """Cases of the targets, in their order: both profiles as thoughts, the item's description, and no history.

    Raises:
        KeyError: a target has no profile.
    """
    profiles = [work.inputs[f"{side}_profiles"].table(PROFILES).set_index("row_id")["profile"] for side in SIDES]
    rows = work.inputs["split"].table(REVIEWS)
    cases = make_cases(work.job.config.dataset, rows, targets, defaultdict(str))
    return [case.thinking(*(own[case.row_id] for own in profiles)) for case in with_metadata(work, cases, targets)]


def profile_facts(config: Config) -> dict[str, Any]:
    """What, beside its inputs, shapes the histories that preferences and profiles are made of, and the cases."""
    history = config.dataset.history.model_dump(mode="json", include={"prompt", "source"})
    scale = config.dataset.rating_scale.model_dump(mode="json")
    return {"category": config.dataset.category, "history": history, "scale": scale, **cut_facts(config)}


def asked_facts(config: Config, *names: str) -> dict[str, Any]:
    """The mounted experts whose prompts a stage asks and whose reading it uses: their classes and prompt texts."""
    return {
        name: {"class": config.experts[name]["_target_"], "prompts": prompt_texts(*make_expert(config, name).templates)}
        for name in names
    }


def _expert(config: Config, name: str) -> Any:
    return make_expert(config, name)
