"""EXP3RT: preferences, profiles, then reason and rating, distilled from the teacher (arXiv 2408.06276, SPEC section 6).

Of the rows to predict, the student writes all texts itself: the preferences in the reviews of their histories, the
profiles, the reason. As published, each task has an adapter of its own, which learns an extraction a review, a profile
a user and one an item, and a rationale a pair. One shared adapter learns all of these and every further profile.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pandas as pd

from r4r.configuration.schema import Config, EvaluateConfig
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
from r4r.methods.exp3rt.teacher import (
    ANSWERED,
    TeacherPreferences,
    TeacherProfiles,
    teacher_preferences_stage,
    teacher_profiles,
    teacher_profiles_stage,
    teacher_reasons_stage,
)
from r4r.pipeline.stage import Stage
from r4r.progress import say
from r4r.rows import LESSONS, REVIEWS, TEXTS
from r4r.stages.identity import llm_identity
from r4r.stages.lessons import Pairs, StepLessons, Thought, with_thoughts
from r4r.stages.mounted import Asked, asked
from r4r.stages.pools import pools_stage
from r4r.stages.ratings import Ratings
from r4r.stages.split import evaluated_rows, split_stage
from r4r.stages.stage import Work
from r4r.stages.teach import ReviewQuestions, review_questions
from r4r.stages.timing import Inference, Round
from r4r.stages.train import Training, training, use_adapter, write_lessons
from r4r.stages.write import write_all
from r4r.stages.written import Written
from r4r.store.artifact import write_table

LABEL = "EXP3RT"
Adapters = Literal["separate", "shared"]


@dataclass(frozen=True)
class PreferenceLessons(Stage):
    """Artifact: `data.parquet` (rows.LESSONS), the teacher's extractions.

    Attributes:
        limit: as many as the Summarizer would be taught summaries; of more, a seeded sample.
    """

    expert: Asked
    taught: TeacherPreferences
    limit: int
    seed: int

    @property
    def name(self) -> str:
        return f"train/{self.expert.place}.lessons"

    def build(self, work: Work) -> dict[str, Any]:
        taught = work.of(self.taught).table(PREFERENCES)
        if self.limit < len(taught):
            taught = taught.sample(self.limit, random_state=self.seed).sort_values("row_id")
        rows = work.of(self.taught.shown.split).table(REVIEWS).set_index("row_id").loc[taught["row_id"]].reset_index()
        prompts = preference_prompts(work, self.taught.questions, self.expert, rows)
        answers = taught["preferences"].map(self.expert.expert.target)
        return write_lessons(work, self.expert.place, list(zip(taught["row_id"], prompts, answers, strict=True)))


@dataclass(frozen=True)
class ProfileLessons(Stage):
    """Artifact: `data.parquet` (rows.LESSONS), the teacher's profiles of one side.

    Attributes:
        every: all of them; else of each user or item the newest, which knows the most.
    """

    expert: Asked
    taught: TeacherProfiles
    every: bool

    @property
    def name(self) -> str:
        return f"train/{self.expert.place}.lessons"

    def build(self, work: Work) -> dict[str, Any]:
        taught = work.of(self.taught).table(ANSWERED, "answered.parquet").sort_values("row_id")  # ids follow time
        if not self.every:
            owners = work.of(self.taught.shown.split).table(REVIEWS).set_index("row_id")[f"{self.taught.side}_id"]
            taught = taught[~owners.loc[taught["row_id"]].duplicated(keep="last").to_numpy()]
        answers = taught["profile"].map(self.expert.expert.target)
        lessons = list(zip(taught["row_id"], taught["prompt"], answers, strict=True))
        return write_lessons(work, self.expert.place, lessons)


@dataclass(frozen=True)
class JoinedLessons(Stage):
    """Artifact: `data.parquet` (rows.LESSONS), the lessons of all tasks, for one adapter."""

    parts: tuple[Stage, ...]

    @property
    def name(self) -> str:
        return f"train/{RATER}.joined_lessons"

    def build(self, work: Work) -> dict[str, Any]:
        table = pd.concat([work.of(part).table(LESSONS) for part in self.parts], ignore_index=True)
        return write_lessons(work, RATER, list(table.itertuples(index=False, name=None)))


@dataclass(frozen=True)
class StudentPreferences(Stage):
    """Artifact: `data.parquet` (PREFERENCES), by the student, of the reviews that histories of rows to predict show."""

    version: ClassVar[int] = 2

    expert: Asked
    trained: Training
    questions: ReviewQuestions
    shown: Profiled
    evaluate: EvaluateConfig
    max_new_tokens: int

    @property
    def name(self) -> str:
        return "exp3rt/preferences"

    @property
    def estimate(self) -> str:
        return "one text a history row"

    def build(self, work: Work) -> dict[str, Any]:
        rows = evaluated_rows(self.evaluate, work.of(self.shown.split).table(REVIEWS))
        wanted = shown_rows(self.shown, work, rows)
        prompts = preference_prompts(work, self.questions, self.expert, wanted)
        table, facts = _write(work, self, wanted["row_id"].tolist(), prompts)
        write_table(work.folder / "data.parquet", table.rename(columns={"text": "preferences"}), PREFERENCES)
        return facts


@dataclass(frozen=True)
class StudentProfiles(Stage):
    """Artifact: `data.parquet` (rows.TEXTS), by the student, the profile of one side of each row to predict."""

    version: ClassVar[int] = 2

    expert: Asked
    trained: Training
    side: Side
    shown: PreferenceHistories
    evaluate: EvaluateConfig
    max_new_tokens: int

    @property
    def name(self) -> str:
        return f"exp3rt/{self.side}_profiles"

    @property
    def estimate(self) -> str:
        return f"up to a text a {self.evaluate.split} row"

    def build(self, work: Work) -> dict[str, Any]:
        rows = evaluated_rows(self.evaluate, work.of(self.shown.split).table(REVIEWS))
        plan = plan_profiles(work, self.shown, self.expert, self.side, rows)
        table, facts = _write(work, self, list(range(len(plan.prompts))), plan.prompts)
        written = dict(zip(table["row_id"].tolist(), table["text"], strict=True))
        write_table(work.folder / "data.parquet", plan.profiles(written), TEXTS)
        return facts


@dataclass(frozen=True)
class ProfiledRatings(Ratings):
    """Ratings whose thoughts, the profiles, are made offline: what is timed begins with the reason (paper 4.3.4)."""

    def infer(self, work: Work, rows: pd.DataFrame) -> Inference:  # type: ignore[override]
        """The reason and the rating, afresh."""
        assert self.answers is not None
        cases, chat = with_thoughts(work, self.shown.cases(work, rows), self.thoughts), work.job.chat
        use_adapter(work.job, self.expert.place, work.of(self.trained))
        fit = self._fitted(chat, self.expert.expert.prompt, cases, self._room)
        own = Round(self.expert.place, lambda place, texts: fit.prompts[place], self.answers.max_new_tokens)
        return Inference(
            [own],
            self.expert.place,
            lambda place, texts: self._encode(chat, fit.cases[place], texts[-1]),
            self.shown.scale,
        )


def predictions_stage(config: Config, adapters: Adapters) -> ProfiledRatings:
    """The stage whose artifact holds the predictions.

    Args:
        adapters: `separate`, one a task as published, or one `shared` by all tasks.
    """
    trained, evaluate, llm = student_stages(config, adapters), config.dataset.evaluate, llm_identity(config)
    own = asked(config, EXTRACTOR)
    shown, limit = profiled(config), own.max_new_tokens
    found = StudentPreferences(own, trained[EXTRACTOR], review_questions(config), shown, evaluate, limit)
    past = preference_histories(config, found)
    profiles: tuple[Thought, ...] = ()
    for side in SIDES:
        own = asked(config, PROFILERS[side])
        texts = StudentProfiles(own, trained[own.place], side, past, evaluate, own.max_new_tokens)
        profiles = (*profiles, Thought(own, texts))
    own = asked(config, RATER)
    answers = Written(own, trained[RATER], shown, evaluate, profiles, llm, own.max_new_tokens)
    return ProfiledRatings(own, trained[RATER], shown, evaluate, profiles, answers, LABEL, llm)


def student_stages(config: Config, adapters: Adapters) -> dict[str, Training]:
    """The stage of the adapter that does a task, by the name of the task's expert."""
    every = adapters == "shared"
    taught = teacher_preferences_stage(config)
    limit = config.dataset.pools.summaries
    lessons: dict[str, Stage] = {EXTRACTOR: PreferenceLessons(asked(config, EXTRACTOR), taught, limit, config.seed)}
    for side in SIDES:
        own = asked(config, PROFILERS[side])
        lessons[own.place] = ProfileLessons(own, teacher_profiles_stage(config, side), every)
    pairs = Pairs(split_stage(config), pools_stage(config), teacher_reasons_stage(config))
    thoughts, llm = teacher_profiles(config), llm_identity(config)
    lessons[RATER] = StepLessons(asked(config, RATER), profiled(config), pairs, thoughts, None, llm)
    if every:
        return dict.fromkeys(lessons, training(config, RATER, JoinedLessons(tuple(lessons.values()))))
    return {place: training(config, place, own) for place, own in lessons.items()}


def _write(
    work: Work, own: StudentPreferences | StudentProfiles, row_ids: list[int], prompts: list[str]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """As write_all, by the student of a task, the answers as the task's expert reads them."""
    if not prompts:  # no row to predict has a past
        return pd.DataFrame(columns=list(TEXTS)), {"texts": 0, "malformed": 0}
    adapter, expert = own.trained.expert.place, own.expert.expert
    use_adapter(work.job, adapter, work.of(own.trained))
    table, facts = write_all(work, adapter, row_ids, prompts, own.max_new_tokens, f"by the {own.expert.place}")
    malformed = int(table["text"].map(expert.lines).isna().sum())
    if malformed:
        say(f"  {malformed} of {len(table)} texts lack one of the two lines; they are shown as written, on one line")
    return table.assign(text=table["text"].map(expert.read)), facts | {"malformed": malformed}
