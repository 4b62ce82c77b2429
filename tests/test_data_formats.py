"""Every raw format, on small files of its official layout, read through `prepare`."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from r4r.configuration.schema import DatasetConfig
from r4r.data.prepare import prepare
from r4r.errors import DataError
from r4r.rows import REVIEWS, conform

SIZE = 6  # users and items; every user reviews every item


def rows() -> list[dict]:
    times = np.random.default_rng(0).permutation(SIZE * SIZE) * 86_400 + 1_400_000_000
    return [
        {
            "user_id": f"user{k // SIZE}",
            "item_id": f"B00{k % SIZE}",
            "title": f'Item\'s "{k % SIZE}"',
            "rating": float(1 + k % 5),
            "review": f"Line one,\nline two: it's {k} \\o/ é",
            "timestamp": int(times[k]),
        }
        for k in range(SIZE * SIZE)
    ]


def renamed(names: dict[str, str], **converted) -> list[dict]:
    """Rows under a format's field names, without the title; `converted` maps a canonical column to a function."""
    return [
        {theirs: converted.get(ours, lambda value: value)(row[ours]) for ours, theirs in names.items()}
        for row in rows()
    ]


def write_lines(path: Path, records: list[dict], dump=json.dumps, zipped: bool = False) -> None:
    data = "".join(dump(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(data) if zipped else data)


def prepared(tmp_path: Path, **settings) -> tuple[pd.DataFrame, dict]:
    config = DatasetConfig(name="small", category="thing", **settings)
    report = prepare(config, tmp_path, tmp_path / "out")
    table = conform(pd.read_parquet(tmp_path / "out" / "rows.parquet"), REVIEWS, "rows")
    return table, report


def check(table: pd.DataFrame) -> None:
    """The table holds what `rows` wrote, in order of time."""
    expected = pd.DataFrame(rows()).sort_values("timestamp", ignore_index=True)
    for column in expected:
        assert list(table[column]) == list(expected[column]), column
    assert set(table["split"]) == {"train", "valid", "test"}


AMAZON = {
    "user_id": "reviewerID",
    "item_id": "asin",
    "rating": "overall",
    "review": "reviewText",
    "timestamp": "unixReviewTime",
}
TITLES = [{"asin": f"B00{i}", "title": f'Item\'s "{i}"', "price": 9.5} for i in range(SIZE)]


@pytest.mark.parametrize("zipped", [True, False])
def test_amazon_2014_has_python_literals_for_metadata(tmp_path, zipped):
    write_lines(tmp_path / "r.json.gz", renamed(AMAZON), zipped=zipped)  # known by content, not by suffix
    unrelated = {"asin": "ZZZ", "title": "never reviewed", "related": {"also_bought": ["B001"]}}
    write_lines(tmp_path / "m.json.gz", [unrelated, *TITLES], dump=repr, zipped=zipped)
    table, report = prepared(tmp_path, source="amazon2014", reviews="r.json.gz", meta="m.json.gz")
    check(table)
    assert report["files"]["meta"]["lines"] == SIZE  # the other was not parsed: nobody reviewed it
    json.dumps(report)


def test_a_metadata_line_is_never_run(tmp_path):
    write_lines(tmp_path / "r.json", renamed(AMAZON))
    mark = tmp_path / "mark"
    attack = f"{{'asin': 'B001', 'title': open({str(mark)!r}, 'w').name}}"
    write_lines(tmp_path / "m.json", [*TITLES, attack], dump=lambda line: line if isinstance(line, str) else repr(line))
    settings = {"source": "amazon2014", "reviews": "r.json", "meta": "m.json"}
    with pytest.raises(DataError, match=r"1 of 7 records are malformed.*broken line: 1 \(first in line 7\)"):
        prepared(tmp_path, **settings)
    assert not mark.exists()
    table, report = prepared(tmp_path, **settings, max_bad_fraction=0.2)
    check(table)
    assert report["files"]["meta"]["dropped"] == {"broken line": 1}


def test_amazon_2018_has_json_metadata_with_page_source_in_some_titles(tmp_path):
    write_lines(tmp_path / "r.json", renamed(AMAZON))
    junk = {"asin": "B000", "title": "var aPageStart = (new Date()).getTime();"}
    write_lines(tmp_path / "m.json", [junk, *TITLES])
    table, report = prepared(tmp_path, source="amazon2018", reviews="r.json", meta="m.json")
    check(table)
    assert report["files"]["meta"]["repaired"] == {"title is page source: left empty": 1}


def test_amazon_2023_has_milliseconds_and_parent_ids(tmp_path):
    names = {
        "user_id": "user_id",
        "item_id": "parent_asin",
        "rating": "rating",
        "review": "text",
        "timestamp": "timestamp",
    }
    reviews = renamed(names, timestamp=lambda seconds: seconds * 1000 + 999)
    for review in reviews[::2]:
        review["asin"] = "a variant of " + review["parent_asin"]
    for review in reviews[1::2]:
        review["asin"] = review.pop("parent_asin")
    write_lines(tmp_path / "r.jsonl.gz", reviews, zipped=True)
    write_lines(tmp_path / "m.jsonl", [{"parent_asin": meta["asin"], "title": meta["title"]} for meta in TITLES])
    table, report = prepared(tmp_path, source="amazon2023", reviews="r.jsonl.gz", meta="m.jsonl")
    check(table)
    assert not report["files"]["reviews"]["repaired"]  # milliseconds are this format's unit, no repair


def test_yelp_has_dates_and_business_names(tmp_path):
    names = {"user_id": "user_id", "item_id": "business_id", "rating": "stars", "review": "text", "timestamp": "date"}

    def date(seconds: int) -> str:
        return str(pd.Timestamp(seconds, unit="s"))

    write_lines(tmp_path / "r.json", renamed(names, timestamp=date))
    write_lines(tmp_path / "m.json", [{"business_id": meta["asin"], "name": meta["title"]} for meta in TITLES])
    check(prepared(tmp_path, source="yelp", reviews="r.json", meta="m.json")[0])


THEIRS = {"user_id": "who", "item_id": "what", "rating": "stars", "review": "text"}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "csv.gz", "jsonl.gz", "dates.parquet"])
def test_custom_files_map_their_columns(tmp_path, suffix):
    frame = pd.DataFrame(rows()).rename(columns=THEIRS).assign(extra="ignored")
    path = tmp_path / f"own.{suffix}"
    if suffix.endswith("parquet"):
        frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="s")
        if suffix.startswith("dates"):
            frame["timestamp"] = frame["timestamp"].dt.date
        frame.to_parquet(path)
    elif suffix.startswith("jsonl"):
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    quoting = "double" if suffix == "tsv" else "auto"  # pandas puts texts with line breaks in quotes
    table, _ = prepared(tmp_path, source="custom", reviews=path.name, columns=THEIRS, quoting=quoting)
    if suffix.startswith("dates"):  # a date is its midnight, UTC
        assert list(table["timestamp"]) == sorted(row["timestamp"] // 86_400 * 86_400 for row in rows())
        return
    check(table)


def test_custom_titles_may_lie_in_a_file_of_their_own(tmp_path):
    frame = pd.DataFrame(rows())
    frame.drop(columns="title").to_csv(tmp_path / "r.csv", index=False)
    frame[["item_id", "title"]].drop_duplicates().to_csv(tmp_path / "items.csv", index=False)
    check(prepared(tmp_path, source="custom", reviews="r.csv", meta="items.csv")[0])


def test_numeric_ids_become_text(tmp_path):
    frame = pd.DataFrame(rows())
    frame["user_id"] = frame["user_id"].str[-1].astype(int)
    frame["item_id"] = frame["item_id"].str[-1].astype(float)
    frame.to_parquet(tmp_path / "r.parquet")
    table, _ = prepared(tmp_path, source="custom", reviews="r.parquet")
    assert set(table["user_id"]) == set(table["item_id"]) == set("012345")


def test_the_order_of_lines_changes_nothing(tmp_path):
    damaged = [{**rows()[0], "rating": 9}, {**rows()[1], "timestamp": "?"}, {**rows()[2], "review": "a &amp; b"}]
    twice = {**rows()[3], "review": "written in the same second"}
    lines = [*rows(), *damaged, twice]
    found = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(lines))
        write_lines(tmp_path / f"{seed}.jsonl", [lines[k] for k in order])
        found.append(prepared(tmp_path, source="custom", reviews=f"{seed}.jsonl", max_bad_fraction=0.1))
    for table, report in found[1:]:
        pd.testing.assert_frame_equal(table, found[0][0])
        for part in ("table1", "waterfall"):
            assert report[part] == found[0][1][part]


def test_columns_are_for_custom_files_and_must_exist(tmp_path):
    pd.DataFrame(rows()).to_csv(tmp_path / "r.csv", index=False)
    with pytest.raises(DataError, match=r"no column stars; it has user_id, .*dataset.columns"):
        prepared(tmp_path, source="custom", reviews="r.csv", columns={"rating": "stars"})
    with pytest.raises(DataError, match=r"dataset.columns maps user, which no row has"):
        prepared(tmp_path, source="custom", reviews="r.csv", columns={"user": "user_id"})
    with pytest.raises(DataError, match="fields of source=yelp are fixed"):
        prepared(tmp_path, source="yelp", reviews="r.csv", meta="r.csv", columns={"user_id": "u"})
    (tmp_path / "r.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"r.xlsx: unknown format"):
        prepared(tmp_path, source="custom", reviews="r.xlsx")
    pd.DataFrame(rows()).to_csv(tmp_path / "r.tsv", index=False)
    with pytest.raises(DataError, match=r"has no column user_id.*a .tsv tabs"):
        prepared(tmp_path, source="custom", reviews="r.tsv")
    pd.DataFrame(rows()).to_csv(tmp_path / "r.csv", index=False, encoding="utf-16")
    with pytest.raises(DataError, match=r"r.csv is not UTF-8 text"):
        prepared(tmp_path, source="custom", reviews="r.csv")


def test_a_small_memory_limit_is_enough_and_a_wrong_one_is_named(tmp_path):
    write_lines(tmp_path / "r.jsonl", rows())
    check(prepared(tmp_path, source="custom", reviews="r.jsonl", memory_limit="64MB")[0])
    with pytest.raises(DataError, match=r"dataset.memory_limit=lots"):
        prepared(tmp_path, source="custom", reviews="r.jsonl", memory_limit="lots")
