"""What was known at a target's time: the only place that decides it (SPEC section 1).

The history of a target is the rows of the same user (and of the same item) whose timestamp is STRICTLY before the
target's, in the order of (timestamp, row_id).
"""

import numpy as np
import pandas as pd

from r4r.errors import DataError

_NEEDED = ("row_id", "user_id", "item_id", "rating", "timestamp")


class HistoryIndex:
    """An index over history rows, built once by sorting; each question is a binary search.

    Args:
        rows: the rows that may be history (columns of rows.REVIEWS), in any order.

    Raises:
        DataError: a column is missing or a row_id occurs twice.
    """

    def __init__(self, rows: pd.DataFrame):
        _require(rows, _NEEDED, "history rows")
        if rows["row_id"].duplicated().any():
            twice = rows.loc[rows["row_id"].duplicated(), "row_id"].iloc[0]
            raise DataError(f"history rows: row_id {twice} occurs twice")
        timestamps = rows["timestamp"].to_numpy(np.int64)
        self._times = np.unique(timestamps)
        ranks = np.searchsorted(self._times, timestamps)
        self._users = _Side(rows, "user_id", ranks, len(self._times))
        self._items = _Side(rows, "item_id", ranks, len(self._times))

    def before(self, targets: pd.DataFrame) -> "Histories":
        """The histories of targets (columns user_id, item_id, timestamp), aligned with them by position."""
        _require(targets, ("user_id", "item_id", "timestamp"), "targets")
        # A target's rank counts the distinct times before its own, so the rows before it are those of lower rank.
        ranks = np.searchsorted(self._times, targets["timestamp"].to_numpy(np.int64), side="left")
        return Histories(self._users, self._items, targets, ranks)


class Histories:
    """Histories of n targets.

    Attributes:
        user_count, item_count: int64 (n,), rows before the target's time.
        user_mean, item_mean: float64 (n,), mean rating over ALL of these rows; NaN where there are none.
    """

    def __init__(self, users: "_Side", items: "_Side", targets: pd.DataFrame, ranks: np.ndarray):
        self._users, self._items = users, items
        self._user_start, self._user_end = users.spans(targets["user_id"], ranks)
        self._item_start, self._item_end = items.spans(targets["item_id"], ranks)
        self.user_count = self._user_end - self._user_start
        self.item_count = self._item_end - self._item_start
        self.user_mean = users.means(self._user_start, self._user_end)
        self.item_mean = items.means(self._item_start, self._item_end)

    def __len__(self) -> int:
        return len(self.user_count)

    def user_rows(self, k: int, last: int) -> np.ndarray:
        """The row_ids, int64, of the newest `last` (or fewer) rows of target k's user, oldest first."""
        return _newest(self._users, self._user_start[k], self._user_end[k], last)

    def item_rows(self, k: int, last: int) -> np.ndarray:
        """The row_ids, int64, of the newest `last` (or fewer) rows of target k's item, oldest first."""
        return _newest(self._items, self._item_start[k], self._item_end[k], last)


class _Side:
    """History rows sorted by (id, timestamp, row_id), with running sums of ratings.

    Args:
        ranks: int64 (n,), the place of each row's timestamp among the `times` distinct ones.
    """

    def __init__(self, rows: pd.DataFrame, column: str, ranks: np.ndarray, times: int):
        codes, ids = pd.factorize(rows[column])
        self._code_of = pd.Index(np.asarray(ids, dtype=object), dtype=object)
        row_ids = rows["row_id"].to_numpy(np.int64)
        order = np.lexsort((row_ids, ranks, codes))
        codes = codes[order].astype(np.int64)
        self.row_ids = row_ids[order]
        # (id, timestamp) as one sorted integer: timestamps become ranks, so that the product stays small.
        self._stride = times + 1
        self._keys = codes * self._stride + ranks[order]
        self._starts = np.searchsorted(codes, np.arange(len(ids) + 1))
        self._sums = np.concatenate([[0.0], np.cumsum(rows["rating"].to_numpy(np.float64)[order])])

    def spans(self, ids: pd.Series, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Start and end positions, int64 (n,), of the rows of each id whose rank is strictly below each of `ranks`."""
        # Targets repeat ids: looking up the distinct ones is several times faster.
        local, distinct = pd.factorize(ids)
        wanted = pd.Index(np.asarray(distinct, dtype=object), dtype=object)
        codes = self._code_of.get_indexer(wanted)[local].astype(np.int64)
        known = codes >= 0
        codes = np.where(known, codes, 0)
        ends = np.searchsorted(self._keys, codes * self._stride + ranks, side="left")
        starts = self._starts[codes]
        return np.where(known, starts, 0), np.where(known, ends, 0)

    def means(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        counts = ends - starts
        sums = self._sums[ends] - self._sums[starts]
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _newest(side: _Side, start: int, end: int, last: int) -> np.ndarray:
    if last < 0:
        raise ValueError(f"last must not be negative, got {last}")
    return side.row_ids[max(start, end - last) : end]


def _require(table: pd.DataFrame, columns: tuple[str, ...], what: str) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(f"{what}: columns missing: {', '.join(missing)}; present: {', '.join(map(str, table.columns))}")
