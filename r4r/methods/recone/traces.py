"""The teacher's traces that RecOne begins with: wrong ones are written again, the rating shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from r4r.errors import DataError, TeacherError
from r4r.methods.reczero.expert import FORM, FourSteps
from r4r.pipeline.stage import Stage, Unkeyed
from r4r.progress import say
from r4r.prompts.render import render
from r4r.reasons.leak import leaks_rating
from r4r.reasons.rating import parse_rating
from r4r.rows import REASONS, Case, Schema
from r4r.scale import Scale
from r4r.stages.ask_all import ask_all
from r4r.stages.histories import Histories
from r4r.stages.lessons import Pairs
from r4r.stages.mounted import Asked
from r4r.stages.reasons import Teaching
from r4r.stages.stage import Work
from r4r.store.artifact import write_table

REWRITE = "methods/recone/rewrite.txt"
TRACES: Schema = {
    "row_id": "int64",
    "reason": "str",
    "rating": "float64",
    "rewritten": "bool",  # whether the teacher was shown the rating
    "cause": "str",  # kept | why not
}


@dataclass(frozen=True)
class Traces(Stage):
    """Artifact: `answers.parquet` (row_id, answer, problem), the teacher's trace of each pair, no rating shown."""

    expert: Asked
    shown: Histories
    pairs: Pairs
    teaching: Teaching
    takes: Unkeyed

    @property
    def name(self) -> str:
        return "recone/traces"

    @property
    def estimate(self) -> str:
        return self.takes.value

    def cases(self, work: Work) -> list[Case]:
        return self.shown.cases(work, self.pairs.rows(work))

    def build(self, work: Work) -> dict[str, Any]:
        cases, ask = self.cases(work), self.expert.expert.prompt
        table, facts = _asked(work, "teacher traces", cases, [ask(case) for case in cases], self)
        table.to_parquet(work.folder / "answers.parquet", index=False)
        return facts


@dataclass(frozen=True)
class KeptTraces(Stage):
    """Artifact: `data.parquet` (rows.REASONS) of the traces to learn from; `traces.parquet` (TRACES) of them all.

    Attributes:
        rewriting: how the teacher is asked again; its prompts hold the hint.
    """

    traces: Traces
    rewriting: Teaching
    takes: Unkeyed

    @property
    def name(self) -> str:
        return "recone/kept"

    @property
    def estimate(self) -> str:
        return self.takes.value

    def build(self, work: Work) -> dict[str, Any]:
        """
        Raises:
            DataError: no trace can be learnt from.
        """
        rows, own = self.traces.pairs.rows(work), self.traces.expert.expert
        cases, scale = self.traces.cases(work), self.traces.shown.scale
        first = pd.read_parquet(work.of(self.traces).path / "answers.parquet")
        table = pd.DataFrame({"row_id": first["row_id"], "reason": first["answer"], "rating": rows["rating"]})
        table["rewritten"] = False
        known = zip(first["answer"], first["problem"], rows["rating"], strict=True)
        table["cause"] = [problem or fault(own, text, rating, scale) for text, problem, rating in known]
        wrong = [place for place, cause in enumerate(table["cause"]) if cause != "kept"]
        asked = [cases[place] for place in wrong]
        prompts = [
            own.prompt(case) + rewritten(table["rating"].iloc[p], scale) for case, p in zip(asked, wrong, strict=True)
        ]
        again, facts = _asked(work, "traces again, the rating shown", asked, prompts, self.traces)
        for place, text, problem in zip(wrong, again["answer"], again["problem"], strict=True):
            table.loc[place, ["reason", "rewritten"]] = text, True
            cause = problem or fault(own, text, rows["rating"].iloc[place], scale)
            gives = cause == "kept" and leaks_rating(own.read(text), [rows["title"].iloc[place]], scale)
            table.loc[place, "cause"] = "gives away the rating before the last step" if gives else cause
        write_table(work.folder / "traces.parquet", table, TRACES)
        kept = table[table["cause"] == "kept"]
        dropped = table.loc[table["cause"] != "kept", "cause"].value_counts().to_dict()
        again_kept = int(kept["rewritten"].sum())
        say(f"  kept {len(kept)} of {len(table)} traces, {again_kept} written again; dropped: {dropped}")
        if kept.empty:
            raise DataError(f"none of the {len(table)} traces can be learnt from: {dropped}. Take a stronger teacher")
        write_table(work.folder / "data.parquet", kept, REASONS)
        return {"pairs": len(table), "kept": len(kept), "rewritten": again_kept, "dropped": dropped, **facts}


def fault(own: FourSteps, trace: str, rating: float, scale: Scale) -> str:
    """Why a trace is not learnt; `kept` where it is."""
    if not own.formed(trace):
        return "not in four steps"
    stated = parse_rating(own.stated(trace), scale)
    if stated is None:
        return "no rating in the last step"
    return "kept" if abs(stated - rating) <= scale.step / 2 else "another rating"


def rewritten(rating: float, scale: Scale) -> str:
    """What follows the prompt where the rating is shown."""
    ends = {"lowest": f"{scale.lowest:g}", "highest": f"{scale.highest:g}"}
    return "\n" + render(REWRITE, rating=f"{rating:g}", **ends)


def _asked(
    work: Work, what: str, cases: Sequence[Case], prompts: Sequence[str], traces: Traces
) -> tuple[pd.DataFrame, dict[str, Any]]:
    ask = traces.teaching
    row_ids = [case.row_id for case in cases]
    return ask_all(work, what, row_ids, prompts, ask.temperature, ask.max_tokens, read=lambda place, text: _trace(text))


def _trace(text: str) -> str:
    """The four steps in an answer, without what a teacher says around them.

    Raises:
        TeacherError: there are none.
    """
    found = FORM.search(text)
    if found is None:
        raise TeacherError("not in four steps")
    return found[0]
