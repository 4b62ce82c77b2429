"""GPTScore's judge: a teacher of its own, asked through the same cache, pace and budget as any."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from r4r.config import Config, GPTScoreConfig
from r4r.errors import TeacherError
from r4r.metrics.gptscore import parse_score
from r4r.progress import bar
from r4r.prompts.render import render
from r4r.stages.ask import Asking, answered, groups
from r4r.stages.histories import one_line
from r4r.stages.stage import Job, Work
from r4r.store.journal import Journal
from r4r.teacher.base import Call

UNIT = 16  # rows whose answers are kept together
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
    pairs: list[Pair] = list(zip(table["title"], table["reason"], table["review"], strict=True))
    names = [f"{row_id} ({label})" for row_id, label in zip(table["row_id"], table["label"], strict=True)]
    full = [place for place, (_, reason, _) in enumerate(pairs) if reason.strip()]
    journal = Journal(work.folder / "rows.jsonl")
    asking = Asking(Job(config, work.job.store), journal)
    units = [full[start : start + UNIT] for start in range(0, len(full), UNIT)]
    todo = [number for number in range(len(units)) if str(number) not in journal]
    with bar("judge reasons", len(units), len(journal)) as advance:
        for group in groups(config, todo):
            places = [place for number in group for place in units[number]]
            prompts = [judge_prompt(config.dataset.category, pairs[place]) for place in places]
            found = dict(zip(places, _ask(asking, settings, prompts, [names[p] for p in places]), strict=True))
            for number in group:
                rows = [{"place": place, "score": found[place]} for place in units[number]]
                journal.append(str(number), [*rows, asking.row()])
                advance(1, "")
    scores = dict.fromkeys(range(len(pairs)), 0.0)
    scores |= {row["place"]: row["score"] for row in answered(journal)}
    return [scores[place] for place in range(len(pairs))], asking.facts()


def _ask(asking: Asking, settings: GPTScoreConfig, prompts: Sequence[str], names: Sequence[str]) -> list[float]:
    """A score a prompt; an answer that is none is asked for again, with a reminder."""
    found: dict[int, float] = {}
    said: dict[int, str] = {}
    for attempt in range(settings.retries + 1):
        missing = [place for place in range(len(prompts)) if place not in found]
        reminder = render("gptscore_retry") if attempt else ""
        calls = [Call(prompts[p] + reminder, settings.temperature, settings.max_tokens, attempt) for p in missing]
        for place, answer in zip(missing, asking(calls) if calls else [], strict=True):
            text = str(answer) if isinstance(answer, TeacherError) else answer.text
            score = None if isinstance(answer, TeacherError) else parse_score(text)
            if score is None:
                said[place] = " ".join(text.split())[:80]
            else:
                found[place] = score
    missing = [place for place in range(len(prompts)) if place not in found]
    if missing:
        shown = "; ".join(f"row {names[p]}: {said[p]!r}" for p in missing[:3])
        raise TeacherError(
            f"{len(missing)} reasons have no GPTScore after {settings.retries + 1} calls each ({shown}); raise "
            "metrics.gptscore.retries or take another judge. Answers so far are kept"
        )
    return [found[place] for place in range(len(prompts))]
