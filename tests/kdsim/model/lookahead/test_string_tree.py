"""The taut string from every state: against the string pulled anew from that state."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import plans

from kdsim.model.bound.optimum import Corridor, corridor, minimal_makespan, taut_string
from kdsim.model.lookahead.guide import planned_of
from kdsim.model.lookahead.string_tree import first_bend
from kdsim.model.plan import Plan


def string_from(gates, gate, dv, w, region):
    """Return the string's length from a state, pulled anew in what is left of the corridor."""
    rest = slice(gate, None)
    lower = np.maximum(gates.lower[rest] - w, 0.0)
    lower[-1] = 0.0
    left = Corridor(
        V=gates.V[rest] - (gates.V[gate] - dv),
        upper=gates.upper[rest] - w,
        lower=lower,
        start=np.array(0.0),
        total=gates.total - w,
        Q=gates.Q,
        U=gates.U,
    )
    steps = np.diff(taut_string(left), axis=0)
    return float(region.gauge(steps[:, 0], steps[:, 1]).sum())


@given(plans(max_cycles=15), st.integers(0, 14), st.floats(0.01, 1.0), st.floats(0.0, 1.0))
@settings(deadline=None, max_examples=300)
def test_the_tree_knows_the_time_left_from_every_state(plan, gate, part, height):
    gates = corridor(plan)
    if gates.V.size == 0:
        return
    gate = min(gate, gates.V.size - 1)
    before = gates.V[gate - 1] if gate else 0.0
    dv = part * (gates.V[gate] - before)
    floor = gates.lower[gate - 1] if gate else float(gates.start)
    floor = min(floor, gates.upper[gate])
    w = floor + height * (gates.upper[gate] - floor)
    planned = planned_of(plan)
    corner, x, y = first_bend(dv, w, gate, plan.prefetch > 0, planned.gates, planned.following)
    mine = float(plan.region.gauge(x, y)) + planned.left[corner]
    scale = 1e-11 * minimal_makespan(plan).makespan
    assert mine == pytest.approx(string_from(gates, gate, dv, w, plan.region), rel=1e-10, abs=scale)


@pytest.mark.parametrize("prefetch", [0, 2, 5])
def test_identical_cycles_need_few_links_however_many_there_are(prefetch):
    """A look from any state passes a few corners, so that replanning is linear in the cycles."""
    n = 3000
    rates = np.array([0.0, 1.0, 1.7, 2.2]), np.array([3.0, 2.2, 1.3, 0.0])
    work = np.full(n, 0.1), np.full(n, 0.3), np.full(n, 0.7)
    planned = planned_of(Plan(*work, *rates, prefetch=prefetch))
    for corner in range(0, 2 * n, 211):
        links = 0
        while corner >= 0 and links < 40:
            corner = planned.following[corner]
            links += 1
        assert links < 40


def test_a_plan_without_data_has_no_corners():
    plan = Plan(np.zeros(2), np.ones(2), np.ones(2), np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    assert planned_of(plan).left.size == 0
    assert minimal_makespan(replace(plan, prefetch=1)).makespan == 4.0
