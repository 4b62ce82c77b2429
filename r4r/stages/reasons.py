"""The Reasoner's training texts, from whichever source (paper 3.2, Table 4)."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import DataError, TeacherError
from r4r.experts.reasoner import Reasoner
from r4r.progress import bar, say
from r4r.prompts.render import render
from r4r.reasons.filter import Pair, generate_then_filter
from r4r.reasons.leak import leaks_rating
from r4r.rows import CANDIDATES, REASONS, Case
from r4r.stages.ask import teacher_identity
from r4r.stages.identity import prompt_texts
from r4r.stages.pools import pools_stage
from r4r.stages.reward import (
    RewardScorer,
    case_facts,
    clipped_reviews,
    pool_rows,
    reward_model_stage,
    summarised_cases,
)
from r4r.stages.split import split_stage
from r4r.stages.stage import Stage, Work
from r4r.stages.summarize import summaries_stage
from r4r.stages.train import use_adapter
from r4r.store.artifact import write_json, write_table
from r4r.store.journal import Journal
from r4r.teacher.base import Call

VERSION = 1
UNIT = 16  # pairs whose candidates are written, scored and kept together


def reasons_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (rows.REASONS), one reason a kept pair; `candidates.parquet` where they are filtered."""
    source = config.reason_source
    inputs = {"split": split_stage(config), "pools": pools_stage(config)}
    identity: dict[str, Any] = {"source": source.name, "review_tokens": config.dataset.history.review_tokens}
    estimate = ""
    if source.name != "review":
        teacher = config.teacher
        identity |= {
            "teacher": teacher_identity(config),
            "temperature": teacher.reason_temperature,
            "max_tokens": teacher.reason_max_tokens,
            "category": config.dataset.category,
            "prompts": prompt_texts("reasoner", "hint", "review_inferred"),
        }
        pairs = round(config.dataset.pools.total * (1 - config.dataset.pools.reward_share))
        estimate = (
            f"{pairs} to {pairs * (1 + source.max_hinted)} teacher calls"
            if source.name == "filtered"
            else f"{pairs} teacher calls"
        )
    if source.name in {"filtered", "history", "hint"}:
        inputs["summaries"] = summaries_stage(config)
        identity |= case_facts(config)
    if source.name == "filtered":
        inputs["reward_model"] = reward_model_stage(config)
        identity |= {"max_hinted": source.max_hinted, "tau": threshold(config), "reference": source.reference}
        return Stage("reasons", VERSION, identity, inputs, _filtered, estimate)
    return Stage("reasons", VERSION, identity, inputs, _unfiltered, estimate)


def threshold(config: Config) -> float:
    """The filter's tau: the data set's (paper 4.1.4), unless the reason source sets its own."""
    return config.dataset.tau if config.reason_source.tau is None else config.reason_source.tau


def reasoner_prompt(case: Case, hint_rating: float | None = None) -> str:
    """The reasoner's prompt, with the target's rating as a hint where one is given."""
    prompt = Reasoner.prompt(case)
    return prompt if hint_rating is None else prompt + "\n" + render("hint", rating=f"{hint_rating:g}").lstrip("\n")


def _filtered(work: Work) -> dict[str, Any]:
    config, source = work.job.config, work.job.config.reason_source
    rows = pool_rows(work, "experts")
    cases = summarised_cases(work, rows)
    reviews = clipped_reviews(work.job, rows)
    use_adapter(work.job, "reward_model", work.inputs["reward_model"])
    journal = Journal(work.folder / "rows.jsonl")
    starts = range(0, len(rows), UNIT)
    with bar("generate, then filter", len(starts), len(journal)) as advance:
        for start in starts:
            if str(start) in journal:
                continue
            places = range(start, min(start + UNIT, len(rows)))
            pairs = [Pair(cases[p].row_id, float(rows["rating"].iloc[p]), reviews[p]) for p in places]
            candidates, failures = generate_then_filter(
                pairs,
                _candidates(work, [cases[p] for p in places], [pair.rating for pair in pairs]),
                RewardScorer(work.job, [cases[p] for p in places]),
                source.max_hinted,
                threshold(config),
                source.reference,
            )
            journal.append(str(start), [*candidates, *({"failure": str(f)} for f in failures)])
            advance(1, f"{sum(c['accepted'] for c in candidates)} of {len(pairs)} accepted")
    failures_by_kind = pd.Series([r["failure"] for r in journal.rows() if "failure" in r], dtype=object).value_counts()
    table = pd.DataFrame([row for row in journal.rows() if "failure" not in row], columns=list(CANDIDATES))
    write_table(work.folder / "candidates.parquet", table, CANDIDATES)
    report = acceptance(table, len(rows)) | {"teacher_failures": failures_by_kind.to_dict()}
    write_json(work.folder / "acceptance.json", report)
    kept = table[table["accepted"]].sort_values("row_id")
    say(f"  accepted a reason for {len(kept)} of {len(rows)} pairs; candidates: {report['by_cause']}")
    if kept.empty:
        raise DataError(
            f"the filter accepted no reason for any of {len(rows)} pairs ({report['by_cause']}); "
            "raise reason_source.tau, train the reward model longer, or take reason_source=history"
        )
    write_table(work.folder / "data.parquet", kept, REASONS)
    return report


def acceptance(candidates: pd.DataFrame, pairs: int) -> dict[str, Any]:
    """How many pairs found a reason, and how candidates fared by attempt and by cause."""
    by_attempt = candidates.groupby("attempt")["accepted"].agg(["size", "sum"])
    return {
        "pairs": pairs,
        "accepted_pairs": int(candidates["accepted"].sum()),
        "acceptance_rate": round(float(candidates["accepted"].sum()) / pairs, 4),
        "by_cause": candidates["cause"].value_counts().to_dict(),
        "by_attempt": {
            int(attempt): {"candidates": int(size), "accepted": int(accepted)}
            for attempt, size, accepted in by_attempt.reset_index().itertuples(index=False)
        },
    }


def _candidates(
    work: Work, cases: Sequence[Case], ratings: Sequence[float]
) -> Callable[[Sequence[int], int, bool], list[str | TeacherError]]:
    """The teacher as `generate_then_filter` wants it. Hinted prompts, too, show histories without ratings."""
    teacher = work.job.config.teacher

    def write(pairs: Sequence[int], attempt: int, hinted: bool) -> list[str | TeacherError]:
        prompts = [reasoner_prompt(cases[n], ratings[n] if hinted else None) for n in pairs]
        calls = [Call(p, teacher.reason_temperature, teacher.reason_max_tokens, attempt) for p in prompts]
        return [a if isinstance(a, TeacherError) else _one_line(a.text) for a in work.job.teacher.ask(calls)]

    return write


def _unfiltered(work: Work) -> dict[str, Any]:
    config, name = work.job.config, work.job.config.reason_source.name
    rows = pool_rows(work, "experts")
    reviews = clipped_reviews(work.job, rows)
    if name == "review":
        kept = rows.assign(reason=[_one_line(review) for review in reviews])
        kept = kept[kept["reason"] != ""]
        write_table(work.folder / "data.parquet", kept, REASONS)
        return {"pairs": len(rows), "kept": len(kept), "dropped": {"empty review": len(rows) - len(kept)}}
    if name == "review_inferred":
        prompts = [
            render("review_inferred", category=config.dataset.category, title=title, review=review)
            for title, review in zip(rows["title"], reviews, strict=True)
        ]
    else:
        ratings = rows["rating"] if name == "hint" else [None] * len(rows)
        prompts = [reasoner_prompt(c, r) for c, r in zip(summarised_cases(work, rows), ratings, strict=True)]
    journal = Journal(work.folder / "rows.jsonl")
    starts = range(0, len(rows), UNIT)
    teacher = config.teacher
    with bar("teacher reasons", len(starts), len(journal)) as advance:
        for start in starts:
            if str(start) in journal:
                continue
            chunk = range(start, min(start + UNIT, len(rows)))
            answers = work.job.teacher.ask(
                [Call(prompts[p], teacher.reason_temperature, teacher.reason_max_tokens) for p in chunk]
            )
            journal.append(
                str(start), [_reason_row(int(rows["row_id"].iloc[p]), a) for p, a in zip(chunk, answers, strict=True)]
            )
            advance(1, "")
    table = pd.DataFrame(journal.rows())
    if name == "hint":
        leaks = (table["problem"] == "") & table["reason"].map(leaks_rating)
        table.loc[leaks, "problem"] = "gives away the rating"
    kept = table[table["problem"] == ""].sort_values("row_id")
    dropped = table.loc[table["problem"] != "", "problem"].value_counts().to_dict()
    if dropped:
        say(f"  {len(table) - len(kept)} of {len(table)} reasons dropped: {dropped}")
    if kept.empty:
        raise DataError(f"none of the {len(table)} teacher reasons can be used: {dropped}. Try a stronger teacher.")
    write_table(work.folder / "data.parquet", kept, REASONS)
    return {"pairs": len(rows), "kept": len(kept), "dropped": dropped}


def _reason_row(row_id: int, answer: Any) -> dict[str, Any]:
    if isinstance(answer, TeacherError):
        return {"row_id": row_id, "reason": "", "problem": str(answer)}
    return {"row_id": row_id, "reason": _one_line(answer.text), "problem": ""}


def _one_line(text: str) -> str:
    """A reason is one paragraph: line breaks would let it fake a section of the prompt that holds it."""
    return " ".join(text.split())
