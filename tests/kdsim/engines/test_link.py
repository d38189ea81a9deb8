"""A link under the engines: what may be processed, against closed forms and against each other."""

from dataclasses import replace

import numpy as np
import pytest
from front_door import call
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import play_run
from strategies import plans

import kdsim
from kdsim.engines import batch
from kdsim.model.bound.optimum import minimal_makespan
from kdsim.model.link import Link
from kdsim.plots.figures.timeline import blocks
from kdsim.policies.names import POLICY_NAMES
from kdsim.report.chrome_trace import events, slices

ALL = [*POLICY_NAMES, "static:1"]
#: Policies that plan nothing, so that rounding cannot change their answers.
BLIND = ["random", "comm-priority", "comp-priority", "static:1"]


@st.composite
def linked(draw):
    """Plans whose data come over a link, with outages and bursts."""
    plan = draw(plans())
    count = draw(st.integers(1, 4))
    lengths = draw(st.lists(st.floats(0.1, 5.0), min_size=count, max_size=count))
    rates = draw(st.lists(st.sampled_from([0.0, 0.2, 1.0, 30.0]), min_size=count, max_size=count))
    if not any(rates):
        rates[0] = 0.5
    times = np.concatenate([[0.0], np.cumsum(lengths)])
    starved = draw(st.sampled_from(["idle", "shared"]))
    cost = draw(st.sampled_from([0.0, 0.0, 0.3]))
    release = draw(st.sampled_from([0.0, 0.0, 0.7]))
    link = Link(times[:-1], np.array(rates), float(times[-1]), starved)
    return replace(plan, link=link, reallocation_cost=cost, release=release)


def processed(run):
    """Yield (time, communication work done, whether starved) at the end of each stretch."""
    plan = run.plan
    times, cumulative = plan.link.breakpoints(float(plan.comm.sum()))
    done = 0.0
    for piece in run.intervals:
        if piece.comm >= 0 and not piece.stalled:
            if piece.starved:  # at the pace of the link
                arrived = np.interp([piece.start, piece.end], times, cumulative)
                done += arrived[1] - arrived[0]
            else:
                done += plan.comm_rates[piece.comm_cores] * (piece.end - piece.start)
        yield piece.end, done, piece.starved


@given(linked(), st.sampled_from(ALL))
@settings(deadline=None)
def test_nothing_is_processed_before_it_has_arrived(plan, policy):
    run = play_run(plan, policy)
    total = float(plan.comm.sum())
    times, cumulative = plan.link.breakpoints(total)
    for time, done, starved in processed(run):
        arrived = np.interp(time, times, cumulative)
        assert done <= arrived + 1e-9 * max(total, 1.0)
        if starved:
            assert done == pytest.approx(arrived, rel=1e-9, abs=1e-9 * max(total, 1.0))
    assert done == pytest.approx(total, rel=1e-9)
    assert run.makespan >= minimal_makespan(plan).makespan * (1 - 1e-9)


@given(linked(), st.sampled_from(ALL))
@settings(deadline=None)
def test_starved_seconds_are_the_same_in_counters_segments_and_timeline(plan, policy):
    run = play_run(plan, policy)
    by_stretch = sum(p.end - p.start for p in run.intervals if p.starved)
    assert sum(s.starved for s in run.segments) == pytest.approx(by_stretch, abs=1e-9)
    assert run.counters["starved_s"] == pytest.approx(by_stretch, abs=1e-9)
    assert run.timeline["starved"].sum() == sum(p.starved for p in run.intervals)


@given(plans(), st.sampled_from(BLIND), st.sampled_from(["idle", "shared"]))
@settings(deadline=None)
def test_a_link_that_is_never_waited_for_changes_nothing(plan, policy, starved):
    run, free = (
        play_run(replace(plan, link=Link.constant(1e12, starved)), policy),
        play_run(plan, policy),
    )
    assert run.makespan == pytest.approx(free.makespan, rel=1e-9)
    assert run.counters["starved_s"] == 0
    assert run.counters["buffer_peak"] <= plan.comm.sum()


# --- closed forms: constant rate, identical cycles ------------------------------------------------

CYCLES, CORES = 20, 3


def device(rate, starved, *, y=1.0, x_f=6.0, x_b=2.0):
    """Return a scenario of identical cycles whose computation is the longer side."""
    return kdsim.Scenario(
        name="closed-form",
        device={
            "cores": 8,
            "compute": {"a1": 1.0, "a2": 0.125},
            "communication": {"b1": 0.05, "b2": 0.3, "b3": 2.0},
        },
        workload={"cycles": CYCLES, "comm": y, "forward": x_f, "backward": x_b},
        link={"rate": rate, "starved": starved},
    )


@pytest.mark.parametrize("rate", [0.2, 0.3])
def test_pinned_cores_wait_for_the_link_as_long_as_it_takes(rate):
    scenario = device(rate, "idle")
    q = scenario.plan().comp_rates
    # Until the last of the data is there CORES cores are pinned, and computation is never blocked.
    arrived = CYCLES * 1.0 / rate
    expected = arrived + (CYCLES * 8.0 - q[CORES] * arrived) / q[0]
    run = kdsim.simulate(scenario, f"static:{CORES}")
    assert run.makespan == pytest.approx(expected, rel=1e-12)
    assert run.counters["starved_s"] == pytest.approx(arrived, rel=1e-12)


@pytest.mark.parametrize("rate", [0.2, 0.3])
def test_shared_cores_cost_what_communication_costs_whatever_the_link(rate):
    scenario = device(rate, "shared")
    plan = scenario.plan()
    q, r = plan.comp_rates, plan.comm_rates
    # CORES cores work for y/r seconds per cycle: so much computation is lost, no more.
    busy = CYCLES * 1.0 / r[CORES]
    expected = busy + (CYCLES * 8.0 - q[CORES] * busy) / q[0]
    assert kdsim.simulate(scenario, f"static:{CORES}").makespan == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize("starved", ["idle", "shared"])
@pytest.mark.parametrize("policy", ["comm-priority", "static:2"])
def test_where_the_link_is_the_longer_side_the_last_backward_follows_the_last_datum(
    starved, policy
):
    scenario = device(0.01, starved)
    q = scenario.plan().comp_rates
    # With all cores pinned nothing is computed before all data are there.
    waits = policy == "comm-priority" and starved == "idle"
    work = CYCLES * 8.0 if waits else 2.0
    run = kdsim.simulate(scenario, policy)
    assert run.makespan == pytest.approx(CYCLES / 0.01 + work / q[0], rel=1e-12)


def test_an_outage_stops_communication_and_its_end_lets_it_go_on():
    # 1 unit arrives within 1 s, then nothing for 9 s; comm-priority on its own needs two bursts.
    work = {"cycles": 1, "comm": 2.0, "forward": 0.0, "backward": 1.0}
    plan = kdsim.with_fields(device(None, "idle"), {"device.cores": 8}).plan()
    plan = replace(
        plan,
        comm=np.array([work["comm"]]),
        forward=np.array([0.0]),
        backward=np.array([1.0]),
        link=Link(np.array([0.0, 1.0]), np.array([1.0, 0.0]), 10.0),
    )
    slow = plan.comm_rates[-1]
    run = play_run(plan, "comm-priority")
    # The first unit is there at 1 s and processed at 1/slow; the second comes from 10 s on.
    assert slow < 1.0 or run.counters["starved_s"] > 9.0
    processed_first = max(1.0, 1.0 / slow)
    second = 10.0 + max(1.0, 1.0 / slow)
    assert processed_first < 10.0
    assert run.makespan == pytest.approx(second + 1.0 / plan.comp_rates[0], rel=1e-12)


# --- both engines ---------------------------------------------------------------------------------


@st.composite
def scenarios(draw):
    n = draw(st.integers(1, 8))
    amount = st.one_of(st.just(0.0), st.floats(0.01, 10.0))
    columns = {
        name: draw(st.lists(amount, min_size=n, max_size=n))
        for name in ("comm", "forward", "backward")
    }
    columns["backward"][0] = 1.0
    link = draw(
        st.sampled_from(
            [
                {"rate": 0.3},
                {"rate": 2.0},
                {"times": [0, 2, 5], "rates": [1.0, 0.0, 0.25], "period": 6.5},
                {"times": [0, 2], "rates": [0.0, 1.5]},
            ]
        )
    )
    return kdsim.Scenario(
        name="linked",
        device={
            "cores": draw(st.integers(1, 8)),
            "compute": {"a1": 1.0, "a2": 0.125},
            "reference_cores": 8,
            "communication": {"b1": 0.05, "b2": 0.3, "b3": 2.0},
        },
        workload={"cycles": n, **columns},
        link={**link, "starved": draw(st.sampled_from(["idle", "shared"]))},
        extensions={
            "prefetch": draw(st.sampled_from([None, 1, 2])),
            "noise": draw(st.sampled_from([0.0, 0.2, 1.0])),
            "release": draw(st.sampled_from([0.0, 0.0, 0.7])),
            "reallocation_cost": draw(st.sampled_from([0.0, 0.0, 0.05])),
        },
        seed=draw(st.integers(0, 2**40)),
    )


@given(scenarios(), st.sampled_from([*ALL, "static:0", "static:1"]), st.integers(0, 10**6))
@settings(deadline=None, max_examples=200)
def test_the_compiled_engine_agrees_to_the_last_bit(scenario, policy, first):
    times, bounds = batch._by_simpy(scenario, policy, first, first + 3)
    threshold = batch._WORTH_COMPILING
    try:
        batch._WORTH_COMPILING = 0
        compiled, compiled_bounds = batch.makespans(scenario, policy, first, first + 3)
    finally:
        batch._WORTH_COMPILING = threshold
    assert np.array_equal(compiled, times)
    assert compiled_bounds == pytest.approx(bounds, rel=1e-9)


# --- what a run shows -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def waiting():
    """A run whose communication is pinned to all cores and waits for a slow link."""
    return kdsim.simulate(device(0.2, "idle", x_f=1.0, x_b=1.0), "comm-priority")


def test_a_timeline_shows_where_communication_waits_for_data(waiting):
    drawn = [b for b in blocks(waiting) if b.kind == "starved"]
    assert sum(b.end - b.start for b in drawn) == pytest.approx(waiting.counters["starved_s"])
    assert {(b.low, b.high) for b in drawn} == {(0, 8)}
    words = [text.get_text() for text in waiting.plot().get_figure().legends[0].get_texts()]
    assert any("waits for data" in text for text in words)


def test_a_chrome_trace_names_the_cores_that_wait_for_data(waiting):
    starved = [s for s in slices(waiting) if s.kind == "starved"]
    assert {s.core for s in starved} == set(range(8))
    assert starved[0].name == "Comm_1 waits for data"
    area = sum(s.end - s.start for s in starved) / 1e6
    assert area == pytest.approx(8 * waiting.counters["starved_s"], rel=1e-4)
    arrows = [e for e in events(waiting) if e["ph"] == "s"]
    assert len(arrows) == CYCLES


def test_a_run_prints_and_exports_its_waiting(waiting, tmp_path):
    answer = call(
        "run", "measured-logits", "-p", "comm-priority", "--set", "link.starved=idle",
        "--timeline-out", tmp_path / "t.csv",
    )  # fmt: skip
    assert "Comm waits for data" in answer.out
    assert "starved" in (tmp_path / "t.csv").read_text().splitlines()[0]
    assert all("starved" in segment for segment in waiting.to_dict()["segments"])
    assert "starved" not in kdsim.simulate("measured").to_dict()["segments"][0]
