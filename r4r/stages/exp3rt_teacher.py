"""EXP3RT, the teacher's part: preferences, profiles and rationales of the experts pool (arXiv 2408.06276).

The teacher answers the prompts of the experts that are mounted. A rationale is written with both profiles, and with the
true rating as a hint.
"""

from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import TeacherError
from r4r.progress import say
from r4r.rows import REVIEWS
from r4r.stages.ask import estimate, teacher_identity
from r4r.stages.ask_all import ask_all, usable
from r4r.stages.histories import pool_rows
from r4r.stages.identity import prompt_texts
from r4r.stages.pools import expert_pairs, pools_stage
from r4r.stages.profiles import (
    EXTRACTOR,
    PREFERENCES,
    PROFILERS,
    PROFILES,
    RATER,
    SIDES,
    Side,
    asked_facts,
    plan_profiles,
    preference_prompts,
    profile_facts,
    profiled_cases,
    shown_rows,
)
from r4r.stages.reasons import ask_reasons
from r4r.stages.split import split_stage
from r4r.stages.stage import Stage, Work
from r4r.stages.train import make_expert
from r4r.store.artifact import write_table

VERSION = 2
ANSWERED: dict[str, str] = {"row_id": "int64", "prompt": "str", "profile": "str"}  # each distinct profile once


def teacher_preferences_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (PREFERENCES) of the reviews that the histories of the experts pool show."""
    tokens = config.dataset.history.review_tokens
    most = config.teacher.summary_max_tokens
    shown = 2 * config.dataset.history.prompt * expert_pairs(config)
    takes = estimate(config, 1, shown, prompt_texts(*make_expert(config, EXTRACTOR).templates), tokens, most)
    inputs = {"split": split_stage(config), "pools": pools_stage(config)}
    identity = _asked(config, EXTRACTOR)
    return Stage("exp3rt/teacher_preferences", VERSION, identity, inputs, _teach_preferences, f"{takes}, one a review")


def teacher_profiles_stage(config: Config, side: Side) -> Stage:
    """Artifact: `data.parquet` (PROFILES) of the experts pool, and `answered.parquet` (ANSWERED)."""
    most = config.teacher.summary_max_tokens
    tokens = config.dataset.history.prompt * most
    takes = estimate(
        config, 1, expert_pairs(config), prompt_texts(*make_expert(config, PROFILERS[side]).templates), tokens, most
    )
    inputs = {
        "split": split_stage(config),
        "pools": pools_stage(config),
        "preferences": teacher_preferences_stage(config),
    }
    identity = _asked(config, PROFILERS[side])
    name = f"exp3rt/teacher_{side}_profiles"
    return Stage(name, VERSION, identity, inputs, lambda work: _teach_profiles(work, side), takes)


def teacher_reasons_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (rows.REASONS), a rationale for each pair whose profiles are known; none leaks."""
    teacher, pairs = config.teacher, expert_pairs(config)
    expert: Any = make_expert(config, RATER)
    prompts = prompt_texts(*expert.teacher_templates)
    identity = _asked(config, RATER) | {
        "temperature": teacher.reason_temperature,
        "max_tokens": teacher.reason_max_tokens,
        "prompts": prompts,
    }
    tokens = 2 * teacher.summary_max_tokens + config.dataset.history.review_tokens
    takes = estimate(config, 1, pairs, prompts, tokens, teacher.reason_max_tokens)
    inputs = {"split": split_stage(config), "pools": pools_stage(config)}
    inputs |= {f"{side}_profiles": teacher_profiles_stage(config, side) for side in SIDES}
    return Stage("exp3rt/teacher_reasons", VERSION, identity, inputs, _teach_reasons, takes)


def _teach_preferences(work: Work) -> dict[str, Any]:
    config, rows = work.job.config, work.inputs["split"].table(REVIEWS)
    wanted = shown_rows(config.dataset, rows, pool_rows(work, "experts"))
    prompts = preference_prompts(work.job, wanted)
    table, facts = _ask_lines(work, EXTRACTOR, "teacher preferences", wanted["row_id"].tolist(), prompts)
    kept, dropped = usable(table, "teacher extractions")
    write_table(work.folder / "data.parquet", kept.rename(columns={"answer": "preferences"}), PREFERENCES)
    return {"kept": len(kept), "dropped": dropped, **facts}


def _teach_profiles(work: Work, side: Side) -> dict[str, Any]:
    plan = plan_profiles(work, side, pool_rows(work, "experts"))
    what = f"teacher {side} profiles"
    table, facts = _ask_lines(work, PROFILERS[side], what, range(len(plan.prompts)), plan.prompts)
    kept, dropped = usable(table, what)
    written = dict(zip(kept["row_id"].tolist(), kept["answer"], strict=True))
    answered = [
        {"row_id": plan.row_ids[place], "prompt": plan.prompts[place], "profile": text}
        for place, text in written.items()
    ]
    write_table(work.folder / "answered.parquet", pd.DataFrame(answered, columns=list(ANSWERED)), ANSWERED)
    pairs = plan.profiles(written)
    write_table(work.folder / "data.parquet", pairs, PROFILES)
    return {"kept": len(kept), "dropped": dropped, "pairs": len(plan.places), "profiled": len(pairs), **facts}


def _teach_reasons(work: Work) -> dict[str, Any]:
    pairs = pool_rows(work, "experts")
    profiled = [pairs["row_id"].isin(work.inputs[f"{side}_profiles"].table(PROFILES)["row_id"]) for side in SIDES]
    targets = pairs[profiled[0] & profiled[1]].reset_index(drop=True)
    lacking = len(pairs) - len(targets)
    if lacking:
        say(f"  {lacking} of {len(pairs)} pairs lack a profile; they get no rationale")
    expert: Any = make_expert(work.job.config, RATER)
    sides = zip(profiled_cases(work, targets), targets["rating"], strict=True)
    prompts = [expert.reason_prompt(case, rating) for case, rating in sides]
    facts = ask_reasons(work, targets["row_id"].tolist(), prompts, targets["title"].tolist(), hinted=True)
    return facts | {"without_profile": lacking}


def _ask_lines(
    work: Work, name: str, what: str, row_ids: Any, prompts: list[str]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """As ask_all, the answers as the expert of that name reads them."""
    expert: Any = make_expert(work.job.config, name)

    def read(place: int, text: str) -> str:
        lines = expert.read(text)
        if lines is None:
            raise TeacherError("not the two lines of preferences")
        return str(lines)

    teacher = work.job.config.teacher
    return ask_all(work, what, row_ids, prompts, teacher.summary_temperature, teacher.summary_max_tokens, read=read)


def _asked(config: Config, name: str) -> dict[str, Any]:
    """Identity of what the teacher answers to the prompts of an expert."""
    return profile_facts(config) | {
        "teacher": teacher_identity(config, *make_expert(config, name).templates),
        "temperature": config.teacher.summary_temperature,
        "max_tokens": config.teacher.summary_max_tokens,
        "asked": asked_facts(config, name),
    }
