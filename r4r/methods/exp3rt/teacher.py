"""EXP3RT, the teacher's part: preferences, profiles and rationales of the experts pool (arXiv 2408.06276).

The teacher answers the prompts of the experts that are mounted. A rationale is written with both profiles, and with the
true rating as a hint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from r4r.configuration.schema import Config
from r4r.errors import TeacherError
from r4r.methods.exp3rt.profiles import (
    EXTRACTOR,
    PREFERENCES,
    PROFILERS,
    RATER,
    SIDES,
    PreferenceHistories,
    Profiled,
    Side,
    plan_profiles,
    preference_histories,
    preference_prompts,
    profiled,
    shown_rows,
)
from r4r.pipeline.stage import Stage, Unkeyed
from r4r.progress import say
from r4r.rows import REASONS, TEXTS, Schema
from r4r.stages.ask import estimate
from r4r.stages.ask_all import ask_all, usable
from r4r.stages.histories import rows_of_pool
from r4r.stages.identity import prompt_texts, teacher_identity
from r4r.stages.lessons import Thought, with_thoughts
from r4r.stages.mounted import Asked, asked
from r4r.stages.pools import expert_pairs, pools_stage
from r4r.stages.reasons import Teaching, read_reason
from r4r.stages.stage import Work
from r4r.stages.teach import ReviewQuestions, review_questions
from r4r.store.artifact import write_table

ANSWERED: Schema = {"row_id": "int64", "prompt": "str", "profile": "str"}  # each distinct profile once


@dataclass(frozen=True)
class TeacherPreferences(Stage):
    """Artifact: `data.parquet` (PREFERENCES) of the reviews that the histories of the experts pool show."""

    version: ClassVar[int] = 2

    expert: Asked
    questions: ReviewQuestions
    shown: Profiled
    pools: Any
    teaching: Teaching
    takes: Unkeyed

    @property
    def name(self) -> str:
        return "exp3rt/teacher_preferences"

    @property
    def estimate(self) -> str:
        return f"{self.takes.value}, one a review"

    def build(self, work: Work) -> dict[str, Any]:
        rows = shown_rows(self.shown, work, rows_of_pool(work, self.shown.split, self.pools, "experts"))
        prompts = preference_prompts(work, self.questions, self.expert, rows)
        table, facts = _ask_lines(work, self.teaching, self.expert, "preferences", rows["row_id"].tolist(), prompts)
        kept, dropped = usable(table, "teacher preferences")
        write_table(work.folder / "data.parquet", kept.rename(columns={"answer": "preferences"}), PREFERENCES)
        return {"kept": len(kept), "dropped": dropped, **facts}


@dataclass(frozen=True)
class TeacherProfiles(Stage):
    """Artifact: `data.parquet` (rows.TEXTS), the profile of one side of each pair of the experts pool that has one, and
    `answered.parquet` (ANSWERED)."""

    version: ClassVar[int] = 2

    expert: Asked
    side: Side
    shown: PreferenceHistories
    pools: Any
    teaching: Teaching
    takes: Unkeyed

    @property
    def name(self) -> str:
        return f"exp3rt/teacher_{self.side}_profiles"

    @property
    def estimate(self) -> str:
        return self.takes.value

    def build(self, work: Work) -> dict[str, Any]:
        pairs = rows_of_pool(work, self.shown.split, self.pools, "experts")
        plan = plan_profiles(work, self.shown, self.expert, self.side, pairs)
        what = f"{self.side} profiles"
        table, facts = _ask_lines(work, self.teaching, self.expert, what, range(len(plan.prompts)), plan.prompts)
        kept, dropped = usable(table, f"teacher {what}")
        written = dict(zip(kept["row_id"].tolist(), kept["answer"], strict=True))
        answered = [
            {"row_id": plan.row_ids[place], "prompt": plan.prompts[place], "profile": text}
            for place, text in written.items()
        ]
        write_table(work.folder / "answered.parquet", pd.DataFrame(answered, columns=list(ANSWERED)), ANSWERED)
        profiles = plan.profiles(written)
        write_table(work.folder / "data.parquet", profiles, TEXTS)
        return {"kept": len(kept), "dropped": dropped, "pairs": len(pairs), "profiled": len(profiles), **facts}


@dataclass(frozen=True)
class TeacherReasons(Stage):
    """Artifact: `data.parquet` (rows.REASONS), a rationale for each pair whose profiles are known; none leaks.

    Attributes:
        profiles: the user's and the item's.
    """

    expert: Asked
    shown: Profiled
    pools: Any
    profiles: tuple[Thought, ...]
    teaching: Teaching
    takes: Unkeyed

    @property
    def name(self) -> str:
        return "exp3rt/teacher_reasons"

    @property
    def estimate(self) -> str:
        return self.takes.value

    def build(self, work: Work) -> dict[str, Any]:
        pairs = rows_of_pool(work, self.shown.split, self.pools, "experts")
        known = [set(work.of(own.texts).table(TEXTS)["row_id"]) for own in self.profiles]
        rows = pairs[pairs["row_id"].isin(set.intersection(*known))].reset_index(drop=True)
        lacking = len(pairs) - len(rows)
        if lacking:
            say(f"  {lacking} of {len(pairs)} pairs lack a profile; they get no rationale")
        cases = with_thoughts(work, self.shown.cases(work, rows), self.profiles)
        titles = rows["title"].tolist()
        table, facts = ask_all(
            work,
            "teacher reasons",
            rows["row_id"].tolist(),
            [self.expert.expert.reason_prompt(case, r) for case, r in zip(cases, rows["rating"], strict=True)],
            self.teaching.temperature,
            self.teaching.max_tokens,
            read=lambda place, text: read_reason(text, True, titles[place], self.shown.scale),
        )
        kept, dropped = usable(table, "teacher reasons")
        write_table(work.folder / "data.parquet", kept.rename(columns={"answer": "reason"}), REASONS)
        return {"pairs": len(table), "without_profile": lacking, "kept": len(kept), "dropped": dropped, **facts}


def teacher_preferences_stage(config: Config) -> TeacherPreferences:
    """The stage that asks for the preferences in each review."""
    own, shown = asked(config, EXTRACTOR), profiled(config)
    most = 2 * shown.newest * expert_pairs(config)
    takes = _takes(config, own, most, config.dataset.history.review_tokens)
    questions = review_questions(config)
    return TeacherPreferences(own, questions, shown, pools_stage(config), _extracting(config, own), takes)


def teacher_profiles_stage(config: Config, side: Side) -> TeacherProfiles:
    """The stage that asks for the profiles of one side."""
    own, shown = asked(config, PROFILERS[side]), preference_histories(config, teacher_preferences_stage(config))
    takes = _takes(config, own, expert_pairs(config), shown.newest * config.teacher.summary_max_tokens)
    return TeacherProfiles(own, side, shown, pools_stage(config), _extracting(config, own), takes)


def teacher_reasons_stage(config: Config) -> TeacherReasons:
    """The stage that asks for rationales."""
    own, teacher = asked(config, RATER), config.teacher
    texts = prompt_texts(*own.expert.teacher_templates)
    ask = Teaching(teacher_identity(config, *texts), teacher.reason_temperature, teacher.reason_max_tokens, texts)
    tokens = 2 * teacher.summary_max_tokens + config.dataset.history.review_tokens
    takes = Unkeyed(estimate(config, 1, expert_pairs(config), ask.prompts, tokens, ask.max_tokens))
    return TeacherReasons(own, profiled(config), pools_stage(config), teacher_profiles(config), ask, takes)


def teacher_profiles(config: Config) -> tuple[Thought, ...]:
    """The teacher's profiles of the user and of the item, as thoughts."""
    return tuple(Thought(asked(config, PROFILERS[side]), teacher_profiles_stage(config, side)) for side in SIDES)


def _ask_lines(
    work: Work, ask: Teaching, expert: Asked, what: str, row_ids: Sequence[int], prompts: list[str]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """As ask_all, the answers the two lines that the expert reads in them."""

    def read(place: int, text: str) -> str:
        lines = expert.expert.lines(text, once=True)
        if lines is None:
            raise TeacherError("not the two lines of preferences")
        return str(lines)

    return ask_all(work, f"teacher {what}", row_ids, prompts, ask.temperature, ask.max_tokens, read=read)


def _extracting(config: Config, own: Asked) -> Teaching:
    """The job's teacher, as it is asked for preferences and profiles; the prompts are the expert's own."""
    teacher = config.teacher
    answered = teacher_identity(config, *own.expert.templates)
    return Teaching(answered, teacher.summary_temperature, teacher.summary_max_tokens, {})


def _takes(config: Config, own: Asked, most: int, tokens: int) -> Unkeyed:
    prompts = own.identity()["prompts"]
    return Unkeyed(estimate(config, 1, most, prompts, tokens, config.teacher.summary_max_tokens))
