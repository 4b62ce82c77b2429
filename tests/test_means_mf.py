"""The two plain baselines: means and matrix factorisation."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from r4r.errors import DataError, TrainingError
from r4r.methods.baseline import Given
from r4r.methods.means import Means
from r4r.methods.mf import MF
from r4r.report.compare import find, predictions
from r4r.report.records import gather
from r4r.rows import PREDICTIONS, REVIEWS, conform
from r4r.scale import PAPER
from r4r.store.inventory import users

LABELS = ["User+item bias", "Global mean", "User mean", "Item mean"]


def frame(rows: list[tuple[str, str, float, str]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "split"])
    return table.assign(row_id=range(len(table)), title="t", review="r", timestamp=range(len(table)))


def by_label(table: pd.DataFrame) -> dict[str, list[float]]:
    return {str(label): block["mean"].tolist() for label, block in table.groupby("label", sort=False)}


TRAIN = frame([("a", "x", 5, "train"), ("a", "y", 3, "train"), ("b", "x", 2, "train")])


def test_means_by_hand() -> None:
    wanted = frame([("a", "x", 1, "test"), ("b", "y", 1, "test")])
    got = by_label(Means(user_shrinkage=0, item_shrinkage=0).predict(TRAIN, wanted))
    mu, x, y = 10 / 3, 3.5 - 10 / 3, 3.0 - 10 / 3
    a, b = ((5 - mu - x) + (3 - mu - y)) / 2, 2 - mu - x
    assert got["Global mean"] == pytest.approx([mu, mu])
    assert got["User mean"] == pytest.approx([4.0, 2.0])
    assert got["Item mean"] == pytest.approx([3.5, 3.0])
    assert got["User+item bias"] == pytest.approx([mu + a + x, mu + b + y])


def test_shrinkage_pulls_biases_towards_the_global_mean() -> None:
    wanted = frame([("a", "x", 1, "test")])
    gaps = []
    for shrinkage in (0.0, 5.0, 1e9):
        got = by_label(Means(user_shrinkage=shrinkage, item_shrinkage=shrinkage).predict(TRAIN, wanted))
        gaps.append(abs(got["User+item bias"][0] - got["Global mean"][0]))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] == pytest.approx(0, abs=1e-6)


def test_unknown_users_and_items_fall_back() -> None:
    wanted = frame([("new", "x", 1, "test"), ("new", "new", 1, "test")])
    got = by_label(Means().predict(TRAIN, wanted))
    mu = 10 / 3
    assert got["User mean"] == pytest.approx([mu, mu])
    assert got["Item mean"] == pytest.approx([3.5, mu])
    assert got["User+item bias"][1] == pytest.approx(mu)
    assert got["User+item bias"][0] > mu


triples = st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz"), st.integers(1, 5).map(float))


@settings(max_examples=25)
@given(st.lists(triples, min_size=1, max_size=30), st.lists(triples, min_size=1, max_size=10), st.floats(0, 20))
def test_means_are_complete_in_range_and_blind_to_the_truth(train: list, wanted: list, shrinkage: float) -> None:
    known = frame([(*row, "train") for row in train])
    asked = frame([(*row, "test") for row in wanted])
    method = Means(user_shrinkage=shrinkage, item_shrinkage=shrinkage)
    table = conform(method.predict(known, asked), PREDICTIONS, "means")
    assert table.groupby("label", sort=False)["row_id"].apply(list).to_dict() == {
        label: list(range(len(wanted))) for label in LABELS
    }
    assert table["mean"].between(1, 5).all()
    pd.testing.assert_frame_equal(table, method.predict(known, asked.assign(rating=3.0)))


def planted(users: int = 60, items: int = 40, each: int = 25, seed: int = 0) -> pd.DataFrame:
    """Ratings from planted biases and two factors, with a little noise."""
    generator = np.random.default_rng(seed)
    user_bias, item_bias = generator.normal(0, 0.5, users), generator.normal(0, 0.5, items)
    p, q = generator.normal(0, 0.8, (users, 2)), generator.normal(0, 0.8, (items, 2))
    rows = []
    for user in range(users):
        for place, item in enumerate(generator.permutation(items)[:each]):
            value = 3 + user_bias[user] + item_bias[item] + p[user] @ q[item] + generator.normal(0, 0.1)
            split = "test" if place < 3 else "valid" if place < 6 else "train"
            rows.append((f"u{user}", f"i{item}", float(np.clip(value, 1, 5)), split))
    return frame(rows)


def rmse(rows: pd.DataFrame, table: pd.DataFrame) -> float:
    truth = rows.set_index("row_id").loc[table["row_id"], "rating"].to_numpy()
    return float(np.sqrt(((truth - table["mean"].to_numpy()) ** 2).mean()))


@pytest.fixture(scope="module")
def world() -> pd.DataFrame:
    return planted()


def test_mf_finds_what_biases_cannot_say(world: pd.DataFrame) -> None:
    test = world[world["split"] == "test"]
    means = Means(user_shrinkage=1, item_shrinkage=1).predict(world[world["split"] == "train"], test)
    bias = rmse(world, means[means["label"] == "User+item bias"])
    mf = MF(dim=8, lr=0.02, batch_size=128, max_epochs=60)
    table, facts = mf.predict(world, test, seed=0)
    assert rmse(world, table) < 0.9 * bias
    assert facts["best_epoch"] >= 1


def test_mf_repeats_itself_and_leaves_other_randomness_alone(world: pd.DataFrame) -> None:
    test = world[world["split"] == "test"]
    mf = MF(max_epochs=3, batch_size=128)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, _ = mf.predict(world, test, seed=1)
    assert torch.equal(torch.rand(1), expected)
    again, _ = mf.predict(world, test, seed=1)
    other, _ = mf.predict(world, test, seed=2)
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first["mean"], other["mean"])


def test_mf_does_not_see_the_test_ratings(world: pd.DataFrame) -> None:
    mf = MF(max_epochs=2, batch_size=256)
    is_test = world["split"] == "test"
    blind = world.assign(rating=world["rating"].where(~is_test, 1.0))
    first, _ = mf.predict(world, world[is_test], seed=0)
    second, _ = mf.predict(blind, blind[is_test], seed=0)
    pd.testing.assert_frame_equal(first, second)


def test_mf_that_diverges_is_an_error(world: pd.DataFrame) -> None:
    with pytest.raises(TrainingError, match="lower the learning rate"):
        MF(lr=1e30).predict(world, world[world["split"] == "test"], 0)


def test_mf_keeps_the_best_epoch_and_stops(world: pd.DataFrame) -> None:
    valid = world[world["split"] == "valid"]
    table, facts = MF(lr=0.3, batch_size=64, max_epochs=40, patience=2).predict(world, valid, seed=0)
    assert facts["best_epoch"] < 40
    assert rmse(world, table) == pytest.approx(facts["valid_rmse"], abs=1e-4)


def test_mf_answers_for_the_unknown(world: pd.DataFrame) -> None:
    wanted = frame([("nobody", "nothing", 1, "test")])
    table, _ = MF(max_epochs=1).predict(world, wanted, seed=0)
    mu = world.loc[world["split"] == "train", "rating"].mean()
    assert table["mean"].tolist() == pytest.approx([mu], abs=1e-5)


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_mf_predictions_are_ratings(seed: int) -> None:
    rows = planted(users=8, items=9, each=8, seed=seed)
    table, _ = MF(lr=1.0, max_epochs=2, batch_size=4).predict(rows, rows, seed=seed)
    table = conform(table, PREDICTIONS, "mf")
    assert table["row_id"].tolist() == rows["row_id"].tolist()
    assert table["mean"].between(1, 5).all()


@pytest.mark.parametrize("split", ["train", "valid"])
def test_mf_refuses_an_empty_split(world: pd.DataFrame, split: str) -> None:
    with pytest.raises(DataError, match=f"the {split} split is empty"):
        MF().predict(world[world["split"] != split], world, seed=0)


def test_a_baseline_that_reads_the_seed_says_so() -> None:
    """Else all seeds would have one artifact, and a report would call them three that agree."""
    given_ = Given(TRAIN, TRAIN, TRAIN, PAPER, "cpu", lambda metrics: None)
    with pytest.raises(DataError, match="set seeded = True in its class"):
        _ = given_.seed
    assert Given(TRAIN, TRAIN, TRAIN, PAPER, "cpu", lambda metrics: None, 7).seed == 7


def test_a_reference_of_the_methods_own_class_is_dropped_only_where_it_is_the_same(
    r4r: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["dataset.world.users=20", "dataset.world.items=10", "logger=none", f"paths.outputs={tmp_path}"]
    job = ["method=mf", "method.max_epochs=1", "~references.means", *small]
    deeper = ["+method@references.deeper=mf", "references.deeper.dim=3", "references.deeper.max_epochs=1"]

    def labels(*more: str, told: str = "") -> list[str]:
        assert r4r(*job, *more) == 0
        out, err = capsys.readouterr()
        assert told in out + err
        record = json.loads(Path(out.strip().splitlines()[-1]).read_text(encoding="utf-8"))
        assert {entry["label"] for entry in record["comparisons"]} == {s["label"] for s in record["metrics"][1:]}
        assert record["training_pairs"].keys() == {s["label"] for s in record["metrics"]}
        return [score["label"] for score in record["metrics"]]

    assert labels() == ["MF"]  # references.mf is the method itself, whose settings a reader would not look for twice
    assert labels(*deeper) == ["MF", "MF (references.deeper)"]
    assert labels(*deeper, "method.dim=3", told="references.deeper: has the settings of another row") == ["MF"]
    assert r4r(*job, "references.mf.dim=3") == 2
    assert "references.mf.dim=3: is the method itself here; give the reference another name" in capsys.readouterr().err
    assert r4r(*job, *deeper, "method.dim=4", "target=predict/mf") == 0
    target, _ = capsys.readouterr().out.strip().splitlines()
    (run,) = [run for run in gather([tmp_path])[0] if len({s["label"] for s in run.record.get("metrics") or ()}) == 2]
    rows = find(run, "split").table(REVIEWS).set_index("row_id")["rating"]
    for score in run.record["metrics"]:  # each label's own predictions are found, though their stages share a name
        values = predictions(run, score["label"])
        assert float((values - rows[values.index]).abs().mean()) == pytest.approx(score["mae"])
    used, _ = users(tmp_path)
    assert len([key for stage, key in used if stage == "predict/mf"]) == 3
    settings = yaml.safe_load((Path(target.partition(": ")[2]) / "config.yaml").read_text(encoding="utf-8"))
    assert settings["method"]["settings"]["dim"] == 4  # the method's own, of the three of that name
