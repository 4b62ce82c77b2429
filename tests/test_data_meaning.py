"""Quotation marks, columns, times, ids and ratings that may mean several things: each means one, or none."""

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r4r.configuration.schema import DatasetConfig
from r4r.data import lines
from r4r.data.prepare import prepare
from r4r.data.raw_checks import TITLE_CHARS
from r4r.data.values import DATE, EARLIEST, LATEST, UNITS, Bad, identifier, timestamp
from r4r.errors import DataError

COLUMNS = ("user_id", "item_id", "title", "rating", "review", "timestamp")
SIZE = 6
NUMBER = SIZE * SIZE
FIRST = 1_400_000_000


def rows(**changes: Any) -> list[dict[str, Any]]:
    """A review of every item by every user; `changes` maps a column to a function of the row's place."""
    table = [
        {
            "user_id": f"user{k * 7 % NUMBER // SIZE}",
            "item_id": f"item{k * 7 % NUMBER % SIZE}",
            "title": f"Title {k * 7 % NUMBER % SIZE}",
            "rating": 1 + k % 5,
            "review": f"review {k}",
            "timestamp": FIRST + k * 86_400,
        }
        for k in range(NUMBER)
    ]
    return [row | {column: change(k) for column, change in changes.items()} for k, row in enumerate(table)]


def table_text(
    records: list[dict[str, Any]], delimiter: str, end: str = "\n", columns: tuple[str, ...] = COLUMNS
) -> str:
    """Cells as they are, without quotes of their own."""
    return end.join(delimiter.join(map(str, cells)) for cells in [columns, *([*r.values()] for r in records)]) + end


def read(folder: Path, name: str, content: Any, **settings: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The prepared rows, by time, and the review file's counts. Content: text, bytes, or records for JSON lines."""
    if isinstance(content, list):
        content = "".join(json.dumps(record) + "\n" for record in content)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    settings = {"source": "custom", "reviews": name, "prepare": {"k_core": 1}} | settings
    report = prepare(DatasetConfig(name="own", category="Thing", **settings), folder, folder / "out")
    return pd.read_parquet(folder / "out" / "rows.parquet"), report["files"]["reviews"] | {
        "table1": report["table1"],
        "waterfall": report["waterfall"],
    }


# quotation marks

TEXTS = {5: '"Must have, I swear', 9: 'my tablet is 7"', 12: '"Great" sound', 20: 'say "hi"'}


def lone_quotes(k: int) -> str:
    return TEXTS.get(k, f"review {k}")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_tsv_holds_quotation_marks_as_plain_characters(tmp_path, end):
    content = b"\xef\xbb\xbf" + table_text(rows(review=lone_quotes), "\t", end).encode()
    table, facts = read(tmp_path, "r.tsv", content)
    assert facts["lines"] == NUMBER
    assert not facts["dropped"]
    told = dict(zip((table["timestamp"] - FIRST) // 86_400, table["review"], strict=True))
    assert {k: told[k] for k in TEXTS if k in told} == {k: v for k, v in TEXTS.items() if k in told}
    assert set(TEXTS) & set(told) >= {5, 9, 12}


@pytest.mark.parametrize(("name", "delimiter"), [("r.tsv", "\t"), ("r.csv", ",")])
def test_rows_that_a_lone_quote_merged_are_counted_line_by_line(tmp_path, name, delimiter):
    texts = {5: '"Must have', 9: 'my tablet is 7"'}  # a row of the right number of cells, over five lines
    content = table_text(rows(review=lambda k: texts.get(k, f"review {k}")), delimiter)
    with pytest.raises(
        DataError, match=r"5 of 36 records .*row within the quotes.*5 \(first in line 7\).*none for marks"
    ):
        read(tmp_path, name, content, quoting="double")
    table, facts = read(tmp_path, name, content, quoting="double", max_bad_fraction=0.2)
    assert facts["dropped"] == {"row within the quotes of another one": 5}
    assert not table["review"].str.contains("\n").any()
    assert not read(tmp_path, name, content, quoting="none")[1]["dropped"]


def test_a_text_of_several_lines_is_one_text(tmp_path):
    text = '"one, two\nthree, 4, 5, 6, 7\n""last"", 1400000000"'
    table, facts = read(tmp_path, "r.csv", table_text(rows(review=lambda k: text), ","))
    assert not facts["dropped"]
    assert set(table["review"]) == {'one, two\nthree, 4, 5, 6, 7\n"last", 1400000000'}


def test_quotes_after_a_backslash_are_read_where_they_are_told(tmp_path):
    content = table_text(rows(review=lambda k: rf'"He said \"wow, {k}\", C:\new\\"'), ",")
    with pytest.raises(DataError, match=r'broken line: .*dataset.quoting=double: .*backslash for \\" within'):
        read(tmp_path, "r.csv", content)
    table, _ = read(tmp_path, "r.csv", content, quoting="backslash")
    assert table["review"][0] == 'He said "wow, 0", C:\\new\\'


def test_a_tsv_with_quotes_says_so(tmp_path):
    quoted = table_text(rows(review=lambda k: f'"say ""hi"" {k}"'), "\t")
    reason = "text in quotation marks: kept with them (dataset.quoting=double takes them off)"
    assert read(tmp_path, "r.tsv", quoted)[1]["repaired"] == {reason: NUMBER}
    assert read(tmp_path, "r.tsv", quoted, quoting="double")[0]["review"][0] == 'say "hi" 0'
    header = quoted.replace("user_id", '"user_id"', 1)
    with pytest.raises(DataError, match=r"no column user_id.*dataset.quoting=none: double is for"):
        read(tmp_path, "r.tsv", header)
    with pytest.raises(DataError, match=r"dataset.quoting=none is for CSV and TSV files"):
        read(tmp_path, "r.jsonl", rows(), quoting="none")


# columns and keys


def test_a_column_or_key_named_twice_is_no_choice(tmp_path):
    twice = table_text(rows(), ",").replace("timestamp\n", "timestamp,rating\n", 1)
    with pytest.raises(DataError, match=r"r.csv has the column rating more than once.*a name of its own"):
        read(tmp_path, "r.csv", twice)
    text = table_text([row | {"a": 1, "b": 2} for row in rows()], ",", columns=(*COLUMNS, "note", "note"))
    assert read(tmp_path, "unread.csv", text)[1]["lines"] == NUMBER  # nobody reads that column
    records = [json.dumps(row) for row in rows()]
    records[3] = records[3][:-1] + ', "rating": 5}'
    records[4] = records[4][:-1] + ', "about": {"rating": 5, "user_id": "x"}}'  # keys of another object
    _, facts = read(tmp_path, "r.jsonl", "\n".join(records) + "\n", max_bad_fraction=0.1)
    assert facts["dropped"] == {"field 'rating' twice in one line": 1}
    assert facts["first_line"]["field 'rating' twice in one line"] == 4


def test_a_field_that_no_line_has_is_told_with_those_that_are_there(tmp_path):
    own = r"r.jsonl has in none of its lines the field {}; it has user_id, item_id, title, rating, review, timestamp"
    for key in ("user_id", "review", "categories"):
        with pytest.raises(DataError, match=own.format("misspelt")):
            read(tmp_path, "r.jsonl", rows(), columns={key: "misspelt"})
    some = [{k: v for k, v in row.items() if k != "review" or n} for n, row in enumerate(rows())]
    assert not read(tmp_path, "r.jsonl", some)[1]["dropped"]  # a single line may lack a text


def test_a_table_without_titles_will_do_where_none_are_required(tmp_path):
    columns = tuple(name for name in COLUMNS if name != "title")
    content = table_text([{name: row[name] for name in columns} for row in rows()], ",", columns=columns)
    with pytest.raises(DataError, match=r"r.csv has no column title"):
        read(tmp_path, "r.csv", content)
    table, _ = read(tmp_path, "r.csv", "\n  \n,,,\n" + content, prepare={"k_core": 1, "require_title": False})
    assert set(table["title"]) == {""}
    with pytest.raises(DataError, match=r"r.csv has no column name"):
        read(tmp_path, "r.csv", content, columns={"title": "name"}, prepare={"k_core": 1, "require_title": False})


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_a_table_of_blank_lines_has_no_header(tmp_path, name):
    with pytest.raises(DataError, match="holds no records"):
        read(tmp_path, name, "\n \n\n")


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv"])
def test_ratings_without_texts_will_do_where_no_step_requires_them(tmp_path, name):
    kept = ("user_id", "item_id", "rating", "timestamp")
    records = [{column: row[column] for column in kept} for row in rows()]
    content = records if name == "r.jsonl" else table_text(records, ",", columns=kept)
    with pytest.raises(DataError, match=r"(no column|the field) (review, title|title, review)"):
        read(tmp_path, name, content)
    off = {"k_core": 1, "require_title": False, "require_text": False}
    for steps in (off, {"k_core": 1, "order": ["dedupe"]}):
        assert set(read(tmp_path, name, content, prepare=steps)[0]["review"]) == {""}


def test_a_row_without_a_title_has_the_one_that_its_item_has_elsewhere(tmp_path):
    some = rows(title=lambda k: f"Title {k * 7 % NUMBER % SIZE}" if k % 5 else "")
    table, facts = read(tmp_path, "r.jsonl", some)
    assert (table["title"] == table["item_id"].str.replace("item", "Title ")).all()
    (line,) = [line for line in facts["waterfall"] if line["reason"].startswith("title missing")]
    assert line["repaired"] == sum(k % 5 == 0 for k in range(NUMBER))


# times

DAY = 1_391_126_400  # 2014-01-31
DAYS = ["20140131", 20140131, 20140131.0, " 2014-01-31 ", "20140131T00Z", "201401310000", "20140131000000"]


@pytest.mark.parametrize("value", [*DAYS, "2014-01-31T02:00:00+02:00"])
def test_iso_dates_are_dates_whatever_their_form(value):
    assert timestamp(value, "t")[0] == DAY


@given(st.integers(EARLIEST, LATEST - 1), st.sampled_from([*UNITS]), st.booleans())
def test_the_unit_of_a_unix_time_is_never_in_doubt(seconds, unit, as_text):
    value = seconds * UNITS[unit]
    assert timestamp(str(value) if as_text else value, "t") == (seconds, unit)


@given(st.datetimes(pd.Timestamp("1990-01-01"), pd.Timestamp("2032-12-31")))
def test_a_date_without_hyphens_is_that_date(day):
    seconds = int(pd.Timestamp(day.date()).timestamp())
    assert timestamp(int(f"{day:%Y%m%d}"), "t") == (seconds, DATE)
    assert timestamp(f"{day:%Y%m%d%H}", "t") == (int(pd.Timestamp(day).floor("h").timestamp()), DATE)
    assert timestamp(f"{day:%Y%m%d%H%M%S}", "t")[0] == int(pd.Timestamp(day).timestamp())


@pytest.mark.parametrize("value", [0, -1, 1, 20149999, "2014", 201401, 41_670, "1985-01-01", "19850101", 10**25, 2**36])
def test_a_time_outside_of_1990_to_2032_is_none(value):
    with pytest.raises(Bad, match=r"timestamp outside 1990\.\.2032"):
        timestamp(value, "t")


@pytest.mark.parametrize("value", ["yesterday", "NaT", True, "1_400_000_000", [1], "05/14/2014", float("inf")])
def test_what_is_no_time_is_unreadable(value):
    with pytest.raises(Bad, match="timestamp unreadable"):
        timestamp(value, "t")


def test_a_column_of_basic_dates_is_told_and_windows_work_on_it(tmp_path):
    days = [f"{pd.Timestamp('2015-01-01') + pd.Timedelta(days=30 * k):%Y%m%d}" for k in range(NUMBER)]
    content = table_text(rows(timestamp=lambda k: days[k]), ",")
    table, facts = read(tmp_path, "r.csv", content, prepare={"k_core": 1, "window_months": 12})
    assert facts["repaired"] == {"timestamp is a date without hyphens: read as that day": NUMBER}
    assert table["timestamp"].min() > pd.Timestamp("2016-11-01").timestamp()
    assert len(table) < 14


# ids


@pytest.mark.parametrize("value", ["nan", "NaN", " nan ", "None", "null", "NULL", "NA", "N/A", "<NA>", r"\N"])
def test_a_word_for_a_missing_value_is_no_id(tmp_path, value):
    with pytest.raises(Bad, match=r"field 'user_id' stands for a missing value"):
        identifier(value, "user_id")


@pytest.mark.parametrize("value", ["", "  ", None, float("nan"), np.nan, pd.NA, pd.NaT, "\x00", "\ufeff"])
def test_an_empty_value_is_no_id(value):
    with pytest.raises(Bad, match="missing or empty"):
        identifier(value, "user_id")


@pytest.mark.parametrize(
    "value", [True, np.True_, ["u"], {"id": 1}, 1.5, Decimal("1.5"), b"u", pd.Timestamp("2014-01-31")]
)
def test_what_is_neither_text_nor_a_whole_number_is_no_id(value):
    with pytest.raises(Bad, match=rf"'user_id' is of type {type(value).__name__}: an identifier is a text or"):
        identifier(value, "user_id")


def test_ids_are_texts():
    texts = ["00123", "u1", "nancy", "1e5"]
    assert [identifier(value, "i") for value in ("00123", " u1\t", "nancy", "1e5")] == texts
    assert {identifier(value, "i") for value in (17, 17.0, Decimal(17), np.int64(17))} == {"17"}
    assert identifier(2**60, "i") == str(2**60)
    with pytest.raises(Bad, match=r"beyond 2\^53"):
        identifier(2.0**60, "i")


def test_missing_ids_are_counted_and_never_one_user(tmp_path):
    content = rows(user_id=lambda k: (float("nan"), "nan", "None", None)[k % 4] if k % 9 < 4 else f"u{k % 3}")
    keep = {"k_core": 1, "dedupe": False}
    with pytest.raises(DataError, match="16 of 36 records are malformed"):
        read(tmp_path, "r.jsonl", content)
    table, facts = read(tmp_path, "r.jsonl", content, max_bad_fraction=0.5, prepare=keep)
    assert sum(facts["dropped"].values()) == 16
    assert set(table["user_id"]) == {"u0", "u1", "u2"}


# ratings


def test_half_stars_are_told_by_range_kind_and_setting(tmp_path):
    halves = rows(rating=lambda k: (1 + k % 10) / 2)
    settings = r"dataset.scale.lowest=0.5 dataset.scale.step=0.5\."
    told = (
        rf"records 4 lie outside of that and 14 lie .*first in line 1\): .*from 0.5 to 5, in steps of 0.5. .*{settings}"
    )
    with pytest.raises(DataError, match=told):
        read(tmp_path, "r.jsonl", halves)
    table, facts = read(tmp_path, "r.jsonl", halves, scale={"lowest": 0.5, "step": 0.5})
    assert facts["table1"]["ratings"].keys() == {f"{k / 2:g}" for k in range(1, 11)}
    assert facts["table1"]["scale"] == {"lowest": 0.5, "highest": 5.0, "step": 0.5}
    assert set(table["rating"]) == {k / 2 for k in range(1, 11)}


@pytest.mark.parametrize(
    ("rating", "told", "scale"),
    [
        (lambda k: 2 + 2 * (k % 5), r"2 to 10, whole numbers.*example dataset.scale.highest=10\.", {"highest": 10}),
        (lambda k: k * 20 % 101, r"lowest=0 dataset.scale.highest=100\.", {"lowest": 0, "highest": 100}),
        (lambda k: k % 2, r"dataset.scale.lowest=0 dataset.scale.highest=1\.", {"lowest": 0, "highest": 1}),
        (lambda k: 3 + k % 2 / 2, r"records 18 lie between.*example dataset.scale.step=0.5\.", {"step": 0.5}),
        (lambda k: 4.25, r"in steps of 0.25.*example dataset.scale.step=0.25\.", {"step": 0.25}),
        (lambda k: 5 if k else 4.5, r"records 1 lie between", {"step": 0.5}),
        (lambda k: k - 10, r"lowest=-100 dataset.scale.highest=100\.", {"lowest": -10, "highest": 25}),
        (lambda k: 1000 * k, r"lowest=0 dataset.scale.highest=35000 dataset.scale.step=350\.", None),
    ],
)  # fmt: skip
def test_ratings_on_another_scale_are_refused_with_the_setting(tmp_path, rating, told, scale):
    with pytest.raises(DataError, match=told):
        read(tmp_path, "r.jsonl", rows(rating=rating))
    if scale is not None:
        _, facts = read(tmp_path, "r.jsonl", rows(rating=rating), scale=scale)
        assert not facts["dropped"]


def test_a_rating_beyond_the_scale_is_dropped_and_one_between_steps_is_kept(tmp_path):
    odd = {2: 11, 3: 7.3, 4: 0.5}
    content = rows(rating=lambda k: odd.get(k, 1 + k % 10))
    table, facts = read(tmp_path, "r.jsonl", content, scale={"highest": 10}, max_bad_fraction=0.1)
    assert facts["dropped"] == {"rating outside 1..10": 2}
    assert 7.3 in set(table["rating"])
    assert sum(facts["table1"]["ratings"].values()) == len(table)
    with pytest.raises(DataError, match=r"dataset.scale is 1..10 in steps of 1, but .*from 0.5 to 11.*Correct it"):
        read(tmp_path, "r.jsonl", content, scale={"highest": 10})


def test_ratings_of_32_bits_are_the_values_they_stand_for(tmp_path):
    pd.DataFrame(rows(rating=lambda k: 0.7 + k % 4 / 10)).astype({"rating": "float32"}).to_parquet(
        tmp_path / "r.parquet"
    )
    content = (tmp_path / "r.parquet").read_bytes()
    table, _ = read(tmp_path, "r.parquet", content, scale={"lowest": 0.7, "highest": 1.0, "step": 0.1})
    assert set(table["rating"]) == {0.7, 0.8, 0.9, 1.0}


# length


def test_a_title_is_one_line_and_cut_like_a_review(tmp_path):
    content = rows(title=lambda k: "long\n" * 200 if k % 2 else "short")
    table, facts = read(tmp_path, "r.jsonl", content)
    assert facts["repaired"][f"title longer than {TITLE_CHARS} characters: cut"] == NUMBER // 2
    assert facts["repaired"]["title of several lines: joined"] == NUMBER // 2
    assert set(table["title"]) == {"short", ("long " * 200)[:TITLE_CHARS].rstrip()}


@pytest.mark.parametrize("name", ["r.jsonl.gz", "r.csv.gz", "r.tsv.gz"])
def test_a_line_beyond_the_limit_is_a_bad_line_and_never_in_memory(tmp_path, monkeypatch, name):
    monkeypatch.setattr(lines, "LONGEST", 1 << 12)
    delimiter = {"csv": ",", "tsv": "\t"}.get(name.split(".")[1])
    text = table_text(rows(), delimiter) if delimiter else "".join(json.dumps(row) + "\n" for row in rows())
    kept = text.splitlines(keepends=True)
    kept.insert(9, kept[8].replace("review", "x" * 20_000))
    _, facts = read(tmp_path, name, gzip.compress("".join(kept).encode()), max_bad_fraction=0.1)
    assert facts["lines"] == NUMBER + 1
    assert facts["dropped"] == {lines.TOO_LONG: 1}
    assert facts["first_line"] == {lines.TOO_LONG: 10}
