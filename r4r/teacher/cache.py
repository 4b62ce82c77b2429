"""Answers that were paid for, in one SQLite file: kept the moment they arrive, shared by every run and process.

A call is known by what shapes its answer: the teacher's identity (not its address), messages, temperature, max_tokens
and attempt. Refused, cut and empty answers were paid too, so they are remembered, as what they are and without text.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from r4r.errors import AnswerBroken, AnswerCut, AnswerEmpty, AnswerRefused, R4RError, TeacherError
from r4r.teacher.base import Answer, Call
from r4r.teacher.database import Database
from r4r.teacher.owner import may_live, owner

FORMAT = 2
FAILURES: dict[str, type[TeacherError]] = {
    "refused": AnswerRefused,
    "cut": AnswerCut,
    "empty": AnswerEmpty,
    "broken": AnswerBroken,
}
COLUMNS = (  # of an outcome
    *("key", "kind", "teacher", "prompt", "temperature", "max_tokens", "attempt", "text", "problem"),
    *("tokens_in", "tokens_out", "dollars", "at"),
)
TABLES = """
CREATE TABLE prompts (hash TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE outcomes (
    key TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('answer', 'refused', 'cut', 'empty', 'broken')),
    teacher TEXT NOT NULL, prompt TEXT NOT NULL, temperature REAL, max_tokens INTEGER NOT NULL,
    attempt INTEGER NOT NULL, text TEXT, problem TEXT, tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL,
    dollars REAL, at REAL NOT NULL,
    CHECK ((kind = 'answer') = (text IS NOT NULL)), CHECK ((kind = 'answer') = (problem IS NULL))
) WITHOUT ROWID;
CREATE TABLE spent (model TEXT PRIMARY KEY, calls INTEGER, tokens_in INTEGER, tokens_out INTEGER, dollars REAL);
CREATE TABLE reserved (id INTEGER PRIMARY KEY AUTOINCREMENT, dollars REAL NOT NULL, batch TEXT, at REAL NOT NULL);
CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE batches (
    batch TEXT PRIMARY KEY, teacher TEXT NOT NULL, address TEXT NOT NULL, server_id TEXT, at REAL NOT NULL
);
CREATE TABLE batch_items (
    batch TEXT NOT NULL, key TEXT NOT NULL, prompt TEXT NOT NULL, temperature REAL, max_tokens INTEGER, attempt INTEGER,
    PRIMARY KEY (batch, key)
) WITHOUT ROWID;
"""


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def messages(prompt: str) -> list[dict[str, str]]:
    """The chat that a call is."""
    return [{"role": "user", "content": prompt}]


def key_of_call(teacher: Mapping[str, Any], call: Call) -> str:
    """40 hex digits; `teacher` is the teacher's identity."""
    identity = {
        "teacher": teacher,
        "messages": messages(call.prompt),
        "temperature": _number(call.temperature),
        "max_tokens": call.max_tokens,
        "attempt": call.attempt,
    }
    return hashlib.sha256(canonical(identity).encode()).hexdigest()[:40]


def _number(temperature: float | None) -> float | None:
    return None if temperature is None else float(temperature)


class TeacherCache(Database):
    """Answers, money, claims and batches. Every method is one transaction, on disk when it returns."""

    def __init__(self, path: Path):
        """
        Raises:
            R4RError: the file is not a teacher's cache, or of another format, or cannot be read or written.
        """
        super().__init__(path, "the teacher's cache")

    def _prepare(self) -> None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found == 0 and not self._db.execute("SELECT name FROM sqlite_master").fetchall():
            self._db.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {FORMAT}; COMMIT;")
        elif found != FORMAT:
            raise R4RError(f"{self.path}: format {found}, not {FORMAT}, of a teacher's cache; move the file away")

    # answers

    def get(self, key: str) -> Answer | TeacherError | None:
        """What an earlier call brought, marked as cached; None where it was never answered."""
        rows = self._read(
            "SELECT kind, text, problem, tokens_in, tokens_out, dollars FROM outcomes WHERE key = ?", (key,)
        )
        if not rows:
            return None
        kind, text, problem, tokens_in, tokens_out, dollars = rows[0]
        if kind == "answer":
            return Answer(text, tokens_in, tokens_out, dollars, cached=True)
        failure = FAILURES[kind](problem)
        failure.tokens_in, failure.tokens_out, failure.dollars, failure.cached = tokens_in, tokens_out, dollars, True
        return failure

    def put(
        self,
        teacher: Mapping[str, Any],
        call: Call,
        outcome: Answer | TeacherError,
        reserved: int | None = None,
        batch: str | None = None,
    ) -> None:
        """Keep what a call brought, count it as spent and give its reservation back.

        An answer is never overwritten; a remembered failure is, by what came of asking again. With `batch`, only the
        first result of an item counts: that a batch holds it twice, or is read twice, changes nothing.
        """
        key = key_of_call(teacher, call)
        kind = next((kind for kind, failure in FAILURES.items() if isinstance(outcome, failure)), "answer")
        text, problem = (outcome.text, None) if isinstance(outcome, Answer) else (None, str(outcome))
        with self._transaction() as db:
            if batch is not None:
                open_items = db.execute("DELETE FROM batch_items WHERE batch = ? AND key = ?", (batch, key))
                if not open_items.rowcount:
                    return
            prompt = _keep_prompt(db, call.prompt)
            self._insert(
                *(key, kind, canonical(teacher), prompt, _number(call.temperature), call.max_tokens, call.attempt),
                *(text, problem, outcome.tokens_in, outcome.tokens_out, outcome.dollars, time.time()),
            )
            _pay(db, teacher, outcome, reserved)
            db.execute("DELETE FROM claims WHERE key = ?", (key,))

    def pay(self, teacher: Mapping[str, Any], outcome: Answer | TeacherError, reserved: int | None = None) -> None:
        """Count a call as spent whose answer is not kept, and give its reservation back."""
        with self._transaction() as db:
            _pay(db, teacher, outcome, reserved)

    def _insert(self, *row: Any) -> None:
        self._db.execute(
            f"INSERT INTO outcomes VALUES ({', '.join('?' * 13)}) ON CONFLICT (key) DO UPDATE SET kind = excluded.kind,"
            " text = excluded.text, problem = excluded.problem, tokens_in = excluded.tokens_in, "
            "tokens_out = excluded.tokens_out, dollars = excluded.dollars, at = excluded.at WHERE kind != 'answer'",
            row,
        )

    def counts(self) -> dict[str, int]:
        """kind -> how many outcomes."""
        return dict(self._read("SELECT kind, COUNT(*) FROM outcomes GROUP BY kind ORDER BY kind"))

    # who asks what, so that two processes do not pay for one call

    def claim(self, keys: Iterable[str], seconds: float) -> set[str]:
        """Those of the calls that this process may ask: no other one that lives has them for now.

        A claim of another machine holds for `seconds` unless renewed; one of this machine while its process lives.
        """
        now, granted = time.time(), set()
        with self._transaction() as db:
            for key in keys:
                found = db.execute("SELECT owner, until FROM claims WHERE key = ?", (key,)).fetchone()
                if found is None or found[0] == owner() or found[1] < now or not may_live(found[0]):
                    db.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (key, owner(), now + seconds))
                    granted.add(key)
        return granted

    def renew(self, seconds: float) -> None:
        with self._transaction() as db:
            db.execute("UPDATE claims SET until = ? WHERE owner = ?", (time.time() + seconds, owner()))

    def unclaim(self) -> None:
        """Give up all claims of this process."""
        with self._transaction() as db:
            db.execute("DELETE FROM claims WHERE owner = ?", (owner(),))

    # money

    def spent(self) -> list[tuple[str, int, int, int, float]]:
        """(model, calls, tokens in, tokens out, dollars) of all that was ever paid into this file."""
        return self._read("SELECT * FROM spent ORDER BY model")

    def money(self) -> tuple[float, float]:
        """Dollars spent, and dollars reserved: in flight, or lost from sight in calls that broke off or were killed."""
        return self._read("SELECT (SELECT TOTAL(dollars) FROM spent), (SELECT TOTAL(dollars) FROM reserved)")[0]

    def reserve(self, dollars: float, budget: float | None) -> int | None:
        """Set money aside for a call about to be sent; None where that could pass the budget.

        Without a budget it is set aside all the same: a later run's budget counts what is killed on its way, too.
        """
        with self._transaction() as db:
            if budget is not None and sum(self.money()) + dollars > budget:
                return None
            return db.execute("INSERT INTO reserved VALUES (NULL, ?, NULL, ?)", (dollars, time.time())).lastrowid

    def release(self, reserved: int) -> None:
        """The work was surely not paid."""
        with self._transaction() as db:
            db.execute("DELETE FROM reserved WHERE id = ?", (reserved,))

    # batches

    def plan_batch(
        self,
        batch: str,
        teacher: Mapping[str, Any],
        address: str,
        calls: Sequence[Call],
        dollars: float = 0.0,
        budget: float | None = None,
    ) -> bool:
        """Write down what is about to be sent, before it is: after a kill the server is asked whether it has it.

        `dollars` are reserved until the batch is forgotten, without a budget too; False, and nothing is written, where
        they could pass the budget.
        """
        with self._transaction() as db:
            if budget is not None and sum(self.money()) + dollars > budget:
                return False
            if dollars:
                db.execute("INSERT INTO reserved VALUES (NULL, ?, ?, ?)", (dollars, batch, time.time()))
            db.execute(
                "INSERT INTO batches VALUES (?, ?, ?, NULL, ?)", (batch, canonical(teacher), address, time.time())
            )
            db.executemany(
                "INSERT INTO batch_items VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (batch, key_of_call(teacher, c), _keep_prompt(db, c.prompt), c.temperature, c.max_tokens, c.attempt)
                    for c in calls
                ],
            )
        return True

    def sent_batch(self, batch: str, server_id: str) -> None:
        with self._transaction() as db:
            db.execute("UPDATE batches SET server_id = ? WHERE batch = ?", (server_id, batch))

    def batches(self, teacher: Mapping[str, Any], address: str) -> list[tuple[str, str | None, float]]:
        """(batch, the server's id for it if known, when it was planned) of what is not read to its end."""
        return self._read(
            "SELECT batch, server_id, at FROM batches WHERE teacher = ? AND address = ? ORDER BY at, batch",
            (canonical(teacher), address),
        )

    def open_batches(self, keys: Collection[str] | None = None) -> list[tuple[str, str, str, int]]:
        """(batch, the server's id for it, its address, how many of these calls it holds) of what was sent and is not
        read to its end; None: of all calls."""
        found: dict[tuple[str, str, str], int] = {}
        for batch, server_id, address, key in self._read(
            "SELECT batch, server_id, address, key FROM batches JOIN batch_items USING (batch) "
            "WHERE server_id IS NOT NULL ORDER BY at, batch"
        ):
            if keys is None or key in keys:
                found[batch, server_id, address] = found.get((batch, server_id, address), 0) + 1
        return [(*batch, count) for batch, count in found.items()]

    def batch_calls(self, batch: str) -> dict[str, Call]:
        """key -> call of the items that have no result yet."""
        rows = self._read(
            "SELECT key, text, temperature, max_tokens, attempt FROM batch_items JOIN prompts ON prompt = hash "
            "WHERE batch = ?",
            (batch,),
        )
        return {key: Call(*rest) for key, *rest in rows}

    def forget_batch(self, batch: str) -> int:
        """Drop a batch that is read, or that the server never had, by our name or the server's; how many there were."""
        with self._transaction() as db:
            names = [b for (b,) in db.execute("SELECT batch FROM batches WHERE ? IN (batch, server_id)", (batch,))]
            for name in names:
                for table in ("batches", "batch_items", "reserved"):
                    db.execute(f"DELETE FROM {table} WHERE batch = ?", (name,))
        return len(names)

    # moving

    def export(self) -> Iterator[dict[str, Any]]:
        """Every outcome as a plain row, by key."""
        cursor = self._db.execute(
            "SELECT key, kind, teacher, prompts.text, temperature, max_tokens, attempt, outcomes.text, problem, "
            "tokens_in, tokens_out, dollars, at FROM outcomes JOIN prompts ON prompt = hash ORDER BY key"
        )
        for row in cursor:
            record = dict(zip(COLUMNS, row, strict=True))
            yield record | {"teacher": json.loads(record["teacher"])}

    def adopt(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Take in rows of `export`. They were paid elsewhere, so they do not count as spent here.

        Returns:
            How many were `new`, the `same` as here, or in `conflict` with what is here, which then stays.
        """
        counts = {"new": 0, "same": 0, "conflict": 0}
        with self._transaction() as db:
            for row in rows:
                found = db.execute("SELECT kind, text FROM outcomes WHERE key = ?", (row["key"],)).fetchone()
                if found is not None:
                    counts["same" if found == (row["kind"], row["text"]) else "conflict"] += 1
                    continue
                counts["new"] += 1
                kept = {"teacher": canonical(row["teacher"]), "prompt": _keep_prompt(db, row["prompt"])}
                self._insert(*(kept.get(name, row[name]) for name in COLUMNS))
        return counts


def _pay(
    db: sqlite3.Connection, teacher: Mapping[str, Any], outcome: Answer | TeacherError, reserved: int | None
) -> None:
    """Count an outcome as spent, and give its reservation back."""
    db.execute(
        "INSERT INTO spent VALUES (?, 1, ?, ?, ?) ON CONFLICT (model) DO UPDATE SET calls = calls + 1, "
        "tokens_in = tokens_in + excluded.tokens_in, tokens_out = tokens_out + excluded.tokens_out, "
        "dollars = dollars + excluded.dollars",
        (str(teacher.get("model")), outcome.tokens_in, outcome.tokens_out, outcome.dollars or 0.0),
    )
    if reserved is not None:
        db.execute("DELETE FROM reserved WHERE id = ?", (reserved,))


def _keep_prompt(db: sqlite3.Connection, prompt: str) -> str:
    """Prompts are kept once: all attempts at a pair share one."""
    name = hashlib.sha256(prompt.encode()).hexdigest()[:40]
    db.execute("INSERT OR IGNORE INTO prompts VALUES (?, ?)", (name, prompt))
    return name
