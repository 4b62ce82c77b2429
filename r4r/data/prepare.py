"""Raw review files -> the prepared, time-split rows of an experiment (paper 4.1.1), out of core."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from r4r.configuration.schema import DatasetConfig, PrepareConfig
from r4r.data.download import facts, raw_file
from r4r.data.items import items_sql
from r4r.data.layouts import LAYOUTS, Layout, layout_of
from r4r.data.lines import Fields
from r4r.data.raw_checks import ReviewCheck, Tally
from r4r.data.readers import TABLES, RawReader, Record
from r4r.data.staging import RAW, batches, meta_kind, review_kind, stage_items, stage_reviews
from r4r.data.steps import Steps, Waterfall, note
from r4r.data.table1 import table1
from r4r.errors import DataError
from r4r.rows import REVIEWS, conform
from r4r.scale import PAPER, Scale


def prepare(dataset: DatasetConfig, data_dir: Path, out: Path, reader: RawReader | None = None) -> dict[str, Any]:
    """Write `out/rows.parquet` (rows.REVIEWS, ordered by row_id) and `out/items.parquet` (rows.ITEMS, ordered by
    item_id, of the items that have rows) from a dataset's raw files.

    Args:
        data_dir: the folder that `dataset.reviews` and `dataset.meta` are relative to.
        out: an existing or new folder; temporary files go there too, and are removed.
        reader: of reviews in a format of one's own.

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
    elif dataset.source in LAYOUTS and dataset.prepare.drops("require_title"):
        raise DataError(
            f"dataset.meta is not set, and only the metadata file of source={dataset.source} has item titles: name it, "
            "or set dataset.prepare.require_title=false"
        )
    layout = layout_of(dataset.source, dataset.columns, has_meta=meta_path is not None)
    kinds = {meta_path and meta_kind(dataset, layout, meta_path)}
    kinds |= set() if reader else {review_kind(dataset, reviews_path)}
    if dataset.quoting != "auto" and not kinds & set(TABLES):
        raise DataError(f"dataset.quoting={dataset.quoting} is for CSV and TSV files; {reviews_path} is none: drop it")
    scratch = out / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)  # of a killed run
    scratch.mkdir(parents=True)
    waterfall: Waterfall = []
    try:
        raw, about = scratch / "raw.parquet", scratch / "about.parquet"
        reviews = stage_reviews(dataset, reviews_path, layout, raw, about, reader)
        _note_reading(waterfall, reviews)
        files = {"reviews": facts(reviews_path) | reviews.as_dict()}
        with _database(scratch, dataset.memory_limit) as con:
            con.execute(f"CREATE VIEW raw AS FROM {_parquet(raw)}")
            if meta_path is not None:
                wanted = {item for (item,) in con.execute("SELECT DISTINCT item_id FROM raw").fetchall()}
                meta = stage_items(dataset, meta_path, layout, wanted, about)
                files["meta"] = facts(meta_path) | meta.as_dict()
                _view_titles(con, dataset, meta_path, layout, about)
            steps = Steps(con, dataset.prepare, meta_path is not None, waterfall)
            steps.run()
            rows, items = out / "rows.parquet", out / "items.parquet"
            settings = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 50000"
            con.execute(f"COPY ({steps.final}) TO '{_quoted(rows)}' ({settings})")
            con.execute(f"COPY ({items_sql(_parquet(rows), _parquet(about))}) TO '{_quoted(items)}' ({settings})")
            return {"table1": table1(con, dataset.rating_scale), "waterfall": waterfall, "files": files}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def split_frame(
    frame: pd.DataFrame, prepare: PrepareConfig, scale: Scale | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The same preparation for a table in memory.

    Args:
        frame: columns user_id, item_id, title, rating, review, timestamp (seconds). Rows in any order.
        scale: of the ratings; None: whole ones from 1 to 5.

    Returns:
        the rows (columns of rows.REVIEWS, ordered by row_id) and the report of `prepare`.

    Raises:
        DataError: a row is malformed, or too little is left.
    """
    layout = layout_of("custom", {}, has_meta=False)
    tally = Tally("the table of reviews")
    columns = conform(frame, {name: "object" for name in RAW.names[1:]}, "the table of reviews")
    records: Iterator[Record] = enumerate(_row_dicts(columns), 1)
    check = ReviewCheck(layout, tally, strict=True, max_chars=None, scale=scale)
    checked = list(batches(records, check))
    check.finish(0.0, {})
    waterfall: Waterfall = []
    _note_reading(waterfall, tally)
    with _database(None, None) as con:
        con.register("raw", pa.Table.from_batches(checked, RAW))
        steps = Steps(con, prepare, False, waterfall)
        steps.run()
        rows = conform(con.execute(steps.final).df(), REVIEWS, "prepared rows")
        return rows, {
            "table1": table1(con, scale or PAPER),
            "waterfall": waterfall,
            "files": {"reviews": tally.as_dict()},
        }


def _view_titles(
    con: duckdb.DuckDBPyConnection, dataset: DatasetConfig, path: Path, layout: Layout, about: Path
) -> None:
    """The view `titles` (item_id, title) of the items that have a title. Of several, the first in the alphabet."""
    con.execute(
        "CREATE TEMP TABLE titles AS SELECT item_id, min(title) AS title "
        f"FROM {_parquet(about)} WHERE title <> '' GROUP BY item_id"
    )
    titled = con.execute("SELECT count(*) FROM titles").fetchone()
    if dataset.prepare.drops("require_title") and titled == (0,):
        raise DataError(
            f"{path} has no title for any of the items that were reviewed (fields '{layout.meta_item[0]}' and "
            f"'{layout.meta_title}'): is it the metadata of these reviews? dataset.prepare.require_title=false keeps "
            "items without titles"
        )


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


def _parquet(path: Path) -> str:
    return f"read_parquet('{_quoted(path)}')"
