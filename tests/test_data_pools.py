"""Pools and seeded samples."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r4r.configuration.schema import PoolsConfig
from r4r.data.history import HistoryIndex
from r4r.data.pools import make_pools
from r4r.errors import DataError


def world(users: int = 12, items: int = 10, seed: int = 0) -> pd.DataFrame:
    n = users * items
    order = np.random.default_rng(seed).permutation(n)
    return pd.DataFrame(
        {
            "row_id": range(n),
            "user_id": [f"u{k // items}" for k in order],
            "item_id": [f"i{k % items}" for k in order],
            "rating": 3.0,
            "timestamp": np.arange(n) // 2 + 1,
            "split": ["train"] * (n - 20) + ["valid"] * 10 + ["test"] * 10,
        }
    )


def index_of(rows: pd.DataFrame) -> HistoryIndex:
    return HistoryIndex(rows[rows["split"] == "train"])


@settings(max_examples=12)
@given(
    st.integers(0, 10**6),
    st.integers(8, 200),
    st.sampled_from([0.3, 0.4, 0.5]),
    st.integers(0, 11),
    st.randoms(),
)
def test_pools_hold_eligible_train_rows_once_and_depend_on_the_seed_alone(seed, total, share, least, random):
    rows = world()
    config = PoolsConfig(total=total, reward_share=share, min_history_total=least)
    pools, report = make_pools(rows, index_of(rows), config, seed)
    assert pools["row_id"].is_unique
    chosen = rows.set_index("row_id").loc[pools["row_id"]]
    assert (chosen["split"] == "train").all()
    train = rows[rows["split"] == "train"]
    eligible = 0
    for row in train.itertuples():
        before = train[train["timestamp"] < row.timestamp]
        user, item = (before["user_id"] == row.user_id).sum(), (before["item_id"] == row.item_id).sum()
        fit = user > 0 and item > 0 and user + item >= least
        eligible += fit
        assert fit or row.row_id not in set(pools["row_id"])
    assert report["eligible"] == eligible
    assert len(pools) == min(total, eligible) == report["reward"] + report["experts"]
    assert (pools["pool"] == "reward").sum() == round(share * len(pools))
    assert report["train"] - sum(report["dropped"].values()) == len(pools)
    shuffled = rows.iloc[random.sample(range(len(rows)), len(rows))]
    again, _ = make_pools(shuffled, index_of(shuffled), config, seed)
    pd.testing.assert_frame_equal(pools, again)


def test_another_seed_draws_other_rows():
    rows = world()
    one, two = (make_pools(rows, index_of(rows), PoolsConfig(total=20), seed)[0] for seed in (0, 1))
    assert set(one["row_id"]) != set(two["row_id"])


def test_pools_too_small_are_refused_with_the_counts():
    rows = world()
    with pytest.raises(
        DataError, match=r"of 100 train rows 0 are eligible .*fewer than 90 earlier reviews in all: \d+"
    ):
        make_pools(rows, index_of(rows), PoolsConfig(min_history_total=90), 0)
    with pytest.raises(DataError, match="1 would go to the reward model and 2 to the experts"):
        make_pools(rows, index_of(rows), PoolsConfig(total=3), 0)
