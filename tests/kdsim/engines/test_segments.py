"""The segments of a run against the paper's closed forms."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import constant_plan, play_run
from strategies import plans

from kdsim.policies.names import POLICY_NAMES
from kdsim.results.run import COMP_ALONE, PARALLEL, WAITED

ALL = [*POLICY_NAMES, "static:1"]


def test_first_segment_without_waiting_is_f_of_forward_1():
    plan = constant_plan(n=20, y=0.3)
    run = play_run(plan, "static:4")
    # eq. 5, second case: f(s_1^f, c) >= g(s_1^c, c).
    assert run.segments[0].duration == pytest.approx(1.0 / plan.comp_rates[4])
    assert run.segments[0].scenario == PARALLEL


def test_first_segment_with_waiting_is_f_plus_the_rest_of_g_on_all_cores():
    plan = constant_plan(y=4.0)
    run = play_run(plan, "static:2")
    forward = 1.0 / plan.comp_rates[2]
    left = 4.0 - forward * plan.comm_rates[2]
    # eq. 5, first case: Comm_1 has c cores during Forward_1, then all of them for what is left.
    assert run.segments[0].duration == pytest.approx(forward + left / plan.comm_rates[8])
    assert run.segments[0].scenario == WAITED


def test_a_waiting_segment_is_backward_plus_forward_plus_the_rest_of_comm():
    plan = constant_plan(y=6.0)
    run = play_run(plan, "static:2")
    busy = 2.0 / plan.comp_rates[2]
    left = 6.0 - busy * plan.comm_rates[2]
    # eq. 6: Backward_{i-1} and Forward_i on the other cores, then g(rest, c_hat).
    assert run.segments[1].duration == pytest.approx(busy + left / plan.comm_rates[8])
    assert run.segments[1].scenario == WAITED


def test_a_parallel_segment_is_the_compute_time_alone():
    plan = constant_plan(n=6, y=0.9)
    run = play_run(plan, "static:4")
    # eq. 7: Comm_i ends before Forward_i, so the segment lasts f(s^f, c) + f(s^b, c).
    assert run.segments[1].duration == pytest.approx(2.0 / plan.comp_rates[4])
    assert run.segments[1].scenario == PARALLEL


def test_segments_after_all_communication_run_on_all_cores():
    plan = constant_plan(n=6, y=0.1)
    run = play_run(plan, "static:4")
    # eq. 8: exclusive Comp, f on all cores; eq. 9: the last segment is Backward_N alone.
    assert run.segments[-2].scenario == COMP_ALONE
    assert run.segments[-2].duration == pytest.approx(2.0 / plan.comp_rates[0])
    assert run.segments[-1].scenario == COMP_ALONE
    assert run.segments[-1].duration == pytest.approx(1.0 / plan.comp_rates[0])
    assert run.segments[-1].comm_cores == 0.0


@given(plans(), st.sampled_from(ALL))
@settings(deadline=None)
def test_segments_sum_to_the_makespan(plan, policy):
    run = play_run(plan, policy)
    assert len(run.segments) == plan.cycles + 1
    assert sum(s.duration for s in run.segments) == pytest.approx(run.makespan, rel=1e-9)
    assert all(-1e-9 <= s.comm_cores <= plan.c_total + 1e-9 for s in run.segments)
    assert {s.scenario for s in run.segments} <= {1, 2, 3}
