"""The teacher summarises a sample of train reviews: the Summarizer's training texts (paper 3.1)."""

from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import TeacherError
from r4r.experts.summarizer import clean_summary
from r4r.rows import REVIEWS, SUMMARIES
from r4r.stages.ask import estimate, teacher_identity
from r4r.stages.ask_all import ask_all, usable
from r4r.stages.identity import cut_facts
from r4r.stages.mounted import asked
from r4r.stages.split import split_stage
from r4r.stages.stage import Stage, Work
from r4r.store.artifact import write_table

VERSION = 2


def teacher_summaries_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (rows.SUMMARIES) of the summarised sample."""
    teacher = config.teacher
    identity: dict[str, Any] = {
        "teacher": teacher_identity(config),
        "temperature": teacher.summary_temperature,
        "max_tokens": teacher.summary_max_tokens,
        "summaries": config.dataset.pools.summaries,
        **cut_facts(config),
        "category": config.dataset.category,
        "expert": asked(config, "summarizer").identity(),
        "seed": config.seed,
    }
    calls, review = config.dataset.pools.summaries, config.dataset.history.review_tokens
    takes = estimate(config, calls, calls, identity["expert"]["prompts"], review, teacher.summary_max_tokens)
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
    write_table(work.folder / "data.parquet", kept.rename(columns={"answer": "summary"}), SUMMARIES)
    return {"kept": len(kept), "dropped": dropped, **facts}


def _read(place: int, text: str) -> str:
    summary = clean_summary(text)
    if summary is None:
        raise TeacherError("not the three lines of a summary")
    return summary


def review_prompts(work: Work, rows: pd.DataFrame) -> list[str]:
    """The teacher's prompt for each row, its review cut to dataset.history.review_tokens."""
    dataset, ask = work.job.config.dataset, asked(work.job.config, "summarizer").expert.teacher_prompt
    limit, scale = dataset.history.review_tokens, dataset.rating_scale
    return [
        ask(dataset.category, title, scale.text(rating), work.job.chat.clip(review, limit))
        for title, rating, review in zip(rows["title"], rows["rating"], rows["review"], strict=True)
    ]
