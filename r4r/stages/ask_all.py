"""The teacher answers many prompts; what it has answered survives a kill."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from r4r.errors import DataError, TeacherError
from r4r.progress import bar, say
from r4r.stages.ask import UNIT, Asking, answered, groups
from r4r.stages.stage import Job, Work
from r4r.store.journal import Journal, Row
from r4r.teacher.base import Call


def ask_all(
    work: Work,
    what: str,
    row_ids: Sequence[int],
    prompts: Sequence[str],
    temperature: float | None,
    max_tokens: int,
    attempts: int = 1,
    read: Callable[[int, str], str] = lambda place, text: text,
    reminder: str = "",
    required: str = "",
    job: Job | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One usable answer a prompt, where the teacher gives one.

    Args:
        what: is asked for, in words, for the progress bar.
        attempts: calls a prompt may take before its problem stands.
        read: (place of the prompt, text) -> the answer in it; raises a TeacherError that says why there is none.
        reminder: follows the prompt from the second attempt on.
        required: what every prompt must get, in words ("rating"); empty where some may stay without.
        job: whose teacher answers; the work's own by default.

    Returns:
        A table in the prompts' order: row_id, answer (empty where there is a problem), problem (empty where there is
        none), calls; and facts for the manifest.

    Raises:
        TeacherError: naming the rows that did not get what is required. They are asked again by the next run.
    """
    job = job or work.job
    journal = Journal(work.folder / "rows.jsonl")
    asking = Asking(job, journal)

    def ask(places: Sequence[int]) -> dict[int, Row]:
        found: dict[int, Row] = {}
        open_places = list(places)
        for attempt in range(attempts):
            texts = [prompts[place] + (reminder if attempt else "") for place in open_places]
            outcomes = asking([Call(text, temperature, max_tokens, attempt) for text in texts])
            for place, outcome in zip(open_places, outcomes, strict=True):
                row = {"place": place, "row_id": int(row_ids[place]), "answer": "", "problem": "", "calls": attempt + 1}
                try:
                    if isinstance(outcome, TeacherError):
                        raise outcome
                    row["answer"] = read(place, outcome.text)
                except TeacherError as problem:
                    row["problem"] = str(problem)
                found[place] = row
            open_places = [place for place in open_places if found[place]["problem"]]
            if not open_places:
                break
        if required and open_places:
            shown = "; ".join(f"row {found[p]['row_id']}: {found[p]['problem']}" for p in open_places[:3])
            raise TeacherError(
                f"{len(open_places)} rows have no {required} after {attempts} calls each ({shown}); allow more retries "
                "or take another teacher. Answers so far are kept"
            )
        return found

    units = [range(start, min(start + UNIT, len(prompts))) for start in range(0, len(prompts), UNIT)]
    with bar(what, len(units), len(journal)) as advance:
        for group in groups(job.config, [number for number in range(len(units)) if str(number) not in journal]):
            found = ask([place for number in group for place in units[number]])
            for number in group:
                journal.append(str(number), [*(found[place] for place in units[number]), asking.row()])
                advance(1, "")
    table = pd.DataFrame(answered(journal), columns=["place", "row_id", "answer", "problem", "calls"])
    return table.sort_values("place").drop(columns="place").reset_index(drop=True), asking.facts()


def usable(table: pd.DataFrame, what: str) -> tuple[pd.DataFrame, dict[Any, int]]:
    """The rows of `ask_all` without a problem, by row_id, and counts of the others by problem.

    Args:
        what: they are, in words.

    Raises:
        DataError: there are none.
    """
    kept = table[table["problem"] == ""].sort_values("row_id")
    dropped = table.loc[table["problem"] != "", "problem"].value_counts().to_dict()
    if dropped:
        say(f"  {len(table) - len(kept)} of {len(table)} {what} dropped: {dropped}")
    if kept.empty:
        cure = "Try a stronger teacher"
        if all(str(problem).startswith("rejected (HTTP") for problem in dropped):
            cure = "The server rejects every call: look at its address and settings"
        raise DataError(f"none of the {len(table)} {what} can be used: {dropped}. {cure}.")
    return kept, dropped
