"""What a raw record must hold: repaired where the meaning is sure, dropped and counted where it is not."""

import html
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from r4r.data.layouts import Layout
from r4r.errors import DataError

Row = tuple[str, str, str, float, str, int]  # user_id, item_id, title, rating, review, timestamp

LATEST = 4_102_444_800  # 2100-01-01, in seconds
MILLISECONDS = 100_000_000_000  # a timestamp above this is in milliseconds: in seconds it would be the year 5138
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")  # lone surrogates cannot be written as UTF-8
_PAGE_SCRIPT = re.compile(r"getTime\(|aPageStart|<script", re.IGNORECASE)


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

    def check(self, max_bad_fraction: float) -> None:
        """Refuse a file with no lines, or with more malformed ones than allowed."""
        if not self.lines:
            raise DataError(f"{self.where} holds no records: put the full file there")
        if self.bad > max_bad_fraction * self.lines:
            causes = "; ".join(
                f"{reason}: {count} (first in line {self.first[reason]})" for reason, count in self.dropped.items()
            )
            raise DataError(
                f"{self.where}: {self.bad} of {self.lines} records are malformed, more than "
                f"dataset.max_bad_fraction={max_bad_fraction:g} allows. {causes}. "
                "Is dataset.source the format of this file? JSON files hold one object a line; text is UTF-8"
            )

    def as_dict(self) -> dict[str, Any]:
        return {"lines": self.lines, "dropped": self.dropped, "repaired": self.repaired, "first_line": self.first}


class ReviewCheck:
    """Turns raw review records into rows, and counts in `tally` what it drops and repairs."""

    def __init__(self, layout: Layout, tally: Tally, strict: bool, max_chars: int | None):
        self.layout, self.tally, self.strict, self.max_chars = layout, tally, strict, max_chars

    def __call__(self, line: int, fields: Mapping[str, Any] | str) -> Row | None:
        """The row of a record; None where the record was dropped (and counted).

        Args:
            fields: the record, or the sentence that says why the line has none.
        """
        self.tally.lines += 1
        layout = self.layout
        try:
            if isinstance(fields, str):
                raise _Bad(fields)
            user = _identifier(fields.get(layout.user), layout.user)
            item = _identifier(_first(fields, layout.item), layout.item[0])
            rating = _rating(fields.get(layout.rating), layout.rating)
            timestamp, in_milliseconds = _timestamp(fields.get(layout.timestamp), layout.timestamp)
            title = clean(fields.get(layout.title), self.tally, line) if layout.title else ""
            review = clean(fields.get(layout.review), self.tally, line)
        except _Bad as bad:
            self.tally.drop(str(bad), line, self.strict)
            return None
        if in_milliseconds and not layout.milliseconds:
            self.tally.repair("timestamp in milliseconds: converted", line)
        if self.max_chars is not None and len(review) > self.max_chars:
            self.tally.repair(f"review longer than {self.max_chars} characters: cut", line)
            review = review[: self.max_chars].rstrip()
        return user, item, title, rating, review, timestamp


def meta_title(
    line: int, fields: Mapping[str, Any] | str, layout: Layout, tally: Tally, strict: bool
) -> tuple[str, str] | None:
    """An item's id and title ("" where it has none); None where the metadata line was dropped (and counted)."""
    tally.lines += 1
    try:
        if isinstance(fields, str):
            raise _Bad(fields)
        item = _identifier(_first(fields, layout.meta_item), layout.meta_item[0])
        title = clean(fields.get(layout.meta_title), tally, line)
    except _Bad as bad:
        tally.drop(str(bad), line, strict)
        return None
    if _PAGE_SCRIPT.search(title):  # the 2018 files hold page source in place of some titles
        tally.repair("title is page source: left empty", line)
        title = ""
    return item, title


class _Bad(Exception):
    """Why a record cannot be used."""


def clean(value: Any, tally: Tally, line: int) -> str:
    """Text with HTML entities decoded and control characters blanked; absent text is empty text.

    Raises:
        _Bad: the value is a list, a mapping, or the like.
    """
    if type(value) is str and "&" not in value and value.isprintable():  # most texts: nothing to repair
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        raise _Bad("text is not a string")
    if "&" in value and _ENTITY.search(value):
        decoded = _ENTITY.sub(lambda match: html.unescape(match.group()), value)
        if decoded != value:
            tally.repair("HTML entities: decoded", line)
            value = decoded
    if _CONTROL.search(value):
        tally.repair("control characters: blanked", line)
        value = _CONTROL.sub(" ", value)
    return value.strip()


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        value = fields.get(name)
        if value is not None:
            return value
    return None


def _identifier(value: Any, name: str) -> str:
    if type(value) is str and value.isalnum():  # most identifiers: nothing to strip
        return value
    if isinstance(value, float) and value.is_integer():  # a column of numbers with gaps
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        text = _CONTROL.sub("", value).strip()
        if text:
            return text
    raise _Bad(f"field '{name}' missing or empty")


def _rating(value: Any, name: str) -> float:
    if type(value) is float and 1 <= value <= 5:
        return value
    if value is None or value == "":
        raise _Bad(f"field '{name}' missing or empty")
    try:
        rating = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        rating = math.nan
    if math.isnan(rating):
        raise _Bad("rating is not a number")
    if not 1 <= rating <= 5:
        raise _Bad("rating outside 1..5")
    return rating


def _timestamp(value: Any, name: str) -> tuple[int, bool]:
    """Unix seconds, and whether the value was in milliseconds. Dates without a time zone are UTC."""
    if type(value) is int and 0 < value < LATEST:
        return value, False
    if value is None or value == "":
        raise _Bad(f"field '{name}' missing or empty")
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            try:
                value = datetime.fromisoformat(value.strip())
            except ValueError:
                raise _Bad("timestamp unreadable") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _Bad("timestamp unreadable")
    in_milliseconds = value >= MILLISECONDS
    seconds = int(value // 1000) if in_milliseconds else math.floor(value)
    if not 0 < seconds < LATEST:
        raise _Bad("timestamp outside 1970..2100")
    return seconds, in_milliseconds
