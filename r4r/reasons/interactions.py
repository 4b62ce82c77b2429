"""What people did with reasons: a line of JSON each, appended by `r4r-serve`, read by `reason_source=interactions`."""

import fcntl
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from r4r.errors import DataError
from r4r.values import Values

FORMAT = 1
Kind = Literal["explain", "converse", "again", "without", "shuffled", "edit", "strike", "add", "keep"]
CORRECTED = {"edit", "strike", "add", "keep"}  # the person stands behind the reason


class Predicted(Values):
    """A rating, as `r4r.serve.cases.Rating` has it."""

    values: list[float]
    probabilities: list[float]
    mean: float
    median: float
    mode: float


class Interaction(Values):
    """One line of `interactions.jsonl`.

    Attributes:
        format: of this schema.
        time: when, ISO 8601, UTC.
        session: of one visit to the page; empty where a program did not say.
        kind: explain (a case was opened), converse (the same with a preference more), again (the model's reason was
            asked for once more), without (rated without a reason), shuffled (rated with another pair's reason), edit
            (the reason was written anew), strike and add (one aspect was), keep (the reason was called right as it is).
        predictions: key of the run's predictions: which pipeline it was.
        user_id, item_id: in the data; empty for those who are not in it.
        title: of the item.
        at: Unix time in seconds: what was known before it. None: all was.
        preferences: what the user said beside the reviews, in order.
        model_reason: the pipeline's own reason; None where it gives none.
        reason: what the rating was made with; None where that was none.
        aspect: what was struck or added.
        model_rating, rating: under `model_reason` and under `reason`.
    """

    format: Literal[1] = 1
    time: str
    session: str = ""
    kind: Kind
    predictions: str
    user_id: str = ""
    item_id: str = ""
    title: str
    at: int | None = None
    preferences: list[str] = Field([])
    model_reason: str | None = None
    reason: str | None = None
    aspect: str | None = None
    model_rating: Predicted
    rating: Predicted


def append(path: Path, interaction: Interaction) -> None:
    """Add a line, whole or not at all among those of other processes; behind a line that broke off, on a new one."""
    line = interaction.model_dump_json().encode("utf-8") + b"\n"
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)


def read(text: str, where: str) -> tuple[list[Interaction], Counter[str]]:
    """The interactions of a file's text, and how many lines are left out, by cause.

    Raises:
        DataError: the file has lines, and none of them is an interaction; the first one's fault is told.
    """
    found, dropped, first = [], Counter[str](), ""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(Interaction.model_validate_json(line))
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            place = ".".join(map(str, fault["loc"]))
            first = first or f"{where}, line {number}: {f'{place}: ' if place else ''}{fault['msg']}"
            dropped["malformed line"] += 1
    if dropped and not found:
        raise DataError(
            f"{first}; {dropped['malformed line']} lines, and none is an interaction as r4r-serve writes it"
        )
    return found, dropped


def corrections(interactions: Iterable[Interaction], dropped: Counter[str]) -> dict[tuple[str, str, int], str]:
    """The reason that people stand behind, by (user_id, item_id, at): the last one of each.

    Left out, and counted in `dropped`: what is no correction; reasons under preferences that no review has, since a
    prompt of the training would not show them; pairs that are in no data set.
    """
    found: dict[tuple[str, str, int], str] = {}
    for one in interactions:
        reason = " ".join((one.reason or "").split())
        if one.kind not in CORRECTED:
            dropped["no correction"] += 1
        elif one.preferences:
            dropped["made after a conversation"] += 1
        elif not (one.user_id and one.item_id) or one.at is None:
            dropped["user or item in no data set"] += 1
        elif not reason:
            dropped["empty reason"] += 1
        else:
            key = (one.user_id, one.item_id, one.at)
            dropped["corrected again later"] += key in found
            found[key] = reason
    return found
