"""What a single value of a raw record stands for: an identifier, a number, a time, a text."""

import html
import math
import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import pandas as pd

EARLIEST = 631_152_000  # 1990-01-01, in seconds: no review on the web is older, and a time of 0 is a missing one
LATEST = 1_988_150_400  # 2033-01-01: from there on, ten digits are a date and an hour
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
COMPACT = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # ISO 8601 basic dates, by their digits
NO_TIME, OUT_OF_TIME = "timestamp unreadable", "timestamp outside 1990..2032"
DATE = "date without hyphens"  # the unit of such a time
EXACT = 1 << 53  # from here on, floating-point numbers leave out whole ones
MISSING = {"", "nan", "-nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat", "undefined", r"\n"}  # in lower case
LONGEST_MARK = max(map(len, MISSING))
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
NO_TEXTS = {"nan", "NaN", "None", "none", "null", "NULL", "<NA>", "NaT", r"\N"} | {  # as programs write a missing text
    *("NA", "N/A", "n/a", "#N/A", "undefined"),
}
LONGEST_WORD = max(map(len, NO_TEXTS))
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")  # lone surrogates cannot be written as UTF-8
_BINARY = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")  # in no identifier that is a text
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]"
)
_DECIMAL = re.compile(r"-?\d{1,15}\.0")  # a whole number, as a program writes it whose column has gaps
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,300}>")
_LAYOUT = re.compile(
    r"</?(?:a|article|b|big|blockquote|br|button|center|code|dd|div|dl|dt|em|font|footer|form|h\d|header|hr|i|iframe|img|"
    r"input|label|li|ol|p|pre|script|section|small|span|strong|style|sub|sup|table|tbody|td|th|thead|tr|u|ul|video)"
    r"\b[^<>]*>",
    re.IGNORECASE,
)
_PAGE_SCRIPT = re.compile(r"getTime\(|aPageStart|<script", re.IGNORECASE)

Note = Callable[[str], None]  # is told of each repair


class Bad(Exception):
    """Why a record cannot be used."""


def identifier(value: Any, name: str, note: Note = lambda repair: None) -> str:
    """An identifier as text: leading zeros kept, surrounding blanks and characters that are not seen taken off, in the
    composed form of Unicode (NFC).

    Raises:
        Bad: it is absent, says that it is (`nan`, `None`), is neither text nor a whole number, or is a number that has
            lost its last digits.
    """
    if type(value) is str and len(value) > LONGEST_MARK and value.isascii() and value.isalnum():  # most identifiers
        return value
    if isinstance(value, float) and value.is_integer():  # a column of numbers with gaps
        if abs(value) >= EXACT:
            raise Bad(f"field '{name}' is a floating-point number beyond 2^53: its last digits are lost")
        value = int(value)
    if isinstance(value, Decimal) and value.is_finite() and value == int(value):
        value = int(value)
    if isinstance(value, Integral) and not isinstance(value, bool):  # of numpy, too
        return str(int(value))
    if is_missing(value):
        raise Bad(f"field '{name}' missing or empty")
    if not isinstance(value, str):
        raise Bad(f"field '{name}' is of type {type(value).__name__}: an identifier is a text or a whole number")
    if len(_BINARY.findall(value)) > 1:  # a single one is a slip, and is taken off
        raise Bad(f"field '{name}' holds control characters: an identifier is a text or a whole number")
    text = _UNSEEN.sub("", value).strip()
    if not text:
        raise Bad(f"field '{name}' missing or empty")
    if text.lower() in MISSING:
        raise Bad(f"field '{name}' stands for a missing value (nan, None, null, NA)")
    if _DECIMAL.fullmatch(text):
        note("identifier that is a whole number with .0 behind it: taken off")
        return text[:-2]
    if text != value:
        note("identifier with blanks around it, or characters that are not seen: taken off")
    composed = unicodedata.normalize("NFC", text)
    if composed != text:
        note("identifier in a decomposed form of Unicode: composed")
    return composed


def is_missing(value: Any) -> bool:
    """Whether a value is what Python or pandas has in the place of none: None, nan, NA, NaT."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def number(value: Any, name: str) -> float:
    """A rating as a finite number.

    Raises:
        Bad: it is absent, or none.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Bad(f"field '{name}' missing or empty")
    found = _float(value)
    if found is None:
        raise Bad("rating is not a number")
    return found


def timestamp(value: Any, name: str) -> tuple[int, str]:
    """Unix seconds, and the unit that the value was in (of UNITS, or DATE). Dates without a time zone are UTC.

    The ranges of all units and of dates without hyphens, from 1990 to 2032, lie apart: which is meant is sure.

    Raises:
        Bad: it is absent, no time, or outside of these years.
    """
    if type(value) is int and EARLIEST <= value < LATEST:
        return value, "seconds"
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        raise Bad(f"field '{name}' missing or empty")
    found = None if isinstance(value, date) else _float(value)
    if found is not None:
        for unit, size in UNITS.items():
            if EARLIEST * size <= found < LATEST * size:
                return math.floor(found / size), unit
    try:
        seconds, unit = (_moment(value), "seconds") if found is None else (_compact(found), DATE)
    except (ValueError, OverflowError):
        raise Bad(NO_TIME if found is None else OUT_OF_TIME) from None
    if not EARLIEST <= seconds < LATEST:
        raise Bad(OUT_OF_TIME)
    return seconds, unit


def clean(value: Any, note: Note) -> str:
    """Text with HTML entities decoded and control characters blanked; absent text, or a word for it, is empty text.

    Raises:
        Bad: the value is a list, a mapping, or the like.
    """
    if type(value) is str and "&" not in value and "<" not in value and value.isprintable():  # most: nothing to repair
        return _told(value.strip(), note)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        raise Bad("text is not a string")
    if "&" in value and _ENTITY.search(value):
        decoded = _ENTITY.sub(lambda match: html.unescape(match.group()), value)
        if decoded != value:
            note("HTML entities: decoded")
            value = decoded
    if _CONTROL.search(value):
        note("control characters: blanked")
        value = _CONTROL.sub(" ", value)
    return _told(value.strip(), note)


def _told(text: str, note: Note) -> str:
    """The text; empty where it is what a program writes in place of none, or shows nothing."""
    if text and not (text[0].isalnum() or _UNSEEN.sub("", _LAYOUT.sub("", text)).strip()):
        note("text without a character that is seen: left empty")
        return ""
    if len(text) > LONGEST_WORD or text not in NO_TEXTS:
        return text
    note("text is a word for a missing one (nan, None, null, NA): left empty")
    return ""


def cut(text: str, limit: int, what: str, note: Note) -> str:
    """The text, no longer than the limit (characters)."""
    if len(text) <= limit:
        return text
    note(f"{what} longer than {limit} characters: cut")
    return text[:limit].rstrip()


def heading(value: Any, limit: int, note: Note) -> str:
    """A title: clean text in one line, no longer than the limit.

    Raises:
        Bad: the value is a list, a mapping, or the like.
    """
    text = clean(value, note)
    if not text.isprintable():
        joined = " ".join(text.split())
        if joined != text:
            note("title of several lines: joined")
            text = joined
    return cut(text, limit, "title", note)


def is_page_source(text: str) -> bool:
    """Whether a text is what the 2018 files hold in place of some: the source of a web page."""
    return _PAGE_SCRIPT.search(text) is not None


def one_line(value: Any, between: str, note: Note) -> str:
    """A text, or the texts of a list, in one line: HTML tags and line breaks give way to blanks.

    Args:
        value: text, number, list of these, or list of such lists, between which a semicolon is put; all else is no
            text.
        between: put between the texts of a list.
    """
    if isinstance(value, list | tuple) and any(isinstance(part, list | tuple) for part in value):
        lines = [one_line(part, between, note) for part in value]
        return "; ".join(dict.fromkeys(filter(None, lines)))
    texts = list(_texts(value, note))
    return between.join(filter(None, texts))


def _texts(value: Any, note: Note) -> Iterator[str]:
    for part in value if isinstance(value, list | tuple) else [value]:
        if isinstance(part, str | int | float) and not isinstance(part, bool):
            text = clean(part, note)
            yield "" if is_page_source(text) else " ".join(_TAG.sub(" ", text).split())


def _float(value: Any) -> float | None:
    """A finite number; None for all else."""
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):  # Python's 1_000 is nobody's data
        return None
    try:
        found = float(value) if isinstance(value, str | Real | Decimal) else math.nan
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _moment(value: Any) -> int:
    if isinstance(value, str):
        value = datetime.fromisoformat(value.strip())
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError
    return math.floor((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())


def _compact(value: float) -> int:
    text = f"{value:.0f}"
    if value != int(value) or len(text) not in COMPACT:
        raise ValueError
    return _moment(datetime.strptime(text, COMPACT[len(text)]))
