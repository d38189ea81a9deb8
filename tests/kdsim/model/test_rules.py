"""The decision rules as plain functions: ranges, ties, and the mix of two splits."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import paper_rates

from kdsim.model.rate_region import rate_region
from kdsim.model.rules import aim, greedy_cores, random_cores, split_direction


def test_random_cores_are_one_to_all_but_one_each_as_often_as_the_others():
    drawn = [random_cores((k + 0.5) / 70, 8) for k in range(70)]
    assert {c: drawn.count(c) for c in set(drawn)} == dict.fromkeys(range(1, 8), 10)


def test_on_one_core_a_random_policy_gives_it_to_either_side():
    assert [random_cores(draw, 1) for draw in (0.0, 0.49, 0.51, 0.99)] == [0, 0, 1, 1]


def test_greedy_takes_the_smallest_of_equally_good_core_counts():
    # Computation takes 6 s whatever the split: 2, 3 and 4 communication cores are equally good.
    comm_times = [math.inf, 9.0, 5.0, 4.0, 3.0, 2.0]
    assert greedy_cores(1.0, 1.0, comm_times, [6.0, 6.0, 6.0, 6.0, 6.0, math.inf]) == 2


def test_greedy_minimises_the_longer_task_and_not_the_sum_of_both():
    # c: 1, 2, 3; the longer task takes 10, 8, 11 s, both together 11, 15, 12 s.
    comm_times, comp_times = [math.inf, 10.0, 8.0, 1.0, 0.5], [0.5, 1.0, 7.0, 11.0, math.inf]
    assert greedy_cores(1.0, 1.0, comm_times, comp_times) == 2


@given(paper_rates(), st.floats(0.01, 100.0), st.floats(0.01, 100.0))
def test_the_two_parts_of_a_mix_do_the_work_in_the_least_time(rates, dv, dw):
    region = rate_region(*rates)
    vr, vq = region.comm_rates[region.vertices], region.comp_rates[region.vertices]
    heavy, heavy_s, light, light_s = split_direction(dv, dw, vr, vq)
    assert min(heavy_s, light_s) >= 0.0
    assert heavy_s + light_s == pytest.approx(float(region.gauge(dv, dw)), rel=1e-9)
    # Beside the border one side has rate to spare.
    assert heavy_s * vr[heavy] + light_s * vr[light] >= dv * (1 - 1e-9)
    assert heavy_s * vq[heavy] + light_s * vq[light] >= dw * (1 - 1e-9)


def test_a_mix_with_a_split_that_does_not_communicate_waits_for_no_completion():
    # The rest of Comm must not be left to a split with no core for it.
    assert aim(1.0, 5.0, 0.0, [0, 1], [0.0, 1.0], [2.0, 1.0]) == (1, math.inf, -1)
