"""Comparisons pooled over seeds and worlds: right on effects that are planted, and quiet where there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from r4r.errors import DataError
from r4r.metrics.significance import ALPHA, World, holm, paired_bootstrap, pooled, pooled_scores, unpaired

SEEDS, ROWS, TRIES = 3, 80, 120


def world(generator: np.random.Generator, effect: float, between: float = 0.0, seeds: int = SEEDS) -> World:
    """Two methods whose errors share what is hard in a row; the first's are larger by an effect, on average.

    Args:
        effect: of absolute errors, in rating points.
        between: standard deviation of the effect over worlds.
    """
    truth = generator.integers(1, 6, ROWS).astype(float)
    hard = generator.gamma(4.0, 0.2, ROWS)
    effect += between * generator.normal()
    side = generator.choice([-1.0, 1.0], (seeds, ROWS))
    first, second = (np.abs(hard + generator.normal(shift, 0.3, (seeds, ROWS))) for shift in (effect, 0.0))
    return World(truth + side * first, truth + side * second, truth)


def found(effect: float, worlds: int, between: float = 0.0, tries: int = TRIES) -> dict[str, float]:
    """Share of tries in which the difference is called significant, by metric."""
    generator = np.random.default_rng(worlds)
    made = [pooled([world(generator, effect, between) for _ in range(worlds)], samples=120) for _ in range(tries)]
    return {metric: float(np.mean([one[metric]["p"] < ALPHA for one in made])) for metric in ("mae", "rmse")}


@pytest.mark.parametrize(("worlds", "between"), [(1, 0.0), (3, 0.0), (3, 0.1), (3, 1.0)])
def test_equal_methods_are_rarely_told_apart(worlds: int, between: float) -> None:
    """Also where a few worlds differ much more than rows do: the chance must stay near five in a hundred."""
    assert max(found(0.0, worlds, between).values()) <= stats.binom.ppf(0.999, TRIES, ALPHA) / TRIES


def test_without_an_effect_p_is_uniform() -> None:
    generator = np.random.default_rng(11)
    made = [pooled([world(generator, 0.0)], samples=250) for _ in range(150)]
    for metric in ("mae", "rmse"):
        assert stats.kstest([one[metric]["p"] for one in made], "uniform").pvalue > 0.01


def test_without_an_effect_no_level_is_exceeded_over_worlds() -> None:
    """Student's t there takes the larger of two variances, so that p errs upwards."""
    generator = np.random.default_rng(12)
    made = [pooled([world(generator, 0.0, 0.1) for _ in range(3)], samples=100)["mae"]["p"] for _ in range(150)]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(made) < level) <= stats.binom.ppf(0.999, 150, level) / 150


@pytest.mark.parametrize(("worlds", "between"), [(1, 0.0), (3, 0.0)])
def test_a_planted_effect_is_found(worlds: int, between: float) -> None:
    assert min(found(0.25, worlds, between, tries=40).values()) > 0.9


def test_the_visible_difference_is_found_four_times_in_five() -> None:
    generator = np.random.default_rng(0)
    visible = float(np.mean([pooled([world(generator, 0.0)], samples=300)["mae"]["visible"] for _ in range(20)]))
    assert found(visible, 1)["mae"] == pytest.approx(0.8, abs=0.12)


def test_seeds_that_share_rows_are_pooled_by_a_rows_mean_error() -> None:
    one = world(np.random.default_rng(1), 0.1)
    got = pooled([one])
    assert one.truth is not None
    by_row = [np.abs(one.truth - rated).mean(axis=0) for rated in (one.first, one.second)]
    alike = paired_bootstrap(np.zeros(ROWS), *by_row)["mae"]
    assert got["mae"] == pytest.approx(alike)
    each = [
        paired_bootstrap(one.truth, *pair)["rmse"]["difference"] for pair in zip(one.first, one.second, strict=True)
    ]
    assert got["rmse"]["difference"] == pytest.approx(np.mean(each))  # that of the means in a table


def test_pooling_sees_what_no_seed_sees_alone() -> None:
    one = world(np.random.default_rng(5), 0.05, seeds=8)
    assert one.truth is not None
    alone = [paired_bootstrap(one.truth, *pair)["mae"]["p"] for pair in zip(one.first, one.second, strict=True)]
    assert max(alone) > ALPHA
    assert pooled([one])["mae"]["p"] < ALPHA


def test_worlds_that_contradict_each_other_show_nothing_whatever_their_rows_say() -> None:
    generator = np.random.default_rng(3)
    sided = [world(generator, effect) for effect in (0.5, -0.5, 0.6)]
    each = [pooled([one])["mae"]["p"] for one in sided]
    assert max(each) < 0.01
    assert pooled(sided)["mae"]["p"] > 0.3


@settings(max_examples=30)
@given(st.integers(0, 100), st.integers(1, 3))
def test_an_interval_and_its_p_agree_and_sides_can_be_swapped(seed: int, worlds: int) -> None:
    generator = np.random.default_rng(seed)
    made = [world(generator, 0.06, 0.05) for _ in range(worlds)]
    there = pooled(made, samples=200)
    back = pooled([World(one.second, one.first, one.truth) for one in made], samples=200)
    for metric in ("mae", "rmse"):
        effect, swapped = there[metric], back[metric]
        assert effect["low"] <= effect["difference"] <= effect["high"]
        assert swapped["low"] == pytest.approx(-effect["high"])
        assert swapped["p"] == pytest.approx(effect["p"])
        if abs(effect["p"] - ALPHA) > 0.02:
            assert (effect["p"] < ALPHA) == (effect["low"] > 0 or effect["high"] < 0)


@pytest.mark.parametrize("worlds", [1, 3])
def test_the_same_method_twice_has_no_effect(worlds: int) -> None:
    generator = np.random.default_rng(0)
    made = [world(generator, 0.0) for _ in range(worlds)]
    got = pooled([World(one.first, one.first, one.truth) for one in made], samples=50)["rmse"]
    assert (got["difference"], got["p"], got["visible"]) == (0.0, 1.0, 0.0)


def test_a_single_row_tells_nothing_of_what_could_have_been_seen() -> None:
    one, two = (paired_bootstrap(np.ones(n), np.full(n, 2.0), np.full(n, 4.0), samples=50)["mae"] for n in (1, 2))
    assert "visible" not in one
    assert one["p"] == 1.0
    assert two["visible"] == 0.0


def test_scores_are_pooled_alike() -> None:
    generator = np.random.default_rng(4)
    better = generator.normal(0.5, 0.1, (SEEDS, ROWS))
    worse = better - 0.05 + generator.normal(0, 0.1, (SEEDS, ROWS))
    got = pooled_scores([World(better, worse)])
    assert got["difference"] == pytest.approx((better - worse).mean())
    assert got["p"] < 0.01
    assert pooled_scores([World(better, better)])["p"] == 1.0


def test_unpaired_means_are_compared_as_by_welch() -> None:
    generator = np.random.default_rng(6)
    samples = generator.normal(1.0, 0.2, 12), generator.normal(1.3, 0.6, 30)
    told = [(float(s.mean()), float(s.std(ddof=1) / np.sqrt(len(s))), len(s)) for s in samples]
    got = unpaired(*told)
    welch = stats.ttest_ind(*samples, equal_var=False)
    assert got["p"] == pytest.approx(welch.pvalue)
    assert (got["low"], got["high"]) == pytest.approx(tuple(welch.confidence_interval()))
    assert unpaired((1.0, 0.0, 3), (1.0, 0.0, 3))["p"] == 1.0


def test_columns_of_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="5, 4 and 4 rows"):
        World(np.ones((2, 4)), np.ones((2, 4)), np.ones(5))
    with pytest.raises(DataError, match="0, 0 and 0 rows"):
        World(np.ones((2, 0)), np.ones((2, 0)), np.ones(0))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9]) == [0.9]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_holm_never_lowers_a_p_nor_turns_two_around(p: list[float], random) -> None:
    got = holm(p)
    assert all(own <= other <= 1 for own, other in zip(p, got, strict=True))
    assert all(got[i] <= got[j] for i in range(len(p)) for j in range(len(p)) if p[i] < p[j])
    assert min(got) == pytest.approx(min(1.0, len(p) * min(p)))
    order = list(range(len(p)))
    random.shuffle(order)
    assert holm([p[i] for i in order]) == pytest.approx([got[i] for i in order])


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_few_rows_show_little_whatever_the_difference(rows: int) -> None:
    """All of n signs alike have a p of 2 ** (1 - n)."""
    truth = np.full(rows, 3.0)
    made = pooled([World(truth[None] + 2, truth[None] + 1, truth)], samples=999)["mae"]
    assert made["difference"] == 1
    assert made["p"] == pytest.approx(max(2.0 ** (1 - rows), 2 / 1000))
