"""GPTScore's judge: a teacher of its own, asked through the same cache, pace and budget as any."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from r4r.configuration.schema import Config
from r4r.errors import TeacherError
from r4r.metrics.gptscore import parse_score
from r4r.pipeline.stage import Unkeyed
from r4r.prompts.render import render
from r4r.stages.ask_all import ask_all
from r4r.stages.histories import one_line
from r4r.stages.identity import prompt_texts, teacher_identity
from r4r.stages.stage import Job, Work

Pair = tuple[str, str, str]  # title, reason, review


def with_judge(config: Config) -> Config:
    """The job's configuration with the judge in the teacher's place."""
    assert config.metrics.gptscore is not None
    return config.model_copy(update={"teacher": config.metrics.gptscore.judge})


@dataclass(frozen=True)
class Judging:
    """How the judge is asked.

    Attributes:
        category: what the data set's items are, in its prompts.
        judge: what tells the judge's answers from another's.
        model: the judge's name in tables.
        prompts: texts of the prompt files.
    """

    category: str
    judge: Mapping[str, Any]
    model: Unkeyed
    prompts: Mapping[str, str]
    temperature: float | None
    max_tokens: int


def judging(config: Config) -> Judging:
    """The judge of the configuration."""
    settings = config.metrics.gptscore
    assert settings is not None
    known, prompts = teacher_identity(with_judge(config), "gptscore"), prompt_texts("gptscore", "gptscore_retry")
    model = Unkeyed(settings.judge.model)
    return Judging(config.dataset.category, known, model, prompts, settings.temperature, settings.max_tokens)


def judge_prompt(category: str, pair: Pair) -> str:
    """The judge's question; each text is one paragraph, so that none can fake a section of it."""
    title, reason, review = map(one_line, pair)
    return render("gptscore", category=category, title=title, reason=reason, review=review)


def judge(work: Work, table: pd.DataFrame, how: Judging, retries: int) -> tuple[list[float], dict[str, Any]]:
    """A score, 0 to 100, a row; an empty reason gets 0 and is not sent.

    Args:
        table: row_id, label, title, reason, review.
        retries: calls beyond the first that a row may take.
    Returns:
        The scores in the table's order, and facts for the manifest.
    Raises:
        TeacherError: naming the rows that have no score after all retries.
    """
    pairs = list(zip(table["title"], table["reason"], table["review"], strict=True))
    full = [place for place, (_, reason, _) in enumerate(pairs) if reason.strip()]
    answers, facts = ask_all(
        work,
        "judge reasons",
        table["row_id"].iloc[full].tolist(),
        [judge_prompt(how.category, pairs[place]) for place in full],
        how.temperature,
        how.max_tokens,
        retries + 1,
        _read,
        render("gptscore_retry"),
        "GPTScore",
        Job(with_judge(work.job.config), work.job.store),
    )
    scores = [0.0] * len(pairs)
    for place, score in zip(full, answers["answer"].astype(float), strict=True):
        scores[place] = score
    return scores, facts


def _read(place: int, text: str) -> str:
    score = parse_score(text)
    if score is None:
        raise TeacherError(repr(" ".join(text.split())[:80]))
    return f"{score:g}"
