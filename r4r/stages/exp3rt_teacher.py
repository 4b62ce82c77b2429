"""EXP3RT, the teacher's part: preferences, profiles and rationales of the experts pool (arXiv 2408.06276).

The rationale is written with both profiles, and with the true rating as a hint.
"""

from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import TeacherError
from r4r.experts.exp3rt import Exp3rt, clean_preferences
from r4r.rows import REVIEWS
from r4r.stages.ask import estimate, teacher_identity
from r4r.stages.ask_all import ask_all, usable
from r4r.stages.histories import pool_rows
from r4r.stages.identity import cut_facts, prompt_texts
from r4r.stages.pools import expert_pairs, pools_stage
from r4r.stages.profiles import (
    PREFERENCES,
    PROFILES,
    bare_cases,
    complete,
    planned,
    preference_prompts,
    profile_facts,
    shown_rows,
)
from r4r.stages.reasons import ask_reasons
from r4r.stages.split import split_stage
from r4r.stages.stage import Stage, Work
from r4r.store.artifact import write_table

VERSION = 1
PROFILE_TEMPLATES = ("exp3rt_user_profile", "exp3rt_item_profile")


def teacher_preferences_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (PREFERENCES) of the reviews that the histories of the experts pool show."""
    tokens = config.dataset.history.review_tokens
    identity = _asked(config, "exp3rt_preferences") | cut_facts(config)
    pairs = expert_pairs(config)
    takes = estimate(
        config,
        1,
        2 * config.dataset.history.prompt * pairs,
        identity["prompts"],
        tokens,
        config.teacher.summary_max_tokens,
    )
    inputs = {"split": split_stage(config), "pools": pools_stage(config)}
    return Stage("exp3rt/teacher_preferences", VERSION, identity, inputs, _teach_preferences, f"{takes}, one a review")


def teacher_profiles_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (PROFILES) of the experts pool, and `written.parquet` (row_id, prompt, profile)."""
    most = config.teacher.summary_max_tokens
    identity = _asked(config, *PROFILE_TEMPLATES)
    pairs = expert_pairs(config)
    tokens = config.dataset.history.prompt * most
    takes = estimate(config, pairs, 2 * pairs, identity["prompts"], tokens, most)
    inputs = {
        "split": split_stage(config),
        "pools": pools_stage(config),
        "preferences": teacher_preferences_stage(config),
    }
    return Stage("exp3rt/teacher_profiles", VERSION, identity, inputs, _teach_profiles, takes)


def teacher_reasons_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (rows.REASONS), a rationale for each pair whose profiles are known; none leaks."""
    teacher, pairs = config.teacher, expert_pairs(config)
    identity = _asked(config, "exp3rt_reason", "hint") | {
        "temperature": teacher.reason_temperature,
        "max_tokens": teacher.reason_max_tokens,
    }
    takes = estimate(
        config, pairs, pairs, identity["prompts"], 2 * teacher.summary_max_tokens, teacher.reason_max_tokens
    )
    inputs = {"split": split_stage(config), "profiles": teacher_profiles_stage(config)}
    return Stage("exp3rt/teacher_reasons", VERSION, identity, inputs, _teach_reasons, takes)


def _teach_preferences(work: Work) -> dict[str, Any]:
    config, rows = work.job.config, work.inputs["split"].table(REVIEWS)
    wanted = shown_rows(config.dataset, rows, pool_rows(work, "experts"))
    prompts = preference_prompts(work.job, wanted)
    table, facts = _ask_lines(work, "teacher preferences", wanted["row_id"].tolist(), prompts)
    kept, dropped = usable(table, "teacher extractions")
    write_table(work.folder / "data.parquet", kept.rename(columns={"answer": "preferences"}), PREFERENCES)
    return {"kept": len(kept), "dropped": dropped, **facts}


def _teach_profiles(work: Work) -> dict[str, Any]:
    plan = planned(work, pool_rows(work, "experts"))
    table, facts = _ask_lines(work, "teacher profiles", range(len(plan.prompts)), plan.prompts)
    kept, dropped = usable(table, "teacher profiles")
    profiles = dict(zip(kept["row_id"].tolist(), kept["answer"], strict=True))
    written = [{"row_id": plan.row_ids[k], "prompt": plan.prompts[k], "profile": text} for k, text in profiles.items()]
    pd.DataFrame(written).to_parquet(work.folder / "written.parquet", index=False)
    pairs = complete(plan, profiles)
    write_table(work.folder / "data.parquet", pairs, PROFILES)
    return {"kept": len(kept), "dropped": dropped, "pairs": len(plan.places), "complete_pairs": len(pairs), **facts}


def _teach_reasons(work: Work) -> dict[str, Any]:
    profiles = work.inputs["profiles"].table(PROFILES)
    rows = work.inputs["split"].table(REVIEWS)
    targets = rows.set_index("row_id").loc[profiles["row_id"]].reset_index()
    sides = zip(
        bare_cases(work.job.config.dataset, rows, targets),
        profiles["user_profile"],
        profiles["item_profile"],
        targets["rating"],
        strict=True,
    )
    prompts = [Exp3rt.reason_prompt(case, user, item, rating) for case, user, item, rating in sides]
    return ask_reasons(work, profiles["row_id"].tolist(), prompts, hinted=True)


def _ask_lines(work: Work, what: str, row_ids: Any, prompts: list[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """As ask_all, the answers the two lines of preferences."""

    def read(place: int, text: str) -> str:
        lines = clean_preferences(text)
        if lines is None:
            raise TeacherError("not the two lines of preferences")
        return lines

    teacher = work.job.config.teacher
    return ask_all(work, what, row_ids, prompts, teacher.summary_temperature, teacher.summary_max_tokens, read=read)


def _asked(config: Config, *templates: str) -> dict[str, Any]:
    """Identity of what the teacher writes as preferences are written."""
    return profile_facts(config) | {
        "teacher": teacher_identity(config, *templates),
        "temperature": config.teacher.summary_temperature,
        "max_tokens": config.teacher.summary_max_tokens,
        "prompts": prompt_texts(*templates),
    }
