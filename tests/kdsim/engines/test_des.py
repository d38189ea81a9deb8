"""The SimPy engine: bounds, conservation, capacity, precedence, extensions, decisions."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import Sequence, constant_plan, play
from strategies import amounts, plans

import kdsim
from kdsim.engines import core_pool as pool
from kdsim.engines import des as engine
from kdsim.engines.realised import realised
from kdsim.model import curves
from kdsim.model.bound.optimum import minimal_makespan
from kdsim.model.plan import Plan
from kdsim.policies.base import Decision, Policy, State
from kdsim.policies.names import POLICY_NAMES
from kdsim.policies.resolve import make_policy

ALL = [*POLICY_NAMES, "static:1"]


# --- against the bound ----------------------------------------------------------------------------


@given(plans())
@settings(deadline=None, max_examples=300)
def test_optimal_attains_the_proven_minimum(plan):
    bound = minimal_makespan(plan).makespan
    assert play(plan, "optimal")[0] == pytest.approx(bound, rel=1e-9)


@given(plans(), st.sampled_from(ALL))
@settings(deadline=None, max_examples=200)
def test_no_policy_beats_the_bound(plan, policy):
    bound = minimal_makespan(plan).makespan
    assert play(plan, policy)[0] >= bound * (1 - 1e-9)


@given(
    plans(),
    st.lists(
        st.one_of(st.integers(0, 12), st.tuples(st.integers(0, 12), st.floats(0.01, 2.0))),
        min_size=1,
        max_size=30,
    ),
)
@settings(deadline=None, max_examples=200)
def test_no_core_sequence_beats_the_bound(plan, answers):
    bound = minimal_makespan(plan).makespan
    assert play(plan, Sequence(answers))[0] >= bound * (1 - 1e-9)


@given(plans(prefetch=False))
@settings(deadline=None)
def test_the_two_priorities_are_equal_and_have_a_closed_form(plan):
    comm, comp = play(plan, "comm-priority")[0], play(plan, "comp-priority")[0]
    data, work = plan.comm.sum(), (plan.forward + plan.backward).sum()
    closed = data / plan.comm_rates[-1] + work / plan.comp_rates[0]
    assert comm == pytest.approx(comp, rel=1e-12)
    assert comm == pytest.approx(closed, rel=1e-11)


@given(plans(), st.sampled_from(["greedy", "greedy-full"]))
@settings(deadline=None)
def test_optimal_is_never_slower_than_algorithm_1_in_either_reading(plan, policy):
    assert play(plan, "optimal")[0] <= play(plan, policy)[0] * (1 + 1e-9)


@pytest.mark.parametrize("ratio", ["1:1", "2:1"])
@pytest.mark.parametrize("cores", [6, 8, 10, 12])
def test_the_papers_order_of_policies_holds_in_its_scenarios(cores, ratio):
    scenario = kdsim.with_fields(
        kdsim.load_scenario("paper-1to1"), {"device.cores": cores, "workload.ratio": ratio}
    )
    times = {p: kdsim.simulate(scenario, p).makespan for p in ALL[:-1]}
    assert times["optimal"] <= times["greedy-full"] * (1 + 1e-9)
    assert times["greedy-full"] <= times["greedy"]
    assert times["greedy"] < times["random"] < times["comm-priority"]


# --- what every run obeys -------------------------------------------------------------------------


@given(plans(), st.sampled_from(ALL))
@settings(deadline=None, max_examples=150)
def test_work_is_conserved_capacity_kept_and_precedence_obeyed(plan, policy):
    makespan, pool, tasks = play(plan, policy)
    n = plan.cycles
    comm, comp = np.zeros(n), np.zeros((n, 2))
    clock = 0.0
    for piece in pool.intervals:
        assert piece.start == clock
        clock = piece.end
        assert 0 <= piece.comm_cores <= plan.c_total
        if piece.stalled:
            continue
        length = piece.end - piece.start
        if piece.comm >= 0:
            comm[piece.comm] += length * plan.comm_rates[piece.comm_cores]
        if piece.comp >= 0:
            rate = plan.comp_rates[piece.comm_cores]
            comp[piece.comp, int(piece.stage == "backward")] += length * rate
    assert clock == makespan
    scale = 1e-9 * max(1.0, makespan)
    assert comm == pytest.approx(plan.comm, rel=1e-8, abs=scale)
    assert comp[:, 0] == pytest.approx(plan.forward, rel=1e-8, abs=scale)
    assert comp[:, 1] == pytest.approx(plan.backward, rel=1e-8, abs=scale)
    for i in range(n):
        assert tasks.backward_starts[i] >= tasks.comm_ends[i]
        assert tasks.backward_starts[i] >= tasks.forward_ends[i]


@given(plans(prefetch=False), st.sampled_from(ALL))
@settings(deadline=None)
def test_prefetch_is_a_limit_on_batches_held(plan, policy):
    for bound in (1, 2, 3):
        _, pool, tasks = play(replace(plan, prefetch=bound), policy)
        starts = {}
        for piece in pool.intervals:
            if piece.comm >= 0:
                starts.setdefault(piece.comm, piece.start)
        ends = [*tasks.backward_starts[1:], math.inf]
        for i, start in starts.items():
            if i >= bound:
                assert start >= tasks.backward_starts[i - bound]
                assert ends[i - bound] >= start or plan.forward[i - bound + 1] >= 0


@given(plans(prefetch=False, empty_tasks=False), st.sampled_from(["greedy", "optimal"]), amounts)
@settings(deadline=None)
def test_scaling_all_work_scales_the_makespan(plan, policy, k):
    k = 2.0 ** round(math.log2(k))  # a power of two leaves every tie a tie
    scaled = plan.with_work(k * plan.comm, k * plan.forward, k * plan.backward)
    before = play(plan, policy)[0]
    assert play(scaled, policy)[0] == pytest.approx(k * before, rel=1e-9)


# --- extensions -----------------------------------------------------------------------------------


def paper(**extensions):
    changes = {f"extensions.{name}": value for name, value in extensions.items()}
    return kdsim.with_fields(kdsim.load_scenario("paper-1to1"), changes)


@given(st.sampled_from(ALL), st.floats(0.0, 4.0))
@settings(deadline=None, max_examples=30)
def test_no_comm_starts_before_its_release(policy, release):
    run = kdsim.simulate(paper(release=release), policy)
    starts = {}
    for piece in run.intervals:
        if piece.comm >= 0:
            starts.setdefault(piece.comm, piece.start)
    assert all(start >= release * (i + 1) * (1 - 1e-9) for i, start in starts.items())
    assert run.bound_kind == "optimum"
    assert run.gap >= -1e-9


@given(st.sampled_from(ALL), st.floats(0.001, 0.5))
@settings(deadline=None, max_examples=30)
def test_each_change_of_the_split_costs_its_pause(policy, cost):
    run = kdsim.simulate(paper(reallocation_cost=cost), policy)
    stalled = [p for p in run.intervals if p.stalled]
    assert run.counters["stall_s"] == pytest.approx(cost * run.counters["reallocations"])
    assert sum(p.end - p.start for p in stalled) == pytest.approx(run.counters["stall_s"])
    assert run.gap >= 0


def test_noise_is_the_same_under_every_policy_and_the_bound_is_clairvoyant():
    scenario = paper(noise=0.5)
    runs = [kdsim.simulate(scenario, p, replication=3) for p in ("greedy", "optimal", "random")]
    assert len({run.minimal_makespan for run in runs}) == 1
    assert runs[0].minimal_makespan != kdsim.minimal_makespan("paper-1to1").makespan
    assert all(run.gap >= -1e-9 for run in runs)


def test_a_policy_sees_planned_work_only():
    seen = []

    class Watch(Policy):
        name = "watch"

        def decide(self, state):
            seen.append((state.remaining_comm, state.remaining_comp))
            return Decision(4)

    kdsim.simulate(paper(noise=1.0), Watch())
    # At every completion one task is fresh: its planned work is 1, whatever it really takes.
    assert [max(pair) for pair in seen] == pytest.approx([1.0] * len(seen))
    assert min(min(pair) for pair in seen) > 0


# --- decisions ------------------------------------------------------------------------------------


def test_then_takes_over_after_hold_without_asking():
    class Mix(Policy):
        name = "mix"

        def decide(self, state):
            return Decision(7, 0.1, 1)

    plan = constant_plan(n=1, y=10.0, x_f=10.0)
    _, pool, _ = play(plan, Mix())
    assert [(p.comm_cores, round(p.end - p.start, 6)) for p in pool.intervals][:1] == [(7, 0.1)]
    assert pool.intervals[1].comm_cores == 1
    assert pool.decisions == 1


def test_hold_without_then_asks_again():
    plan = constant_plan(n=1, y=1.0, x_f=1.0)
    _, pool, _ = play(plan, Sequence([(4, 0.25)]))
    assert pool.decisions > 3


@pytest.mark.parametrize(
    "answer",
    [
        None,
        4,
        Decision(9),
        Decision(-1),
        Decision(2.5),
        Decision("3"),
        Decision(3, math.nan),
        Decision(3, 0.0),
        Decision(3, -1.0),
        Decision(3, math.inf),
        Decision(3, None, 4),
        Decision(3, 0.5, 11),
    ],
)
def test_nonsense_ends_the_run_and_names_policy_and_state(answer):
    class Nonsense(Policy):
        name = "nonsense"

        def decide(self, state):
            return answer

    with pytest.raises(kdsim.PolicyError, match=r"policy nonsense answered .*state: i=0, j=0, k=0"):
        play(constant_plan(), Nonsense())


def test_a_policy_that_raises_ends_the_run_and_names_policy_and_state():
    class Broken(Policy):
        name = "broken"

        def decide(self, state):
            return 1 / 0

    with pytest.raises(kdsim.PolicyError, match=r"policy broken raised ZeroDivisionError.*i=0"):
        play(constant_plan(), Broken())


def test_a_policy_that_never_progresses_ends_the_run(monkeypatch):
    monkeypatch.setattr(pool, "MAX_QUESTIONS", 1000)
    with pytest.raises(kdsim.PolicyError, match="without any task completing"):
        play(constant_plan(), Sequence([(4, 1e-9)]))


def test_numpy_core_counts_are_legal():
    state = State(0, 0, 0, 1.0, 1.0, 0.0, constant_plan(), lambda: 0.0)

    class Any(Policy):
        name = "any"

        def decide(self, state):
            return Decision(np.int64(3))

    assert pool.check_decision(Decision(np.int64(3)), Any(), state).comm_cores == 3


# --- mechanics ------------------------------------------------------------------------------------


def test_the_heap_stays_small_however_often_cores_move():
    """One pending event for the pool: moving cores leaves no dead events behind."""
    env = simpy.Environment()
    longest = 0

    class Restless(Policy):
        name = "restless"

        def __init__(self):
            self._flip = 0

        def decide(self, state):
            nonlocal longest
            longest = max(longest, len(env._queue))
            self._flip ^= 1
            return Decision(3 + self._flip, 1e-3)

    plan = constant_plan(n=2, y=100.0, x_f=50.0, x_b=50.0)
    policy = Restless()
    from kdsim.model.random_streams import Draws

    pool, _ = engine.run_processes(env, plan, plan, policy, Draws(0, 0))
    assert pool.reallocations > 50_000
    assert longest <= 4


def test_the_same_seed_and_replication_give_the_same_run():
    a = kdsim.simulate("paper-1to1", "random", seed=5, replication=2)
    b = kdsim.simulate("paper-1to1", "random", seed=5, replication=2)
    c = kdsim.simulate("paper-1to1", "random", seed=5, replication=3)
    assert a.to_dict() == b.to_dict()
    assert a.makespan != c.makespan


# --- work of very different sizes -----------------------------------------------------------------

decades = st.floats(-8.0, 8.0).map(lambda power: 10.0**power)


@st.composite
def uneven_plans(draw):
    """Work over many decades: what is left of a task may be less than a rounding unit of V."""
    n = draw(st.integers(1, 6))
    amount = st.one_of(decades, st.sampled_from([1e-6, 1e6, 1e-3, 1.0, 5e-324]))
    work = [np.array(draw(st.lists(amount, min_size=n, max_size=n))) for _ in range(3)]
    c_total = draw(st.sampled_from([2, 8, 64]))
    r = curves.paper_communication_rates(0.05, 0.3, 2.0, c_total)
    q = curves.paper_compute_rates(1.0, 0.125, c_total, 8)
    return Plan(*work, r, q, prefetch=draw(st.sampled_from([0, 1, 2, 3])))


@given(uneven_plans())
@settings(deadline=None, max_examples=200)
def test_optimal_attains_the_minimum_however_uneven_the_work_is(plan):
    bound = minimal_makespan(plan).makespan
    assert play(plan, "optimal")[0] == pytest.approx(bound, rel=1e-9)


def test_a_rest_too_short_for_the_clock_does_not_wait_for_the_next_completion():
    # Comm_3 is so short that its part of the mix does not advance the clock; left to the split
    # without communication cores it waited for a Backward of 36,000 s.
    r = curves.paper_communication_rates(0.05, 0.3, 2.0, 8)
    q = curves.paper_compute_rates(1.0, 0.125, 8, 8)
    forward = np.array([19286427.171821788, 5.1841582597772025, 3460.8827480495843, 0.0127])
    backward = np.array([179.2678276706709, 0.044229638928123406, 7204.9622990421685, 0.468])
    plan = Plan(np.array([0.0, 1e6, 1e-6, 1e6]), forward, backward, r, q)
    bound = minimal_makespan(plan).makespan
    assert play(plan, "optimal")[0] == pytest.approx(bound, rel=1e-12)


@given(uneven_plans(), st.sampled_from(["optimal", "state-based"]), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_planning_under_noise_survives_work_of_any_size(plan, policy, seed):
    factors = np.random.default_rng(seed).lognormal(sigma=0.3, size=(3, plan.cycles))
    real = plan.with_work(plan.comm * factors[0], plan.forward * factors[1], plan.backward)
    bound = minimal_makespan(real).makespan
    makespan = play(plan, make_policy(policy, noise=0.3), real=real)[0]
    # Below the smallest normal number a sum keeps no relative precision.
    assert bound * (1 - 1e-9) - sys.float_info.min <= makespan < math.inf


def test_optimal_plans_under_noise_where_what_is_left_is_below_a_rounding_unit_of_v():
    plan = replace(constant_plan(n=3), comm=np.array([20000.0, 1.0, 1.0]))
    for seed in range(20):
        real = realised(plan, 0.1, seed, 0)
        assert play(plan, make_policy("optimal", noise=0.3), real=real)[0] > 0
