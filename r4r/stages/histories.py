"""What the experts are shown of a target's past: summaries, or the raw reviews where the first step is ablated."""

from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.rows import POOLS, REVIEWS, SUMMARIES, Case
from r4r.stages.cases import history_rows, make_cases
from r4r.stages.identity import cut_facts
from r4r.stages.split import split_stage
from r4r.stages.stage import Job, Stage, Work
from r4r.stages.summarize import summaries_stage


def case_inputs(config: Config, shown: str | None = None) -> dict[str, Stage]:
    """The stages that `known_cases` reads.

    Args:
        shown: summaries | reviews; None: what the strategy shows to the reasoner, the predictor and the reward model.
    """
    inputs = {"split": split_stage(config)}
    if (shown or config.strategy.reasoned_from) == "summaries":
        inputs["summaries"] = summaries_stage(config)
    return inputs


def case_facts(config: Config, shown: str | None = None) -> dict[str, Any]:
    """What, beside its inputs, shapes the histories that a prompt shows."""
    dataset = config.dataset
    facts: dict[str, Any] = {
        "category": dataset.category,
        "history": dataset.history.model_dump(mode="json", exclude={"raw_tokens"}),
    }
    if (shown or config.strategy.reasoned_from) == "reviews":
        facts |= {"shown": "reviews", "raw_tokens": dataset.history.raw_tokens, **cut_facts(config)}
    return facts


def known_cases(work: Work, targets: pd.DataFrame, shown: str | None = None) -> list[Case]:
    """A case a target, in the targets' order, its histories showing summaries or clipped reviews."""
    dataset = work.job.config.dataset
    rows = work.inputs["split"].table(REVIEWS)
    if (shown or work.job.config.strategy.reasoned_from) == "summaries":
        summaries = work.inputs["summaries"].table(SUMMARIES)
        texts = dict(zip(summaries["row_id"].tolist(), summaries["summary"], strict=True))
    else:
        past = history_rows(dataset, rows)
        clip = work.job.engine.chat.clip
        texts = {
            row_id: clip(one_line(review), dataset.history.raw_tokens)
            for row_id, review in zip(past["row_id"].tolist(), past["review"], strict=True)
        }
    return make_cases(dataset, rows, targets, texts)


def pool_rows(work: Work, pool: str) -> pd.DataFrame:
    """The rows of a pool (rows.REVIEWS), by row_id."""
    pools = work.inputs["pools"].table(POOLS)
    rows = work.inputs["split"].table(REVIEWS)
    return rows[rows["row_id"].isin(pools.loc[pools["pool"] == pool, "row_id"])].reset_index(drop=True)


def clipped_reviews(job: Job, rows: pd.DataFrame) -> list[str]:
    """Each row's own review, cut to dataset.history.review_tokens: for training and analysis, never for inference."""
    limit = job.config.dataset.history.review_tokens
    return [job.engine.chat.clip(review, limit) for review in rows["review"]]


def one_line(text: str) -> str:
    """The text as one paragraph: its line breaks could fake a section of the prompt that holds it."""
    return " ".join(text.split())
