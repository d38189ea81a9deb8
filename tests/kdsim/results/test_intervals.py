"""Intervals against scipy's, and their coverage by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdsim.results.intervals import (
    mean_interval,
    median_interval,
    paired_difference,
    replications_needed,
    student_t_quantile,
)

samples = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40).filter(
    lambda x: max(x) - min(x) > 1e-3
)


@given(samples, st.floats(0.5, 0.999))
def test_the_interval_of_a_mean_is_scipys(values, level):
    ours = mean_interval(values, level=level)
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    assert ours.method == "t"
    assert ours.n == len(values)
    assert ours.mean == pytest.approx(np.mean(values), rel=1e-12, abs=1e-9)
    np.testing.assert_allclose([ours.low, ours.high], theirs, rtol=1e-9, atol=1e-6)


@given(samples, st.integers(0, 2**32 - 1))
def test_the_interval_of_a_difference_is_scipys(values, seed):
    other = np.asarray(values) + np.random.default_rng(seed).normal(size=len(values))
    ours = paired_difference(values, other)
    theirs = stats.ttest_rel(values, other).confidence_interval(0.95)
    np.testing.assert_allclose([ours.low, ours.high], theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_interval_covers_the_mean_as_often_as_it_says(n):
    rng = np.random.default_rng(0)
    repeats, level = 4000, 0.9
    hits = 0
    for row in rng.normal(3.0, 2.0, (repeats, n)):
        interval = mean_interval(row, level=level)
        hits += interval.low <= 3.0 <= interval.high
    # Four standard errors of a proportion.
    assert abs(hits / repeats - level) < 4.0 * math.sqrt(level * (1 - level) / repeats)


@pytest.mark.parametrize("dof", [1, 2, 10, 1000])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.975, 0.9995])
def test_quantiles_are_scipys(p, dof):
    assert student_t_quantile(p, dof) == pytest.approx(stats.t.ppf(p, dof), abs=1e-9)


def test_equal_values_are_exact_and_their_mean_is_the_value_itself():
    interval = mean_interval([0.1] * 7)
    assert (interval.mean, interval.low, interval.high) == (0.1, 0.1, 0.1)
    assert interval.method == "exact"
    assert interval.sd == 0.0


def test_one_value_has_an_interval_only_if_nothing_is_random():
    assert mean_interval([2.0], deterministic=True).method == "exact"
    lone = mean_interval([2.0])
    assert lone.method == "none"
    assert math.isnan(lone.low)
    assert math.isnan(lone.high)
    assert not lone.excludes_zero


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_values_that_are_no_numbers_are_refused(values):
    with pytest.raises(ValueError, match="mean_interval needs"):
        mean_interval(values)


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 95.0, math.nan])
def test_an_illegal_level_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        mean_interval([1.0, 2.0], level=level)


def test_pairs_of_unequal_length_are_refused_but_one_value_stands_for_all():
    with pytest.raises(ValueError, match="got 3 and 2"):
        paired_difference([1, 2, 3], [1, 2])
    assert paired_difference([1.0, 2.0, 3.0], [1.0]).mean == 1.0
    assert paired_difference([1.0], [1.0, 2.0, 3.0]).n == 3


def test_the_number_of_replications_needed_is_about_right():
    rng = np.random.default_rng(3)
    few = mean_interval(rng.normal(0.2, 1.0, 20))
    needed = replications_needed(few)
    assert needed > 20
    # At that n, with the same mean and spread, the interval just excludes zero.
    half = student_t_quantile(0.975, 10**6) * few.sd / math.sqrt(needed)
    assert half <= abs(few.mean)
    assert half >= abs(few.mean) * math.sqrt((needed - 1.5) / needed)


def test_nothing_more_is_needed_where_all_is_known():
    assert replications_needed(mean_interval([5.0, 6.0, 7.0])) == 3
    assert replications_needed(mean_interval([0.0] * 4)) == 4
    assert replications_needed(mean_interval([-1.0, 1.0])) == 2**62
    assert replications_needed(mean_interval([1.0])) == 2**62


# --- medians --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "outer"), [(6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (20, 6), (30, 10)]
)
def test_a_medians_interval_ends_at_the_tabulated_order_statistics(n, outer):
    """The ranks are those of published binomial tables."""
    interval = median_interval(np.arange(1.0, n + 1))
    assert (interval.low, interval.high) == (outer, n + 1 - outer)
    assert interval.median == (n + 1) / 2


@pytest.mark.parametrize("n", [1, 2, 5])
def test_too_few_values_give_a_median_without_an_interval(n):
    interval = median_interval(np.arange(1.0, n + 1))
    assert interval.median == (n + 1) / 2
    assert math.isnan(interval.low)
    assert math.isnan(interval.half_width)


def test_a_medians_interval_covers_what_it_says_for_any_distribution():
    rng = np.random.default_rng(0)
    draws = rng.lognormal(size=(4000, 9))
    covered = [i.low <= 1.0 <= i.high for i in (median_interval(row) for row in draws)]
    assert 0.95 <= np.mean(covered) < 0.975  # exactly 0.9609 for nine


def test_one_wild_value_among_nine_moves_no_end_and_among_six_it_shows():
    nine, six = np.linspace(1.0, 1.1, 9), np.linspace(1.0, 1.1, 6)
    assert median_interval([*nine[:-1], 9.0]).high == nine[-2]
    assert median_interval([*six[:-1], 9.0]).high == 9.0


@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=60), st.floats(0.5, 0.999))
def test_a_medians_interval_holds_the_median_whatever_the_order(values, level):
    interval = median_interval(values, level=level)
    assert interval == median_interval(values[::-1], level=level)
    if not math.isnan(interval.low):
        assert min(values) <= interval.low <= interval.median <= interval.high <= max(values)


@pytest.mark.parametrize(
    ("values", "level"), [([], 0.95), ([1.0, math.nan], 0.95), ([1.0], 0.0), ([1.0], 1.0)]
)
def test_values_without_a_median_are_refused(values, level):
    with pytest.raises(ValueError, match=r"median_interval needs|level must"):
        median_interval(values, level=level)


@pytest.mark.parametrize(
    ("values", "excluded"),
    [([3.0, 3.1, 2.9], True), ([-3.0, -3.1, -2.9], True), ([-3.0, 3.1, 0.2], False)],
)
def test_an_interval_on_either_side_excludes_zero(values, excluded):
    assert mean_interval(values).excludes_zero == excluded
