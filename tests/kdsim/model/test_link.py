"""The link's arithmetic: when data are there, against an integral taken step by step."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdsim.errors import ScenarioError
from kdsim.model.link import MAX_STRETCHES, Link


@st.composite
def links(draw):
    """Links with outages, some of them periodic."""
    count = draw(st.integers(1, 6))
    lengths = draw(st.lists(st.floats(0.1, 3.0), min_size=count, max_size=count))
    rates = draw(st.lists(st.sampled_from([0.0, 0.3, 1.0, 4.0]), min_size=count, max_size=count))
    periodic = draw(st.booleans())
    if not (any(rates) if periodic else rates[-1]):
        rates[-1] = 1.0
    times = np.concatenate([[0.0], np.cumsum(lengths)])
    period = float(times[-1]) if periodic else math.inf
    return Link(times[:-1], np.array(rates), period)


def arrived_by(link, time):
    """A(t), stretch by stretch."""
    amount, rounds = 0.0, 0
    while True:
        offset = rounds * link.period if rounds else 0.0
        ends = np.append(link.times[1:], link.period)
        for begin, end, rate in zip(link.times, ends, link.rates, strict=True):
            if offset + begin >= time:
                return amount
            amount += rate * (min(time, offset + end) - offset - begin)
        if offset + link.period >= time:
            return amount
        rounds += 1


@given(links(), st.floats(0.01, 40.0))
def test_so_many_data_are_there_at_their_arrival_time_and_not_before(link, amount):
    time = link.arrival_time(amount)
    assert arrived_by(link, time) == pytest.approx(amount, rel=1e-9)
    assert arrived_by(link, time * (1 - 1e-6)) < amount


@given(links(), st.floats(0.0, 40.0))
@settings(deadline=None, max_examples=50)
def test_breakpoints_follow_the_arrivals_up_to_the_last_of_the_data(link, total):
    times, cumulative = link.breakpoints(total)
    assert times[0] == cumulative[0] == 0.0
    assert cumulative[-1] == total
    assert times[-1] == link.arrival_time(total)
    assert (np.diff(times) > 0).all()
    assert (np.diff(cumulative) >= 0).all()
    for time in [*times, *(times[:-1] + times[1:]) / 2]:
        there = np.interp(time, times, cumulative)
        assert there == pytest.approx(arrived_by(link, time), rel=1e-9, abs=1e-9)


@given(links(), st.lists(st.floats(0.0, 40.0), min_size=1, max_size=5))
def test_the_stretches_of_a_run_end_with_one_that_delivers(link, totals):
    times, rates, last = link.stretches(totals)
    assert times[-1] == math.inf
    assert times.size == rates.size + 1
    for total, stretch in zip(totals, last, strict=True):
        alone_times, alone_rates, (alone_last,) = link.stretches([total])
        assert rates[stretch] > 0
        if total > 0:  # beside others a run meets the same stretches as alone
            assert stretch == alone_last == alone_rates.size - 1
            assert np.array_equal(times[: stretch + 1], alone_times[:-1])


def test_arrays_of_amounts_keep_their_shape():
    link = Link(np.array([0.0, 1.0]), np.array([2.0, 0.0]), 4.0)
    there = link.arrival_time(np.array([[0.0, 1.0], [2.0, 3.0]]))
    np.testing.assert_allclose(there, [[0.0, 0.5], [1.0, 4.5]])


@pytest.mark.parametrize(
    ("times", "rates", "period", "said"),
    [
        ([], [], math.inf, "at least one"),
        ([0.0, 1.0], [1.0], math.inf, "as many times as rates"),
        ([1.0], [1.0], math.inf, "begin at 0"),
        ([0.0, 2.0, 1.0], [1.0, 1.0, 1.0], math.inf, "increase"),
        ([0.0, 2.0], [1.0, 1.0], 2.0, "increase"),
        ([0.0], [-1.0], math.inf, "at least 0"),
        ([0.0], [math.nan], math.inf, "finite"),
        ([0.0, 1.0], [0.0, 0.0], 2.0, "all 0"),
    ],
)
def test_a_link_that_is_none_is_refused(times, rates, period, said):
    with pytest.raises(ScenarioError, match=said):
        Link(np.array(times), np.array(rates), period)


def test_data_that_never_arrive_are_a_fault():
    link = Link(np.array([0.0, 2.0]), np.array([3.0, 0.0]))
    assert link.arrival_time(6.0) == 2.0
    assert link.arrival_time(6.1) == math.inf
    with pytest.raises(ScenarioError, match=r"ends with rate 0 after 6 data units; 6\.1 have"):
        link.breakpoints(6.1)


def test_a_trace_that_would_repeat_without_end_in_sight_is_a_fault():
    link = Link(np.array([0.0, 1.0]), np.array([1.0, 0.0]), 2.0)
    with pytest.raises(ScenarioError, match="repetitions of its 2 s; the limit is 2,500,000"):
        link.stretches([MAX_STRETCHES * 10.0])
