"""CSV files that are safe to open in a spreadsheet, which runs a cell that begins like a formula."""

import csv
import re
from collections.abc import Sequence
from typing import Any, TextIO

# a spreadsheet skips blanks, quotes and invisible characters in front of a formula, and knows the full-width signs
_BEFORE = r"[\s\"'`\x00-\x1f\x7f\u200b-\u200f\u2060\ufeff]*"
FORMULA = re.compile(rf"{_BEFORE}[=+\-@＝＋－＠]|[\t\r\n]")


def safe(value: Any) -> Any:
    """A cell's value; a text that would be taken for a formula has an apostrophe in front, which makes it a text.

    Numbers, and texts that are a number, stay as they are.
    """
    if not isinstance(value, str) or not FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def write_row(file: TextIO, values: Sequence[Any]) -> None:
    """One line of a CSV file (RFC 4180), each cell safe. The file is to be opened with newline=""."""
    csv.writer(file).writerow([safe(value) for value in values])
