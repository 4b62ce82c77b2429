"""The teacher summarises a sample of train reviews: the Summarizer's training texts (paper 3.1)."""

from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import DataError, TeacherError
from r4r.experts.summarizer import Summarizer, clean_summary
from r4r.progress import bar, say
from r4r.rows import REVIEWS, SUMMARIES
from r4r.stages.ask import teacher_identity
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
    identity = {
        "teacher": teacher_identity(config),
        "temperature": teacher.summary_temperature,
        "max_tokens": teacher.summary_max_tokens,
        "summaries": config.dataset.pools.summaries,
        "review_tokens": config.dataset.history.review_tokens,
        "category": config.dataset.category,
        "prompts": prompt_texts(*Summarizer.templates),
        "seed": config.seed,
    }
    return Stage(
        "teacher_summaries",
        VERSION,
        identity,
        {"split": split_stage(config)},
        _build,
        f"up to {config.dataset.pools.summaries} teacher calls",
    )


def _build(work: Work) -> dict[str, Any]:
    config = work.job.config
    rows = work.inputs["split"].table(REVIEWS)
    train = rows[(rows["split"] == "train") & (rows["review"].str.strip() != "")]
    count = min(config.dataset.pools.summaries, len(train))
    sample = train.sample(count, random_state=config.seed).sort_values("row_id")
    prompts = review_prompts(work, sample)
    journal = Journal(work.folder / "rows.jsonl")
    units = [list(range(start, min(start + UNIT, count))) for start in range(0, count, UNIT)]
    with bar("teacher summaries", len(units), len(journal)) as advance:
        for number, places in enumerate(units):
            if str(number) in journal:
                continue
            calls = [
                Call(prompts[p], config.teacher.summary_temperature, config.teacher.summary_max_tokens) for p in places
            ]
            journal.append(
                str(number), [_row(sample, p, a) for p, a in zip(places, work.job.teacher.ask(calls), strict=True)]
            )
            advance(1, "")
    table = pd.DataFrame(journal.rows())
    kept = table[table["problem"] == ""]
    problems = table.loc[table["problem"] != "", "problem"].value_counts().to_dict()
    if problems:
        say(f"  {len(table) - len(kept)} of {len(table)} teacher summaries dropped: {problems}")
    if kept.empty:
        raise DataError(f"none of the {len(table)} teacher summaries can be used: {problems}. Try a stronger teacher.")
    write_table(work.folder / "data.parquet", kept.sort_values("row_id"), SUMMARIES)
    return {
        "teacher_calls": len(table),
        "kept": len(kept),
        "dropped": problems,
        "teacher_tokens_in": int(table["tokens_in"].sum()),
        "teacher_tokens_out": int(table["tokens_out"].sum()),
    }


def _row(sample: pd.DataFrame, place: int, answer: Any) -> dict[str, Any]:
    row = {"row_id": int(sample["row_id"].iloc[place]), "summary": "", "problem": "", "tokens_in": 0, "tokens_out": 0}
    if isinstance(answer, TeacherError):
        return row | {"problem": str(answer)}
    row |= {"tokens_in": answer.tokens_in, "tokens_out": answer.tokens_out}
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
