"""Preparation: against a naive re-implementation, for any table; and on the real files."""

import collections
import os
from contextlib import suppress
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r4r.configuration.schema import DatasetConfig, PrepareConfig
from r4r.data.prepare import prepare, split_frame
from r4r.data.steps import Steps
from r4r.data.table1 import table1_text
from r4r.errors import DataError
from r4r.rows import REVIEWS, conform
from r4r.scale import Scale

ROOT = Path(__file__).resolve().parents[1]
FIRST = 1_400_000_000  # seconds
HALVES = Scale(step=0.5)
COLUMNS = ["user_id", "item_id", "title", "rating", "review", "timestamp"]
RELAXED = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])

rows_of_any_kind = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "u3", "U1", "ü4"]),
        st.sampled_from(["i1", "i2", "i3", "10"]),
        st.sampled_from(["", "a title", "another"]),
        st.sampled_from([1.0, 3.5, 5.0]),
        st.sampled_from(["", "good", "bad", "it's fine"]),
        st.integers(1, 12).map(lambda day: FIRST + day * 86_400),
    ),
    min_size=1,
    max_size=60,
)
larger = st.integers(
    0, 10**6
).map(  # sparse and big enough to survive most settings
    lambda seed: [
        (f"u{u}", f"i{i}", "T" * (t > 0), 1.0 + r, "text"[:x], FIRST + day * 86_400)
        for u, i, t, r, x, day in np.random.default_rng(seed).integers(0, [30, 20, 20, 5, 5, 40], (120, 6)).tolist()
    ]
)
any_settings = st.builds(
    PrepareConfig,
    order=st.permutations(["window", "require_title", "require_text", "dedupe", "k_core"]),
    require_title=st.booleans(),
    require_text=st.booleans(),
    dedupe=st.booleans(),
    k_core=st.integers(1, 3),
    valid_fraction=st.sampled_from([0.1, 0.2]),
    test_fraction=st.sampled_from([0.1, 0.3]),
)


def naive(rows: list[tuple], config: PrepareConfig) -> list[tuple]:
    """(rank, user, item, timestamp, split) by lists and loops."""
    titled = {row[1] for row in rows if row[2]}  # an item's title serves all of its rows
    for step in config.order:
        if step == "require_title" and config.require_title:
            rows = [row for row in rows if row[1] in titled]
        if step == "require_text" and config.require_text:
            rows = [row for row in rows if row[4]]
        if step == "dedupe" and config.dedupe:
            newest: dict = {}
            for row in rows:
                worth = (row[5], row[4] != "", row[1] in titled)
                if (row[0], row[1]) not in newest or worth > newest[row[0], row[1]][0]:
                    newest[row[0], row[1]] = (worth, row)
            rows = [row for _, row in newest.values()]
        while step == "k_core":
            users = collections.Counter(row[0] for row in rows)
            items = collections.Counter(row[1] for row in rows)
            core = [row for row in rows if users[row[0]] >= config.k_core and items[row[1]] >= config.k_core]
            if len(core) == len(rows):
                break
            rows = core
    rows = sorted(rows, key=lambda row: row[5])
    if not rows:
        return []
    split_of = {}
    ends = [len(rows) * (1 - config.valid_fraction - config.test_fraction), len(rows) * (1 - config.test_fraction)]
    cuts = [rows[min(int(end + 1e-9), len(rows) - 1)][5] for end in ends]
    for row in rows:
        split_of[row[5]] = "train" if row[5] < cuts[0] else "valid" if row[5] < cuts[1] else "test"
    users = {row[0] for row in rows if split_of[row[5]] == "train"}
    items = {row[1] for row in rows if split_of[row[5]] == "train"}
    left = [row for row in rows if split_of[row[5]] == "train" or (row[0] in users and row[1] in items)]
    left.sort(key=lambda row: (row[5], row[0], row[1]))
    return [(rank, row[0], row[1], row[5], split_of[row[5]]) for rank, row in enumerate(left)]


@RELAXED
@given(rows_of_any_kind | larger, any_settings, st.randoms())
def test_any_table_is_prepared_like_the_naive_way_in_any_order(rows, config, random):
    expected = naive(rows, config)
    splits = {row[-1] for row in expected}
    shuffled = random.sample(rows, len(rows))
    if splits != {"train", "valid", "test"}:
        with pytest.raises(DataError, match="No review is left"):
            split_frame(pd.DataFrame(rows, columns=COLUMNS), config, HALVES)
        return
    got, report = split_frame(pd.DataFrame(rows, columns=COLUMNS), config, HALVES)
    assert (
        list(got[["row_id", "user_id", "item_id", "timestamp", "split"]].itertuples(index=False, name=None)) == expected
    )
    again, report_again = split_frame(pd.DataFrame(shuffled, columns=COLUMNS), config, HALVES)
    pd.testing.assert_frame_equal(got, again)
    assert report == report_again

    # The invariants in their own words, lest `naive` share a misreading with the code.
    times = got.groupby("split")["timestamp"]
    assert times.max()["train"] < times.min()["valid"]
    assert times.max()["valid"] < times.min()["test"]
    train = got[got["split"] == "train"]
    for side in ("user_id", "item_id"):
        assert set(got[side]) == set(train[side])

    # The waterfall accounts for every row.
    left = len(rows)
    for line in report["waterfall"]:
        left -= line["dropped"]
        assert line["left"] == left
    assert left == len(got) == report["table1"]["reviews"]


def dense(users: int = 8, items: int = 8, seed: int = 0) -> pd.DataFrame:
    """Every user reviews every item, at distinct times."""
    times = np.random.default_rng(seed).permutation(users * items) * 3600 + 1_400_000_000
    pairs = [(f"user{u}", f"item{i}") for u in range(users) for i in range(items)]
    return pd.DataFrame(
        [(u, i, f"Title {i}", float(1 + k % 5), f"text {k}", int(times[k])) for k, (u, i) in enumerate(pairs)],
        columns=COLUMNS,
    )


def test_splits_follow_time_and_hold_nothing_unseen():
    rows, report = split_frame(dense(), PrepareConfig(valid_fraction=0.2, test_fraction=0.1))
    times = rows.groupby("split")["timestamp"].agg(["min", "max"])
    assert times.loc["train", "max"] < times.loc["valid", "min"]
    assert times.loc["valid", "max"] < times.loc["test", "min"]
    assert rows["split"].value_counts().to_dict() == {"train": 44, "valid": 13, "test": 7}
    assert report["table1"]["sparsity"] == 0.0
    assert report["table1"]["history"]["user"]["mean"] == 5.5
    assert report["table1"]["timestamps"]["test"] == [int(times.loc["test", "min"]), int(times.loc["test", "max"])]
    conform(rows, REVIEWS, "test")


def test_ties_at_a_cut_fall_on_one_side():
    frame = dense()
    frame["timestamp"] = 1_400_000_000 + np.arange(len(frame)) % 9 * 86_400
    rows, _ = split_frame(frame, PrepareConfig(valid_fraction=0.2, test_fraction=0.2))
    assert (rows.groupby("timestamp")["split"].nunique() == 1).all()


def test_window_counts_calendar_months_back_from_the_newest_review():
    frame = dense().sample(frac=1, random_state=0, ignore_index=True)
    old = pd.Timestamp("2014-05-23", tz="UTC").timestamp()
    new = pd.Timestamp("2014-07-23", tz="UTC").timestamp()
    frame["timestamp"] = np.linspace(new - 86_400, new, len(frame)).astype("int64")
    frame.loc[0, "timestamp"] = int(old)  # two months to the second: outside
    frame.loc[1, "timestamp"] = int(old) + 1
    rows, report = split_frame(frame, PrepareConfig(window_months=2, k_core=1))
    assert report["waterfall"][1] == {
        "step": "window", "reason": "older than the last 2 months", "dropped": 1, "repaired": 0, "left": 63,
    }  # fmt: skip
    assert int(old) + 1 in set(rows["timestamp"])


def test_the_core_is_a_fixed_point_and_not_one_round():
    # user k reviews item k twice and item k + 1 once: dropping the last item unravels the chain one link a round.
    links = [(f"chain-user{k}", f"chain-item{k + end}") for k in range(6) for end in (0, 0, 1)]
    chain = pd.DataFrame(links, columns=["user_id", "item_id"]).assign(
        title="T", rating=4.0, review="text", timestamp=range(FIRST, FIRST + len(links))
    )
    config = PrepareConfig(k_core=3, dedupe=False)
    rows, report = split_frame(pd.concat([dense(), chain]), config)
    step = next(line for line in report["waterfall"] if line["step"] == "k_core")
    assert step["dropped"] == len(chain)
    assert int(step["reason"].split()[-2]) > 3
    assert set(rows["user_id"]) == set(dense()["user_id"])


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_reviews_of_one_user_item_and_second_have_an_order_of_their_own(order):
    twins = pd.DataFrame([("user1", "item1", "T", 4.0, text, FIRST - 9) for text in ("b", "a", "c")], columns=COLUMNS)
    rows, _ = split_frame(pd.concat([twins.iloc[order], dense()]), PrepareConfig(dedupe=False))
    expected, _ = split_frame(pd.concat([twins, dense()]), PrepareConfig(dedupe=False))
    assert list(rows["review"][:3]) == list(expected["review"][:3])
    assert set(rows["review"][:3]) == {"a", "b", "c"}


@RELAXED
@given(larger, st.integers(2, 4), st.booleans())
def test_every_user_and_item_of_the_core_has_k_reviews_and_no_larger_core_exists(rows, k, dedupe):
    # Read before the split, which takes rows of the core away again: those unseen in train.
    config = PrepareConfig(k_core=k, dedupe=dedupe, require_title=False, require_text=False)
    core = pd.DataFrame(rows, columns=COLUMNS)
    if dedupe:
        core = core.sort_values("timestamp").drop_duplicates(["user_id", "item_id"], keep="last")
    while True:
        counts = [core.groupby(side)[side].transform("size") for side in ("user_id", "item_id")]
        held = (counts[0] >= k) & (counts[1] >= k)
        if held.all():
            break
        core = core[held]
    with duckdb.connect() as con:
        con.register("raw", pd.DataFrame(rows, columns=COLUMNS).assign(line=range(len(rows))))
        steps = Steps(con, config, False, [])
        if core.empty:
            with pytest.raises(DataError, match="No review is left after the step 'k_core'"):
                steps.run()
            return
        with suppress(DataError):  # too small for three splits: the core is there all the same
            steps.run()
        left = con.execute("SELECT user_id, item_id, raw.timestamp FROM kept JOIN raw USING (line)").df()
    for side in ("user_id", "item_id"):
        assert left.groupby(side).size().min() >= k
    assert sorted(left.itertuples(index=False)) == sorted(core[list(left)].itertuples(index=False))


def test_dedupe_keeps_the_newest_review():
    frame = dense()
    older = frame.iloc[[5]].assign(timestamp=1_000_000_000, review="outdated")
    rows, _ = split_frame(pd.concat([older, frame]), PrepareConfig())
    assert "outdated" not in set(rows["review"])
    kept, _ = split_frame(pd.concat([older, frame]), PrepareConfig(dedupe=False))
    assert kept.loc[0, "review"] == "outdated"


def test_sampled_users_form_a_core_and_depend_on_the_seed_alone():
    frame = dense(40, 6)
    config = PrepareConfig(sample_users=10)
    rows, report = split_frame(frame, config)
    assert rows["user_id"].nunique() <= 10
    step = next(line for line in report["waterfall"] if line["step"] == "sample_users")
    assert step["left"] == 60
    again, _ = split_frame(frame.sample(frac=1, random_state=1), config)
    pd.testing.assert_frame_equal(rows, again)
    other, _ = split_frame(frame, PrepareConfig(sample_users=10, sample_seed=1))
    assert set(other["user_id"]) != set(rows["user_id"])


def test_a_sample_without_a_core_says_what_to_change():
    with pytest.raises(DataError, match=r"dataset.prepare.sample_users"):
        split_frame(dense(), PrepareConfig(sample_users=2))


def test_one_timestamp_cannot_be_split():
    with pytest.raises(DataError, match="left in train and valid"):
        split_frame(dense().assign(timestamp=FIRST), PrepareConfig())


def test_fractions_must_leave_something_to_train_on():
    with pytest.raises(DataError, match=r"valid_fraction=0.5 and test_fraction=0.5"):
        split_frame(dense(), PrepareConfig(valid_fraction=0.5, test_fraction=0.5))


def test_a_malformed_row_of_a_table_is_refused():
    with pytest.raises(DataError, match=r"line 4: rating outside 1\.\.5"):
        split_frame(dense().assign(rating=[3.0] * 3 + [6.0] * 61), PrepareConfig())
    with pytest.raises(DataError, match="columns missing: title"):
        split_frame(dense().drop(columns="title"), PrepareConfig())


# The real files, where they are.


def data_dir() -> Path:
    return Path(os.environ.get("R4R_DATA") or ROOT.parent / "shared" / "data")


def preset(name: str, **changes) -> DatasetConfig:
    loaded = yaml.safe_load((ROOT / "conf" / "dataset" / f"{name}.yaml").read_text(encoding="utf-8"))
    return DatasetConfig(**{**loaded, **changes})


def need(config: DatasetConfig) -> None:
    for name in (config.reviews, config.meta):
        if not (data_dir() / str(name)).exists():
            pytest.skip(f"{name} is not below R4R_DATA")


def test_musical_instruments(tmp_path):
    config = preset("musical_instruments")
    need(config)
    report = prepare(config, data_dir(), tmp_path)
    rows = conform(pd.read_parquet(tmp_path / "rows.parquet"), REVIEWS, "rows")
    assert report["waterfall"][0]["left"] == 10_261
    dropped = {line["step"]: line["dropped"] for line in report["waterfall"] if line["step"] != "read"}
    assert (dropped["require_title"], dropped["require_text"], dropped["dedupe"]) == (0, 7, 0)
    assert list(rows["row_id"]) == list(range(len(rows)))
    assert rows.equals(rows.sort_values(["timestamp", "user_id", "item_id"], ignore_index=True))
    assert not rows["review"].str.contains("&#34;|&quot;|&amp;").any()
    assert (rows.groupby("timestamp")["split"].nunique() == 1).all()
    for split in ("valid", "test"):
        part = rows[rows["split"] == split]
        assert len(part) == report["table1"][split] > 500
        for side in ("user_id", "item_id"):
            assert set(part[side]) <= set(rows.loc[rows["split"] == "train", side])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.parquet", "rows.parquet"]


def test_digital_music_prints_the_papers_row_beside_its_own(tmp_path):
    folder = "amazon2014/digital_music_slice"
    config = preset(
        "music",
        reviews=f"{folder}/reviews_Digital_Music_5.json.gz",
        meta=f"{folder}/meta_Digital_Music.json.gz",
    )
    need(config)
    report = prepare(config, data_dir(), tmp_path)
    text = table1_text(report, config.name)
    assert "43,071     3,271     1,296     4,183     2,660" in text
    assert f"{report['table1']['train']:,}" in text
    assert report["table1"]["items"] <= 382


@pytest.mark.parametrize("name", ["musical_instruments", "music", "book", "yelp"])
def test_presets_are_valid_and_open_with_their_command(name):
    config = preset(name)
    assert config.name == name
    first = (ROOT / "conf" / "dataset" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# r4r dataset={name}"
    assert {"music": 0.1, "book": 0.2, "yelp": 0.04}.get(name, 0.1) == config.tau
    assert {"book": 2, "yelp": 6}.get(name) == config.prepare.window_months
