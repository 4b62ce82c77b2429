"""One SQLite file that several processes share: a write is on disk when it returns, and a locked file is waited for."""

import math
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from r4r.errors import R4RError
from r4r.progress import say

T = TypeVar("T")
LOOK_S, TELL_S = 0.05, 20.0  # between two tries at a locked file, and between two lines about it
OPEN_S = 120.0  # to open a locked file: nothing is lost yet where it stays locked


class FileBusy(R4RError):
    """Another process holds the file locked just now."""


class Database(ABC):
    """A file in WAL mode, which is read while another process writes.

    A method waits as long as another process holds the file locked; within `at_once`, it raises FileBusy instead.

    Attributes:
        was_emptied: the file was there and had no content.
    """

    def __init__(self, path: Path, what: str):
        """
        Args:
            what: the file is, in words.
        Raises:
            R4RError: it is something else, or cannot be read or written.
        """
        self.path, self._what = path, what
        self._patient = True
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(f"{path}.lock"):
                self.was_emptied = path.exists() and path.stat().st_size == 0
                self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
                self._patiently(self._open, OPEN_S)
        except sqlite3.DatabaseError as error:
            raise R4RError(f"{path}: cannot be used as {what} ({error}); move it away") from error

    def _open(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # paid work survives a power cut, too
        self._prepare()

    @abstractmethod
    def _prepare(self) -> None:
        """Make the tables of a new file, or check those of an old one."""

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A block whose methods do not wait for a locked file: for a caller that has other work meanwhile.

        Raises:
            FileBusy: the file is locked. Nothing was done.
        """
        self._patient = False
        try:
            yield
        finally:
            self._patient = True

    def _patiently(self, act: Callable[[], T], at_most_s: float = math.inf) -> T:
        """What `act` returns, tried again while the file is locked."""
        started = told = time.monotonic()
        while True:
            try:
                return act()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise R4RError(f"{self.path}: {self._what} cannot be read or written ({error})") from error
            if not self._patient or time.monotonic() - started > at_most_s:
                raise FileBusy(f"{self.path}: another process holds it locked")
            if time.monotonic() - told > TELL_S:
                told = time.monotonic()
                say(f"  {self.path}: another process holds it locked; waiting")
            time.sleep(LOOK_S)

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._patiently(lambda: self._db.execute(query, values).fetchall())

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._patiently(lambda: self._db.execute("BEGIN IMMEDIATE"))
        try:
            yield self._db
            self._patiently(lambda: self._db.execute("COMMIT"))
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise R4RError(f"{self.path}: {self._what} cannot be written ({error})") from error
            raise
