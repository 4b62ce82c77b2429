"""The Reasoner's training texts, from whichever source (paper 3.2, Table 4)."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import DataError, TeacherError
from r4r.experts.reasoner import Reasoner
from r4r.progress import bar, say
from r4r.prompts.render import render
from r4r.reasons.acceptance import acceptance, plot_acceptance
from r4r.reasons.filter import Pair, generate_then_filter
from r4r.reasons.leak import leaks_rating
from r4r.rows import CANDIDATES, REASONS, Case
from r4r.stages.ask import UNIT, Asking, answered, estimate, groups, teacher_identity
from r4r.stages.ask_all import ask_all, usable
from r4r.stages.histories import case_facts, case_inputs, clipped_reviews, known_cases, one_line, pool_rows
from r4r.stages.identity import cut_facts, prompt_texts
from r4r.stages.pools import expert_pairs, pools_stage
from r4r.stages.reward import RewardScorer, reward_model_stage
from r4r.stages.split import split_stage
from r4r.stages.stage import Job, Stage, Work
from r4r.stages.train import use_adapter
from r4r.store.artifact import write_json, write_table
from r4r.store.journal import Journal
from r4r.teacher.base import Call

VERSION = 1
TITLE_TOKENS = 20  # of a history entry's title, about: for plans only


def reasons_stage(config: Config) -> Stage:
    """Artifact: `data.parquet` (rows.REASONS), one reason a kept pair; `candidates.parquet` where they are filtered."""
    source = config.reason_source
    inputs = {"split": split_stage(config), "pools": pools_stage(config)}
    identity: dict[str, Any] = {"source": source.name, **cut_facts(config)}
    takes = ""
    if source.name != "review":
        teacher = config.teacher
        identity |= {
            "teacher": teacher_identity(config),
            "temperature": teacher.reason_temperature,
            "max_tokens": teacher.reason_max_tokens,
            "category": config.dataset.category,
            "prompts": prompt_texts("reasoner", "hint", "review_inferred"),
        }
        pairs = expert_pairs(config)
        most = pairs * (1 + source.max_hinted) if source.name == "filtered" else pairs
        takes = estimate(config, pairs, most, *_longest_call(config), teacher.reason_max_tokens)
    if source.name in {"filtered", "history", "hint"}:
        inputs |= case_inputs(config)
        identity |= case_facts(config)
    if source.name == "filtered":
        inputs["reward_model"] = reward_model_stage(config)
        identity |= {"max_hinted": source.max_hinted, "tau": threshold(config), "reference": source.reference}
        return Stage("reasons", VERSION, identity, inputs, _filtered, takes)
    return Stage("reasons", VERSION, identity, inputs, _unfiltered, takes)


def _longest_call(config: Config) -> tuple[dict[str, str], int]:
    """The templates of a call, and the tokens of the longest texts that fill them."""
    if config.reason_source.name == "review_inferred":
        return prompt_texts("review_inferred"), config.dataset.history.review_tokens
    summarised = config.strategy.reasoned_from == "summaries"
    entry = config.experts["summarizer"]["max_new_tokens"] if summarised else config.dataset.history.raw_tokens
    return prompt_texts("reasoner", "hint"), 2 * config.dataset.history.prompt * (entry + TITLE_TOKENS)


def threshold(config: Config) -> float:
    """The filter's tau: the data set's (paper 4.1.4), unless the reason source sets its own."""
    return config.dataset.tau if config.reason_source.tau is None else config.reason_source.tau


def reasoner_prompt(case: Case, hint_rating: float | None = None) -> str:
    """The reasoner's prompt, with the target's rating as a hint where one is given."""
    prompt = Reasoner.prompt(case)
    return prompt if hint_rating is None else prompt + "\n" + render("hint", rating=f"{hint_rating:g}").lstrip("\n")


def review_inferred_prompt(config: Config, title: str, review: str) -> str:
    """The teacher's prompt for a reason read out of the target's own review: for training and analysis only."""
    return render("review_inferred", category=config.dataset.category, title=title, review=review)


def _filtered(work: Work) -> dict[str, Any]:
    config, source = work.job.config, work.job.config.reason_source
    rows = pool_rows(work, "experts")
    cases = known_cases(work, rows)
    reviews = clipped_reviews(work.job, rows)
    use_adapter(work.job, "reward_model", work.inputs["reward_model"])
    journal = Journal(work.folder / "rows.jsonl")
    asking = Asking(work.job, journal)
    starts = range(0, len(rows), UNIT)
    with bar("generate, then filter", len(starts), len(journal)) as advance:
        for group in groups(config, [start for start in starts if str(start) not in journal]):
            places = [p for start in group for p in range(start, min(start + UNIT, len(rows)))]
            pairs = [Pair(cases[p].row_id, float(rows["rating"].iloc[p]), reviews[p]) for p in places]
            candidates, failures = generate_then_filter(
                pairs,
                _candidates(work, asking, [cases[p] for p in places], [pair.rating for pair in pairs]),
                _Scorer(work.job, [cases[p] for p in places]),
                source.max_hinted,
                threshold(config),
                source.reference,
            )
            failed = [{"failure": str(failure)} for failure in failures]
            for start in group:
                own = {case.row_id for case in cases[start : start + UNIT]}
                kept_rows = [c for c in candidates if c["row_id"] in own]
                journal.append(str(start), [*kept_rows, *failed, asking.row()])
                failed = []  # they name no pair: the group's first unit holds them
                advance(1, f"{sum(c['accepted'] for c in candidates)} of {len(pairs)} accepted")
    done = answered(journal)
    failures_by_kind = pd.Series([r["failure"] for r in done if "failure" in r], dtype=object).value_counts()
    table = pd.DataFrame([row for row in done if "failure" not in row], columns=list(CANDIDATES))
    write_table(work.folder / "candidates.parquet", table, CANDIDATES)
    report = acceptance(table, len(rows)) | {"teacher_failures": failures_by_kind.to_dict()}
    write_json(work.folder / "acceptance.json", report)
    plot_acceptance(table, threshold(config), work.folder / "acceptance.png")
    kept = table[table["accepted"]].sort_values("row_id")
    say(f"  accepted a reason for {len(kept)} of {len(rows)} pairs; candidates: {report['by_cause']}")
    if kept.empty:
        raise DataError(
            f"the filter accepted no reason for any of {len(rows)} pairs ({report['by_cause']}); "
            "raise reason_source.tau, train the reward model longer, or take reason_source=history"
        )
    write_table(work.folder / "data.parquet", kept, REASONS)
    return report | asking.facts() | {"engine": work.job.engine.about}


class _Scorer:
    """The reward model for a group of pairs, by units. What a unit's prompts share is computed once and held for all of
    its candidates as long as `llm.prefix_gb` has room; without, it is computed again for every attempt."""

    def __init__(self, job: Job, cases: Sequence[Case]):
        self._job, self._cases = job, cases
        self._held: dict[int, RewardScorer] = {}
        # vLLM keeps what prompts share by itself, and is the faster the more it is given
        self._unit = UNIT if job.config.llm.engine == "hf" else len(cases)
        self._room = job.engine.prefix_bytes

    def __call__(self, pairs: Sequence[int], texts: Sequence[str | None]) -> list[float]:
        ratings: list[float] = []
        size = self._unit
        for start, chosen in groupby(zip(pairs, texts, strict=True), key=lambda pair: pair[0] // size * size):
            scorer = self._held.get(start) or RewardScorer(self._job, self._cases[start : start + size])
            if start not in self._held and scorer.nbytes <= self._room:
                self._held[start] = scorer
                self._room -= scorer.nbytes
            own, shown = zip(*chosen, strict=True)
            ratings += scorer([pair - start for pair in own], shown)
        return ratings


def _candidates(
    work: Work, asking: Asking, cases: Sequence[Case], ratings: Sequence[float]
) -> Callable[[Sequence[int], int, bool], list[str | TeacherError]]:
    """The teacher as `generate_then_filter` wants it. Hinted prompts, too, show histories without ratings."""
    teacher = work.job.config.teacher

    def write(pairs: Sequence[int], attempt: int, hinted: bool) -> list[str | TeacherError]:
        prompts = [reasoner_prompt(cases[n], ratings[n] if hinted else None) for n in pairs]
        calls = [Call(p, teacher.reason_temperature, teacher.reason_max_tokens, attempt) for p in prompts]
        return [a if isinstance(a, TeacherError) else one_line(a.text) for a in asking(calls)]

    return write


def _unfiltered(work: Work) -> dict[str, Any]:
    config, name = work.job.config, work.job.config.reason_source.name
    rows = pool_rows(work, "experts")
    reviews = clipped_reviews(work.job, rows)
    if name == "review":
        kept = rows.assign(reason=[one_line(review) for review in reviews])
        kept = kept[kept["reason"] != ""]
        write_table(work.folder / "data.parquet", kept, REASONS)
        return {"pairs": len(rows), "kept": len(kept), "dropped": {"empty review": len(rows) - len(kept)}}
    if name == "review_inferred":
        prompts = [
            review_inferred_prompt(config, title, review) for title, review in zip(rows["title"], reviews, strict=True)
        ]
    else:
        ratings = rows["rating"] if name == "hint" else [None] * len(rows)
        prompts = [reasoner_prompt(c, r) for c, r in zip(known_cases(work, rows), ratings, strict=True)]

    return ask_reasons(work, rows["row_id"].tolist(), prompts, hinted=name == "hint")


def ask_reasons(work: Work, row_ids: Sequence[int], prompts: Sequence[str], hinted: bool) -> dict[str, Any]:
    """Write `data.parquet` (rows.REASONS): the teacher's usable reasons, one call a prompt.

    Returns:
        Facts for the manifest: pairs, kept, dropped by cause, and what the calls took.
    Raises:
        DataError: none can be used.
    """
    teacher = work.job.config.teacher
    table, facts = ask_all(
        work,
        "teacher reasons",
        row_ids,
        prompts,
        teacher.reason_temperature,
        teacher.reason_max_tokens,
        read=lambda place, text: read_reason(text, hinted),
    )
    kept, dropped = usable(table, "teacher reasons")
    write_table(work.folder / "data.parquet", kept.rename(columns={"answer": "reason"}), REASONS)
    return {"pairs": len(table), "kept": len(kept), "dropped": dropped, **facts}


def read_reason(text: str, hinted: bool) -> str:
    """A reason on one line.

    Raises:
        TeacherError: it was written with the rating as a hint, and gives it away.
    """
    if hinted and leaks_rating(text):
        raise TeacherError("gives away the rating")
    return one_line(text)
