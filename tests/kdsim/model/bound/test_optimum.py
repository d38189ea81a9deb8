"""The taut string against linear programming, closed forms and its own schedule."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from strategies import paper_rates, plans
from timed_program import timed_program

import kdsim
from kdsim.model.bound import optimum
from kdsim.model.plan import Plan

#: Devices whose rates lie almost on a line: a solver's tolerances alone are 1e-7 off on them.
NEARLY_STRAIGHT = [
    Plan(
        np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
        np.array([0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0]),
        np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        np.array(comm_rates),
        np.array([0.25552141, 0.19463545, 0.13374949, 0.07286353, 0.0]),
    )
    for comm_rates in (
        [0.0, 0.67625, 1.3525, 2.02874885, 2.70499723],
        [0.0, 0.6762500002574432, 1.3525000015749158, 2.0287488493179078, 2.7049972428310016],
        [0.0, 0.676249999393915, 1.3524999998488714, 2.0287499990158846, 2.7049999994264358],
    )
]


@given(plans(max_cycles=12))
@example(NEARLY_STRAIGHT[0])
@example(NEARLY_STRAIGHT[1])
@example(NEARLY_STRAIGHT[2])
@settings(max_examples=80, deadline=None)
def test_the_string_is_the_linear_programs_optimum(plan):
    result = optimum.minimal_makespan(plan)
    least = timed_program(plan)
    assume(least is not None)
    assert result.makespan == pytest.approx(least, rel=1e-9, abs=1e-9)


@given(plans())
@settings(deadline=None)
def test_the_schedule_does_all_the_work_in_the_minimal_makespan(plan):
    result = optimum.minimal_makespan(plan)
    pieces = result.schedule
    assert sum(p.duration for p in pieces) == pytest.approx(result.makespan, rel=1e-9)
    cores = [p.comm_cores for p in pieces]
    durations = np.array([p.duration for p in pieces])
    data = float(plan.comm_rates[cores] @ durations)
    work = float(plan.comp_rates[cores] @ durations)
    total = float((plan.forward + plan.backward).sum())
    # A piece may run ahead where one rate is zero anyway; nothing is left undone.
    assert data >= plan.comm.sum() * (1 - 1e-9) - 1e-12
    assert work >= total * (1 - 1e-9) - 1e-12
    starts = [p.start for p in pieces]
    ends = [p.start + p.duration for p in pieces]
    assert starts[1:] == pytest.approx(ends[:-1])
    assert all(p.comm_cores + p.comp_cores == plan.c_total for p in pieces)


@given(plans())
@settings(deadline=None)
def test_the_path_is_monotone_and_stays_in_the_corridor(plan):
    result = optimum.minimal_makespan(plan)
    scale = float((plan.forward + plan.backward).sum()) + 1e-9
    assert (np.diff(result.path, axis=0) >= -1e-12 * scale).all()
    ceiling = np.cumsum(plan.forward + plan.backward) - plan.backward
    # An empty Comm task ends where the one before it ended, below that one's ceiling.
    busy = plan.comm > 0
    assert (result.heights[busy] <= ceiling[busy] + 1e-9 * scale).all()


@given(
    paper_rates(),
    st.integers(1, 60),
    *[st.floats(0.05, 5.0)] * 3,
)
def test_identical_cycles_have_a_closed_form(rates, n, y, x_f, x_b):
    r, q = rates
    plan = Plan(np.full(n, y), np.full(n, x_f), np.full(n, x_b), r, q)
    rho = plan.region.gauge
    closed = float(rho(y, x_f) + (n - 1) * rho(y, x_f + x_b) + rho(0, x_b))
    assert optimum.minimal_makespan(plan).makespan == pytest.approx(closed, rel=1e-12)


@given(plans(prefetch=False), st.floats(0.01, 100.0))
def test_scaling_all_work_scales_the_optimum(plan, k):
    scaled = plan.with_work(k * plan.comm, k * plan.forward, k * plan.backward)
    before = optimum.minimal_makespan(plan).makespan
    assert optimum.minimal_makespan(scaled).makespan == pytest.approx(k * before, rel=1e-9)


@given(paper_rates(), st.floats(0.1, 3.0), st.floats(0.1, 3.0))
def test_identical_cycles_grow_the_optimum_linearly(rates, y, x):
    def minimal(n):
        return optimum.minimal_makespan(Plan(*[np.full(n, w) for w in (y, x, x)], *rates)).makespan

    steps = np.diff([minimal(n) for n in (1, 2, 3, 20, 21)])
    assert steps[0] == pytest.approx(steps[1], rel=1e-9)
    assert steps[0] == pytest.approx(steps[3], rel=1e-9)


@given(plans(prefetch=False))
def test_a_smaller_prefetch_never_helps(plan):
    times = [
        optimum.minimal_makespan(replace(plan, prefetch=bound)).makespan
        for bound in (1, 2, 3, 5, 0)
    ]
    assert all(a >= b * (1 - 1e-12) for a, b in pairwise(times))


@given(plans(prefetch=False, empty_tasks=False))
def test_a_prefetch_of_one_has_a_closed_form(plan):
    bounded = replace(plan, prefetch=1)
    rho = plan.region.gauge
    closed = float((rho(plan.comm, plan.forward) + rho(0.0, plan.backward)).sum())
    assert optimum.minimal_makespan(bounded).makespan == pytest.approx(closed, rel=1e-12)


@given(plans(max_cycles=30))
@settings(deadline=None, max_examples=40)
def test_the_compiled_string_bends_where_the_interpreted_one_does(plan):
    gates = optimum.corridor(plan)
    interpreted = optimum.taut_string(gates)
    threshold = optimum.COMPILE_FROM
    try:
        optimum.COMPILE_FROM = 0
        compiled = optimum.taut_string(gates)
    finally:
        optimum.COMPILE_FROM = threshold
    assert np.array_equal(interpreted, compiled)


def test_a_release_later_than_all_work_is_followed_by_the_last_cycle_alone():
    scenario = kdsim.with_fields(kdsim.load_scenario("paper-1to1"), {"extensions.release": 10.0})
    result = kdsim.minimal_makespan(scenario)
    assert result.kind == "optimum"
    plan = scenario.plan()
    least = 50 * 10.0 + 1.0 / plan.comm_rates.max() + 1.0 / plan.comp_rates.max()
    assert result.makespan == pytest.approx(least)


def test_a_reallocation_cost_makes_the_result_a_lower_bound():
    scenario = kdsim.with_fields(
        kdsim.load_scenario("paper-1to1"), {"extensions.reallocation_cost": 0.1}
    )
    assert kdsim.minimal_makespan(scenario).kind == "lower bound"


def test_an_optimum_is_plain_data_for_json():
    data = kdsim.minimal_makespan("paper-1to1").to_dict()
    assert set(data) == {"makespan", "kind", "path", "schedule"}
    assert set(data["schedule"][0]) == {"start", "duration", "comm_cores", "comp_cores"}
    assert data["path"][0] == [0.0, 0.0]
    assert data["path"][-1] == [50.0, 100.0]
