"""The simulated review world: same seed same rows, effects of the planted size, reviews that read like reviews."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r4r.configuration.schema import WorldConfig
from r4r.data.simulator import World, build_world
from r4r.errors import ConfigError
from r4r.lexicon import ASPECTS, KINDS, aspects_in, cues, keyword, remark_in


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(WorldConfig(users=250, items=80, reviews_per_user=8))


def rmse(prediction: np.ndarray, rating: np.ndarray) -> float:
    return float(np.sqrt(np.mean((np.clip(prediction, 1, 5) - rating) ** 2)))


def fitted_bias(rows: pd.DataFrame) -> np.ndarray:
    """User plus item effects fitted by least squares to these very ratings: no bias model does better here."""
    one_hot = pd.get_dummies(rows[["user_id", "item_id"]], dtype=float).to_numpy()
    return one_hot @ np.linalg.lstsq(one_hot, rows["rating"].to_numpy(), rcond=None)[0]


def test_equal_seeds_give_equal_worlds_and_others_differ():
    size = {"users": 20, "items": 12, "reviews_per_user": 5}
    one, two = build_world(WorldConfig(seed=3, **size)), build_world(WorldConfig(seed=3, **size))
    pd.testing.assert_frame_equal(one.rows, two.rows)
    pd.testing.assert_frame_equal(one.truth.reviews, two.truth.reviews)
    other = build_world(WorldConfig(seed=4, **size)).rows
    assert set(other["review"]).isdisjoint(one.rows["review"])


@settings(max_examples=25)
@given(
    users=st.integers(4, 30),
    items=st.integers(4, 25),
    per_user=st.integers(2, 4),
    user_aspects=st.integers(1, 14),
    item_aspects=st.integers(1, 14),
    chatter=st.floats(0, 1),
    seed=st.integers(0, 10_000),
)
def test_rows_are_sound_at_any_size(users, items, per_user, user_aspects, item_aspects, chatter, seed):
    world = WorldConfig(
        seed=seed,
        users=users,
        items=items,
        reviews_per_user=per_user,
        user_aspects=user_aspects,
        item_aspects=item_aspects,
        chatter=chatter,
    )
    built = build_world(world)
    rows = built.rows
    assert list(rows.columns) == ["user_id", "item_id", "title", "rating", "review", "timestamp"]
    assert not rows.duplicated(["user_id", "item_id"]).any()
    assert rows["rating"].isin([1.0, 2.0, 3.0, 4.0, 5.0]).all()
    assert rows.groupby("user_id").size().between(2, items).all()
    assert rows["user_id"].nunique() == users
    assert rows.groupby("item_id")["title"].nunique().eq(1).all()
    assert rows["title"].nunique() == rows["item_id"].nunique()
    assert rows["review"].str.split().str.len().between(1, 80).all()
    assert built.truth.users.groupby("user_id").size().eq(user_aspects).all()
    assert built.truth.items.groupby("item_id").size().eq(item_aspects).all()


def test_ratings_use_the_whole_range(world: World):
    share = world.rows["rating"].value_counts(normalize=True)
    assert set(share.index) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert share.min() > 0.05
    assert share.max() < 0.4


def test_knowing_the_shared_aspects_beats_any_bias_model(world: World):
    rating, truth = world.rows["rating"].to_numpy(), world.truth.reviews
    oracle = rmse((truth["bias"] + truth["match"]).to_numpy(), rating)
    assert oracle < 0.7 * rmse(fitted_bias(world.rows), rating)
    assert oracle < 0.7 * rmse(truth["bias"].to_numpy(), rating)
    assert (truth["match"] != 0).mean() > 0.8


def test_without_match_weight_aspects_explain_nothing():
    flat = build_world(WorldConfig(users=150, items=60, match_weight=0.0))
    assert (flat.truth.reviews["match"] == 0).all()
    assert rmse(flat.truth.reviews["bias"].to_numpy(), flat.rows["rating"].to_numpy()) < 0.5


def test_match_is_the_sum_over_the_aspects_that_user_and_item_share(world: World):
    shared = world.truth.users.merge(world.truth.items, on="aspect")
    planted = (shared["weight"] * shared["quality"]).groupby([shared["user_id"], shared["item_id"]]).sum()
    reviews = world.truth.reviews.set_index(["user_id", "item_id"])
    np.testing.assert_allclose(planted.reindex(reviews.index).fillna(0.0), reviews["match"], atol=1e-9)


def test_reviews_are_short_and_varied(world: World):
    reviews = world.rows["review"]
    words = reviews.str.split().str.len()
    assert 35 <= words.mean() <= 45
    assert words.max() <= 80
    assert words.std() > 10
    assert reviews.duplicated().mean() < 0.01
    openings = reviews.str.lower().str.split().str[:3].str.join(" ")
    assert openings.nunique() > 250
    assert openings.value_counts(normalize=True).max() < 0.06
    assert 0.02 < reviews.eq(reviews.str.lower()).mean() < 0.2  # some people write without capitals
    mixed = world.truth.reviews["positive"].str.len().gt(0) & world.truth.reviews["negative"].str.len().gt(0)
    assert 0.1 < mixed.mean() < 0.6


def test_reviews_never_state_the_rating(world: World):
    text = " ".join(world.rows["review"]).lower()
    assert not re.search(r"\d|\bstars?\b|\brat(?:e|ed|ing|ings)\b|\bout of (?:five|ten)\b", text)


def test_chatter_is_the_share_of_sentences_without_an_aspect(world: World):
    def share(reviews: pd.Series) -> float:
        sentences = [s for review in reviews for s in re.split(r"(?<=[.!])\s+", review)]
        return float(np.mean([not cues(s) for s in sentences]))

    silent = build_world(WorldConfig(users=60, items=30, chatter=0.0)).rows["review"]
    talkative = build_world(WorldConfig(users=60, items=30, chatter=0.8)).rows["review"]
    assert share(silent) < 0.06  # typos hide a few cues
    assert share(world.rows["review"]) == pytest.approx(0.5, abs=0.06)
    assert share(talkative) == pytest.approx(0.8, abs=0.08)


def test_reviews_say_what_the_truth_says_they_say(world: World):
    right = said = read = 0
    for review, row in zip(world.rows["review"], world.truth.reviews.itertuples(), strict=True):
        truth = {(aspect, kind) for kind in KINDS for aspect in getattr(row, kind)}
        found = {tuple(cue) for cue in cues(review)}
        right, said, read = right + len(truth & found), said + len(truth), read + len(found)
    assert right / said > 0.97  # measured 0.99: typos hide the rest
    assert right / read > 0.99


def test_sentiment_follows_quality(world: World):
    quality = world.truth.items.set_index(["item_id", "aspect"])["quality"]
    for kind, sign in (("positive", 1), ("negative", -1)):
        told = world.truth.reviews[["item_id", kind]].explode(kind).dropna()
        assert (quality.loc[list(told.itertuples(index=False, name=None))] == sign).all()


def test_titles_and_time_tell_nothing(world: World):
    assert not any(cues(f"great {title.lower()}") for title in world.rows["title"])
    time = pd.to_datetime(world.rows["timestamp"], unit="s")
    assert (time.max() - time.min()).days > 2 * 365
    assert not time.is_monotonic_increasing
    assert world.rows["timestamp"].duplicated().mean() < 0.01
    assert abs(np.corrcoef(world.rows["timestamp"], world.rows["rating"])[0, 1]) < 0.1


def test_impossible_sizes_are_all_named_at_once():
    with pytest.raises(ConfigError) as caught:
        build_world(WorldConfig(users=5, items=5, reviews_per_user=9, user_aspects=40), "Book")
    text = str(caught.value)
    assert all(word in text for word in ("reviews_per_user", "user_aspects", "'Book'"))


def test_a_keyword_reads_back_as_its_aspect():
    for name in ASPECTS:
        summary = (
            f"Positive Aspects: {keyword(name, 'positive')}\nNegative Aspects: {keyword(name, 'negative')}\n"
            f"User Preference Elements: {keyword(name, 'preference')}"
        )
        assert aspects_in(summary) == {"positive": [name], "negative": [name], "preference": [name]}


def test_ragged_summaries_still_read():
    text = "positive aspects: Catchy Tunes, sparkling nonsense, catchy melody Negative Aspects: none"
    assert aspects_in(text) == {"positive": ["Melody"], "negative": [], "preference": []}
    assert aspects_in("") == {"positive": [], "negative": [], "preference": []}


def test_reading_handles_negation_contrast_and_wishes():
    assert cues("The lyrics are not clever at all, but I love the singing.") == [
        ("Lyrics", "negative"),
        ("Vocals", "positive"),
    ]
    assert cues("I buy records for the drums.") == [("Rhythm", "preference")]
    assert cues("I read the lyrics on the train.") == []
    assert remark_in("Nice cover. Avoid this one!") == 1
    assert remark_in("It arrived on Tuesday.") is None
