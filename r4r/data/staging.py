"""Raw files into checked tables on disk: one record after another, in memory that does not grow with the file."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from r4r.configuration.schema import DatasetConfig
from r4r.data.items import Item, details, meta_item
from r4r.data.layouts import Layout
from r4r.data.lines import Fields
from r4r.data.raw_checks import ReviewCheck, Row, Tally
from r4r.data.readers import Kind, OwnFile, RawReader, Record, RecordFile, kind_of
from r4r.progress import bar
from r4r.rows import ITEMS

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
ABOUT = pa.schema([(name, pa.string()) for name in ITEMS])
Told = Callable[[int, Fields, Row], None]
_LITERAL_ASIN = re.compile(rb"""['"]asin['"]\s*:\s*['"]\s*([^'"\\]+?)\s*['"]""")


def review_kind(dataset: DatasetConfig, path: Path) -> Kind:
    """How a source's reviews are written."""
    return kind_of(path) if dataset.source == "custom" else "json"


def meta_kind(dataset: DatasetConfig, layout: Layout, path: Path) -> Kind:
    """How a source's metadata are written."""
    if dataset.source == "custom":
        return kind_of(path)
    return "literal" if layout.literal_meta else "json"


def stage_reviews(
    dataset: DatasetConfig, path: Path, layout: Layout, rows: Path, about: Path, reader: RawReader | None = None
) -> Tally:
    """Checked reviews into `rows` (parquet, RAW), what they tell of their items beside the title into `about` (ABOUT).

    Args:
        reader: of a format of one's own.

    Raises:
        DataError: the file is damaged or mostly malformed, or its ratings do not fit the scale.
    """
    tally = Tally(str(path))
    check = ReviewCheck(layout, tally, dataset.strict, dataset.max_review_chars, dataset.scale)
    names = {
        "user_id": layout.user,
        "item_id": layout.item[0],
        "rating": layout.rating,
        "review": layout.review,
        "timestamp": layout.timestamp,
    }
    if layout.title:  # what is known of an item lies in the same file
        names |= {"title": layout.title} | _more(layout)
    file = (
        OwnFile(path, reader)
        if reader
        else RecordFile(
            path,
            review_kind(dataset, path),
            *_needed(dataset, names),
            quoting=dataset.quoting,
            is_row=check.is_row,
            note=tally.repair,
        )
    )
    known: set[int] = set()  # digests: what each review of an item repeats is written once
    items: list[Item] = []

    def tell(line: int, fields: Fields, row: Row) -> None:
        item = (row[1], "", *details(line, fields, layout, tally))
        if any(item[2:]) and hash(item) not in known:
            known.add(hash(item))
            items.append(item)

    with _writer(rows, RAW) as reviews, _writer(about, ABOUT) as found:
        for batch in batches(_watched(file), check, tell if layout.title else None):
            reviews.write_batch(batch)
            found.write_batch(_columns(items, ABOUT))
            items.clear()
    check.finish(dataset.max_bad_fraction, file.advice)
    return tally


def stage_items(dataset: DatasetConfig, path: Path, layout: Layout, wanted: set[str], about: Path) -> Tally:
    """What a metadata file tells of the wanted items into `about` (parquet, ABOUT): a row a line, as it comes.

    Raises:
        DataError: the file is damaged or mostly malformed.
    """

    def unwanted(line: bytes) -> bool:
        # Metadata files describe millions of items that nobody here reviewed; parsing a literal takes long.
        found = _LITERAL_ASIN.findall(line)  # a text may hold one, too
        return bool(found) and all(asin.decode("utf-8", "replace") not in wanted for asin in found)

    tally = Tally(str(path))
    kind = meta_kind(dataset, layout, path)
    names = {"item_id": layout.meta_item[0], "title": layout.meta_title} | _more(layout)
    file = RecordFile(
        path,
        kind,
        *_needed(dataset, names),
        skip=unwanted if kind == "literal" else None,
        quoting=dataset.quoting,
        is_row=lambda fields: fields.get(layout.meta_item[0]) in wanted,
        note=tally.repair,
    )
    with _writer(about, ABOUT) as writer:
        items: list[Item] = []
        for line, fields in _watched(file):
            found = meta_item(line, fields, layout, tally, dataset.strict, wanted)
            if found and any(found[1:]):
                items.append(found)
            if len(items) >= BATCH:
                writer.write_batch(_columns(items, ABOUT))
                items.clear()
        writer.write_batch(_columns(items, ABOUT))
    if tally.lines:  # none is left where every line describes an item that nobody reviewed
        tally.check(dataset.max_bad_fraction, file.advice)
    return tally


def batches(records: Iterator[Record], check: ReviewCheck, tell: Told | None = None) -> Iterator[pa.RecordBatch]:
    """Checked rows (RAW), numbered by their line, in batches; `tell` is told of each with its record."""
    rows: list[tuple[int, *Row]] = []  # type: ignore[valid-type]
    for line, fields in records:
        row = check(line, fields)
        if row is not None:
            rows.append((line, *row))
            if tell and isinstance(fields, dict):
                tell(line, fields, row)
            if len(rows) == BATCH:
                yield _columns(rows, RAW)
                rows = []
    if rows:
        yield _columns(rows, RAW)


def _more(layout: Layout) -> dict[str, str]:
    """The columns that tell more of an item, by what they tell."""
    names = {"categories": layout.categories, "description": layout.description}
    return {key: name for key, name in names.items() if name}


def _needed(dataset: DatasetConfig, names: dict[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which columns a file must have, and which are read where they are there.

    Of a file of one's own, those that every row needs, and those to which dataset.columns gives another name; of a
    published one, whose fields are known, none.
    """
    if dataset.source != "custom":
        return (), (*names.values(),)
    dispensable = {"categories", "description"}
    dispensable |= set() if dataset.prepare.drops("require_title") else {"title"}
    dispensable |= set() if dataset.prepare.drops("require_text") else {"review"}
    needed = [name for key, name in names.items() if key not in dispensable or dataset.columns.get(key, key) != key]
    return (*needed,), tuple(name for name in names.values() if name not in needed)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression="zstd", compression_level=1)


def _columns(rows: list[Any], schema: pa.Schema) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _watched(file: RecordFile | OwnFile) -> Iterator[Record]:
    """The records of a file, under a progress bar of the bytes read."""
    with bar(f"read {file.path.name} (MiB)", file.size >> 20) as advance:
        shown = 0
        for count, record in enumerate(file, 1):
            yield record
            if count % BATCH == 0:
                now = file.position >> 20
                advance(now - shown, f"{count} lines")
                shown = now
