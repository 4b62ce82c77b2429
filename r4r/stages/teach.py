"""The teacher summarises a sample of train reviews: the Summarizer's training texts (paper 3.1)."""

from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import DataError, TeacherError
from r4r.experts.summarizer import Summarizer, clean_summary, is_empty
from r4r.progress import say
from r4r.rows import REVIEWS, SUMMARIES
from r4r.stages.ask import estimate, teacher_identity
from r4r.stages.ask_all import ask_all, usable
from r4r.stages.identity import cut_facts, prompt_texts
from r4r.stages.split import split_stage
from r4r.stages.stage import Stage, Work
from r4r.store.artifact import write_table

VERSION = 2


def teacher_summaries_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (rows.SUMMARIES) of the summarised sample."""
    teacher = config.teacher
    identity: dict[str, Any] = {
        "teacher": teacher_identity(config, *Summarizer.templates),
        "temperature": teacher.summary_temperature,
        "max_tokens": teacher.summary_max_tokens,
        "summaries": config.dataset.pools.summaries,
        **cut_facts(config),
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
    teacher = config.teacher
    table, facts = ask_all(
        work,
        "teacher summaries",
        sample["row_id"].tolist(),
        review_prompts(work, sample),
        teacher.summary_temperature,
        teacher.summary_max_tokens,
        read=_read,
    )
    kept, dropped = usable(table, "teacher summaries")
    empty = check_empty(kept["answer"], teacher.max_empty_share)
    write_table(work.folder / "data.parquet", kept.rename(columns={"answer": "summary"}), SUMMARIES)
    return {"kept": len(kept), "dropped": dropped, "empty": empty, **facts}


def check_empty(summaries: "pd.Series[str]", most: float) -> int:
    """How many summaries name nothing in any of their lines; a review may say nothing, but hardly most of them.

    Args:
        most: the share of them that is allowed.
    Raises:
        DataError: there are more.
    """
    empty = int(summaries.map(is_empty).sum())
    if empty > most * len(summaries):
        raise DataError(
            f"{empty} of {len(summaries)} teacher summaries name nothing: no aspect and no preference. That is more "
            f"than teacher.max_empty_share={most:g} allows. Take a stronger teacher, or look at the reviews and allow "
            "more"
        )
    if empty:
        say(f"  {empty} of {len(summaries)} teacher summaries name nothing; they are kept")
    return empty


def _read(place: int, text: str) -> str:
    summary = clean_summary(text, once=True)
    if summary is None:
        raise TeacherError("not the three lines of a summary")
    return summary


def review_prompts(work: Work, rows: pd.DataFrame) -> list[str]:
    """The Summarizer's prompt for each row, its review cut to dataset.history.review_tokens."""
    config = work.job.config
    limit = config.dataset.history.review_tokens
    return [
        Summarizer.prompt(config.dataset.category, title, rating, work.job.engine.chat.clip(review, limit))
        for title, rating, review in zip(rows["title"], rows["rating"], rows["review"], strict=True)
    ]
