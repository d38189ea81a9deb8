import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.workloads.records.crossed import crossed_interval
from calibration.workloads.records.tables import compare_crossed, crossed_row, summarise_crossed
from kdsim.errors import WorkloadError
from kdsim.results.intervals import mean_interval


def draw(rng, shape, sd_teachers, sd_seeds, sd_rest):
    teachers, seeds = shape
    return (
        rng.normal(0, sd_teachers, (teachers, 1))
        + rng.normal(0, sd_seeds, (1, seeds))
        + rng.normal(0, sd_rest, shape)
    )


@pytest.mark.parametrize("sds", [(1, 1, 1), (0, 1, 1), (1, 0, 1), (2, 0.2, 0.5), (0.2, 2, 0.5)])
def test_intervals_cover_as_often_as_they_say(sds):
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(600):
        found = crossed_interval(draw(rng, (3, 5), *sds))
        hits += found.low <= 0 <= found.high
    assert hits / 600 > 0.91


def test_taking_the_runs_for_independent_would_cover_far_less():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(600):
        plain = mean_interval(draw(rng, (3, 5), 1, 0.3, 0.3).ravel())
        hits += plain.low <= 0 <= plain.high
    assert hits / 600 < 0.75


def test_the_sources_of_spread_are_told_apart():
    rng = np.random.default_rng(1)
    found = crossed_interval(draw(rng, (200, 300), 3.0, 0.5, 1.0))
    assert found.sd_teachers == pytest.approx(3.0, rel=0.15)
    assert found.sd_seeds == pytest.approx(0.5, rel=0.15)
    assert found.sd_rest == pytest.approx(1.0, rel=0.05)


def test_mean_squares_of_a_table_worked_by_hand():
    # Teachers differ by 4, seeds by 2, no rest: MT = 2 * (2^2 + 2^2) / 1, MS = 2 * (1 + 1) / 1.
    found = crossed_interval([[0.0, 2.0], [4.0, 6.0]])
    assert found.mean == 3.0
    assert found.sd_teachers == pytest.approx(math.sqrt(16 / 2))
    assert found.sd_seeds == pytest.approx(math.sqrt(4 / 2))
    assert found.sd_rest == 0.0


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=6))
def test_with_one_teacher_it_is_students_interval_over_seeds(values):
    plain = mean_interval(values)
    found = crossed_interval([values])
    assert (found.mean, found.low, found.high) == (plain.mean, plain.low, plain.high)


@pytest.mark.parametrize("teachers", [1, 3])
def test_a_single_seed_has_no_interval_whatever_the_number_of_teachers(teachers):
    row = crossed_row({(t, 0): 0.5 for t in range(teachers)})
    assert (row["mean"], row["ci_low"], row["sd_seeds"], row["n"]) == (0.5, None, None, teachers)


@pytest.mark.parametrize("values", [[], [[]], [1.0, 2.0], [[1.0, math.nan]]])
def test_what_is_no_crossing_is_refused(values):
    with pytest.raises(WorkloadError, match="finite table"):
        crossed_interval(values)


def rows(skip=()):
    return [
        {"method": m, "teacher": t, "seed": s, "x": t + 10 * s + (m == "a") * 0.5}
        for m in ("a", "b")
        for t in range(2)
        for s in range(3)
        if (m, t, s) not in skip
    ]


def test_pairs_differ_by_what_was_added_whatever_teacher_and_seed_do():
    (row,) = compare_crossed(rows(), "x", [], treatment="method", pairs=[("a", "b")])
    assert (row["mean"], row["ci_low"], row["ci_high"]) == pytest.approx((0.5, 0.5, 0.5))
    assert (row["teachers"], row["seeds"], row["n"]) == (2, 3, 6)
    assert row["difference"] == "a - b"


def test_a_seed_that_has_not_met_every_teacher_is_left_out():
    missing = {("a", 1, 2)}
    (row,) = compare_crossed(rows(missing), "x", [], treatment="method", pairs=[("a", "b")])
    assert row["seeds"] == 2
    means = {r["method"]: r for r in summarise_crossed(rows(missing), "x", ["method"])}
    assert (means["a"]["seeds"], means["b"]["seeds"]) == (2, 3)


def test_a_run_that_occurs_twice_is_refused():
    with pytest.raises(WorkloadError, match="occurs twice"):
        summarise_crossed(rows() + rows()[:1], "x", ["method"])
