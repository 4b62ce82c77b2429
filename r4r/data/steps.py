"""The preparation steps of SPEC section 1 in DuckDB: which rows stay, in which split, under which row_id.

Steps work on a narrow table `kept` (codes, rating, timestamp, digest); review texts are read again only at the end, so
that a file larger than memory is no obstacle. Nothing depends on the order of the raw file.
"""

import math
from collections.abc import Callable
from typing import Any

import duckdb

from r4r.configuration.schema import PrepareConfig
from r4r.errors import DataError

Waterfall = list[dict[str, Any]]

DRAW_FACTOR = 3  # sample_users: this many times as many users are drawn, and the most active of them stay


def note(waterfall: Waterfall, step: str, reason: str, dropped: int, left: int, repaired: int = 0) -> None:
    """One line of the waterfall: what a step dropped or repaired, and how many rows are left behind it."""
    line = {"step": step, "reason": reason, "dropped": int(dropped), "repaired": int(repaired), "left": int(left)}
    waterfall.append(line)


class Steps:
    """The preparation of the DuckDB view `raw` (line, user_id, item_id, title, rating, review, timestamp).

    Args:
        titles: the view `titles` (item_id, title) holds the titles, not `raw`; else a row without one has the title
            that other rows have of its item, the first in the alphabet.
        waterfall: extended by each step.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, prepare: PrepareConfig, titles: bool, waterfall: Waterfall):
        self.con, self.prepare, self.waterfall = con, prepare, waterfall
        title, join = "coalesce(titles.title, '')", "LEFT JOIN titles USING (item_id)"
        if not titles:
            title = "coalesce(nullif(raw.title, ''), titles.title, '')"
            con.execute(
                "CREATE TEMP TABLE titles AS "
                "SELECT item_id, min(title) AS title FROM raw WHERE title <> '' GROUP BY item_id"
            )
            filled = self._one("SELECT count(*) FROM raw JOIN titles USING (item_id) WHERE raw.title = ''")
            if filled:
                left = waterfall[-1]["left"] if waterfall else 0
                note(waterfall, "read", "title missing: taken from other rows of the item", 0, left, repaired=filled)
        self.final = f"""
            SELECT final.row_id, raw.user_id, raw.item_id, {title} AS title, raw.rating, raw.review, raw.timestamp,
                   final.split
            FROM raw JOIN final USING (line) {join} ORDER BY final.row_id
        """  # the prepared rows (rows.REVIEWS), once `run` is through
        # Codes follow the order of the ids, so that sorting by code is sorting by id.
        for side, code in (("user", "u"), ("item", "i")):
            con.execute(
                f"CREATE TEMP TABLE {side}s AS "
                f"SELECT {side}_id, (row_number() OVER (ORDER BY {side}_id))::INTEGER AS {code} "
                f"FROM (SELECT DISTINCT {side}_id FROM raw)"
            )
        # The digest breaks ties between rows that agree on everything else: without it the file's order would.
        con.execute(
            f"""
            CREATE TEMP TABLE kept AS
            SELECT raw.line, users.u, items.i, raw.rating, raw.timestamp, {title} <> '' AS has_title,
                   raw.review <> '' AS has_text, md5_number(concat({title}, chr(31), raw.review)) AS digest
            FROM raw JOIN users USING (user_id) JOIN items USING (item_id) {join}
            """
        )

    def run(self) -> None:
        """Apply the steps; leaves the table `final` (line, u, i, rating, timestamp, row_id, split).

        Raises:
            DataError: no row, or no split, is left; the waterfall up to there is in the message.
        """
        steps: dict[str, Callable[[], None]] = {
            "window": self._window,
            "require_title": self._require_title,
            "require_text": self._require_text,
            "dedupe": self._dedupe,
            "k_core": self._k_core,
        }
        for name in self.prepare.order:
            steps[name]()
            if not self._count():
                raise DataError(f"No review is left after the step '{name}'.\n{self._story()}")
        if self.prepare.sample_users is not None:
            self._sample_users(self.prepare.sample_users)
        self._split()
        self._drop_unseen()

    def _window(self) -> None:
        months = self.prepare.window_months
        if months is None:
            return
        self._keep(
            "window",
            f"older than the last {months} months",
            f"timestamp > (SELECT epoch(make_timestamp(max(timestamp) * 1000000) - INTERVAL {months} MONTH) FROM kept)",
        )

    def _require_title(self) -> None:
        if self.prepare.require_title:
            self._keep("require_title", "item has no title", "has_title")

    def _require_text(self) -> None:
        if self.prepare.require_text:
            self._keep("require_text", "review has no text", "has_text")

    def _dedupe(self) -> None:
        if self.prepare.dedupe:
            newest = "PARTITION BY u, i ORDER BY timestamp DESC, has_text DESC, has_title DESC, rating, digest, line"
            self._keep(
                "dedupe",
                "older review of the same user and item",
                f"line IN (SELECT line FROM kept QUALIFY row_number() OVER ({newest}) = 1)",
            )

    def _k_core(self, step: str = "k_core") -> None:
        k = self.prepare.k_core
        if k == 1:
            return
        before, rounds = self._count(), 0
        while True:
            was = self._count()
            self._replace(
                f"""u IN (SELECT u FROM kept GROUP BY u HAVING count(*) >= {k})
                AND i IN (SELECT i FROM kept GROUP BY i HAVING count(*) >= {k})"""
            )
            left = self._count()
            rounds += left < was
            if left in (0, was):
                break
        reason = f"user or item with fewer than {k} reviews, {rounds} rounds"
        note(self.waterfall, step, reason, before - left, left)

    def _sample_users(self, size: int) -> None:
        # The draw orders users by a digest of seed and id: the same whatever the file's order.
        self.con.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE drawn AS
            WITH activity AS (SELECT u, count(*) AS n FROM kept GROUP BY u),
            draw AS (
                SELECT u, n, md5(concat('{self.prepare.sample_seed}:', user_id)) AS lot
                FROM activity JOIN users USING (u) ORDER BY lot, u LIMIT {size * DRAW_FACTOR}
            )
            SELECT u FROM draw ORDER BY n DESC, lot, u LIMIT {size}
            """
        )
        self._keep("sample_users", f"user not among the {size} sampled", "u IN (SELECT u FROM drawn)")
        self._k_core("k_core again")
        if not self._count():
            raise DataError(
                f"No review is left: {size} sampled users do not hold a {self.prepare.k_core}-core. Raise "
                f"dataset.prepare.sample_users or lower dataset.prepare.k_core.\n{self._story()}"
            )

    def _split(self) -> None:
        """By global time: rows of one timestamp fall on one side of a cut, the later one."""
        valid, test = self.prepare.valid_fraction, self.prepare.test_fraction
        if valid + test >= 1:
            raise DataError(f"dataset.prepare: valid_fraction={valid:g} and test_fraction={test:g} leave no train rows")
        rows = self._count()
        places = [min(_floor(rows * share), rows - 1) for share in (1 - valid - test, 1 - test)]
        cut_valid, cut_test = (
            self._one(f"SELECT timestamp FROM kept ORDER BY timestamp LIMIT 1 OFFSET {place}") for place in places
        )
        self.con.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE final AS
            SELECT line, u, i, rating, timestamp, digest,
                   CASE WHEN timestamp < {cut_valid} THEN 'train' WHEN timestamp < {cut_test} THEN 'valid'
                   ELSE 'test' END AS split
            FROM kept
            """
        )

    def _drop_unseen(self) -> None:
        left = self._count()
        cold_user = "u NOT IN (SELECT u FROM final WHERE split = 'train')"
        cold_item = "i NOT IN (SELECT i FROM final WHERE split = 'train')"
        for split in ("valid", "test"):
            for reason, cold in (
                ("user unseen in train", cold_user),
                ("item unseen in train", f"{cold_item} AND NOT ({cold_user})"),
            ):
                dropped = self._one(f"SELECT count(*) FROM final WHERE split = '{split}' AND {cold}")
                left -= dropped
                note(self.waterfall, f"unseen in {split}", reason, dropped, left)
        self.con.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE final AS
            SELECT line, u, i, rating, timestamp, split,
                   row_number() OVER (ORDER BY timestamp, u, i, rating, digest, line) - 1 AS row_id
            FROM final WHERE split = 'train' OR NOT ({cold_user} OR {cold_item})
            """
        )
        sizes = dict(self.con.execute("SELECT split, count(*) FROM final GROUP BY split").fetchall())
        empty = [split for split in ("train", "valid", "test") if not sizes.get(split)]
        if empty:
            raise DataError(
                f"No review is left in {' and '.join(empty)}: there is too little data, too much of it shares one "
                f"timestamp, or the fractions of dataset.prepare are too small.\n{self._story()}"
            )

    def _keep(self, step: str, reason: str, condition: str) -> None:
        before = self._count()
        self._replace(condition)
        left = self._count()
        note(self.waterfall, step, reason, before - left, left)

    def _replace(self, condition: str) -> None:
        self.con.execute(f"CREATE OR REPLACE TEMP TABLE kept AS SELECT * FROM kept WHERE {condition}")

    def _count(self) -> int:
        return self._one("SELECT count(*) FROM kept")

    def _one(self, sql: str) -> Any:
        row = self.con.execute(sql).fetchone()
        assert row is not None
        return row[0]

    def _story(self) -> str:
        return "\n".join(f"  {w['step']}: {w['reason']}: -{w['dropped']}, {w['left']} left" for w in self.waterfall)


def _floor(value: float) -> int:
    return math.floor(value + 1e-9)  # 10 * (1 - 0.1 - 0.1) is 8, whatever the float says
