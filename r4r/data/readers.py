"""Raw files as a stream of numbered records: JSON lines, Python literal lines, CSV, TSV and parquet, gzipped or not."""

import ast
import csv
import gzip
import io
import json
import os
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from r4r.errors import DataError

Kind = Literal["json", "literal", "csv", "tsv", "parquet"]
Fields = dict[str, Any]
Record = tuple[int, Fields | str]  # line number (from 1) and its fields, or what is wrong with the line

BROKEN = "broken line"
ENCODING = "not UTF-8"
_FIELD_CHARS = 1 << 26  # a CSV field longer than this is an unclosed quote
_BUFFER = 1 << 20  # bytes unpacked at once: with Python's 8 KiB, reading takes a quarter longer
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_SUFFIXES: dict[str, Kind] = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}


def kind_of(path: Path) -> Kind:
    """The format that a file's name stands for (`.gz` aside)."""
    name = path.name.removesuffix(".gz")
    kind = _SUFFIXES.get(os.path.splitext(name)[1].lower())
    if kind is None:
        raise DataError(f"{path}: unknown format; the name must end in {', '.join(_SUFFIXES)}, or that and .gz")
    return kind


class RecordFile:
    """A raw file, read once from start to end in constant memory.

    Args:
        skip: for line formats, tells by the raw line whether it can be left unparsed.

    Raises:
        DataError: the file is empty, cut short, corrupt, or its header lacks what `require` names.
    """

    def __init__(
        self,
        path: Path,
        kind: Kind,
        require: tuple[str, ...] = (),
        skip: Callable[[bytes], bool] | None = None,
    ):
        self.path, self.kind, self.require, self.skip = path, kind, require, skip
        self.size = path.stat().st_size
        self._raw: IO[bytes] | None = None
        if not self.size:
            raise DataError(f"{path} is empty: delete it so that it is downloaded again, or put the full file there")

    @property
    def position(self) -> int:
        """Bytes of the file read so far, for progress bars."""
        return self._raw.tell() if self._raw and not self._raw.closed else 0

    def __iter__(self) -> Iterator[Record]:
        line = 0
        try:
            for line, fields in self._records():
                yield line, fields
        except EOFError as error:
            raise DataError(
                f"{self.path} is cut short: the gzip stream ends early, somewhere after line {line}. How many "
                "rows are lost is unknown, so none are used: fetch the file again"
            ) from error
        except (zlib.error, gzip.BadGzipFile, pa.ArrowInvalid) as error:
            raise DataError(
                f"{self.path} is corrupt somewhere after line {line} ({error}): fetch the file again"
            ) from error

    def _records(self) -> Iterator[Record]:
        if self.kind == "parquet":
            yield from self._parquet()
            return
        with self.path.open("rb") as self._raw:
            zipped = self._raw.read(2) == b"\x1f\x8b"  # by content: many copies carry the wrong suffix
            self._raw.seek(0)
            unpacked = gzip.GzipFile(fileobj=self._raw)
            stream = io.BufferedReader(unpacked, _BUFFER) if zipped else self._raw  # type: ignore[type-var]
            if self.kind in ("csv", "tsv"):
                yield from self._table(stream)
            else:
                yield from self._lines(stream)

    def _lines(self, stream: IO[bytes]) -> Iterator[Record]:
        parse = _literal if self.kind == "literal" else _json
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # "\&" and the like inside of Python literals
            for number, line in enumerate(stream, 1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.isspace() or (self.skip and self.skip(line)):
                    continue
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError:
                    yield number, ENCODING
                    continue
                try:
                    fields = parse(text)
                except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                    fields = None
                yield number, fields if isinstance(fields, dict) else BROKEN

    def _table(self, stream: IO[bytes]) -> Iterator[Record]:
        csv.field_size_limit(_FIELD_CHARS)
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        rows = csv.reader(text, delimiter="\t" if self.kind == "tsv" else ",", strict=True)
        header = next(rows, [])
        self._check_header(header)
        while True:
            line = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error:
                row = None
            if row is None or (row and len(row) != len(header)):
                # An unclosed quote swallows the lines up to the next quote: each of them is lost, and counted.
                for lost in range(line, max(line, rows.line_num) + 1):
                    yield lost, BROKEN
            elif not row:
                continue
            elif any(_undecoded(field) for field in row):
                yield line, ENCODING
            else:
                yield line, dict(zip(header, row, strict=True))

    def _parquet(self) -> Iterator[Record]:
        file = pq.ParquetFile(self.path)
        self._check_header(file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(batch_size=8192, columns=list(self.require)):
            for fields in batch.to_pylist():
                number += 1
                yield number, fields

    def _check_header(self, header: list[str]) -> None:
        if any("\x00" in name or _undecoded(name) for name in header):
            raise DataError(f"{self.path} is not UTF-8 text: save it in that encoding")
        missing = [name for name in self.require if name not in header]
        if missing:
            lone = " A .csv has commas between its columns, a .tsv tabs." if len(header) == 1 else ""
            raise DataError(
                f"{self.path} has no column {', '.join(missing)}; it has {', '.join(header)}. "
                f"Map the columns with dataset.columns, e.g. dataset.columns.user_id=reviewer.{lone}"
            )


def _json(text: str) -> Any:
    """What `json.loads` gives; a line that is one value and its newline takes a shorter way there."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:  # no value at the first character
        return json.loads(text)
    return value if end == len(text) or text[end:] in ("\n", "\r\n") else json.loads(text)


def _literal(text: str) -> Any:
    """A Python literal, or JSON, as some copies of the 2014 files hold."""
    if text.startswith('{"'):
        try:
            return json.loads(text)
        except ValueError:
            pass
    return ast.literal_eval(text.strip())


def _undecoded(field: str) -> bool:
    return not field.isascii() and any("\udc80" <= character <= "\udcff" for character in field)
