"""Rows that outlive a kill: one JSON line a finished unit of work."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from r4r.progress import say

Row = dict[str, Any]


class Journal:
    """An append-only file of finished units. A line that a kill cut short is dropped, so its unit is done again.

    Each line carries its digest. A whole line that is damaged is no kill's work: that is said, the file as it was found
    is kept beside the folder (`<folder>.<name>.damaged`), and the line's unit is done again.
    """

    def __init__(self, path: Path):
        self.path = path
        self._units: dict[str, list[Row]] = {}
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            if lines and not lines[-1].endswith(b"\n"):
                os.truncate(path, sum(map(len, lines)) - len(lines.pop()))
            read = [_read(line) for line in lines]
            for record in read:
                if record:
                    self._units[record[0]] = record[1]
            if None in read:
                self._repair(lines, read)

    def _repair(self, lines: list[bytes], read: list[tuple[str, list[Row]] | None]) -> None:
        """Keep the file as it was found, and go on with its good lines."""
        aside = self.path.parent.with_name(f"{self.path.parent.name}.{self.path.name}.damaged")
        os.replace(self.path, aside)
        self.path.write_bytes(b"".join(line for line, record in zip(lines, read, strict=True) if record))
        numbers = ", ".join(str(number) for number, record in enumerate(read, 1) if record is None)
        say(f"{self.path}: damaged lines ({numbers}); what they held is done again. The file as it was: {aside}")

    def __contains__(self, unit: str) -> bool:
        return unit in self._units

    def __len__(self) -> int:
        return len(self._units)

    def append(self, unit: str, rows: list[Row]) -> None:
        """Record a unit as finished, on disk before this returns."""
        body = _body(unit, rows)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f'{body[:-1]}, "sha256": "{_digest(body)}"}}\n')
            file.flush()
            os.fsync(file.fileno())
        self._units[unit] = json.loads(body)["rows"]

    def rows(self) -> list[Row]:
        """All rows of all units, in the order in which the units were finished."""
        return [row for rows in self._units.values() for row in rows]


def _body(unit: str, rows: list[Row]) -> str:
    return json.dumps({"unit": unit, "rows": rows}, ensure_ascii=False)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _read(line: bytes) -> tuple[str, list[Row]] | None:
    """The unit and rows of a line; None where it is not as it was written."""
    try:
        record = json.loads(line)
        unit, rows = record["unit"], record["rows"]
        whole = record["sha256"] == _digest(_body(unit, rows))
    except (ValueError, KeyError, TypeError, RecursionError):  # no JSON, or of another shape
        return None
    return (unit, rows) if whole else None
