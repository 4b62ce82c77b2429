"""Scales of ratings: their values as texts and back, bands, stars; and who refuses ratings that are on none."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.overrides import check_overrides
from r4r.configuration.schema import DatasetConfig
from r4r.errors import ConfigError
from r4r.methods import point_predictions
from r4r.methods.means import Means
from r4r.methods.mf import MF
from r4r.metrics.rating import segments
from r4r.reasons.rating import parse_rating
from r4r.scale import MOST_VALUES, PAPER, Scale

HALVES, TEN, HUNDRED = Scale(lowest=0.5, step=0.5), Scale(highest=10), Scale(lowest=0, highest=100)
scales = st.builds(
    lambda lowest, step, steps: Scale(lowest=lowest, highest=lowest + step * steps, step=step),
    st.integers(-40, 40).map(lambda n: n / 4) | st.sampled_from([-0.7, 0.1, 1 / 3]),
    st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.5, 1.0, 2.5, 1 / 3, 10.0]),
    st.integers(1, 60),
)
ratings = st.floats(-200, 200)


def test_the_default_writes_the_papers_strings():
    assert [PAPER.text(value) for value in (1, 2.4, 2.5, 4.6, 9)] == ["1.0", "2.0", "3.0", "5.0", "5.0"]
    assert [HALVES.text(value) for value in (0, 0.74, 0.75, 3.5)] == ["0.5", "0.5", "1.0", "3.5"]
    assert [Scale(lowest=0, highest=1, step=0.25).text(value) for value in (0.3, 0.4)] == ["0.25", "0.50"]
    assert TEN.text(10) == "10.0"
    assert Scale(lowest=-0.7, highest=0.7, step=0.1).text(0) == "0.0"  # never -0.0


@given(scales, ratings)
def test_a_text_names_the_nearest_value_and_no_other(scale, rating):
    texts = [scale.text(value) for value in scale.values]
    assert [float(text) for text in texts] == list(scale.values)
    assert len(set(texts)) == len(texts)
    assert scale.values == tuple(sorted(scale.values))
    assert {len(text.rpartition(".")[2]) for text in texts} == {scale.decimals}
    near = scale.nearest(rating)
    assert float(scale.text(rating)) == near
    assert abs(near - rating) <= min(abs(value - rating) for value in scale.values) + 1e-5
    assert scale.values[int(scale.places(np.array([rating]))[0])] == near


@given(scales, ratings)
def test_ratings_keep_what_they_say_and_lose_the_noise_of_small_floats(scale, rating):
    for value in scale.values:
        assert scale.settled(float(np.float32(value))) == value
    settled = scale.settled(rating)
    if settled is None:
        assert not scale.lowest <= rating <= scale.highest
    else:
        assert settled == pytest.approx(rating, abs=1e-3)
        assert settled in scale.values or settled == rating


@given(scales, st.lists(ratings, min_size=1, max_size=20))
def test_stars_run_from_1_to_5_and_back(scale, found):
    values = np.array(found)
    assert scale.to_stars(np.array([scale.lowest, scale.highest])) == pytest.approx([1, 5])
    assert scale.from_stars(scale.to_stars(values)) == pytest.approx(values, abs=1e-6)
    assert PAPER.to_stars(values) == pytest.approx(values)


@given(scales)
def test_bands_hold_every_value_once_and_are_few(scale):
    bands = scale.bands()
    assert [place for _, low, high in bands for place in range(low, high + 1)] == list(range(len(scale.values)))
    assert len(bands) <= 20
    assert len(bands) == len(scale.values) or len(scale.values) > 20


def test_names_of_bands():
    assert [name for name, _, _ in PAPER.bands()] == ["1", "2", "3", "4", "5"]
    assert [name for name, _, _ in HUNDRED.bands()][:2] == ["0 to 5", "6 to 11"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lowest": 5, "highest": 1}, "must be above"),
        ({"lowest": 5}, "must be above"),
        ({"step": 0.3}, "no whole number of steps"),
        ({"step": 8}, "no whole number of steps"),
        ({"step": 0}, "greater than or equal"),
        ({"step": float("nan")}, "finite number"),
        ({"highest": float("inf")}, "finite number"),
        ({"lowest": 0, "highest": 100, "step": 0.1}, f"has 1,001 values; at most {MOST_VALUES}"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        Scale(**settings)


def test_the_simulated_world_has_a_scale_of_its_own():
    with pytest.raises(ValidationError, match="rates from 1 to 5 in whole stars"):
        DatasetConfig(name="s", source="simulated", category="Music", scale=TEN)


@pytest.mark.parametrize("written", ["", "scale: null\n"])
def test_a_scale_is_set_on_the_command_line_whatever_the_file_spells(tmp_path, written):
    (tmp_path / "dataset").mkdir()
    text = f"name: own\nsource: custom\ncategory: Thing\nreviews: r.csv\n{written}"
    (tmp_path / "dataset" / "own.yaml").write_text(text)
    loader = make_loader(str(tmp_path))
    asked = ["dataset=own", "method=mf", "dataset.scale.lowest=0.5", "dataset.scale.step=0.5"]
    checked = check_overrides(asked, loader)
    assert checked.problems == []
    assert validate(compose(loader, "config", checked.variants[0])).dataset.rating_scale == HALVES
    with pytest.raises(ConfigError, match="no whole number of steps"):
        validate(compose(loader, "config", ["dataset=own", "++dataset.scale.step=0.3"]))


# what is predicted, and how it is scored


def frame(scale: Scale, stars: list[float]) -> pd.DataFrame:
    """24 rows of 4 users and 6 items; the last 8 are valid and test."""
    table = pd.DataFrame([(f"u{k % 4}", f"i{k % 6}") for k in range(24)], columns=["user_id", "item_id"])
    table["split"] = ["train"] * 16 + ["valid", "test"] * 4
    return table.assign(row_id=range(24), rating=scale.from_stars(np.array(stars)), title="t", timestamp=range(24))


STARS = [float(1 + (k * 7 + k // 4) % 5) for k in range(24)]


@pytest.mark.parametrize("scale", [HALVES, TEN, HUNDRED, Scale(lowest=-10, highest=10)], ids=str)
def test_baselines_give_on_any_scale_what_they_give_on_the_papers(scale):
    plain, other = frame(PAPER, STARS), frame(scale, STARS)
    mf = MF(dim=2, max_epochs=4, batch_size=8)
    expected, facts = mf.predict(plain, plain[plain["split"] == "test"], seed=0)
    got, told = mf.predict(other, other[other["split"] == "test"], seed=0, scale=scale)
    assert got["mean"].to_numpy() == pytest.approx(scale.from_stars(expected["mean"].to_numpy()), abs=1e-3)
    assert told["valid_rmse"] == pytest.approx(facts["valid_rmse"] * scale.star, rel=1e-4)
    wanted = Means().predict(plain[plain["split"] == "train"], plain)["mean"].to_numpy()
    means = Means().predict(other[other["split"] == "train"], other, scale)["mean"].to_numpy()
    assert means == pytest.approx(scale.from_stars(wanted))


def test_predictions_end_where_the_scale_ends():
    table = point_predictions(pd.Series([1, 2, 3]), "m", np.array([-3.0, 55.5, 200.0]), HUNDRED)
    assert table["mean"].tolist() == table["mode"].tolist() == [0, 55.5, 100]


def test_errors_are_told_by_the_values_of_the_scale():
    truth = pd.DataFrame({"row_id": range(4), "rating": [0.5, 3.5, 3.45, 5.0]})
    known = np.zeros(4, dtype=int)
    got = segments(truth, truth["rating"].to_numpy() + 1, known, known, scale=HALVES)
    by_rating = {row["segment"]: row["n"] for row in got if row["by"] == "true rating"}
    assert by_rating == {"0.5": 1, "3.5": 2, "5": 1}
    truth["rating"] = [0, 5, 6, 100]
    got = segments(truth, truth["rating"].to_numpy(), known, known, scale=HUNDRED)
    assert {row["segment"]: row["n"] for row in got if row["by"] == "true rating"} == {
        "0 to 5": 2, "6 to 11": 1, "96 to 100": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("scale", "answer", "rating"),
    [
        (TEN, "9", 9),
        (TEN, "Rating: 7.5/10", 7.5),
        (TEN, "10 out of 10.0", 10),
        (TEN, "4/5", None),
        (TEN, "0", None),
        (PAPER, "4/10", None),
        (HALVES, "0.5", 0.5),
        (HUNDRED, "**87**", 87),
        (HUNDRED, "101", None),
        (Scale(lowest=-10, highest=10), "Predicted Rating: -2.5", -2.5),
        (Scale(lowest=-10, highest=10), "- 4", 4),
        (Scale(lowest=0, highest=1), "1 star", 1),
    ],
    ids=str,
)
def test_an_answer_is_read_on_the_scale(scale, answer, rating):
    assert parse_rating(answer, scale) == rating


@given(scales.filter(lambda scale: scale.lowest >= 0))
def test_every_value_of_a_scale_is_read_back(scale):
    assert [parse_rating(f"Predicted Rating: {scale.text(value)}", scale) for value in scale.values] == [*scale.values]
