"""GPTScore's judge: a teacher of its own, asked through the same cache, pace and budget as any."""

from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import TeacherError
from r4r.metrics.gptscore import parse_score
from r4r.prompts.render import render
from r4r.stages.ask_all import ask_all
from r4r.stages.histories import one_line
from r4r.stages.stage import Job, Work

Pair = tuple[str, str, str]  # title, reason, review


def with_judge(config: Config) -> Config:
    """The job's configuration with the judge in the teacher's place."""
    assert config.metrics.gptscore is not None
    return config.model_copy(update={"teacher": config.metrics.gptscore.judge})


def judge_prompt(category: str, pair: Pair) -> str:
    """The judge's question; each text is one paragraph, so that none can fake a section of it."""
    title, reason, review = map(one_line, pair)
    return render("gptscore", category=category, title=title, reason=reason, review=review)


def judge(work: Work, table: pd.DataFrame) -> tuple[list[float], dict[str, Any]]:
    """A score, 0 to 100, a row; an empty reason gets 0 and is not sent.

    Args:
        table: row_id, label, title, reason, review.
    Returns:
        The scores in the table's order, and facts for the manifest.
    Raises:
        TeacherError: naming the rows that have no score after all retries.
    """
    config = with_judge(work.job.config)
    settings = config.metrics.gptscore
    assert settings is not None
    pairs = list(zip(table["title"], table["reason"], table["review"], strict=True))
    full = [place for place, (_, reason, _) in enumerate(pairs) if reason.strip()]
    answers, facts = ask_all(
        work,
        "judge reasons",
        table["row_id"].iloc[full].tolist(),
        [judge_prompt(config.dataset.category, pairs[place]) for place in full],
        settings.temperature,
        settings.max_tokens,
        settings.retries + 1,
        _read,
        render("gptscore_retry"),
        "GPTScore",
        Job(config, work.job.store),
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
