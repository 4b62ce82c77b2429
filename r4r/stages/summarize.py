"""The Summarizer: taught by the teacher, then every history review is summarised once, offline (paper 3.1)."""

from typing import Any

from r4r.config import Config
from r4r.experts.summarizer import Summarizer, clean_summary
from r4r.progress import say
from r4r.rows import REVIEWS, SUMMARIES
from r4r.stages.cases import history_rows
from r4r.stages.estimate import Estimate
from r4r.stages.split import split_stage
from r4r.stages.stage import Stage, Work
from r4r.stages.teach import review_prompts, teacher_summaries_stage
from r4r.stages.train import Texts, train_stage, use_adapter
from r4r.stages.write import write_all
from r4r.store.artifact import write_table

VERSION = 1


def summarizer_stage(config: Config) -> Stage:
    """Artifact: the Summarizer's adapter."""
    inputs = {"split": split_stage(config), "teacher_summaries": teacher_summaries_stage(config)}
    return train_stage(config, "summarizer", inputs, _facts(config), _texts)


def summaries_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (rows.SUMMARIES) of every row that a history may show."""
    identity = {
        **_facts(config),
        "history_source": config.dataset.history.source,
        "max_new_tokens": config.experts["summarizer"]["max_new_tokens"],
    }
    inputs = {"split": split_stage(config), "summarizer": summarizer_stage(config)}
    takes = Estimate(lambda known: known.history, "reviews")
    return Stage("summaries", VERSION, identity, inputs, _build, takes)


def _facts(config: Config) -> dict[str, Any]:
    return {"category": config.dataset.category, "review_tokens": config.dataset.history.review_tokens}


def _texts(work: Work) -> Texts:
    taught = work.inputs["teacher_summaries"].table(SUMMARIES)
    rows = work.inputs["split"].table(REVIEWS).set_index("row_id").loc[taught["row_id"]].reset_index()
    prompts = review_prompts(work, rows)
    return [
        (row_id, prompt, Summarizer.target(summary))
        for row_id, prompt, summary in zip(taught["row_id"], prompts, taught["summary"], strict=True)
    ]


def _build(work: Work) -> dict[str, Any]:
    config = work.job.config
    rows = history_rows(config.dataset, work.inputs["split"].table(REVIEWS))
    use_adapter(work.job, "summarizer", work.inputs["summarizer"])
    table, facts = write_all(
        work,
        "summarizer",
        rows["row_id"].tolist(),
        review_prompts(work, rows),
        config.experts["summarizer"]["max_new_tokens"],
        "summary",
    )
    tidied = table["summary"].map(clean_summary)
    malformed = int(tidied.isna().sum())
    if malformed:
        say(f"  {malformed} of {len(table)} summaries lack one of the three lines; they are shown as written")
    table["summary"] = tidied.fillna(table["summary"])
    write_table(work.folder / "data.parquet", table, SUMMARIES)
    return facts | {"malformed": malformed}
