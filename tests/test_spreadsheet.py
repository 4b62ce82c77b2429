"""No text of ours becomes a formula in a spreadsheet, and every text can be read back."""

import csv
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from r4r.spreadsheet import safe, write_row

FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    '"=1',
    "' \"=1",
    "\ufeff=1",
    "＝1",
    "\n=1",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_what_begins_like_a_formula_is_a_text(text: str) -> None:
    assert safe(text) == f"'{text}"


@pytest.mark.parametrize("value", [-0.5, 3, "", "-0.25", "+1e-3", "0.01 0.2", "a=b", "Reason4Rec w/o step 1", None])
def test_what_is_none_stays_as_it_is(value: object) -> None:
    assert safe(value) == value


@given(st.lists(st.text(), min_size=1, max_size=4))
@example(["=1", "a,b", 'say "x"', "two\nlines"])
def test_any_texts_come_back_from_a_line(texts: list[str]) -> None:
    out = io.StringIO(newline="")
    write_row(out, texts)
    [row] = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert [
        cell.removeprefix("'") if safe(text) != text else cell for cell, text in zip(row, texts, strict=True)
    ] == texts
