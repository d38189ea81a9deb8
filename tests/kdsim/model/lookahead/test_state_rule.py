"""The state-based rule: eq. 15 written out, and ties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import plans

import kdsim
from kdsim.model.bound.optimum import minimal_makespan
from kdsim.model.lookahead.guide import planned_of
from kdsim.model.lookahead.state_rule import state_based_cores
from kdsim.model.plan import Plan
from kdsim.policies.builtin import StateBased


def time_after(plan, i, k, dv, rest):
    """Return the least time to the end from a state, as the optimum of the work that is left."""
    comm, forward, backward = (x.copy() for x in (plan.comm, plan.forward, plan.backward))
    m = k // 2
    comm[:i] = 0.0
    if i < plan.cycles:
        comm[i] = dv
    forward[:m], backward[:m] = 0.0, 0.0
    if k % 2 == 0 and m < plan.cycles:
        forward[m] = rest
    elif m < plan.cycles:
        forward[m], backward[m] = 0.0, rest
    if not (comm.any() or forward.any() or backward.any()):
        return 0.0
    return minimal_makespan(plan.with_work(comm, forward, backward)).makespan


def eq_15(plan, i, k, dv, rest):
    """Return Delta(c) + T(S'(c)) for every c, with the optimum of all that is left as T."""
    times = []
    n = plan.cycles
    for r, q in zip(plan.comm_rates, plan.comp_rates, strict=True):
        comm_time = dv / r if r > 0 else math.inf
        comp_time = rest / q if q > 0 else math.inf
        step = min(comm_time, comp_time)
        comm_ends = comm_time <= step * (1 + 1e-12)
        comp_ends = comp_time <= step * (1 + 1e-12)
        later_i, later_k = i + comm_ends, k + comp_ends
        later_dv = dv - r * step
        if comm_ends:
            later_dv = plan.comm[later_i] if later_i < n else 0.0
        later_rest = rest - q * step
        if comp_ends:
            m = later_k // 2
            later_rest = 0.0 if m >= n else (plan.forward, plan.backward)[later_k % 2][m]
        times.append(step + time_after(plan, later_i, later_k, later_dv, later_rest))
    return np.array(times)


@given(plans(max_cycles=6, empty_tasks=False, prefetch=False), st.data())
@settings(deadline=None, max_examples=150)
def test_the_rule_is_eq_15_with_the_exact_time_left(plan, data):
    i = data.draw(st.integers(0, plan.cycles - 1))
    k = data.draw(st.integers(0, 2 * i))  # the next Backward would wait for Comm i + 1
    dv = plan.comm[i] * data.draw(st.floats(0.05, 1.0))
    full = (plan.forward, plan.backward)[k % 2][k // 2]
    rest = full * data.draw(st.floats(0.05, 1.0))
    times = eq_15(plan, i, k, dv, rest)
    chosen = state_based_cores(i, k, dv, rest, -1, *planned_of(plan))
    assert times[chosen] <= times.min() * (1 + 1e-9)


def test_ties_go_to_the_smallest_count():
    # Perfect scaling on both sides: every split is on the one facet, and none wastes anything.
    rates = np.array([0.0, 1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0, 0.0])
    plan = Plan(np.full(4, 1.0), np.full(4, 4.0), np.full(4, 4.0), *rates)
    assert state_based_cores(0, 0, 1.0, 4.0, -1, *planned_of(plan)) == 0


@pytest.mark.parametrize("name", ["paper-1to1", "paper-2to1"])
@pytest.mark.parametrize("cores", [6, 8, 10, 12])
def test_the_state_based_rule_keeps_the_papers_promise(name, cores):
    scenario = kdsim.with_fields(kdsim.load_scenario(name), {"device.cores": cores})
    assert kdsim.simulate(scenario, "state-based").gap <= 2e-4


def test_a_policy_sees_the_split_in_force():
    seen = []

    class Watch(StateBased):
        name = "watch"

        def decide(self, state):
            seen.append(state.comm_cores)
            return super().decide(state)

    kdsim.simulate("paper-1to1", Watch())
    assert seen[0] == -1
    assert set(seen[1:]) <= set(range(9))
