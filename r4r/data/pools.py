"""Which train rows the LLM experts learn from: a reward pool and an expert pool, disjoint (paper 3.4, 4.1.4)."""

from typing import Any

import numpy as np
import pandas as pd

from r4r.configuration.schema import PoolsConfig
from r4r.data.history import HistoryIndex
from r4r.errors import DataError
from r4r.rows import POOLS, conform


def make_pools(
    rows: pd.DataFrame, index: HistoryIndex, pools: PoolsConfig, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Draw the pools from the train rows that have a history on both sides, long enough together.

    Args:
        rows: columns of rows.REVIEWS; rows of other splits are ignored.
        index: the history rows.
        seed: of the draw, which does not depend on the order of `rows`.

    Returns:
        columns of rows.POOLS (pool is "reward" or "experts"), ordered by row_id; and a report: `train`, `dropped` (a
        count a reason; each row counts under its first reason), `eligible`, `reward`, `experts`.

    Raises:
        DataError: a pool would have fewer than 2 rows.
    """
    train = rows[rows["split"] == "train"].sort_values("row_id")
    histories = index.before(train)
    no_user = histories.user_count == 0
    no_item = ~no_user & (histories.item_count == 0)
    short = ~no_user & ~no_item & (histories.user_count + histories.item_count < pools.min_history_total)
    eligible = train["row_id"].to_numpy(np.int64)[~(no_user | no_item | short)]
    size = min(pools.total, len(eligible))
    reward = round(pools.reward_share * size)
    report: dict[str, Any] = {
        "train": len(train),
        "dropped": {
            "user has no earlier review": int(no_user.sum()),
            "item has no earlier review": int(no_item.sum()),
            f"fewer than {pools.min_history_total} earlier reviews in all": int(short.sum()),
            "eligible, but not sampled": len(eligible) - size,
        },
        "eligible": len(eligible),
        "reward": reward,
        "experts": size - reward,
    }
    if min(reward, size - reward) < 2:
        causes = "; ".join(f"{reason}: {count}" for reason, count in report["dropped"].items())
        raise DataError(
            f"Pools need at least 2 rows each, but {reward} would go to the reward model and {size - reward} to the "
            f"experts: of {len(train)} train rows {len(eligible)} are eligible ({causes}). Use more data, raise "
            "dataset.pools.total, or lower dataset.pools.min_history_total"
        )
    drawn = np.random.default_rng(seed).permutation(eligible)[:size]
    table = pd.DataFrame({"row_id": drawn, "pool": np.where(np.arange(size) < reward, "reward", "experts")})
    assert table["row_id"].is_unique, "a row is in both pools"
    return conform(table.sort_values("row_id", ignore_index=True), POOLS, "pools"), report
