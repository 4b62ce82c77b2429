"""Rec-SAVER: traces that rationalise the true rating, kept where they let it be recovered, taught to one model.

arXiv 2408.00802, SPEC section 6. The traces are for the pairs of the experts pool. As published, the rating is the one
that the answer states; the same answers are rated by the logits where the rating stands, too.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from r4r.configuration.schema import Config
from r4r.errors import DataError
from r4r.pipeline.stage import Stage, Unkeyed
from r4r.progress import say
from r4r.reasons.leak import leaks_rating
from r4r.reasons.rating import parse_rating
from r4r.rows import PREDICTIONS, REASONS, REVIEWS, TEXTS, Schema
from r4r.stages.ask import estimate
from r4r.stages.ask_all import ask_all
from r4r.stages.histories import histories, one_line, rows_of_pool
from r4r.stages.identity import llm_identity, prompt_texts, teacher_identity
from r4r.stages.items import Described, described
from r4r.stages.lessons import Pairs, StepLessons
from r4r.stages.mounted import Asked, asked
from r4r.stages.pools import expert_pairs, pools_stage
from r4r.stages.ratings import Ratings
from r4r.stages.reasons import Teaching
from r4r.stages.split import split_stage
from r4r.stages.stage import Work
from r4r.stages.timing import Inference
from r4r.stages.train import training
from r4r.stages.written import Written
from r4r.store.artifact import write_table

NAME, LABEL = "rec_saver", "Rec-SAVER"
SHOWN = "reviews"  # histories show raw reviews
RATING_TOKENS = 16  # of a recovered rating
ENTRY_TOKENS = 30  # of a history entry beside its review, about: for plans only
NAMED = 10  # rows in a message, at most
TRACES: Schema = {
    "row_id": "int64",
    "reason": "str",
    "rating": "float64",
    "recovered": "float64",  # the rating read out of the trace; NaN where it was not asked for, or none was given
    "cause": "str",  # kept | why not
}
Unparsed = Literal["likeliest", "error"]


@dataclass(frozen=True)
class Traces(Stage):
    """Artifact: `answers.parquet` (row_id, answer, problem), the teacher's trace for each pair, the rating hinted."""

    expert: Asked
    shown: Described
    pools: Any
    teaching: Teaching
    takes: Unkeyed

    @property
    def name(self) -> str:
        return "rec_saver/traces"

    @property
    def estimate(self) -> str:
        return self.takes.value

    def build(self, work: Work) -> dict[str, Any]:
        rows, ask = rows_of_pool(work, self.shown.split, self.pools, "experts"), self.expert.expert.reason_prompt
        table, facts = ask_all(
            work,
            "teacher traces",
            rows["row_id"].tolist(),
            [ask(case, rating) for case, rating in zip(self.shown.cases(work, rows), rows["rating"], strict=True)],
            self.teaching.temperature,
            self.teaching.max_tokens,
            read=lambda place, text: one_line(text),
        )
        table.to_parquet(work.folder / "answers.parquet", index=False)
        return facts


@dataclass(frozen=True)
class KeptTraces(Stage):
    """Artifact: `data.parquet` (rows.REASONS) of the traces to learn from; `traces.parquet` (TRACES) of them all.

    Attributes:
        verifying: keep only traces from which the teacher, not told the rating, recovers it; None: keep all.
        recover_within: how far off the recovered rating may be, in steps of the scale.
    """

    expert: Asked
    traces: Traces
    verifying: Teaching | None
    recover_within: float | None
    takes: Unkeyed

    @property
    def name(self) -> str:
        return "rec_saver/kept"

    @property
    def estimate(self) -> str:
        return self.takes.value

    def build(self, work: Work) -> dict[str, Any]:
        rows = work.of(self.traces.shown.split).table(REVIEWS).set_index("row_id")
        answers = pd.read_parquet(work.of(self.traces).path / "answers.parquet")
        table = pd.DataFrame({"row_id": answers["row_id"], "reason": answers["answer"]})
        table["rating"] = rows.loc[table["row_id"], "rating"].to_numpy()
        table["recovered"] = float("nan")
        table["cause"] = answers["problem"].where(answers["problem"] != "", "kept")
        told = zip(table["reason"], rows.loc[table["row_id"], "title"], strict=True)
        leaks = pd.Series([leaks_rating(trace, [title], self.traces.shown.scale) for trace, title in told], table.index)
        table.loc[(table["cause"] == "kept") & leaks, "cause"] = "gives away the rating"
        facts = self._recover(work, table, self.verifying) if self.verifying else {}
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

    def _recover(self, work: Work, table: pd.DataFrame, verifying: Teaching) -> dict[str, Any]:
        """Ask for the rating that history and trace alone let expect; enter it, and the cause where the trace fails."""
        shown, ask = self.traces.shown, self.expert.expert.verify_prompt
        open_traces = table[table["cause"] == "kept"]
        rows = work.of(shown.split).table(REVIEWS).set_index("row_id").loc[open_traces["row_id"]].reset_index()
        answers, facts = ask_all(
            work,
            "recover ratings",
            open_traces["row_id"].tolist(),
            [ask(case, trace) for case, trace in zip(shown.cases(work, rows), open_traces["reason"], strict=True)],
            verifying.temperature,
            verifying.max_tokens,
        )
        assert self.recover_within is not None
        within = self.recover_within * shown.scale.step + 1e-9
        found = answers.set_index("row_id")
        for place, row_id, rating in zip(open_traces.index, open_traces["row_id"], open_traces["rating"], strict=True):
            answer, problem = found.loc[row_id, ["answer", "problem"]]
            recovered = None if problem else parse_rating(answer, shown.scale)
            if recovered is None:
                table.loc[place, "cause"] = problem or "no rating in the answer"
                continue
            table.loc[place, "recovered"] = recovered
            if abs(recovered - rating) > within:
                table.loc[place, "cause"] = "rating not recovered"
        return facts


@dataclass(frozen=True)
class StatedRatings(Ratings):
    """Artifact: `data.parquet` (rows.PREDICTIONS) by the ratings that the answers state and, under a label of its own,
    by the logits; `detail.parquet` adds the reason, each value's probability, and `stated`: whether the rating is the
    answer's own.

    Attributes:
        by_logits: whether the logits' ratings stand in the table too.
        unparsed: what stands for an answer that states no rating on the scale: the `likeliest` one by the logits where
            it would stand, which is counted and told, or an `error`.
    """

    by_logits: bool
    unparsed: Unparsed

    def build(self, work: Work) -> dict[str, Any]:
        """
        Raises:
            DataError: naming the rows whose answers state no rating, with `unparsed=error`.
        """
        assert self.answers is not None
        facts = super().build(work)
        rated = pd.read_parquet(work.folder / "detail.parquet")
        answers = work.of(self.answers).table(TEXTS).set_index("row_id")["text"]
        ratings = rated["row_id"].map(lambda row_id: self._stated(answers[row_id])).astype(float)
        absent = rated.loc[ratings.isna(), "row_id"].tolist()
        if absent:
            self._tell(absent, len(rated))
        values = ratings.fillna(rated["mode"])
        own = rated.assign(stated=ratings.notna(), mean=values, median=values, mode=values)
        logits = rated.assign(label=f"{self.label} (logits)", stated=False)
        table = pd.concat([own, logits] if self.by_logits else [own], ignore_index=True)
        write_table(work.folder / "data.parquet", table, PREDICTIONS)
        table.to_parquet(work.folder / "detail.parquet", index=False)
        return facts | {"answers_that_state_no_rating": len(absent)}

    def infer(self, work: Work, rows: pd.DataFrame) -> Inference:  # type: ignore[override]
        """The answer, afresh; only where it states no rating, the logits are asked."""
        return replace(super().infer(work, rows), stated=self._stated, decoding="mode")

    def _stated(self, answer: str) -> float | None:
        return parse_rating(self.expert.expert.stated(answer), self.shown.scale)

    def _tell(self, absent: list[int], count: int) -> None:
        named = ", ".join(map(str, absent[:NAMED])) + (", ..." if len(absent) > NAMED else "")
        told = f"{len(absent)} of {count} answers state no rating on the scale (row_id {named})"
        if self.unparsed == "error":
            raise DataError(
                f"{self.label}: {told}. Raise experts.{self.expert.place}.max_new_tokens or train it longer; "
                "method.unparsed=likeliest takes the likeliest rating in their place. The answers are kept"
            )
        say(f"  {told}; the likeliest rating where it would stand is taken in its place")


def predictions_stage(
    config: Config, verify: bool, recover_within: float, logits: bool, unparsed: Unparsed
) -> StatedRatings:
    """The stage whose artifact holds the predictions.

    Args:
        verify, recover_within: as of `kept_traces_stage`.
        logits: rate by the logits too.
        unparsed: as of `StatedRatings`.
    """
    own, shown, llm = asked(config, NAME), described(histories(config, SHOWN), config), llm_identity(config)
    pairs = Pairs(split_stage(config), pools_stage(config), kept_traces_stage(config, verify, recover_within))
    trained = training(config, NAME, StepLessons(own, shown, pairs, (), None, llm))
    evaluate = config.dataset.evaluate
    answers = Written(own, trained, shown, evaluate, (), llm, own.max_new_tokens)
    return StatedRatings(own, trained, shown, evaluate, (), answers, LABEL, llm, logits, unparsed)


def kept_traces_stage(config: Config, verify: bool, recover_within: float) -> KeptTraces:
    """The stage that keeps the traces to learn from.

    Args:
        verify: keep only traces from which the teacher, not told the rating, recovers it.
        recover_within: how far off the recovered rating may be, in steps of the scale.
    """
    own, shown, pairs = asked(config, NAME), described(histories(config, SHOWN), config), expert_pairs(config)
    teacher, texts = config.teacher, prompt_texts(*own.expert.teacher_templates)
    ask = Teaching(teacher_identity(config, *texts), teacher.reason_temperature, teacher.reason_max_tokens, texts)
    tokens = (
        shown.newest * ((shown.raw.tokens if shown.raw else 0) + ENTRY_TOKENS) + config.dataset.history.review_tokens
    )
    takes = Unkeyed(estimate(config, pairs, pairs, ask.prompts, tokens, ask.max_tokens))
    traces = Traces(own, shown, pools_stage(config), ask, takes)
    if not verify:
        return KeptTraces(own, traces, None, None, Unkeyed(""))
    # at temperature 0: what the trace lets expect most, not a draw; unless the teacher takes none
    temperature, texts = None if teacher.reason_temperature is None else 0.0, prompt_texts(*own.expert.verify_templates)
    ask = Teaching(teacher_identity(config, *texts), temperature, RATING_TOKENS, texts)
    tokens += teacher.reason_max_tokens
    takes = Unkeyed(estimate(config, 0, pairs, ask.prompts, tokens, RATING_TOKENS))
    return KeptTraces(own, traces, ask, recover_within, takes)
