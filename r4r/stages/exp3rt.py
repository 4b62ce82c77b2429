"""EXP3RT: preferences, profiles, then reason and rating, distilled from the teacher into one student.

arXiv 2408.06276, SPEC section 6. The student learns all three tasks in one adapter, each example of any task counting
the same. Of the rows to predict, it writes all texts itself: the preferences in the reviews of their histories, the
profiles, the reason.
"""

from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.experts.exp3rt import Exp3rt, clean_preferences
from r4r.progress import say
from r4r.rows import REASONS, REVIEWS
from r4r.stages.deliberate import Deliberation, rated_answers_stage
from r4r.stages.exp3rt_teacher import teacher_preferences_stage, teacher_profiles_stage, teacher_reasons_stage
from r4r.stages.histories import one_line
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
from r4r.stages.split import evaluated, split_stage
from r4r.stages.stage import Stage, Work
from r4r.stages.train import Texts, train_stage, use_adapter
from r4r.stages.write import write_all
from r4r.store.artifact import write_table

VERSION = 1
NAME, LABEL = "exp3rt", "EXP3RT"


def predictions_stage(config: Config) -> Stage:
    """Artifact: as of `rated_answers_stage`."""
    inputs = {"split": split_stage(config), "profiles": profiles_stage(config)}
    facts = profile_facts(config)
    return rated_answers_stage(
        config, Deliberation(NAME, Exp3rt, LABEL, student_stage(config), inputs, facts, _rating_prompts)
    )


def student_stage(config: Config) -> Stage:
    """Artifact: the student's adapter, for all three tasks."""
    inputs = {
        "split": split_stage(config),
        "preferences": teacher_preferences_stage(config),
        "profiles": teacher_profiles_stage(config),
        "reasons": teacher_reasons_stage(config),
    }
    facts = profile_facts(config) | {
        "review_tokens": config.dataset.history.review_tokens,
        "extractions": config.dataset.pools.summaries,
    }
    return train_stage(config, NAME, inputs, facts, _texts)


def preferences_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (PREFERENCES), by the student, of the reviews that histories of rows to predict show."""
    identity = _written(config) | {"review_tokens": config.dataset.history.review_tokens}
    inputs = {"split": split_stage(config), "student": student_stage(config)}
    return Stage("exp3rt/preferences", VERSION, identity, inputs, _write_preferences, "one text a history row")


def profiles_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (PROFILES), by the student, of the rows to predict."""
    inputs = {
        "split": split_stage(config),
        "student": student_stage(config),
        "preferences": preferences_stage(config),
    }
    takes = f"up to two texts a {config.dataset.evaluate.split} row"
    return Stage("exp3rt/profiles", VERSION, _written(config), inputs, _write_profiles, takes)


def _texts(work: Work) -> Texts:
    """All reasons and profiles, and as many extractions as the Summarizer would be taught summaries."""
    config, rows = work.job.config, work.inputs["split"].table(REVIEWS)
    by_id = rows.set_index("row_id")
    taught = work.inputs["preferences"].table(PREFERENCES)
    limit = config.dataset.pools.summaries
    if limit < len(taught):
        taught = taught.sample(limit, random_state=config.seed).sort_values("row_id")
    prompts = preference_prompts(work.job, by_id.loc[taught["row_id"]].reset_index())
    texts = list(zip(taught["row_id"].tolist(), prompts, taught["preferences"], strict=True))
    written = pd.read_parquet(work.inputs["profiles"].path / "written.parquet")
    texts += zip(written["row_id"].tolist(), written["prompt"], written["profile"], strict=True)
    reasons = work.inputs["reasons"].table(REASONS)
    targets = by_id.loc[reasons["row_id"]].reset_index()
    prompts = _rating_prompts(work, targets)
    texts += [
        (row_id, prompt, Exp3rt.target(None, reason, rating))
        for row_id, prompt, reason, rating in zip(
            targets["row_id"].tolist(), prompts, reasons["reason"], targets["rating"], strict=True
        )
    ]
    return texts


def _rating_prompts(work: Work, targets: pd.DataFrame) -> list[str]:
    profiles = work.inputs["profiles"].table(PROFILES).set_index("row_id")
    cases = bare_cases(work.job.config.dataset, work.inputs["split"].table(REVIEWS), targets)
    return [Exp3rt.prompt(case, *profiles.loc[case.row_id, ["user_profile", "item_profile"]]) for case in cases]


def _write_preferences(work: Work) -> dict[str, Any]:
    config, rows = work.job.config, work.inputs["split"].table(REVIEWS)
    wanted = shown_rows(config.dataset, rows, evaluated(config, rows))
    table, facts = _write(work, wanted["row_id"].tolist(), preference_prompts(work.job, wanted))
    write_table(work.folder / "data.parquet", table.rename(columns={"answer": "preferences"}), PREFERENCES)
    return facts


def _write_profiles(work: Work) -> dict[str, Any]:
    plan = planned(work, evaluated(work.job.config, work.inputs["split"].table(REVIEWS)))
    table, facts = _write(work, list(range(len(plan.prompts))), plan.prompts)
    profiles = dict(zip(table["row_id"].tolist(), table["answer"], strict=True))
    write_table(work.folder / "data.parquet", complete(plan, profiles), PROFILES)
    return facts


def _write(work: Work, row_ids: list[int], prompts: list[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """As write_all, by the student, the two lines tidied."""
    if not prompts:  # no row to predict has a past
        return pd.DataFrame(columns=["row_id", "answer"]), {"texts": 0, "malformed": 0}
    use_adapter(work.job, NAME, work.inputs["student"])
    limit = work.job.config.experts[NAME]["max_new_tokens"]
    table, facts = write_all(work, NAME, row_ids, prompts, limit, "answer")
    tidied = table["answer"].map(clean_preferences)
    malformed = int(tidied.isna().sum())
    if malformed:
        say(f"  {malformed} of {len(table)} texts lack one of the two lines; they are shown as written, on one line")
    table["answer"] = tidied.fillna(table["answer"].map(one_line))
    return table, facts | {"malformed": malformed}


def _written(config: Config) -> dict[str, Any]:
    """Identity of what the student writes of the rows to predict."""
    return profile_facts(config) | {
        "max_new_tokens": config.experts[NAME]["max_new_tokens"],
        "evaluate": config.dataset.evaluate.model_dump(mode="json"),
    }
