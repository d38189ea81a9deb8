"""Looking ahead: what the rules that plan promise under reallocation costs and noise."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import play
from strategies import plans
from timed_program import timed_plan

import kdsim
from kdsim.model.lookahead.look_ahead import HORIZON
from kdsim.model.lookahead.outlooks import PERIOD, outlooks_of

any_plan = st.one_of(plans(max_cycles=8), st.integers(0, 10**6).map(timed_plan))


@given(any_plan, st.floats(0.01, 2.0))
@settings(deadline=None, max_examples=150)
def test_with_a_cost_looking_ahead_never_loses_to_a_constant_split(plan, cost):
    # Prefetch, releases, links and outages included.
    plan = replace(plan, reallocation_cost=cost)
    assert 2 * plan.cycles <= HORIZON  # contended states: one per completion
    times = [play(plan, f"static:{c}")[0] for c in range(plan.c_total + 1)]
    assert play(plan, "optimal")[0] <= min(times) * (1 + 1e-9)


@given(any_plan, st.floats(0.01, 2.0))
@settings(deadline=None, max_examples=100)
def test_with_a_cost_looking_ahead_never_loses_to_algorithm_1_on_full_work(plan, cost):
    plan = replace(plan, reallocation_cost=cost)
    assert play(plan, "optimal")[0] <= play(plan, "greedy-full")[0] * (1 + 1e-9)


@pytest.mark.parametrize("cores", [6, 12])
def test_optimal_does_not_pay_for_changes_that_gain_nothing(cores):
    changes = {"device.cores": cores, "extensions.reallocation_cost": 0.02}
    scenario = kdsim.with_fields(kdsim.load_scenario("paper-1to1"), changes)
    run = kdsim.simulate(scenario, "optimal")
    assert run.gap < 0.005
    assert run.counters["reallocations"] < 20


def test_optimal_reckons_with_changes_that_only_noise_brings():
    # On the plan Comm and Forward end together under one split, so that a cycle has two changes.
    # Under noise one of them is late, which brings a third; a split with a reserve has two.
    changes = {
        "extensions.prefetch": 1, "extensions.noise": 0.3, "extensions.reallocation_cost": 0.9,
    }  # fmt: skip
    scenario = kdsim.with_fields(kdsim.load_scenario("paper-2to1"), changes)
    constant = [
        kdsim.simulate_many(scenario, f"static:{c}", replications=20).mean() for c in range(1, 8)
    ]
    planned = kdsim.simulate_many(scenario, "optimal", replications=20).mean()
    assert planned <= min(constant) * 1.005


def test_outlooks_have_the_mean_and_the_spread_of_the_noise():
    factors = outlooks_of(0.4)
    assert factors.mean() == pytest.approx(1.0, rel=0.01)
    assert factors.std() == pytest.approx(0.4, rel=0.1)
    pairs = np.log(factors).reshape(-1, 2, 3 * PERIOD)
    assert np.ptp(pairs.sum(axis=1)) < 1e-12  # longer in one, shorter in the other
    assert outlooks_of(0.0).tolist() == [1.0] * (3 * PERIOD)
