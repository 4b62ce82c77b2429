"""Damaged and malformed raw files: dropped or repaired with a count, or refused with file and line."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r4r.configuration.schema import DatasetConfig
from r4r.data.prepare import prepare
from r4r.data.table1 import table1_text
from r4r.errors import DataError

SIZE = 7
NUMBER = SIZE * SIZE
CELLS = "broken line: more or fewer cells than the header has"
BAD_LINE = 3  # where `broken` puts its line


def good_lines() -> list[bytes]:
    times = np.random.default_rng(0).permutation(NUMBER) * 86_400 + 1_400_000_000
    return [
        json.dumps(
            {
                "user_id": f"u{k // SIZE}",
                "item_id": f"i{k % SIZE}",
                "title": "A title",
                "rating": 4,
                "review": f"text {k}",
                "timestamp": int(times[k]),
            }
        ).encode()
        for k in range(NUMBER)
    ]


def with_field(**changes) -> bytes:
    """A good line of a user of its own, with some fields changed; None removes the field."""
    fields = {**json.loads(good_lines()[0]), "item_id": "i-new", **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def write(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"\n".join(lines) + b"\n")


def run(folder: Path, **changes) -> dict:
    options = {"max_bad_fraction": 0.5, "prepare": {"k_core": 1}, "reviews": "r.jsonl", **changes}
    config = DatasetConfig(name="bad", source="custom", category="thing", **options)
    return prepare(config, folder, folder / "out")


MALFORMED = {
    "broken line": b'{"user_id": "u1", "item_id"',
    "not an object": b"[1, 2, 3]",
    "nested": b"[" * 100_000,
    "not UTF-8": '{"user_id": "café"}'.encode("latin-1"),
    "field 'user_id' missing or empty": with_field(user_id=None),
    "field 'item_id' missing or empty": with_field(item_id="  "),
    "field 'rating' missing or empty": with_field(rating=None),
    "rating is not a number": with_field(rating=float("nan")),
    "rating is a word": with_field(rating="five"),
    "rating outside 1..5": with_field(rating=0),
    "rating infinite": with_field(rating=float("inf")),
    "field 'timestamp' missing or empty": with_field(timestamp=""),
    "timestamp unreadable": with_field(timestamp="yesterday"),
    "timestamp outside 1990..2032": with_field(timestamp=-5),
    "text is not a string": with_field(review=["a", "list"]),
}
REASON = {
    "not an object": "broken line",
    "nested": "broken line",
    "rating is a word": "rating is not a number",
    "rating infinite": "rating is not a number",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_line_is_dropped_and_counted_or_fails_at_once(tmp_path, case):
    reason = REASON.get(case, case)
    lines = good_lines()
    lines.insert(BAD_LINE - 1, MALFORMED[case])
    write(tmp_path / "r.jsonl", lines)
    report = run(tmp_path)
    assert {"step": "read", "reason": reason, "dropped": 1, "repaired": 0, "left": NUMBER} in report["waterfall"]
    assert report["files"]["reviews"]["first_line"] == {reason: BAD_LINE}
    assert f"{reason} (first in line {BAD_LINE})" in table1_text(report, "bad")
    with pytest.raises(DataError, match=rf"r.jsonl, line {BAD_LINE}: {reason}"):
        run(tmp_path, strict=True)
    told = rf"1 of 50 records are malformed.*{reason}: 1 \(first in line {BAD_LINE}\)"
    if "outside 1..5" in case:
        told = rf"ratings in 50 records 1 lie outside .*first in line {BAD_LINE}.*from 0 to 4.*dataset.scale.lowest=0"
    with pytest.raises(DataError, match=told):
        run(tmp_path, max_bad_fraction=0.01)


REPAIRED = {
    "HTML entities: decoded": with_field(review="Guns &amp; Roses &#34;live&#34;"),
    "timestamp in milliseconds: converted": with_field(timestamp=1_400_000_000_123),
    "review longer than 200 characters: cut": with_field(review="long " * 100),
    "control characters: blanked": with_field(review="a\x00b\ud83dc"),
    "text is a word for a missing one (nan, None, null, NA): left empty": with_field(review=" NA "),
    "text without a character that is seen: left empty": with_field(review="\u200b<br /> "),
    "identifier with blanks around it, or characters that are not seen: taken off": with_field(
        user_id=" u\x000\u200b\u00ad\u200e"
    ),
    "identifier that is a whole number with .0 behind it: taken off": with_field(user_id="7.0"),
    "identifier in a decomposed form of Unicode: composed": with_field(user_id="Zoe\u0308"),
}


@pytest.mark.parametrize("reason", REPAIRED)
def test_a_repair_is_made_and_counted(tmp_path, reason):
    keep = {"k_core": 1, "require_text": False}
    write(tmp_path / "r.jsonl", [*good_lines(), with_field(user_id="Zo\u00eb", item_id="i0"), REPAIRED[reason]])
    report = run(tmp_path, max_review_chars=200, strict=True, prepare=keep)
    line = next(line for line in report["waterfall"] if line["reason"] == reason)
    assert (line["dropped"], line["repaired"]) == (0, 1)
    rows = pd.read_parquet(tmp_path / "out" / "rows.parquet")
    row = rows[rows["item_id"] == "i-new"].iloc[0]
    assert len(row["review"]) <= 200
    assert row["timestamp"] == (1_400_000_000 if "milliseconds" in reason else json.loads(good_lines()[0])["timestamp"])
    assert row["review"] in ('Guns & Roses "live"', "a b c", "text 0", "", ("long " * 40).strip())
    assert row["user_id"] in ("u0", "Zo\u00eb", "7")


def test_binary_identifiers_are_refused_and_never_one_user(tmp_path):
    rows = [with_field(user_id=f"\x01{chr(n)}a") for n in range(1, 5)]
    write(tmp_path / "r.jsonl", [*good_lines(), *rows])
    report = run(tmp_path, max_bad_fraction=0.2)
    [line] = [line for line in report["waterfall"] if "holds control characters" in line["reason"]]
    assert line["dropped"] == 4


TABLE = "user_id,item_id,title,rating,review,timestamp\n"


def table_of(rows: int, review: str = "good", title: str = "Thing") -> str:
    return "".join(f"u{n % 5},i{n % 7},{title},{1 + n % 5},{review},{1_400_000_000 + n}\n" for n in range(rows))


def test_the_columns_names_once_more_are_no_row_and_in_another_order_an_error(tmp_path):
    (tmp_path / "r.csv").write_text(TABLE + table_of(60) + TABLE + table_of(60))
    report = run(tmp_path, reviews="r.csv")
    assert [line["dropped"] for line in report["waterfall"] if line["reason"] == "the columns' names once more"] == [1]
    swapped = TABLE.replace("user_id,item_id", "item_id,user_id")
    (tmp_path / "r.csv").write_text(TABLE + table_of(60) + swapped + table_of(60))
    with pytest.raises(DataError, match=r"r\.csv: line 62 holds the columns' names again, in another order"):
        run(tmp_path, reviews="r.csv")


@pytest.mark.parametrize("before", ["sep=,\n", "\n\ufeff", "\ufeff\ufeff"])
def test_what_excel_puts_before_a_header_is_passed_over(tmp_path, before):
    (tmp_path / "r.csv").write_text(before + TABLE + table_of(60), encoding="utf-8")
    assert run(tmp_path, reviews="r.csv")["table1"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("r.csv", "text in quotation marks behind a blank: kept with them"),
        ("r.tsv", "text in quotation marks: kept with"),
    ],
)
def test_quotation_marks_that_stay_are_told(tmp_path, name, told):
    rows = table_of(60, review='"good one"')
    text = TABLE + rows.replace(",", ", ") if name == "r.csv" else (TABLE + rows).replace(",", "\t")
    (tmp_path / name).write_text(text)
    report = run(tmp_path, reviews=name)
    [line] = [line for line in report["waterfall"] if line["reason"].startswith(told)]
    assert line["repaired"] == 60


def test_empty_texts_and_titles_are_dropped_by_their_own_steps(tmp_path):
    extra = [with_field(review=" \n"), with_field(review=None, item_id="j"), with_field(title="", item_id="k")]
    write(tmp_path / "r.jsonl", [*good_lines(), *extra])
    report = run(tmp_path, strict=True)
    dropped = {line["step"]: line["dropped"] for line in report["waterfall"] if line["dropped"]}
    assert (dropped["require_text"], dropped["require_title"]) == (2, 1)


def test_a_cut_gzip_is_refused(tmp_path):
    data = gzip.compress(b"\n".join(good_lines()))
    (tmp_path / "r.jsonl.gz").write_bytes(data[: len(data) - 20])
    with pytest.raises(DataError, match=r"r.jsonl.gz is cut short.*after line \d+.*fetch the file again"):
        run(tmp_path, reviews="r.jsonl.gz", max_bad_fraction=1.0)


def test_a_corrupt_gzip_is_refused(tmp_path):
    data = bytearray(gzip.compress(b"\n".join(good_lines() * 50)))
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "r.jsonl.gz").write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"r.jsonl.gz is (corrupt|cut short)"):
        run(tmp_path, reviews="r.jsonl.gz", max_bad_fraction=1.0)


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
def test_an_empty_file_is_refused(tmp_path, content):
    (tmp_path / "r.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"r.jsonl (is empty|holds no records)"):
        run(tmp_path)


def test_a_header_alone_and_a_parquet_that_is_none_are_refused(tmp_path):
    (tmp_path / "r.csv").write_text("user_id,item_id,title,rating,review,timestamp\n")
    with pytest.raises(DataError, match="holds no records"):
        run(tmp_path, reviews="r.csv")
    (tmp_path / "r.parquet").write_text("this is text")
    with pytest.raises(DataError, match="is corrupt"):
        run(tmp_path, reviews="r.parquet")


def test_a_file_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "r.jsonl").write_bytes(b"\n".join(good_lines()).decode().encode("utf-16"))
    with pytest.raises(DataError, match="records are malformed"):
        run(tmp_path)


def test_a_byte_order_mark_is_no_harm(tmp_path):
    (tmp_path / "r.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join(good_lines()))
    assert run(tmp_path, strict=True)["waterfall"][0]["left"] == NUMBER


def test_broken_csv_lines_are_counted(tmp_path):
    frame = pd.DataFrame([json.loads(line) for line in good_lines()])
    text = frame.to_csv(index=False).encode().splitlines()
    text.insert(3, b"u1,i1,title,4,review")  # too short
    text.insert(7, b"u1,i1,title,4,caf\xe9,1400000000")  # not UTF-8
    text.append(b'u1,i1,title,4,"an unclosed quote,1400000000')
    write(tmp_path / "r.csv", text)
    report = run(tmp_path, reviews="r.csv")
    assert report["files"]["reviews"]["dropped"] == {CELLS: 1, "broken line": 1, "not UTF-8": 1}
    assert report["files"]["reviews"]["first_line"] == {CELLS: 4, "not UTF-8": 8, "broken line": NUMBER + 4}


def test_lines_that_an_unclosed_quote_swallows_are_all_counted(tmp_path):
    text = pd.DataFrame([json.loads(line) for line in good_lines()]).to_csv(index=False).encode().splitlines()
    text.insert(NUMBER - 4, b'u1,i1,title,4,"an unclosed quote,1400000000')
    write(tmp_path / "r.csv", text)
    report = run(tmp_path, reviews="r.csv")
    assert report["files"]["reviews"]["lines"] == NUMBER + 1
    assert report["files"]["reviews"]["dropped"] == {"broken line": 6}
    with pytest.raises(DataError, match=rf"6 of {NUMBER + 1} records are malformed.*first in line {NUMBER - 3}"):
        run(tmp_path, reviews="r.csv", max_bad_fraction=0.1)


def test_metadata_without_titles_is_refused_unless_titles_are_not_needed(tmp_path):
    write(tmp_path / "r.jsonl", good_lines())
    write(tmp_path / "m.jsonl", [b'{"item_id": "i%d"}' % i for i in range(SIZE)])
    with pytest.raises(DataError, match=r"m.jsonl has in none of its lines the field title; it has item_id"):
        run(tmp_path, meta="m.jsonl")
    (tmp_path / "empty.jsonl").write_text('{"item_id": "i1", "title": ""}\n')
    with pytest.raises(DataError, match="no title for any of the items"):
        run(tmp_path, meta="empty.jsonl")
    report = run(tmp_path, meta="m.jsonl", prepare={"require_title": False})
    assert report["table1"]["items"] == SIZE


def test_some_items_without_titles_are_dropped_and_counted(tmp_path):
    write(tmp_path / "r.jsonl", good_lines())
    write(tmp_path / "m.jsonl", [b'{"item_id": "i%d", "title": "T"}' % i for i in range(SIZE - 1)])
    report = run(tmp_path, meta="m.jsonl")
    assert next(line["dropped"] for line in report["waterfall"] if line["step"] == "require_title") == SIZE


def test_the_metadata_file_must_be_named_where_titles_are_needed(tmp_path):
    write(tmp_path / "r.jsonl", good_lines())
    config = DatasetConfig(name="bad", source="yelp", category="business", reviews="r.jsonl")
    with pytest.raises(DataError, match=r"dataset.meta is not set.*require_title=false"):
        prepare(config, tmp_path, tmp_path / "out")


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b" ").replace(b"\r", b" ")), max_size=20))
def test_no_bytes_crash_the_reader_and_every_line_is_accounted_for(tmp_path, noise):
    write(tmp_path / "r.jsonl", [*good_lines(), *noise])
    report = run(tmp_path)
    told = report["waterfall"][0]["left"]
    blank = sum(not line.strip() for line in noise)
    assert told == NUMBER + len(noise) - blank
    assert sum(report["files"]["reviews"]["dropped"].values()) == len(noise) - blank


def test_a_cell_of_a_parquet_that_nobody_can_read_costs_its_row_alone(tmp_path):
    frame = pd.DataFrame([json.loads(line) for line in good_lines()])
    table = pa.Table.from_pandas(frame)
    kinds = {"user_id": pa.dictionary(pa.int32(), pa.binary()), "item_id": pa.binary()}  # ids kept as bytes
    for name, kind in kinds.items():
        ids = pa.array(frame[name].map(str.encode).tolist(), kind)
        table = table.set_column(table.column_names.index(name), name, ids)
    texts = pa.array([b"caf\xe9" if k == 4 else b"text" for k in range(NUMBER)]).view(pa.string())
    pq.write_table(table.set_column(table.column_names.index("review"), "review", texts), tmp_path / "r.parquet")
    report = run(tmp_path, reviews="r.parquet")
    assert report["files"]["reviews"]["dropped"] == {"not UTF-8": 1}
    assert report["files"]["reviews"]["first_line"] == {"not UTF-8": 5}
    assert set(pd.read_parquet(tmp_path / "out" / "rows.parquet")["item_id"]) == {f"i{k}" for k in range(SIZE)}


def test_times_of_an_unknown_zone_are_unreadable_and_counted(tmp_path):
    frame = pd.DataFrame([json.loads(line) for line in good_lines()])
    times = pa.array([1_400_000_000_000_000] * NUMBER, pa.timestamp("us", tz="Nowhere/Land"))
    table = pa.Table.from_pandas(frame)
    pq.write_table(table.set_column(table.column_names.index("timestamp"), "timestamp", times), tmp_path / "r.parquet")
    with pytest.raises(DataError, match=f"{NUMBER} of {NUMBER} records .* timestamp unreadable"):
        run(tmp_path, reviews="r.parquet")


def test_a_parquet_that_is_damaged_inside_is_refused(tmp_path):
    frame = pd.DataFrame([json.loads(line) for line in good_lines()])
    frame.to_parquet(tmp_path / "r.parquet")
    content = bytearray((tmp_path / "r.parquet").read_bytes())
    content[8:200] = b"\xff" * 192
    (tmp_path / "r.parquet").write_bytes(content)
    with pytest.raises(DataError, match="holds what cannot be read in the 8,192 rows after row 0"):
        run(tmp_path, reviews="r.parquet")


def test_a_gzipped_parquet_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "r.parquet.gz").write_bytes(gzip.compress(b"PAR1"))
    with pytest.raises(DataError, match="unpack this one"):
        run(tmp_path, reviews="r.parquet.gz")
