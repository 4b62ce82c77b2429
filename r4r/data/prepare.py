"""Raw review files -> the prepared, time-split rows of an experiment (paper 4.1.1), out of core."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from r4r.config import DatasetConfig, PrepareConfig
from r4r.data.download import facts, raw_file
from r4r.data.layouts import LAYOUTS, Layout, layout_of
from r4r.data.raw_checks import ReviewCheck, Row, Tally, meta_title
from r4r.data.readers import Fields, Kind, Record, RecordFile, kind_of
from r4r.data.steps import Steps, Waterfall, note
from r4r.data.table1 import table1
from r4r.errors import DataError
from r4r.progress import bar
from r4r.rows import REVIEWS, conform

BATCH = 20_000  # rows held in Python at once
RAW = pa.schema(
    [
        ("line", pa.int64()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("rating", pa.float64()),
        ("review", pa.string()),
        ("timestamp", pa.int64()),
    ]
)
TITLES = pa.schema([("item_id", pa.string()), ("title", pa.string())])
_LITERAL_ASIN = re.compile(rb"""['"]asin['"]\s*:\s*['"]([^'"\\]+)['"]""")


def prepare(dataset: DatasetConfig, data_dir: Path, out: Path) -> dict[str, Any]:
    """Write `out/rows.parquet` (columns of rows.REVIEWS, ordered by row_id) from a dataset's raw files.

    Args:
        data_dir: the folder that `dataset.reviews` and `dataset.meta` are relative to.
        out: an existing or new folder; temporary files go there too, and are removed.

    Returns:
        JSON-able report: `table1` (counts a split, sparsity, history lengths, ratings), `waterfall` (one line a step
        and reason: dropped, repaired, left) and `files` (name, size, checksum, lines, and what was dropped or repaired
        with its first line).

    Raises:
        DataError: a raw file is missing, damaged or mostly malformed, or too little is left of it.
    """
    if dataset.source == "simulated":
        raise DataError("dataset.source=simulated has no raw files: its world is made, then split by split_frame")
    if dataset.reviews is None:
        raise DataError(f"dataset.reviews is not set: name the review file of '{dataset.name}' below paths.data")
    source = dataset.source
    reviews_path = raw_file(data_dir, dataset.reviews, dataset.reviews_url, dataset.reviews_sha256, "reviews", source)
    meta_path = None
    if dataset.meta is not None:
        meta_path = raw_file(data_dir, dataset.meta, dataset.meta_url, dataset.meta_sha256, "meta", source)
    elif dataset.source in LAYOUTS and dataset.prepare.require_title:
        raise DataError(
            f"dataset.meta is not set, and only the metadata file of source={dataset.source} has item titles: name it, "
            "or set dataset.prepare.require_title=false"
        )
    layout = layout_of(dataset.source, dataset.columns, has_meta=meta_path is not None)
    scratch = out / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)  # of a killed run
    scratch.mkdir(parents=True)
    waterfall: Waterfall = []
    try:
        reviews = _stage_reviews(dataset, reviews_path, layout, scratch / "raw.parquet", waterfall)
        files = {"reviews": facts(reviews_path) | reviews.as_dict()}
        with _database(scratch, dataset.memory_limit) as con:
            con.execute(f"CREATE VIEW raw AS FROM read_parquet('{_quoted(scratch / 'raw.parquet')}')")
            if meta_path is not None:
                titles = _stage_titles(con, dataset, meta_path, layout, scratch / "titles.parquet")
                files["meta"] = facts(meta_path) | titles.as_dict()
            steps = Steps(con, dataset.prepare, meta_path is not None, waterfall)
            steps.run()
            target = _quoted(out / "rows.parquet")
            con.execute(f"COPY ({steps.final}) TO '{target}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 50000)")
            return {"table1": table1(con), "waterfall": waterfall, "files": files}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def split_frame(frame: pd.DataFrame, prepare: PrepareConfig) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The same preparation for a table in memory.

    Args:
        frame: columns user_id, item_id, title, rating, review, timestamp (seconds). Rows in any order.

    Returns:
        the rows (columns of rows.REVIEWS, ordered by row_id) and the report of `prepare`.

    Raises:
        DataError: a row is malformed, or too little is left.
    """
    layout = layout_of("custom", {}, has_meta=False)
    tally = Tally("the table of reviews")
    columns = conform(frame, {name: "object" for name in RAW.names[1:]}, "the table of reviews")
    records: Iterator[Record] = enumerate(_row_dicts(columns), 1)
    batches = list(_batches(records, ReviewCheck(layout, tally, strict=True, max_chars=None)))
    tally.check(0.0)
    waterfall: Waterfall = []
    _note_reading(waterfall, tally)
    with _database(None, None) as con:
        con.register("raw", pa.Table.from_batches(batches, RAW))
        steps = Steps(con, prepare, False, waterfall)
        steps.run()
        rows = conform(con.execute(steps.final).df(), REVIEWS, "prepared rows")
        return rows, {"table1": table1(con), "waterfall": waterfall, "files": {"reviews": tally.as_dict()}}


def _stage_reviews(dataset: DatasetConfig, path: Path, layout: Layout, target: Path, waterfall: Waterfall) -> Tally:
    kind = _review_kind(dataset, path)
    tally = Tally(str(path))
    check = ReviewCheck(layout, tally, dataset.strict, dataset.max_review_chars)
    names = (layout.user, *layout.item[:1], layout.rating, layout.review, layout.timestamp)
    file = RecordFile(path, kind, require=names + ((layout.title,) if layout.title else ()))
    with pq.ParquetWriter(target, RAW, compression="zstd", compression_level=1) as writer:
        for batch in _batches(_watched(file), check):
            writer.write_batch(batch)
    tally.check(dataset.max_bad_fraction)
    _note_reading(waterfall, tally)
    return tally


def _stage_titles(
    con: duckdb.DuckDBPyConnection, dataset: DatasetConfig, path: Path, layout: Layout, target: Path
) -> Tally:
    """The view `titles`: one title an item that has reviews and a title. Of several, the first in the alphabet."""
    wanted = {item.encode() for (item,) in con.execute("SELECT DISTINCT item_id FROM raw").fetchall()}
    kind: Kind = "literal" if layout.literal_meta else "json"
    if dataset.source == "custom":
        kind = kind_of(path)

    def unwanted(line: bytes) -> bool:
        # Metadata files describe millions of items that nobody here reviewed; parsing a literal takes long.
        found = _LITERAL_ASIN.search(line)
        return found is not None and found.group(1) not in wanted

    require = () if dataset.source in LAYOUTS else (layout.meta_item[0], layout.meta_title)
    file = RecordFile(path, kind, require=require, skip=unwanted if kind == "literal" else None)
    tally = Tally(str(path))
    with pq.ParquetWriter(target, TITLES) as writer:
        items: list[tuple[str, str]] = []
        for line, fields in _watched(file):
            found = meta_title(line, fields, layout, tally, dataset.strict)
            if found and found[1] and found[0].encode() in wanted:
                items.append(found)
            if len(items) >= BATCH:
                writer.write_batch(_columns(items, TITLES))
                items.clear()
        writer.write_batch(_columns(items, TITLES))
    if tally.lines:  # none is left where every line describes an item that nobody reviewed
        tally.check(dataset.max_bad_fraction)
    con.execute(
        "CREATE TEMP TABLE titles AS SELECT item_id, min(title) AS title "
        f"FROM read_parquet('{_quoted(target)}') GROUP BY item_id"
    )
    titled = con.execute("SELECT count(*) FROM titles").fetchone()
    if dataset.prepare.require_title and titled == (0,):
        raise DataError(
            f"{path} has no title for any of the {len(wanted)} items that were reviewed (fields "
            f"'{layout.meta_item[0]}' and '{layout.meta_title}'): is it the metadata of these reviews? "
            "dataset.prepare.require_title=false keeps items without titles"
        )
    return tally


def _review_kind(dataset: DatasetConfig, path: Path) -> Kind:
    return kind_of(path) if dataset.source == "custom" else "json"


def _batches(records: Iterator[Record], check: ReviewCheck) -> Iterator[pa.RecordBatch]:
    """Checked rows, numbered by their line, in batches."""
    rows: list[tuple[int, *Row]] = []  # type: ignore[valid-type]
    for line, fields in records:
        row = check(line, fields)
        if row is not None:
            rows.append((line, *row))
            if len(rows) == BATCH:
                yield _columns(rows, RAW)
                rows = []
    if rows:
        yield _columns(rows, RAW)


def _columns(rows: list[Any], schema: pa.Schema) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _watched(file: RecordFile) -> Iterator[Record]:
    """The records of a file, under a progress bar of the bytes read."""
    with bar(f"read {file.path.name} (MiB)", file.size >> 20) as advance:
        shown = 0
        for count, record in enumerate(file, 1):
            yield record
            if count % BATCH == 0:
                now = file.position >> 20
                advance(now - shown, f"{count} lines")
                shown = now


def _note_reading(waterfall: Waterfall, tally: Tally) -> None:
    left = tally.lines
    note(waterfall, "read", "records in the file", 0, left)
    for reason, count in sorted(tally.dropped.items()):  # not in the file's order, on which nothing depends
        left -= count
        note(waterfall, "read", reason, count, left)
    for reason, count in sorted(tally.repaired.items()):
        note(waterfall, "read", reason, 0, left, repaired=count)


def _row_dicts(frame: pd.DataFrame) -> Iterator[Fields]:
    names = list(frame.columns)
    for values in zip(*(frame[name].tolist() for name in names), strict=True):
        yield dict(zip(names, values, strict=True))


@contextmanager
def _database(scratch: Path | None, memory_limit: str | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that spills to `scratch` beyond its memory limit; its failures told as DataError."""
    # The cores that this process may use: DuckDB would count those of the machine, and each thread takes memory.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    settings: dict[str, Any] = {
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "threads": cores,
    }
    if scratch is not None:
        settings["temp_directory"] = str(scratch / "spill")
    if memory_limit is not None:
        settings["memory_limit"] = memory_limit
    try:
        con = duckdb.connect(":memory:", config=settings)
    except duckdb.Error as error:
        raise DataError(f"dataset.memory_limit={memory_limit} is no size such as 4GB: {error}") from error
    try:
        con.execute("SET enable_progress_bar = false")
        yield con
    except duckdb.OutOfMemoryException as error:
        raise DataError(f"dataset.memory_limit={memory_limit} is too little here: raise it. {error}") from error
    finally:
        con.close()


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
