"""EXP3RT: preferences, profiles, then reason and rating, distilled from the teacher (arXiv 2408.06276, SPEC section 6).

Of the rows to predict, the student writes all texts itself: the preferences in the reviews of their histories, the
profiles, the reason. As published, each task has an adapter of its own, which learns an extraction a review, a profile
a user and one an item, and a rationale a pair. One shared adapter learns all of these and every further profile.
"""

from typing import Any, Literal

import pandas as pd

from r4r.config import Config
from r4r.progress import say
from r4r.rows import REASONS, REVIEWS, Lesson
from r4r.stages.deliberate import Deliberation, rated_answers_stage
from r4r.stages.exp3rt_teacher import (
    ANSWERED,
    teacher_preferences_stage,
    teacher_profiles_stage,
    teacher_reasons_stage,
)
from r4r.stages.histories import one_line
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
from r4r.stages.split import evaluated, split_stage
from r4r.stages.stage import Stage, Work
from r4r.stages.train import Texts, make_expert, train_stage, use_adapter
from r4r.stages.write import write_all
from r4r.store.artifact import write_table

VERSION = 2
LABEL = "EXP3RT"
Adapters = Literal["separate", "shared"]


def predictions_stage(config: Config, adapters: Adapters) -> Stage:
    """Artifact: as of `rated_answers_stage`.

    Args:
        adapters: `separate`, one a task as published, or one `shared` by all tasks.
    """
    inputs = {"split": split_stage(config)}
    inputs |= {f"{side}_profiles": profiles_stage(config, adapters, side) for side in SIDES}
    facts, expert = profile_facts(config) | {"asked": asked_facts(config, RATER)}, make_expert(config, RATER)
    student = student_stage(config, adapters, RATER)
    return rated_answers_stage(config, Deliberation(RATER, expert, LABEL, student, inputs, facts, _rating_prompts))


def student_stage(config: Config, adapters: Adapters, task: str) -> Stage:
    """Artifact: the adapter that does a task.

    Args:
        task: the name of the task's expert.
    """
    taught = {"preferences": teacher_preferences_stage(config), "reasons": teacher_reasons_stage(config)}
    taught |= {f"{side}_profiles": teacher_profiles_stage(config, side) for side in SIDES}
    facts: dict[str, Any] = profile_facts(config)
    extractions = {"extractions": config.dataset.pools.summaries}
    if adapters == "shared":
        facts |= extractions | {"asked": asked_facts(config, EXTRACTOR, *PROFILERS.values(), RATER)}
        return train_stage(config, RATER, {"split": split_stage(config)} | taught, facts, _all_texts)
    own = {"split": split_stage(config)}
    facts |= {"asked": asked_facts(config, task)}
    if task == EXTRACTOR:
        return train_stage(
            config, task, own | {"preferences": taught["preferences"]}, facts | extractions, _extractions
        )
    for side in SIDES:
        if task == PROFILERS[side]:
            own |= {f"{side}_profiles": taught[f"{side}_profiles"]}
            return train_stage(config, task, own, facts, lambda work, side=side: _profiles(work, side))
    del taught["preferences"]
    return train_stage(config, task, own | taught, facts, _rationales)


def preferences_stage(config: Config, adapters: Adapters) -> Stage:
    """Artifact: `data.parquet` (PREFERENCES), by the student, of the reviews that histories of rows to predict show."""
    inputs = {"split": split_stage(config), "student": student_stage(config, adapters, EXTRACTOR)}

    def write(work: Work) -> dict[str, Any]:
        rows = work.inputs["split"].table(REVIEWS)
        wanted = shown_rows(config.dataset, rows, evaluated(config, rows))
        prompts = preference_prompts(work.job, wanted)
        table, facts = _write(work, adapters, EXTRACTOR, wanted["row_id"].tolist(), prompts)
        write_table(work.folder / "data.parquet", table.rename(columns={"answer": "preferences"}), PREFERENCES)
        return facts

    identity = _written(config, EXTRACTOR)
    return Stage("exp3rt/preferences", VERSION, identity, inputs, write, "one text a history row")


def profiles_stage(config: Config, adapters: Adapters, side: Side) -> Stage:
    """Artifact: `data.parquet` (PROFILES), by the student, of the rows to predict."""
    name = PROFILERS[side]
    inputs = {
        "split": split_stage(config),
        "student": student_stage(config, adapters, name),
        "preferences": preferences_stage(config, adapters),
    }

    def write(work: Work) -> dict[str, Any]:
        plan = plan_profiles(work, side, evaluated(config, work.inputs["split"].table(REVIEWS)))
        table, facts = _write(work, adapters, name, list(range(len(plan.prompts))), plan.prompts)
        written = dict(zip(table["row_id"].tolist(), table["answer"], strict=True))
        write_table(work.folder / "data.parquet", plan.profiles(written), PROFILES)
        return facts

    takes = f"up to a text a {config.dataset.evaluate.split} row"
    return Stage(f"exp3rt/{side}_profiles", VERSION, _written(config, name), inputs, write, takes)


def _all_texts(work: Work) -> Texts:
    profiles = [text for side in SIDES for text in _profiles(work, side, every=True)]
    return [*_extractions(work), *profiles, *_rationales(work)]


def _extractions(work: Work) -> Texts:
    """As many extractions as the Summarizer would be taught summaries."""
    config = work.job.config
    taught = work.inputs["preferences"].table(PREFERENCES)
    limit = config.dataset.pools.summaries
    if limit < len(taught):
        taught = taught.sample(limit, random_state=config.seed).sort_values("row_id")
    rows = work.inputs["split"].table(REVIEWS).set_index("row_id").loc[taught["row_id"]].reset_index()
    expert: Any = make_expert(config, EXTRACTOR)
    prompts = preference_prompts(work.job, rows)
    return [
        (row_id, prompt, expert.target(text))
        for row_id, prompt, text in zip(taught["row_id"].tolist(), prompts, taught["preferences"], strict=True)
    ]


def _profiles(work: Work, side: Side, every: bool = False) -> Texts:
    """The profiles of one side: of each user or item the newest, which knows the most; or every one."""
    taught = work.inputs[f"{side}_profiles"].table(ANSWERED, "answered.parquet")
    if not every:
        owners = work.inputs["split"].table(REVIEWS).set_index("row_id")[f"{side}_id"]
        taught = taught.sort_values("row_id")  # row ids follow time
        taught = taught[~owners.loc[taught["row_id"]].duplicated(keep="last").to_numpy()]
    expert: Any = make_expert(work.job.config, PROFILERS[side])
    return [
        (row_id, prompt, expert.target(profile))
        for row_id, prompt, profile in zip(taught["row_id"].tolist(), taught["prompt"], taught["profile"], strict=True)
    ]


def _rationales(work: Work) -> Texts:
    reasons = work.inputs["reasons"].table(REASONS)
    targets = work.inputs["split"].table(REVIEWS).set_index("row_id").loc[reasons["row_id"]].reset_index()
    expert: Any = make_expert(work.job.config, RATER)
    return [
        (case.row_id, expert.prompt(case), expert.target(case, Lesson(rating, reason)))
        for case, reason, rating in zip(
            profiled_cases(work, targets), reasons["reason"], targets["rating"], strict=True
        )
    ]


def _rating_prompts(work: Work, targets: pd.DataFrame) -> list[str]:
    expert: Any = make_expert(work.job.config, RATER)
    return [expert.prompt(case) for case in profiled_cases(work, targets)]


def _write(
    work: Work, adapters: Adapters, task: str, row_ids: list[int], prompts: list[str]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """As write_all, by the student of a task, the answers as the task's expert reads them."""
    if not prompts:  # no row to predict has a past
        return pd.DataFrame(columns=["row_id", "answer"]), {"texts": 0, "malformed": 0}
    config, adapter = work.job.config, RATER if adapters == "shared" else task
    use_adapter(work.job, adapter, work.inputs["student"])
    table, facts = write_all(work, adapter, row_ids, prompts, config.experts[task]["max_new_tokens"], f"by the {task}")
    expert: Any = make_expert(config, task)
    tidied = table["text"].map(expert.read)
    malformed = int(tidied.isna().sum())
    if malformed:
        say(f"  {malformed} of {len(table)} texts lack one of the two lines; they are shown as written, on one line")
    table["answer"] = tidied.fillna(table["text"].map(one_line))
    return table, facts | {"malformed": malformed}


def _written(config: Config, task: str) -> dict[str, Any]:
    """Identity of what the student writes of the rows to predict."""
    return profile_facts(config) | {
        "asked": asked_facts(config, task),
        "max_new_tokens": config.experts[task]["max_new_tokens"],
        "evaluate": config.dataset.evaluate.model_dump(mode="json"),
    }
