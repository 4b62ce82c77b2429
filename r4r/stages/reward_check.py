"""Can the reward model tell good reasons from bad ones? Its ratings, given texts of known closeness (paper 4.3.3)."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import DataError
from r4r.progress import bar, say
from r4r.rows import PREDICTIONS, REVIEWS, Case
from r4r.stages.ask import teacher_identity
from r4r.stages.ask_all import ask_all
from r4r.stages.histories import case_facts, case_inputs, clipped_reviews, known_cases, one_line
from r4r.stages.identity import prompt_texts
from r4r.stages.reasons import read_reason, reasoner_prompt, review_inferred_prompt
from r4r.stages.reward import RewardScorer, reward_model_stage
from r4r.stages.split import evaluated
from r4r.stages.stage import Stage, Work
from r4r.stages.train import use_adapter
from r4r.store.artifact import write_table
from r4r.store.journal import Journal

VERSION = 1
UNIT = 16  # rows whose ratings are kept together
KINDS = (  # Table 5, the closest to the review first
    "Review-guided",
    "Review-inferred",
    "Hint-inferred",
    "History-inferred",
    "Without reason",
)


def reward_check_stage(config: Config, attempts: int) -> Stage:
    """Artifact: `data.parquet` (rows.PREDICTIONS), a label a kind of text; `texts.parquet` holds the texts.

    A row for which the teacher gave no usable text of some kind in `attempts` calls counts for no kind; the manifest's
    `excluded` names these rows by cause. A hint-inferred text that gives away the rating is not usable.
    """
    teacher, evaluate = config.teacher, config.dataset.evaluate
    identity = case_facts(config) | {
        "evaluate": evaluate.model_dump(mode="json"),
        "review_tokens": config.dataset.history.review_tokens,
        "teacher": teacher_identity(config, "reasoner", "review_inferred"),
        "temperature": teacher.reason_temperature,
        "max_tokens": teacher.reason_max_tokens,
        "prompts": prompt_texts("reasoner", "hint", "review_inferred"),
        "attempts": attempts,
    }
    inputs = case_inputs(config) | {"reward_model": reward_model_stage(config)}
    name = f"reward_check/{evaluate.split}"
    return Stage(name, VERSION, identity, inputs, lambda work: _build(work, attempts), "3 teacher calls a row")


def _build(work: Work, attempts: int) -> dict[str, Any]:
    rows = evaluated(work.job.config, work.inputs["split"].table(REVIEWS))
    cases = known_cases(work, rows)
    table, facts = _texts(work, rows, cases, attempts)
    causes = table[table["problem"] != ""].drop_duplicates("row_id")
    excluded = {cause: sorted(ids.tolist()) for cause, ids in causes.groupby("problem")["row_id"]}
    if excluded:
        counts = {cause: len(ids) for cause, ids in excluded.items()}
        say(f"  {len(causes)} of {len(rows)} rows excluded, for want of a text of every kind: {counts}")
    kept = table[~table["row_id"].isin(causes["row_id"])]
    if kept.empty:
        raise DataError(
            f"the teacher gave no row a usable text of every kind: {list(excluded)}. Try a stronger teacher."
        )
    rated = _rated(work, [case for case in cases if case.row_id in set(kept["row_id"])], kept)
    write_table(work.folder / "data.parquet", rated, PREDICTIONS)
    table.to_parquet(work.folder / "texts.parquet", index=False)
    return {"rows": len(rows), "excluded": excluded, **facts, "engine": work.job.engine.about}


def _texts(work: Work, rows: pd.DataFrame, cases: Sequence[Case], attempts: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """row_id, label (of KINDS), text, problem: a row a case and kind; and what the teacher's texts took."""
    config, teacher = work.job.config, work.job.config.teacher
    reviews, row_ids = clipped_reviews(work.job, rows), rows["row_id"].tolist()
    prompts = {
        "Review-inferred": [
            review_inferred_prompt(config, *texts) for texts in zip(rows["title"], reviews, strict=True)
        ],
        "Hint-inferred": [reasoner_prompt(*pair) for pair in zip(cases, rows["rating"], strict=True)],
        "History-inferred": [reasoner_prompt(case) for case in cases],
    }
    labels = [kind for kind in prompts for _ in row_ids]

    def read(place: int, text: str) -> str:
        return read_reason(text, hinted=labels[place] == "Hint-inferred")

    written, facts = ask_all(
        work,
        "texts of every kind",
        row_ids * len(prompts),
        [prompt for kind in prompts.values() for prompt in kind],
        teacher.reason_temperature,
        teacher.reason_max_tokens,
        attempts,
        read,
    )
    written = written.assign(label=labels).rename(columns={"answer": "text"})
    guided = pd.DataFrame({"row_id": row_ids, "label": "Review-guided", "text": list(map(one_line, reviews))})
    guided["problem"] = guided["text"].map(lambda text: "" if text else "has no review")
    without = pd.DataFrame({"row_id": row_ids, "label": "Without reason", "text": "", "problem": ""})
    table = pd.concat([guided, written, without], ignore_index=True)[["row_id", "label", "text", "problem"]]
    failed = table["problem"] != ""
    table.loc[failed, "problem"] = table["label"] + ": " + table["problem"]
    return table, facts


def _rated(work: Work, cases: Sequence[Case], texts: pd.DataFrame) -> pd.DataFrame:
    """rows.PREDICTIONS: the reward model's rating of each case, given each text."""
    use_adapter(work.job, "reward_model", work.inputs["reward_model"])
    text_of = texts.set_index(["label", "row_id"])["text"]
    journal = Journal(work.folder / "ratings.jsonl")
    starts = range(0, len(cases), UNIT)
    with bar("rate texts of every kind", len(starts), len(journal)) as advance:
        for start in starts:
            if str(start) in journal:
                continue
            unit = cases[start : start + UNIT]
            score = RewardScorer(work.job, unit)
            rows = []
            for kind in KINDS:
                shown = [None if kind == "Without reason" else text_of[kind, case.row_id] for case in unit]
                ratings = score(range(len(unit)), shown)
                rows += [
                    {"row_id": case.row_id, "label": kind, "mean": rating, "median": rating, "mode": rating}
                    for case, rating in zip(unit, ratings, strict=True)
                ]
            journal.append(str(start), rows)
            advance(1, "")
    return pd.DataFrame(journal.rows())
