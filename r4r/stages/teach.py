"""The teacher summarises a sample of train reviews: the Summarizer's training texts (paper 3.1)."""

from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import DataError, TeacherError
from r4r.experts.summarizer import Summarizer, clean_summary
from r4r.progress import bar, say
from r4r.rows import REVIEWS, SUMMARIES
from r4r.stages.ask import Asking, answered, estimate, groups, teacher_identity
from r4r.stages.identity import prompt_texts
from r4r.stages.split import split_stage
from r4r.stages.stage import Stage, Work
from r4r.store.artifact import write_table
from r4r.store.journal import Journal
from r4r.teacher.base import Call

VERSION = 1
UNIT = 16  # calls whose answers are kept together


def teacher_summaries_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (rows.SUMMARIES) of the summarised sample."""
    teacher = config.teacher
    identity: dict[str, Any] = {
        "teacher": teacher_identity(config),
        "temperature": teacher.summary_temperature,
        "max_tokens": teacher.summary_max_tokens,
        "summaries": config.dataset.pools.summaries,
        "review_tokens": config.dataset.history.review_tokens,
        "category": config.dataset.category,
        "prompts": prompt_texts(*Summarizer.templates),
        "seed": config.seed,
    }
    calls, review = config.dataset.pools.summaries, config.dataset.history.review_tokens
    takes = estimate(config, calls, calls, identity["prompts"], review, teacher.summary_max_tokens)
    inputs = {"split": split_stage(config)}
    return Stage("teacher_summaries", VERSION, identity, inputs, _build, f"up to {takes}")


def _build(work: Work) -> dict[str, Any]:
    config = work.job.config
    rows = work.inputs["split"].table(REVIEWS)
    train = rows[(rows["split"] == "train") & (rows["review"].str.strip() != "")]
    count = min(config.dataset.pools.summaries, len(train))
    sample = train.sample(count, random_state=config.seed).sort_values("row_id")
    prompts = review_prompts(work, sample)
    journal = Journal(work.folder / "rows.jsonl")
    asking = Asking(work.job, journal)
    units = [list(range(start, min(start + UNIT, count))) for start in range(0, count, UNIT)]
    temperature, max_tokens = config.teacher.summary_temperature, config.teacher.summary_max_tokens
    with bar("teacher summaries", len(units), len(journal)) as advance:
        for group in groups(config, [number for number in range(len(units)) if str(number) not in journal]):
            asked = [p for number in group for p in units[number]]
            answers = dict(zip(asked, asking([Call(prompts[p], temperature, max_tokens) for p in asked]), strict=True))
            for number in group:
                journal.append(str(number), [*(_row(sample, p, answers[p]) for p in units[number]), asking.row()])
                advance(1, "")
    table = pd.DataFrame(answered(journal))
    kept = table[table["problem"] == ""]
    problems = table.loc[table["problem"] != "", "problem"].value_counts().to_dict()
    if problems:
        say(f"  {len(table) - len(kept)} of {len(table)} teacher summaries dropped: {problems}")
    if kept.empty:
        raise DataError(f"none of the {len(table)} teacher summaries can be used: {problems}. Try a stronger teacher.")
    write_table(work.folder / "data.parquet", kept.sort_values("row_id"), SUMMARIES)
    return {"kept": len(kept), "dropped": problems, **asking.facts()}


def _row(sample: pd.DataFrame, place: int, answer: Any) -> dict[str, Any]:
    row = {"row_id": int(sample["row_id"].iloc[place]), "summary": "", "problem": ""}
    if isinstance(answer, TeacherError):
        return row | {"problem": str(answer)}
    summary = clean_summary(answer.text)
    return row | ({"summary": summary} if summary else {"problem": "not the three lines of a summary"})


def review_prompts(work: Work, rows: pd.DataFrame) -> list[str]:
    """The Summarizer's prompt for each row, its review cut to dataset.history.review_tokens."""
    config = work.job.config
    limit = config.dataset.history.review_tokens
    return [
        Summarizer.prompt(config.dataset.category, title, rating, work.job.lm.chat.clip(review, limit))
        for title, rating, review in zip(rows["title"], rows["rating"], rows["review"], strict=True)
    ]
