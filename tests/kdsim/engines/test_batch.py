"""The compiled engine gives the SimPy engine's answers."""

import os
import signal
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdsim
from kdsim.engines import batch
from kdsim.policies.base import Decision, Policy
from kdsim.policies.names import POLICY_NAMES

POLICIES = list(POLICY_NAMES)

starved = st.sampled_from(["idle", "shared"])
constant_links = st.fixed_dictionaries({"rate": st.floats(0.05, 5.0), "starved": starved})


@st.composite
def traces(draw):
    """A bandwidth trace with outages, which begins again."""
    lengths = draw(st.lists(st.floats(0.05, 4.0), min_size=2, max_size=6))
    rate = st.one_of(st.just(0.0), st.floats(0.05, 5.0))
    rates = draw(st.lists(rate, min_size=len(lengths), max_size=len(lengths)))
    rates[0] = rates[0] or 0.3  # something has to arrive
    times = np.append(0.0, np.cumsum(lengths))
    link = {"times": times[:-1].tolist(), "rates": rates, "period": float(times[-1])}
    return link | {"starved": draw(starved)}


any_link = st.one_of(st.just({}), st.just({}), constant_links, traces())


@st.composite
def scenarios(draw, link=any_link):
    cores = draw(st.integers(1, 10))
    n = draw(st.integers(1, 8))
    amount = st.one_of(st.just(0.0), st.floats(0.05, 5.0), st.just(1.0))
    work = {
        name: draw(st.one_of(st.just(1.0), st.lists(amount, min_size=n, max_size=n)))
        for name in ("comm", "forward", "backward")
    }
    if not any(sum(v) if isinstance(v, list) else v for v in work.values()):
        work["comm"] = 1.0
    return kdsim.Scenario(
        name="random",
        device={
            "cores": cores,
            "compute": {"a1": draw(st.floats(0.1, 2)), "a2": draw(st.floats(0, 0.99)) / cores},
            "communication": {
                "b1": draw(st.floats(0.01, 1)),
                "b2": draw(st.floats(0, 1)),
                "b3": draw(st.floats(1, 5)),
            },
        },
        workload={"cycles": n, **work},
        extensions={
            "prefetch": draw(st.sampled_from([None, None, 1, 2, 4])),
            "noise": draw(st.sampled_from([0.0, 0.0, 0.2, 1.0])),
            "release": draw(st.sampled_from([0.0, 0.0, 0.7])),
            "reallocation_cost": draw(st.sampled_from([0.0, 0.0, 0.05])),
        },
        link=draw(link),
        seed=draw(st.integers(0, 2**40)),
    )


@pytest.fixture
def always_compiled(monkeypatch):
    monkeypatch.setattr(batch, "_WORTH_COMPILING", 0)


@given(scenarios(), st.sampled_from([*POLICIES, "static:0", "static:1"]), st.integers(0, 10**6))
@settings(deadline=None, max_examples=100)
def test_every_makespan_and_bound_is_the_simpy_engines_to_the_last_bit(scenario, policy, first):
    check_engines_agree(scenario, policy, first)


@given(scenarios(link=traces()), st.sampled_from(["state-based", "optimal"]), st.integers(0, 10**6))
@settings(deadline=None, max_examples=50)
def test_rules_that_plan_agree_to_the_last_bit_over_traces_with_outages(scenario, policy, first):
    check_engines_agree(scenario, policy, first)


def check_engines_agree(scenario, policy, first):
    times, bounds = batch._by_simpy(scenario, policy, first, first + 3)
    threshold = batch._WORTH_COMPILING
    try:
        batch._WORTH_COMPILING = 0
        compiled, compiled_bounds = batch.makespans(scenario, policy, first, first + 3)
    finally:
        batch._WORTH_COMPILING = threshold
    assert np.array_equal(compiled, times)
    assert np.array_equal(compiled_bounds, bounds)


@pytest.mark.usefixtures("always_compiled")
@pytest.mark.parametrize("policy", POLICIES)
def test_the_paper_scenario_agrees_to_the_last_bit(policy):
    scenario = kdsim.load_scenario("paper-1to1")
    ours, _ = batch.makespans(scenario, policy, 0, 20)
    for replication, makespan in enumerate(ours):
        run = kdsim.simulate(scenario, policy, replication=replication)
        assert makespan == run.makespan


@pytest.mark.usefixtures("always_compiled")
def test_a_range_of_replications_is_a_slice_of_the_whole():
    scenario = kdsim.with_fields(kdsim.load_scenario("paper-1to1"), {"extensions.noise": 0.3})
    whole, bounds = batch.makespans(scenario, "random", 0, 50)
    part, part_bounds = batch.makespans(scenario, "random", 20, 30)
    assert np.array_equal(part, whole[20:30])
    assert np.array_equal(part_bounds, bounds[20:30])


@pytest.mark.usefixtures("always_compiled")
def test_threads_and_chunks_do_not_change_a_bit(monkeypatch):
    scenario = kdsim.with_fields(kdsim.load_scenario("paper-1to1"), {"extensions.noise": 0.3})
    one, _ = batch.makespans(scenario, "optimal", 0, 500, threads=1)
    monkeypatch.setattr(batch, "_CHUNK_BYTES", 24 * 50 * 7)
    two, _ = batch.makespans(scenario, "optimal", 0, 500, threads=2)
    assert np.array_equal(one, two)


def test_ctrl_c_reaches_the_caller_while_a_compiled_loop_runs(monkeypatch):
    began, ended = np.zeros(1), np.zeros(1)

    def play(*_):
        _spin(4_000_000_000, began, ended)
        return np.zeros(1), np.zeros(1)

    def interrupt():
        while not began[0]:
            os.sched_yield()
        os.kill(os.getpid(), signal.SIGINT)

    _spin(1, np.zeros(1), np.zeros(1))  # compiled now
    scenario = kdsim.with_fields(
        kdsim.load_scenario("paper-1to1"), {"extensions.noise": 0.3, "workload.cycles": 20_000}
    )
    batch.load(scenario, "greedy")
    monkeypatch.setattr(batch, "_by_kernel", play)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        batch.makespans(scenario, "greedy", 0, 40)
    assert not ended[0]


@numba.njit(nogil=True)
def _spin(times, began, ended):
    """Compute for seconds without a look at signals, as compiled loops do."""
    began[0] = 1
    x = np.uint64(1)
    for _ in range(times):
        x = x * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    ended[0] = x


def test_simulate_many_repeats_what_has_no_randomness():
    many = kdsim.simulate_many("paper-1to1", "greedy", replications=5)
    assert many.dtype == np.float64
    assert np.array_equal(many, np.full(5, kdsim.simulate("paper-1to1", "greedy").makespan))


def test_a_policy_of_ones_own_runs_in_simpy():
    class Half(Policy):
        name = "half"

        def decide(self, state):
            return Decision(state.total_cores // 2)

    mine = kdsim.simulate_many("paper-1to1", Half, replications=2)
    assert mine == pytest.approx(kdsim.simulate_many("paper-1to1", "static:4", replications=2))


def test_more_static_cores_than_there_are_is_refused():
    with pytest.raises(kdsim.PolicyError, match="asks for 9 communication cores"):
        batch.makespans(kdsim.load_scenario("paper-1to1"), "static:9", 0, 10_000)


@pytest.mark.parametrize("wrong", [-1, 1.5, "7", 2**64])
def test_counts_that_are_no_legal_whole_numbers_are_refused(wrong):
    for call, field in (
        (kdsim.simulate, "seed"),
        (kdsim.simulate, "replication"),
        (kdsim.simulate_many, "seed"),
        (kdsim.simulate_many, "replications"),
    ):
        with pytest.raises(kdsim.ScenarioError, match=f"{field}: must be a whole number"):
            call("paper-1to1", "random", **{field: wrong})
    for field in ("seed", "replications"):
        with pytest.raises(kdsim.ScenarioError, match=f"{field}: must be a whole number"):
            kdsim.compare("paper-1to1", ["random"], **{field: wrong})


def test_no_replications_are_refused():
    with pytest.raises(kdsim.ScenarioError, match="replications"):
        kdsim.simulate_many("paper-1to1", "random", replications=0)


def test_policies_that_share_a_name_are_not_compared():
    class One(Policy):
        name = "mine"

        def decide(self, state):
            return Decision(1)

    class Two(One):
        def decide(self, state):
            return Decision(2)

    small = kdsim.with_fields(kdsim.load_scenario("paper-1to1"), {"workload.cycles": 3})
    with pytest.raises(kdsim.ScenarioError, match="two different policies are called 'mine'"):
        kdsim.compare(small, [One, "optimal", Two])
    rows = kdsim.compare(small, [One, "optimal", One], replications=2).rows
    assert [row["policy"] for row in rows] == ["mine", "optimal"]


@pytest.mark.parametrize("call", [kdsim.compare, kdsim.sweep])
def test_a_name_where_a_list_of_policies_is_wanted_is_refused(call):
    with pytest.raises(kdsim.ScenarioError, match="list of policies"):
        call("paper-1to1", policies="greedy")


@pytest.mark.usefixtures("always_compiled")
def test_bounds_agree_to_the_last_bit_where_computation_must_come_first():
    # No data in the first cycle and one batch held: the string begins with a climb.
    scenario = kdsim.Scenario(
        name="climb",
        device={
            "cores": 3,
            "compute": {"model": "amdahl", "rate1": 0.57, "serial": 0.0},
            "communication": {"model": "table", "cores": [1, 2, 3], "rates": [2.9, 3.0, 3.1]},
        },
        workload={"cycles": 2, "comm": [0.0, 1.97], "forward": [2.75, 0.75], "backward": 2.5},
        extensions={"prefetch": 1, "noise": 1.0},
    )
    slow, compiled = (
        play(scenario, "greedy", 0, 50)[1] for play in (batch._by_simpy, batch.makespans)
    )
    assert np.array_equal(compiled, slow)


def test_the_compiled_engine_does_not_load_the_other():
    code = (
        "import sys, kdsim\n"
        "kdsim.simulate_many('paper-1to1', policy='random', replications=1000)\n"
        "print('kdsim.engines.kernels' in sys.modules, 'simpy' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert result.stdout.split() == ["True", "False"]


def test_policies_that_look_ahead_are_compiled_sooner():
    scenario = kdsim.load_scenario("paper-1to1")
    noisy = kdsim.with_fields(scenario, {"extensions.noise": 0.1})
    linked = kdsim.with_fields(scenario, {"link.rate": 1.0})
    for policy, case, noise, slower in (
        ("greedy", noisy, 0.1, False),
        ("optimal", scenario, 0.0, False),
        ("optimal", linked, 0.0, False),
        ("optimal", noisy, 0.1, True),
        ("state-based", linked, 0.0, True),
    ):
        assert (batch._effort(case.plan(), policy, noise) > 1) is slower
