"""Raw files as a stream of numbered records: JSON lines, Python literal lines, CSV, TSV and parquet, gzipped or not."""

import csv
import gzip
import io
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral
from pathlib import Path
from typing import IO, Any, ClassVar, Literal, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from r4r.data.lines import BROKEN, ENCODING, TOO_LONG, Fields, LineParser, bounded, repeated, undecoded
from r4r.data.values import NO_TIME, OUT_OF_TIME
from r4r.errors import DataError

PARQUET_ROWS = 8192  # that are read at once
Kind = Literal["json", "literal", "csv", "tsv", "parquet"]
Quoting = Literal["auto", "double", "backslash", "none"]
Record = tuple[int, Fields | str]  # line number (from 1) and its fields, or what is wrong with the line

CELLS = f"{BROKEN}: more or fewer cells than the header has"
SWALLOWED = "row within the quotes of another one"
IN_QUOTES = "text in quotation marks: kept with them (dataset.quoting=double takes them off)"
BEHIND_BLANK = "text in quotation marks behind a blank: kept with them (take the blanks behind the commas away)"
AGAIN = "the columns' names once more"
_FIELD_CHARS = 1 << 26  # a field longer than this is an unclosed quote
_BUFFER = 1 << 20  # bytes unpacked at once: with Python's 8 KiB, reading takes a quarter longer
_SUFFIXES: dict[str, Kind] = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_EXCELS = re.compile(r"\s*sep=.?\s*", re.IGNORECASE)
_IN_QUOTES = re.compile(r'"(?:[^"]|"")+"')
_QUOTED = re.compile(r'\s+".*"\s*', re.DOTALL)
_BACKSLASH = re.compile(r'\\(["\\]?)')
TABLES = {"csv": ",", "tsv": "\t"}  # kind -> delimiter
# A .csv puts texts in quotes, and doubles a quotation mark within them. In a .tsv a tab separates whatever stands
# between: Amazon's and other published ones hold quotation marks as plain characters.
_QUOTING: dict[str, Quoting] = {"csv": "double", "tsv": "none"}


def kind_of(path: Path) -> Kind:
    """The format that a file's name stands for (`.gz` aside)."""
    stem, ending = os.path.splitext(path.name)
    name = stem if ending.lower() == ".gz" else path.name
    kind = _SUFFIXES.get(os.path.splitext(name)[1].lower())
    if kind is None:
        raise DataError(f"{path}: unknown format; the name must end in {', '.join(_SUFFIXES)}, or that and .gz")
    if kind == "parquet" and name != path.name:
        raise DataError(f"{path}: a parquet file is packed inside; unpack this one (gunzip), and name it without .gz")
    return kind


class RawReader:
    """A raw format of one's own: subclasses read a file into records with the canonical names of
    `r4r.data.layouts.CANONICAL` (and OPTIONAL, where the format has them), which are then checked as any other's."""

    def records(self, path: Path) -> Iterator[Record]:
        """Each record with its number in the file, from 1; in its place, a sentence on what is wrong with it."""
        raise NotImplementedError


class OwnFile:
    """A raw file in a format of one's own, as a RecordFile is seen."""

    position = 0
    advice: ClassVar[dict[str, str]] = {}

    def __init__(self, path: Path, reader: RawReader):
        """
        Raises:
            DataError: there is no such file, or it is empty.
        """
        self.path, self.reader = path, reader
        self.size = path.stat().st_size
        if not self.size:
            raise DataError(f"{path} is empty: put the full file there")

    def __iter__(self) -> Iterator[Record]:
        named = f"{type(self.reader).__module__}.{type(self.reader).__qualname__}.records"
        form = "it should yield pairs of a record's number and its fields by name, or a sentence in their place"
        given: Any = self.reader.records(self.path)
        if not isinstance(given, Iterable):
            raise DataError(f"{named} returned {given!r:.80}; {form}")
        for record in given:
            match record:
                case (Integral() as number, dict() | str() as fields):
                    yield int(number), fields
                case _:
                    raise DataError(f"{named} gave {record!r:.80}; {form}")


class RecordFile:
    """A raw file, read once from start to end in bounded memory, however long a line is.

    Args:
        require: columns that a table must have, or fields that some line must have.
        optional: columns that are read where the file has them. Neither may be there twice.
        skip: for line formats, tells by the raw line whether it can be left unparsed.
        quoting: of a table (of TABLES), what quotation marks are: `double` (around a text, and twice within it),
            `backslash` (the same, or after a backslash), `none` (plain characters), or `auto` by the file's kind.
        is_row: whether fields are beyond doubt a row of their own. Where a line within a record is one, a lone
            quotation mark merged several rows: their lines are told one by one, and none of them is used.
        note: told of what is read as it stands but may be meant otherwise, with its line.

    Raises:
        DataError: the file is empty, cut short or corrupt; or its header lacks a column, or has it twice.
    """

    def __init__(
        self,
        path: Path,
        kind: Kind,
        require: tuple[str, ...] = (),
        optional: tuple[str, ...] = (),
        skip: Callable[[bytes], bool] | None = None,
        quoting: Quoting = "auto",
        is_row: Callable[[Fields], bool] = lambda fields: False,
        note: Callable[[str, int], None] = lambda reason, line: None,
    ):
        self.path, self.kind, self.require, self.optional, self.skip = path, kind, require, optional, skip
        self.quoting = _QUOTING.get(kind, quoting) if quoting == "auto" else quoting
        self.is_row, self.note = is_row, note
        self.size = path.stat().st_size
        self._raw: IO[bytes] | None = None
        if not self.size:
            raise DataError(
                f"{path} is empty: put the full file there; what r4r downloads comes again once it is deleted"
            )

    @property
    def position(self) -> int:
        """Bytes of the file read so far, for progress bars."""
        return self._raw.tell() if self._raw and not self._raw.closed else 0

    @property
    def advice(self) -> dict[str, str]:
        """What may help where lines cannot be read, by what is wrong with them."""
        how = "Is dataset.source the format of this file? JSON files hold one object a line"
        if self.kind in TABLES:
            how = (
                f"Quotation marks were read by dataset.quoting={self.quoting}: double is for texts in quotes, with "
                '"" for a mark within them; backslash for \\" within them; none for marks that are plain characters'
            )
        return {BROKEN: how, CELLS: how, SWALLOWED: how, ENCODING: "Save the file as UTF-8"}

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
            yield from self._table(stream) if self.kind in TABLES else self._lines(stream)

    def _lines(self, stream: IO[bytes]) -> Iterator[Record]:
        parse = LineParser(self.kind == "literal", (*self.require, *self.optional))
        first: list[str] = []  # fields of the first object
        absent = set(self.require)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # "\&" and the like inside of Python literals
            for number, line in bounded(stream):
                if line is None:
                    yield number, TOO_LONG
                    continue
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line and not line.isspace() and not (self.skip and self.skip(line)):
                    fields = parse(line)
                    if absent and isinstance(fields, dict):
                        absent -= fields.keys()
                        first = first or [*fields]
                    yield number, fields
        if first and absent:
            self._refuse(sorted(absent), first, "in none of its lines the field")

    def _table(self, stream: IO[bytes]) -> Iterator[Record]:
        rows = self._plain_rows(stream) if self.quoting == "none" else self._quoted_rows(stream)
        # behind blank lines, and behind Excel's line that says what separates cells
        header: list[str] | str = next(
            (row for _, row, _ in rows if "".join(row).strip() and not _EXCELS.fullmatch("".join(row))), []
        )
        if not header:
            raise DataError(f"{self.path} holds no records: put the full file there")
        if isinstance(header, str):
            raise DataError(
                f"{self.path}: the first line, with the columns' names, is a {header}. {self.advice[BROKEN]}"
            )
        header = [name.strip("\ufeff") for name in header]  # of files with a byte order mark that were joined
        self._check_header(header)
        names = set(header)
        for number, row, lines in rows:
            fault = row if isinstance(row, str) else "" if len(row) in (0, len(header)) else CELLS
            if not fault and row and row[0].strip("\ufeff") in names:
                again = [row[0].strip("\ufeff"), *row[1:]]
                if set(again) == names and again != header:
                    raise DataError(
                        f"{self.path}: line {number} holds the columns' names again, in another order: the files that "
                        "were joined there differ. Join them by their columns"
                    )
                fault = AGAIN if again == header else ""
            if not fault and any(self._is_row_of(header, line) for line in lines[1:]):
                fault = SWALLOWED
            if fault:
                # An unclosed quote swallows the lines up to the next quote: each of them is lost, and counted.
                yield from ((lost, fault) for lost in range(number, number + max(1, len(lines))))
            elif any(undecoded(cell) for cell in row):
                yield number, ENCODING
            elif row:
                yield number, dict(zip(header, row, strict=True))

    def _plain_rows(self, stream: IO[bytes]) -> Iterator[tuple[int, list[str] | str, list[str]]]:
        """First line, cells (or what is wrong) and, where it has several, lines of each row: no quoting."""
        delimiter = TABLES[self.kind]
        for number, line in bounded(io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="\n")):
            text = "" if line is None else line.rstrip("\r\n")
            cells = text.split(delimiter) if text else []
            if '"' in text and any(_IN_QUOTES.fullmatch(cell) for cell in cells):
                self.note(IN_QUOTES, number)
            yield number, TOO_LONG if line is None else cells, []

    def _quoted_rows(self, stream: IO[bytes]) -> Iterator[tuple[int, list[str] | str, list[str]]]:
        """The same of a table whose quotes may hold delimiters and line breaks."""
        csv.field_size_limit(_FIELD_CHARS)
        lines: list[str] = []  # of the current record
        fault = ""
        number = 0

        def feed() -> Iterator[str]:
            nonlocal fault, number
            for place, line in bounded(io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")):
                number = place
                fault = fault or ("" if line is not None else TOO_LONG)
                lines.append(line or "")
                yield line or "\n"

        rows = self._reader(feed())
        while True:
            lines.clear()
            first, fault, row = number + 1, "", []
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error:
                fault = fault or BROKEN
            if lines and f'{TABLES[self.kind]} "' in lines[0] and any(_QUOTED.fullmatch(cell) for cell in row):
                self.note(BEHIND_BLANK, first)
            yield first, fault or row, lines

    def _reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        delimiter = TABLES[self.kind]
        if self.quoting == "double":
            return csv.reader(lines, delimiter=delimiter, strict=True)
        # csv takes any character after a backslash for itself; here only a quotation mark and a backslash are escaped
        kept = (_BACKSLASH.sub(lambda found: found[0] if found[1] else "\\\\", line) for line in lines)
        return csv.reader(kept, delimiter=delimiter, strict=True, escapechar="\\")

    def _is_row_of(self, header: list[str], line: str) -> bool:
        try:
            row = next(self._reader(iter([line])), [])
        except csv.Error:
            return False
        return len(row) == len(header) and self.is_row(dict(zip(header, row, strict=True)))

    def _parquet(self) -> Iterator[Record]:
        file = pq.ParquetFile(self.path)
        names = file.schema_arrow.names
        self._check_header(names)
        columns = [name for name in dict.fromkeys((*self.require, *self.optional)) if name in names]
        number = 0
        try:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=columns):
                for fields in _rows_of(batch):
                    number += 1
                    yield number, fields
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{self.path} holds what cannot be read in the {PARQUET_ROWS:,} rows after row {number:,} "
                f"({' '.join(str(error).split())[:200]}): fetch it again, or write it anew"
            ) from error

    def _check_header(self, header: list[str]) -> None:
        if any("\x00" in name or undecoded(name) for name in header):
            raise DataError(f"{self.path} is not UTF-8 text: save it in that encoding")
        twice = [name for name in repeated(header) if name in (*self.require, *self.optional)]
        if twice:
            raise DataError(
                f"{self.path} has the column {', '.join(twice)} more than once, and which one is meant cannot be told; "
                f"it has {_shown(header)}. Give each column a name of its own"
            )
        missing = [name for name in self.require if name not in header]
        if missing:
            lone = " A .csv has commas between its columns, a .tsv tabs." if len(header) == 1 else ""
            quoted = f" {self.advice[BROKEN]}" if any('"' in name for name in header) else ""
            self._refuse(missing, header, "no column", lone + quoted)

    def _refuse(self, missing: list[str], there: list[str], lacks: str, more: str = "") -> NoReturn:
        raise DataError(
            f"{self.path} has {lacks} {', '.join(missing)}; it has {_shown(there)}. "
            f"Map the columns with dataset.columns, e.g. dataset.columns.user_id=reviewer.{more}"
        )


def _shown(names: list[str]) -> str:
    return ", ".join(names[:40])[:1000]


def _rows_of(batch: pa.RecordBatch) -> Iterator[Fields | str]:
    """The rows of a piece of a parquet file, texts that are kept as bytes decoded; in place of a row that holds what
    Python has no value for, what is wrong with it."""
    try:
        rows: list[Fields | str] = batch.to_pylist()
    except (UnicodeDecodeError, OverflowError, ValueError):  # one cell fails the whole piece
        rows = [_row_of(batch.slice(place, 1)) for place in range(batch.num_rows)]
    for row in rows:
        yield _decoded(row) if isinstance(row, dict) and bytes in map(type, row.values()) else row


def _row_of(row: pa.RecordBatch) -> Fields | str:
    try:
        return row.to_pylist()[0]
    except UnicodeDecodeError:
        return ENCODING
    except OverflowError:
        return OUT_OF_TIME
    except ValueError:  # a time in nanoseconds, or in a time zone that nobody knows
        return NO_TIME


def _decoded(row: Fields) -> Fields | str:
    try:
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in row.items()}
    except UnicodeDecodeError:
        return ENCODING
