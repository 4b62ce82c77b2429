"""The teacher answers many prompts, once each; what it has answered survives a kill."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from r4r.errors import TeacherError
from r4r.progress import bar
from r4r.stages.ask import Asking, answered, groups
from r4r.stages.stage import Work
from r4r.store.journal import Journal
from r4r.teacher.base import Call

UNIT = 16  # calls whose answers are kept together


def ask_all(
    work: Work, what: str, row_ids: Sequence[int], prompts: Sequence[str], temperature: float, max_tokens: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One answer a prompt.

    Args:
        what: is asked for, in words, for the progress bar.

    Returns:
        A table by row_id: row_id, answer (empty where the call failed), problem (empty where it did not); and facts
        for the manifest.
    """
    journal = Journal(work.folder / "rows.jsonl")
    asking = Asking(work.job, journal)
    units = [range(start, min(start + UNIT, len(prompts))) for start in range(0, len(prompts), UNIT)]
    with bar(what, len(units), len(journal)) as advance:
        for group in groups(work.job.config, [n for n in range(len(units)) if str(n) not in journal]):
            asked = [place for number in group for place in units[number]]
            outcomes = asking([Call(prompts[place], temperature, max_tokens) for place in asked])
            found = dict(zip(asked, outcomes, strict=True))
            for number in group:
                rows = [_row(int(row_ids[place]), found[place]) for place in units[number]]
                journal.append(str(number), [*rows, asking.row()])
                advance(1, "")
    table = pd.DataFrame(answered(journal), columns=["row_id", "answer", "problem"])
    return table.sort_values("row_id").reset_index(drop=True), asking.facts()


def _row(row_id: int, outcome: Any) -> dict[str, Any]:
    if isinstance(outcome, TeacherError):
        return {"row_id": row_id, "answer": "", "problem": str(outcome)}
    return {"row_id": row_id, "answer": outcome.text, "problem": ""}
