"""Rec-SAVER: traces that rationalise the true rating, kept where they let it be recovered, taught to one model.

arXiv 2408.06254, SPEC section 6. The traces are for the pairs of the experts pool.
"""

from typing import Any

import pandas as pd

from r4r.config import Config
from r4r.errors import DataError
from r4r.experts.rec_saver import RecSaver
from r4r.progress import say
from r4r.reasons.leak import leaks_rating
from r4r.reasons.rating import parse_rating
from r4r.rows import REASONS, REVIEWS, Case, Schema
from r4r.stages.ask import estimate, teacher_identity
from r4r.stages.ask_all import ask_all
from r4r.stages.deliberate import Deliberation, rated_answers_stage
from r4r.stages.histories import case_facts, case_inputs, known_cases, one_line, pool_rows
from r4r.stages.identity import prompt_texts
from r4r.stages.pools import expert_pairs, pools_stage
from r4r.stages.stage import Stage, Work
from r4r.stages.train import Texts, train_stage
from r4r.store.artifact import write_table

VERSION = 1
NAME, LABEL = "rec_saver", "Rec-SAVER"
SHOWN = "reviews"  # histories show raw reviews
RATING_TOKENS = 16  # of a recovered rating
ENTRY_TOKENS = 30  # of a history entry beside its review, about: for plans only
TRACES: Schema = {
    "row_id": "int64",
    "reason": "str",
    "rating": "float64",
    "recovered": "float64",  # the rating read out of the trace; NaN where it was not asked for, or none was given
    "cause": "str",  # kept | why not
}


def predictions_stage(config: Config, verify: bool, recover_within: float) -> Stage:
    """Artifact: as of `rated_answers_stage`."""
    inputs, facts = case_inputs(config, SHOWN), case_facts(config, SHOWN)
    kept = inputs | {"traces": kept_traces_stage(config, verify, recover_within)}
    trained = train_stage(config, NAME, kept, facts, _texts)
    return rated_answers_stage(config, Deliberation(NAME, RecSaver, LABEL, trained, inputs, facts, _prompts))


def traces_stage(config: Config) -> Stage:
    """Artifact: `answers.parquet` (row_id, answer, problem), the teacher's trace for each pair, the rating hinted."""
    teacher = config.teacher
    identity = case_facts(config, SHOWN) | {
        "teacher": teacher_identity(config, "rec_saver_reason"),
        "temperature": teacher.reason_temperature,
        "max_tokens": teacher.reason_max_tokens,
        "prompts": prompt_texts("rec_saver_reason", "hint"),
    }
    pairs = expert_pairs(config)
    takes = estimate(config, pairs, pairs, identity["prompts"], _history_tokens(config), teacher.reason_max_tokens)
    inputs = case_inputs(config, SHOWN) | {"pools": pools_stage(config)}
    return Stage("rec_saver/traces", VERSION, identity, inputs, _trace, takes)


def kept_traces_stage(config: Config, verify: bool, recover_within: float) -> Stage:
    """Artifact: `data.parquet` (rows.REASONS) of the traces to learn from; `traces.parquet` (TRACES) of them all.

    Args:
        verify: keep only traces from which the teacher, not told the rating, recovers it.
        recover_within: how far off the recovered rating may be, in rating points.
    """
    identity: dict[str, Any] = {"verify": verify}
    takes = ""
    if verify:
        texts = prompt_texts("rec_saver_verify")
        identity |= case_facts(config, SHOWN) | {
            "recover_within": recover_within,
            "teacher": teacher_identity(config, "rec_saver_verify"),
            "max_tokens": RATING_TOKENS,
            "prompts": texts,
        }
        tokens = _history_tokens(config) + config.teacher.reason_max_tokens
        takes = estimate(config, 0, expert_pairs(config), texts, tokens, RATING_TOKENS)
    inputs = case_inputs(config, SHOWN) | {"pools": pools_stage(config), "traces": traces_stage(config)}
    return Stage("rec_saver/kept", VERSION, identity, inputs, lambda work: _keep(work, verify, recover_within), takes)


def _trace(work: Work) -> dict[str, Any]:
    teacher = work.job.config.teacher
    rows = pool_rows(work, "experts")
    cases = known_cases(work, rows, SHOWN)
    prompts = [RecSaver.reason_prompt(case, rating) for case, rating in zip(cases, rows["rating"], strict=True)]
    table, facts = ask_all(
        work,
        "teacher traces",
        rows["row_id"].tolist(),
        prompts,
        teacher.reason_temperature,
        teacher.reason_max_tokens,
        read=lambda place, text: one_line(text),
    )
    table.to_parquet(work.folder / "answers.parquet", index=False)
    return facts


def _keep(work: Work, verify: bool, recover_within: float) -> dict[str, Any]:
    rows = pool_rows(work, "experts").set_index("row_id")
    traces = pd.read_parquet(work.inputs["traces"].path / "answers.parquet")
    table = pd.DataFrame({"row_id": traces["row_id"], "reason": traces["answer"]})
    table["rating"] = rows.loc[table["row_id"], "rating"].to_numpy()
    table["recovered"] = float("nan")
    table["cause"] = traces["problem"].where(traces["problem"] != "", "kept")
    table.loc[(table["cause"] == "kept") & table["reason"].map(leaks_rating), "cause"] = "gives away the rating"
    facts: dict[str, Any] = {}
    if verify:
        facts = _recover(work, table, recover_within)
    write_table(work.folder / "traces.parquet", table, TRACES)
    kept = table[table["cause"] == "kept"]
    dropped = table.loc[table["cause"] != "kept", "cause"].value_counts().to_dict()
    say(f"  kept {len(kept)} of {len(table)} traces; dropped: {dropped}")
    if kept.empty:
        raise DataError(
            f"none of the {len(table)} traces can be learnt from: {dropped}. Try a stronger teacher, raise "
            "method.recover_within, or set method.verify=false"
        )
    write_table(work.folder / "data.parquet", kept, REASONS)
    return {"pairs": len(table), "kept": len(kept), "dropped": dropped, **facts}


def _recover(work: Work, table: pd.DataFrame, recover_within: float) -> dict[str, Any]:
    """Ask for the rating that history and trace alone let expect; enter it, and the cause where the trace fails."""
    asked = table[table["cause"] == "kept"]
    rows = work.inputs["split"].table(REVIEWS).set_index("row_id").loc[asked["row_id"]].reset_index()
    cases = known_cases(work, rows, SHOWN)
    prompts = [RecSaver.verify_prompt(case, reason) for case, reason in zip(cases, asked["reason"], strict=True)]
    # at temperature 0: what the trace lets expect most, not a draw; unless the teacher takes none
    temperature = None if work.job.config.teacher.reason_temperature is None else 0.0
    answers, facts = ask_all(work, "recover ratings", asked["row_id"].tolist(), prompts, temperature, RATING_TOKENS)
    found = answers.set_index("row_id")
    for place, row_id, rating in zip(asked.index, asked["row_id"], asked["rating"], strict=True):
        answer, problem = found.loc[row_id, ["answer", "problem"]]
        recovered = None if problem else parse_rating(answer)
        if recovered is None:
            table.loc[place, "cause"] = problem or "no rating in the answer"
            continue
        table.loc[place, "recovered"] = recovered
        if abs(recovered - rating) > recover_within:
            table.loc[place, "cause"] = "rating not recovered"
    return facts


def _texts(work: Work) -> Texts:
    kept = work.inputs["traces"].table(REASONS)
    rows = work.inputs["split"].table(REVIEWS).set_index("row_id").loc[kept["row_id"]].reset_index()
    cases = known_cases(work, rows, SHOWN)
    return [
        (case.row_id, RecSaver.prompt(case), RecSaver.target(None, reason, rating))
        for case, reason, rating in zip(cases, kept["reason"], rows["rating"], strict=True)
    ]


def _prompts(work: Work, rows: pd.DataFrame) -> list[str]:
    cases: list[Case] = known_cases(work, rows, SHOWN)
    return [RecSaver.prompt(case) for case in cases]


def _history_tokens(config: Config) -> int:
    return config.dataset.history.prompt * (config.dataset.history.raw_tokens + ENTRY_TOKENS)
