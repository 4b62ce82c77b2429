"""Rows that outlive a kill: one JSON line a finished unit of work."""

import json
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Journal:
    """An append-only file of finished units. A line that a kill cut short is dropped, so its unit is done again."""

    def __init__(self, path: Path):
        self.path = path
        self._units: dict[str, list[Row]] = {}
        if path.exists():
            kept = 0
            with path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    record = json.loads(line)
                    self._units[record["unit"]] = record["rows"]
                    kept += len(line)
            os.truncate(path, kept)

    def __contains__(self, unit: str) -> bool:
        return unit in self._units

    def __len__(self) -> int:
        return len(self._units)

    def append(self, unit: str, rows: list[Row]) -> None:
        """Record a unit as finished, on disk before this returns."""
        line = json.dumps({"unit": unit, "rows": rows}, ensure_ascii=False) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._units[unit] = json.loads(line)["rows"]

    def rows(self) -> list[Row]:
        """All rows of all units, in the order in which the units were finished."""
        return [row for rows in self._units.values() for row in rows]
