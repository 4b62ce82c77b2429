"""What a raw record must hold: repaired where the meaning is sure, dropped and counted where it is not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from r4r.data.layouts import Layout
from r4r.data.seen_ratings import SeenRatings
from r4r.data.values import DATE, NO_TIME, OUT_OF_TIME, Bad, clean, cut, heading, identifier, number, timestamp
from r4r.errors import DataError
from r4r.scale import PAPER, Scale

Row = tuple[str, str, str, float, str, int]  # user_id, item_id, title, rating, review, timestamp

TITLE_CHARS = 500  # longer titles are cut, and counted
ADVICE = dict.fromkeys(
    (NO_TIME, OUT_OF_TIME),
    "A time is a Unix time (in seconds, or a finer unit) or an ISO 8601 date, such as 2014-01-31",
)


@dataclass
class Tally:
    """Counts of one file: lines, what was dropped and what was repaired, each with the first line concerned."""

    where: str
    lines: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)

    @property
    def bad(self) -> int:
        return sum(self.dropped.values())

    def drop(self, reason: str, line: int, strict: bool) -> None:
        """Count a malformed line.

        Raises:
            DataError: at once where `strict`.
        """
        if strict:
            raise DataError(f"{self.where}, line {line}: {reason} (dataset.strict=true stops at the first one)")
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self.first.setdefault(reason, line)

    def repair(self, reason: str, line: int) -> None:
        self.repaired[reason] = self.repaired.get(reason, 0) + 1
        self.first.setdefault(reason, line)

    def check(self, max_bad_fraction: float, advice: Mapping[str, str]) -> None:
        """Refuse a file with no lines, or with more malformed ones than allowed.

        Args:
            advice: what may help, by the reason for which lines were dropped.
        """
        if not self.lines:
            raise DataError(f"{self.where} holds no records: put the full file there")
        if self.bad > max_bad_fraction * self.lines:
            causes = "; ".join(
                f"{reason}: {count} (first in line {self.first[reason]})" for reason, count in self.dropped.items()
            )
            helpful = [text for text in dict.fromkeys((ADVICE | dict(advice)).get(r) for r in self.dropped) if text]
            raise DataError(
                f"{self.where}: {self.bad} of {self.lines} records are malformed, more than "
                f"dataset.max_bad_fraction={max_bad_fraction:g} allows. " + ". ".join([causes, *helpful])
            )

    def as_dict(self) -> dict[str, Any]:
        return {"lines": self.lines, "dropped": self.dropped, "repaired": self.repaired, "first_line": self.first}


class ReviewCheck:
    """Turns raw review records into rows, and counts in `tally` what it drops and repairs.

    Args:
        max_chars: of a review; a longer one is cut.
        scale: of the ratings; None where it was not told.
    """

    def __init__(self, layout: Layout, tally: Tally, strict: bool, max_chars: int | None, scale: Scale | None = None):
        self.layout, self.tally, self.strict, self.max_chars = layout, tally, strict, max_chars
        self.told, self.scale = scale, scale or PAPER
        self.seen = SeenRatings(self.scale)
        self._exact = frozenset(self.scale.values)
        self._line = 0

    def __call__(self, line: int, fields: Mapping[str, Any] | str) -> Row | None:
        """The row of a record; None where the record was dropped (and counted).

        Args:
            fields: the record, or the sentence that says why the line has none.
        """
        layout, note = self.layout, self._note
        self.tally.lines += 1
        self._line = line
        try:
            if isinstance(fields, str):
                raise Bad(fields)
            user = identifier(fields.get(layout.user), layout.user, note)
            item = identifier(first_of(fields, layout.item), layout.item[0], note)
            seconds, unit = timestamp(fields.get(layout.timestamp), layout.timestamp)
            rating = self._rating(fields.get(layout.rating))
            title = heading(fields.get(layout.title), TITLE_CHARS, note) if layout.title else ""
            review = clean(fields.get(layout.review), note)
        except Bad as bad:
            self.tally.drop(str(bad), line, self.strict)
            return None
        if unit == DATE:
            note(f"timestamp is a {unit}: read as that day")
        elif unit != "seconds" and not (layout.milliseconds and unit == "milliseconds"):
            note(f"timestamp in {unit}: converted")
        if self.max_chars is not None:
            review = cut(review, self.max_chars, "review", note)
        return user, item, title, rating, review, seconds

    def is_row(self, fields: Mapping[str, Any]) -> bool:
        """Whether fields are beyond doubt a review: one with ids, time and rating."""
        layout = self.layout
        try:
            identifier(fields.get(layout.user), layout.user)
            identifier(first_of(fields, layout.item), layout.item[0])
            number(fields.get(layout.rating), layout.rating)
            timestamp(fields.get(layout.timestamp), layout.timestamp)
        except Bad:
            return False
        return True

    def finish(self, max_bad_fraction: float, advice: Mapping[str, str]) -> None:
        """Refuse ratings that do not fit the scale, then what `Tally.check` refuses."""
        fault = self.seen.fault(self.told is not None, self.tally.lines, max_bad_fraction)
        if fault:
            raise DataError(f"{self.tally.where}: {fault}")
        self.tally.check(max_bad_fraction, advice)

    def _rating(self, value: Any) -> float:
        found = value if type(value) is float else number(value, self.layout.rating)
        if found in self._exact:
            self.seen.on_scale.add(found)
            return found
        found = number(value, self.layout.rating)
        rating = self.scale.settled(found)
        self.seen.add(found, rating, self._line)
        if rating is None:
            raise Bad(f"rating outside {self.scale}")
        return rating

    def _note(self, repair: str) -> None:
        self.tally.repair(repair, self._line)


def first_of(fields: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The first value that is there; None where none is."""
    for name in names:
        value = fields.get(name)
        if value is not None and value != "":
            return value
    return None
