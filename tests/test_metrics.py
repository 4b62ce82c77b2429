"""Rating error, segments and paired bootstrap."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r4r.errors import DataError
from r4r.metrics.rating import align, rating_error, segments
from r4r.metrics.significance import paired_bootstrap, paired_scores

ratings = st.lists(st.tuples(st.integers(1, 5), st.floats(1, 5)), min_size=2, max_size=50)


def test_known_values() -> None:
    got = rating_error(np.array([1.0, 2.0, 5.0]), np.array([2.0, 2.0, 3.0]))
    assert got["n"] == 3
    assert got["mae"] == pytest.approx(1.0)
    assert got["mae_se"] == pytest.approx(1 / np.sqrt(3))
    assert got["rmse"] == pytest.approx(np.sqrt(5 / 3))
    assert got["rmse_se"] == pytest.approx(np.std([1, 0, 4], ddof=1) / (2 * np.sqrt(5 / 3) * np.sqrt(3)))


def test_standard_errors_match_what_resampling_finds() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(1, 6, 800).astype(float)
    predicted = np.clip(truth + generator.normal(0, 1, 800), 1, 5)
    got = rating_error(truth, predicted)
    draws = [rating_error(truth[i], predicted[i]) for i in generator.integers(0, 800, (400, 800))]
    for name in ("mae", "rmse"):
        assert np.std([d[name] for d in draws]) == pytest.approx(got[f"{name}_se"], rel=0.12)


@given(ratings, st.randoms(use_true_random=False))
def test_rmse_is_no_less_than_mae_and_order_does_not_matter(pairs: list, random) -> None:
    truth, predicted = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    got = rating_error(truth, predicted)
    assert got["rmse"] >= got["mae"] - 1e-9
    random.shuffle(pairs)
    again = rating_error(*(np.array(column, dtype=float) for column in zip(*pairs, strict=True)))
    assert again == pytest.approx(got, abs=1e-9)


def test_a_perfect_prediction_has_no_error_and_no_spread() -> None:
    assert rating_error(np.array([1.0, 4.0]), np.array([1.0, 4.0])) == {
        "n": 2,
        "mae": 0.0,
        "mae_se": 0.0,
        "rmse": 0.0,
        "rmse_se": 0.0,
    }


def test_a_single_row_has_no_standard_error() -> None:
    assert rating_error(np.array([1.0]), np.array([3.0])) == {
        "n": 1,
        "mae": 2.0,
        "mae_se": None,
        "rmse": 2.0,
        "rmse_se": None,
    }


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [([], [], "no row"), ([1.0], [np.nan], "not a finite"), ([1.0, 2.0], [1.0], "cannot be compared")],
)
def test_what_cannot_be_scored_is_refused(truth: list, predicted: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rating_error(np.array(truth), np.array(predicted))


def table(row_ids: list[int], values: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"row_id": row_ids, "label": "A", "mean": values, "median": values, "mode": values})


def test_align_puts_predictions_in_the_order_of_the_truth() -> None:
    truth = pd.DataFrame({"row_id": [7, 3, 5], "rating": [1.0, 2.0, 3.0]})
    predictions = pd.concat([table([3, 5, 7], [2.0, 3.0, 1.0]), table([3], [5.0]).assign(label="B")])
    assert align(truth, predictions, "A")["mean"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("row_ids", "values", "message"),
    [
        ([3, 5], [2.0, 3.0], "1 rows have no prediction: row_id 7"),
        ([3, 5, 7, 7], [2.0, 3.0, 1.0, 1.0], "1 rows are predicted more than once: row_id 7"),
        ([3, 5, 7, 9], [2.0, 3.0, 1.0, 1.0], "1 rows are not among the rows to score: row_id 9"),
        ([3, 5, 7], [2.0, np.nan, 1.0], "1 rows have a prediction that is not a finite number: row_id 5"),
    ],
)
def test_align_names_rows_and_never_skips_them(row_ids: list, values: list, message: str) -> None:
    truth = pd.DataFrame({"row_id": [7, 3, 5], "rating": [1.0, 2.0, 3.0]})
    with pytest.raises(DataError, match=message):
        align(truth, table(row_ids, values), "A")


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(1, 5), st.integers(0, 40)), min_size=1, max_size=40))
def test_each_row_is_in_one_segment_of_each_kind(rows: list) -> None:
    truth = pd.DataFrame({"row_id": range(len(rows)), "rating": [float(r) for r, _, _ in rows]})
    lengths = np.array([n for _, _, n in rows])
    got = segments(truth, np.array([p for _, p, _ in rows]), lengths, lengths[::-1])
    for by in ("user history", "item history", "true rating"):
        assert sum(row["n"] for row in got if row["by"] == by) == len(rows)


def test_segments_hold_the_rows_that_they_name() -> None:
    truth = pd.DataFrame({"row_id": [0, 1, 2, 3], "rating": [5.0, 5.0, 1.0, 1.0]})
    got = segments(truth, np.array([5.0, 4.0, 3.0, 1.0]), np.array([0, 4, 5, 20]), np.array([10, 10, 19, 9]))
    errors = {(row["by"], row["segment"]): (row["n"], row["mae"]) for row in got}
    assert errors == {
        ("user history", "0-4"): (2, 0.5),
        ("user history", "5-9"): (1, 2.0),
        ("user history", "20+"): (1, 0.0),
        ("item history", "5-9"): (1, 0.0),
        ("item history", "10-19"): (3, 1.0),
        ("true rating", "1"): (2, 1.0),
        ("true rating", "5"): (2, 0.5),
    }


def test_bootstrap_sees_a_difference_and_its_sign() -> None:
    generator = np.random.default_rng(1)
    truth = generator.integers(1, 6, 300).astype(float)
    good, bad = truth + generator.normal(0, 0.3, 300), truth + generator.normal(0, 1.0, 300)
    got = paired_bootstrap(truth, good, bad)
    for name in ("mae", "rmse"):
        exact = rating_error(truth, good)[name] - rating_error(truth, bad)[name]
        assert got[name]["difference"] == pytest.approx(exact)
        assert got[name]["low"] < exact < got[name]["high"] < 0
        assert got[name]["p"] < 0.01
    assert paired_bootstrap(truth, good, bad) == got
    assert paired_bootstrap(truth, good, bad, seed=1) != got


def test_bootstrap_interval_matches_the_normal_one() -> None:
    generator = np.random.default_rng(2)
    truth = generator.normal(3, 1, 500)
    first, second = truth + generator.normal(0, 1, 500), truth + generator.normal(0, 1, 500)
    spread = np.std(np.abs(truth - first) - np.abs(truth - second), ddof=1) / np.sqrt(500)
    got = paired_bootstrap(truth, first, second)["mae"]
    assert got["high"] - got["low"] == pytest.approx(2 * 1.96 * spread, rel=0.1)


@settings(max_examples=25)
@given(ratings, st.integers(0, 3))
def test_bootstrap_is_antisymmetric_and_finds_nothing_between_equals(pairs: list, seed: int) -> None:
    truth, predicted = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    other = 6.0 - predicted
    there = paired_bootstrap(truth, predicted, other, samples=100, seed=seed)
    back = paired_bootstrap(truth, other, predicted, samples=100, seed=seed)
    for name in ("mae", "rmse"):
        assert there[name]["difference"] == pytest.approx(-back[name]["difference"])
        assert there[name]["p"] == pytest.approx(back[name]["p"])
        assert there[name]["low"] == pytest.approx(-back[name]["high"])
        assert 0 < there[name]["p"] <= 1
    assert paired_bootstrap(truth, predicted, predicted, samples=50)["mae"]["p"] == 1


def test_bootstrap_refuses_unequal_rows() -> None:
    with pytest.raises(DataError, match="3, 2 and 3 rows"):
        paired_bootstrap(np.ones(3), np.ones(2), np.ones(3))
    with pytest.raises(DataError, match="2 and 3 rows"):
        paired_scores(np.ones(2), np.ones(3))


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=30), st.integers(0, 9))
def test_scores_are_compared_as_errors_are(pairs: list[tuple[float, float]], seed: int) -> None:
    first, second = np.array(pairs).T
    as_errors = paired_bootstrap(np.zeros(len(pairs)), first, second, samples=60, seed=seed)["mae"]
    assert paired_scores(first, second, samples=60, seed=seed) == pytest.approx(as_errors)
