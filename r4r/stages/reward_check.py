"""Can the reward model tell good reasons from bad ones? Its ratings, given texts of known closeness (paper 4.3.3)."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import DataError, TeacherError
from r4r.progress import bar, say
from r4r.reasons.leak import leaks_rating
from r4r.rows import PREDICTIONS, REVIEWS, Case
from r4r.stages.ask import Asking, answered, groups, teacher_identity
from r4r.stages.histories import case_facts, case_inputs, clipped_reviews, known_cases, one_line
from r4r.stages.identity import prompt_texts
from r4r.stages.reasons import reasoner_prompt, review_inferred_prompt
from r4r.stages.reward import RewardScorer, reward_model_stage
from r4r.stages.split import evaluated
from r4r.stages.stage import Stage, Work
from r4r.stages.train import use_adapter
from r4r.store.artifact import write_table
from r4r.store.journal import Journal
from r4r.teacher.base import Call

VERSION = 1
UNIT = 16  # rows whose texts are written, rated and kept together
KINDS = (  # Table 5, the closest to the review first
    "Review-guided",
    "Review-inferred",
    "Hint-inferred",
    "History-inferred",
    "Without reason",
)
Texts = dict[str, str | TeacherError | None]
"""kind -> the text, None for none, or why it is missing."""


def reward_check_stage(config: Config, attempts: int) -> Stage:
    """Artifact: `data.parquet` (rows.PREDICTIONS), a label a kind of text; `texts.parquet` holds the texts.

    A row for which the teacher gave no usable text of some kind in `attempts` calls counts for no kind; the manifest's
    `excluded` names these rows by cause. A hint-inferred text that gives away the rating is not usable.
    """
    teacher, evaluate = config.teacher, config.dataset.evaluate
    identity = case_facts(config) | {
        "evaluate": evaluate.model_dump(mode="json"),
        "review_tokens": config.dataset.history.review_tokens,
        "teacher": teacher_identity(config),
        "temperature": teacher.reason_temperature,
        "max_tokens": teacher.reason_max_tokens,
        "prompts": prompt_texts("reasoner", "hint", "review_inferred"),
        "attempts": attempts,
    }
    inputs = case_inputs(config) | {"reward_model": reward_model_stage(config)}
    name = f"reward_check/{evaluate.split}"
    return Stage(name, VERSION, identity, inputs, lambda work: _build(work, attempts), "3 teacher calls a row")


def _build(work: Work, attempts: int) -> dict[str, Any]:
    rows = evaluated(work.job.config, work.inputs["split"].table(REVIEWS))
    cases = known_cases(work, rows)
    use_adapter(work.job, "reward_model", work.inputs["reward_model"])
    journal = Journal(work.folder / "rows.jsonl")
    asking = Asking(work.job, journal)
    units = [list(range(start, min(start + UNIT, len(rows)))) for start in range(0, len(rows), UNIT)]
    todo = [number for number in range(len(units)) if str(number) not in journal]
    with bar("rate texts of every kind", len(units), len(journal)) as advance:
        for group in groups(work.job.config, todo):
            asked = [place for number in group for place in units[number]]
            texts = dict(
                zip(asked, _texts(work, asking, rows.iloc[asked], [cases[p] for p in asked], attempts), strict=True)
            )
            for number in group:
                places = units[number]
                rated = _rated(work, [cases[p] for p in places], [texts[p] for p in places])
                journal.append(str(number), [*rated, asking.row()])
                advance(1, "")
    table = pd.DataFrame(answered(journal))
    causes = table[table["problem"] != ""].drop_duplicates("row_id")
    excluded = {cause: sorted(ids.tolist()) for cause, ids in causes.groupby("problem")["row_id"]}
    if excluded:
        counts = {cause: len(ids) for cause, ids in excluded.items()}
        say(f"  {len(causes)} of {len(rows)} rows excluded, for want of a text of every kind: {counts}")
    kept = table[~table["row_id"].isin(causes["row_id"])]
    if kept.empty:
        raise DataError(
            f"the teacher gave no row a usable text of every kind: {list(excluded)}. Try a stronger teacher."
        )
    values = {name: kept["rating"] for name in ("mean", "median", "mode")}
    write_table(work.folder / "data.parquet", kept.assign(**values), PREDICTIONS)
    table.to_parquet(work.folder / "texts.parquet", index=False)
    return {"rows": len(rows), "excluded": excluded, **asking.facts()}


def _texts(work: Work, asking: Asking, rows: pd.DataFrame, cases: Sequence[Case], attempts: int) -> list[Texts]:
    """For each case a text a kind, or why there is none."""
    config = work.job.config
    reviews, ratings, titles = clipped_reviews(work.job, rows), rows["rating"].tolist(), rows["title"].tolist()
    prompts: dict[str, Callable[[int], str]] = {
        "Review-inferred": lambda n: review_inferred_prompt(config, titles[n], reviews[n]),
        "Hint-inferred": lambda n: reasoner_prompt(cases[n], ratings[n]),
        "History-inferred": lambda n: reasoner_prompt(cases[n]),
    }
    columns: dict[str, Sequence[str | TeacherError | None]] = {
        "Review-guided": [one_line(review) or TeacherError("has no review") for review in reviews],
        "Without reason": [None] * len(cases),
    }
    for kind, prompt in prompts.items():
        columns[kind] = _ask(config, asking, len(cases), prompt, attempts, refuse_leaks=kind == "Hint-inferred")
    return [{kind: columns[kind][n] for kind in KINDS} for n in range(len(cases))]


def _ask(
    config: Config, asking: Asking, count: int, prompt: Callable[[int], str], attempts: int, refuse_leaks: bool
) -> list[str | TeacherError]:
    """A text a case, asked again up to `attempts` times where it failed or gives away the rating."""
    teacher = config.teacher
    texts: list[str | TeacherError] = [TeacherError("not asked")] * count
    for attempt in range(attempts):
        missing = [n for n, text in enumerate(texts) if isinstance(text, TeacherError)]
        calls = [Call(prompt(n), teacher.reason_temperature, teacher.reason_max_tokens, attempt) for n in missing]
        for n, answer in zip(missing, asking(calls), strict=True):
            if isinstance(answer, TeacherError):
                texts[n] = answer
            elif refuse_leaks and leaks_rating(answer.text):
                texts[n] = TeacherError("gives away the rating")
            else:
                texts[n] = one_line(answer.text)
    return texts


def _rated(work: Work, cases: Sequence[Case], texts: Sequence[Texts]) -> list[dict[str, Any]]:
    """A row a case and kind: its text and the reward model's rating given it, or the problem."""
    score = RewardScorer(work.job, cases)
    found = []
    for kind in KINDS:
        usable = {n: text for n, each in enumerate(texts) if not isinstance(text := each[kind], TeacherError)}
        ratings = dict(zip(usable, score(list(usable), list(usable.values())), strict=True)) if usable else {}
        found += [
            {
                "row_id": case.row_id,
                "label": kind,
                "text": usable.get(n) or "",
                "rating": ratings.get(n, float("nan")),
                "problem": "" if n in usable else f"{kind}: {each[kind]}",
            }
            for n, (case, each) in enumerate(zip(cases, texts, strict=True))
        ]
    return found
