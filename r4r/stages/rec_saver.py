"""Rec-SAVER: traces that rationalise the true rating, kept where they let it be recovered, taught to one model.

arXiv 2408.00802, SPEC section 6. The traces are for the pairs of the experts pool. As published, the rating is the one
that the answer states; the same answers are rated by the logits where the rating stands, too.
"""

from dataclasses import replace
from typing import Any, Literal

import pandas as pd

from r4r.config import Config
from r4r.errors import DataError
from r4r.progress import say
from r4r.reasons.leak import leaks_rating
from r4r.reasons.rating import parse_rating
from r4r.rows import PREDICTIONS, REASONS, REVIEWS, TEXTS, Case, Lesson, Schema
from r4r.stages.ask import estimate, teacher_identity
from r4r.stages.ask_all import ask_all
from r4r.stages.deliberate import Deliberation, rated_answers_stage
from r4r.stages.histories import case_facts, case_inputs, known_cases, one_line, pool_rows
from r4r.stages.identity import cut_facts, prompt_texts
from r4r.stages.items import with_metadata
from r4r.stages.pools import expert_pairs, pools_stage
from r4r.stages.stage import Stage, Work
from r4r.stages.timing import Inference
from r4r.stages.train import Texts, make_expert, train_stage
from r4r.store.artifact import write_table

VERSION = 2
NAME, LABEL, BY_LOGITS = "rec_saver", "Rec-SAVER", "Rec-SAVER (logits)"
SHOWN = "reviews"  # histories show raw reviews
RATING_TOKENS = 16  # of a recovered rating
ENTRY_TOKENS = 30  # of a history entry beside its review, about: for plans only
SHOWN_ROWS = 10  # in a message
TRACES: Schema = {
    "row_id": "int64",
    "reason": "str",
    "rating": "float64",
    "recovered": "float64",  # the rating read out of the trace; NaN where it was not asked for, or none was given
    "cause": "str",  # kept | why not
}
Unparsed = Literal["likeliest", "error"]


def predictions_stage(
    config: Config, verify: bool, recover_within: float, logits: bool = True, unparsed: Unparsed = "likeliest"
) -> Stage:
    """Artifact: `data.parquet` (rows.PREDICTIONS) by the stated ratings, and with `logits` by the logits, a label each;
    `detail.parquet` adds the reason and whether the rating is the one that the answer states (`stated`).

    Args:
        verify, recover_within: as of `kept_traces_stage`.
        unparsed: what stands for an answer that states no rating on the scale: the `likeliest` one by the logits where
            it would stand, which is counted and told, or an `error`.
    """
    inputs, facts = case_inputs(config, SHOWN), _facts(config)
    kept = inputs | {"traces": kept_traces_stage(config, verify, recover_within)}
    trained = train_stage(config, NAME, kept, facts, _texts)
    expert = make_expert(config, NAME)
    rated = rated_answers_stage(config, Deliberation(NAME, expert, BY_LOGITS, trained, inputs, facts, _prompts))
    return replace(
        rated,
        version=VERSION,
        config=rated.config | {"logits": logits, "unparsed": unparsed},
        build=lambda work: _predict(work, rated, logits, unparsed),
        infer=lambda work, rows: _inference(work, rated, rows),
    )


def traces_stage(config: Config) -> Stage:
    """Artifact: `answers.parquet` (row_id, answer, problem), the teacher's trace for each pair, the rating hinted."""
    teacher = config.teacher
    expert: Any = make_expert(config, NAME)
    identity = _facts(config) | {
        "teacher": teacher_identity(config, "rec_saver_reason"),
        "temperature": teacher.reason_temperature,
        "max_tokens": teacher.reason_max_tokens,
        "prompts": prompt_texts(*expert.teacher_templates),
    }
    pairs = expert_pairs(config)
    takes = estimate(config, pairs, pairs, identity["prompts"], _history_tokens(config), teacher.reason_max_tokens)
    inputs = case_inputs(config, SHOWN) | {"pools": pools_stage(config)}
    return Stage("rec_saver/traces", VERSION, identity, inputs, _trace, takes)


def kept_traces_stage(config: Config, verify: bool, recover_within: float) -> Stage:
    """Artifact: `data.parquet` (rows.REASONS) of the traces to learn from; `traces.parquet` (TRACES) of them all.

    Args:
        verify: keep only traces from which the teacher, not told the rating, recovers it.
        recover_within: how far off the recovered rating may be, in steps of the scale.
    """
    identity: dict[str, Any] = {"verify": verify}
    takes = ""
    if verify:
        expert: Any = make_expert(config, NAME)
        texts = prompt_texts(*expert.verify_templates)
        identity |= _facts(config) | {
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
    expert: Any = make_expert(work.job.config, NAME)
    sides = zip(_cases(work, rows), rows["rating"], strict=True)
    table, facts = ask_all(
        work,
        "teacher traces",
        rows["row_id"].tolist(),
        [expert.reason_prompt(case, rating) for case, rating in sides],
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
    expert: Any = make_expert(work.job.config, NAME)
    prompts = [
        expert.verify_prompt(case, reason) for case, reason in zip(_cases(work, rows), asked["reason"], strict=True)
    ]
    # at temperature 0: what the trace lets expect most, not a draw; unless the teacher takes none
    temperature = None if work.job.config.teacher.reason_temperature is None else 0.0
    answers, facts = ask_all(work, "recover ratings", asked["row_id"].tolist(), prompts, temperature, RATING_TOKENS)
    found = answers.set_index("row_id")
    scale = work.job.config.dataset.rating_scale
    for place, row_id, rating in zip(asked.index, asked["row_id"], asked["rating"], strict=True):
        answer, problem = found.loc[row_id, ["answer", "problem"]]
        recovered = None if problem else parse_rating(answer, scale)
        if recovered is None:
            table.loc[place, "cause"] = problem or "no rating in the answer"
            continue
        table.loc[place, "recovered"] = recovered
        if abs(recovered - rating) > recover_within * scale.step + 1e-9:
            table.loc[place, "cause"] = "rating not recovered"
    return facts


def _texts(work: Work) -> Texts:
    kept = work.inputs["traces"].table(REASONS)
    rows = work.inputs["split"].table(REVIEWS).set_index("row_id").loc[kept["row_id"]].reset_index()
    expert: Any = make_expert(work.job.config, NAME)
    return [
        (case.row_id, expert.prompt(case), expert.target(case, Lesson(rating, reason)))
        for case, reason, rating in zip(_cases(work, rows), kept["reason"], rows["rating"], strict=True)
    ]


def _prompts(work: Work, rows: pd.DataFrame) -> list[str]:
    expert: Any = make_expert(work.job.config, NAME)
    return [expert.prompt(case) for case in _cases(work, rows)]


def _cases(work: Work, rows: pd.DataFrame) -> list[Case]:
    return with_metadata(work, known_cases(work, rows, SHOWN), rows)


def _predict(work: Work, rated: Stage, logits: bool, unparsed: Unparsed) -> dict[str, Any]:
    """The answers rated by the logits, then the ratings that they state put before, or in the place of, these."""
    facts = rated.build(work)
    by_logits = pd.read_parquet(work.folder / "detail.parquet")
    written = work.inputs["answers"].table(TEXTS).set_index("row_id")["text"]
    ratings = by_logits["row_id"].map(lambda row_id: _stated(work, written[row_id])).astype(float)
    absent = by_logits.loc[ratings.isna(), "row_id"].tolist()
    if absent:
        named = ", ".join(map(str, absent[:SHOWN_ROWS])) + (", ..." if len(absent) > SHOWN_ROWS else "")
        told = f"{len(absent)} of {len(ratings)} answers state no rating on the scale (row_id {named})"
        if unparsed == "error":
            raise DataError(
                f"{LABEL}: {told}. Raise experts.{NAME}.max_new_tokens or train it longer; method.unparsed=likeliest "
                "takes the likeliest rating in their place. The answers are kept"
            )
        say(f"  {told}; the likeliest rating where it would stand is taken in its place")
    values = ratings.fillna(by_logits["mode"])
    own = by_logits.assign(label=LABEL, stated=ratings.notna(), mean=values, median=values, mode=values)
    table = pd.concat([own, by_logits.assign(stated=False)] if logits else [own], ignore_index=True)
    write_table(work.folder / "data.parquet", table, PREDICTIONS)
    table.to_parquet(work.folder / "detail.parquet", index=False)
    return facts | {"predictions": len(own), "answers_that_state_no_rating": len(absent)}


def _stated(work: Work, answer: str) -> float | None:
    """The rating that an answer states; None where it is none of the scale's."""
    config = work.job.config
    expert: Any = make_expert(config, NAME)
    return parse_rating(expert.stated(answer), config.dataset.rating_scale)


def _inference(work: Work, rated: Stage, rows: pd.DataFrame) -> Inference:
    assert rated.infer is not None
    return replace(rated.infer(work, rows), stated=lambda answer: _stated(work, answer), decoding="mode")


def _facts(config: Config) -> dict[str, Any]:
    """What, beside its inputs, shapes the cases, and the class of the expert that asks about them."""
    scale = config.dataset.rating_scale.model_dump(mode="json")
    asking = {"expert": config.experts[NAME]["_target_"], "scale": scale}
    return case_facts(config, SHOWN) | cut_facts(config) | asking


def _history_tokens(config: Config) -> int:
    """Of the longest prompt's history and description; never more than the model that learns from them can read."""
    history = config.dataset.history
    return min(config.llm.max_length, (history.prompt + 1) * (history.review_tokens + ENTRY_TOKENS))
