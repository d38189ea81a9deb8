from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from calibration.bench.bench import Bench, BenchSettings, Event
from calibration.bench.lending import Lender, lends
from calibration.bench.replay import replay, schedule_of
from calibration.bench.start import TeacherProcess
from calibration.machine.cores import take_cores
from calibration.validation import validate
from kdsim import Decision, Policy, simulate
from kdsim.errors import PolicyError, WorkloadError
from kdsim.model.link import Link
from kdsim.model.plan import Plan
from kdsim.scenario.study import Scenario

TINY = {"batch": 8, "channels": [2, 4], "classes": 100}


class IdealBench:
    """A bench whose tasks take exactly as long as a plan's rates say, on a clock of its own."""

    def __init__(self, plan, clock):
        self.plan, self.clock = plan, clock
        self.total_cores = plan.c_total
        self.split = 0
        self.left = {}
        self.work = {}
        self.begun = {}
        self.count = {"forward": 0, "backward": 0}
        self.log = []

    def set_split(self, comm_cores):
        self.split = comm_cores

    def _start(self, side, task, work):
        self.left[side] = self.work[side] = work
        self.begun[side] = (task, self.clock.now)

    def start_comm(self, mb):
        self._start("comm", "comm", mb)

    def start_forward(self, batches):
        self._start("comp", "forward", float(self.plan.forward[self.count["forward"]]))
        self.count["forward"] += 1

    def start_backward(self, batches):
        self._start("comp", "backward", float(self.plan.backward[self.count["backward"]]))
        self.count["backward"] += 1

    def comm_progress(self):
        return 1.0 - self.left["comm"] / self.work["comm"] if "comm" in self.left else 0.0

    def comp_progress(self):
        return 1.0 - self.left["comp"] / self.work["comp"] if "comp" in self.left else 0.0

    def next_event(self, timeout_s=None):
        rates = {
            "comm": self.plan.comm_rates[self.split],
            "comp": self.plan.comp_rates[self.split],
        }
        times = {s: self.left[s] / rates[s] if rates[s] > 0 else np.inf for s in self.left}
        step = min(times.values(), default=np.inf)
        if timeout_s is not None and step > timeout_s + 1e-12:
            for side in self.left:
                self.left[side] -= rates[side] * timeout_s
            self.clock.now += timeout_s
            return None
        side = min(times, key=times.get)
        for other in self.left:
            self.left[other] = max(self.left[other] - rates[other] * step, 0.0)
        self.clock.now += step
        del self.left[side]
        task, start = self.begun.pop(side)
        return Event(task, self.work[side], start, self.clock.now)


class Clock:
    now = 100.0

    def perf_counter(self):
        return self.now


def ideal_replay(monkeypatch, plan, policy, **kwargs):
    clock = Clock()
    monkeypatch.setattr("calibration.bench.replay.time", clock)
    return replay(IdealBench(plan, clock), plan, [1] * plan.cycles, policy, **kwargs)


WORK = [(1.0, 1.0, 1.0), (3.0, 0.5, 0.7), (0.5, 2.0, 1.0), (1.3, 0.9, 1.1)]


def plan_of(total):
    comm, forward, backward = (np.array(column) for column in zip(*WORK, strict=True))
    c = np.arange(total + 1.0)
    return Plan(comm, forward, backward, c**0.8, (total - c) ** 0.9)


def scenario_like(plan, extensions=None):
    total = plan.c_total
    own = list(range(1, total + 1))
    return Scenario.model_validate(
        {
            "name": "ideal",
            "device": {
                "cores": total,
                "compute": {"model": "table", "cores": own,
                            "rates": plan.comp_rates[::-1][1:].tolist()},
                "communication": {"model": "table", "cores": own,
                                  "rates": plan.comm_rates[1:].tolist()},
            },
            "workload": {"cycles": plan.cycles, "comm": plan.comm.tolist(),
                         "forward": plan.forward.tolist(), "backward": plan.backward.tolist()},
            "extensions": extensions or {},
        }
    )  # fmt: skip


@pytest.mark.parametrize("total", [2, 4, 7])
@pytest.mark.parametrize(
    "policy",
    ["random", "comm-priority", "comp-priority", "greedy", "greedy-full", "static:1", "optimal"],
)
def test_on_an_ideal_device_the_live_loop_is_the_simulation(monkeypatch, policy, total):
    """The controller follows the model: same work, same rates, same draws, same makespan."""
    plan = plan_of(total)
    scenario = scenario_like(plan)
    run = simulate(scenario, policy, seed=3, replication=2)
    live = ideal_replay(monkeypatch, plan, policy, seed=3, replication=2)
    assert live.makespan == pytest.approx(run.makespan, rel=1e-9)
    assert live.task_ends("comm") == pytest.approx(list(run.comm_ends), rel=1e-9)
    assert live.task_ends("forward") == pytest.approx(list(run.forward_ends), rel=1e-9)
    assert validate.worst_task_error(run, live) < 1e-9


class ClaimingBench(IdealBench):
    """Workers claim a Comm when it begins: notes the split then, and the one that is to hold."""

    def __init__(self, plan, clock):
        super().__init__(plan, clock)
        self.claimed_under, self.meant = [], []

    def start_comm(self, mb):
        self.claimed_under.append(self.split)
        super().start_comm(mb)

    def next_event(self, timeout_s=None):
        if len(self.meant) < len(self.claimed_under):
            self.meant.append(self.split)
        return super().next_event(timeout_s)


def test_a_comm_begins_under_its_own_split_not_the_last_one(monkeypatch):
    """Where a Comm is one chunk, the last split's workers would take all of it."""
    plan, clock = plan_of(4), Clock()
    bench = ClaimingBench(plan, clock)
    monkeypatch.setattr("calibration.bench.replay.time", clock)
    replay(bench, plan, [1] * plan.cycles, "comp-priority")
    assert len(bench.claimed_under) == plan.cycles
    assert bench.claimed_under == bench.meant


def test_precedence_holds_in_the_live_loop(monkeypatch):
    live = ideal_replay(monkeypatch, plan_of(4), "random", seed=1)
    by = {(t.kind, t.cycle): t for t in live.tasks}
    assert len(by) == 3 * len(WORK)
    for i in range(len(WORK)):
        assert by["backward", i].start >= by["comm", i].end - 1e-12
        assert by["backward", i].start >= by["forward", i].end - 1e-12
    for kind in ("comm", "forward", "backward"):
        for a, b in itertools.pairwise(t for t in live.tasks if t.kind == kind):
            assert b.start >= a.end - 1e-12


def test_prefetch_holds_communication_back(monkeypatch):
    plan = plan_of(4)
    held = Plan(
        plan.comm, plan.forward, plan.backward, plan.comm_rates, plan.comp_rates, prefetch=1
    )
    live = ideal_replay(monkeypatch, held, "comm-priority")
    by = {(t.kind, t.cycle): t for t in live.tasks}
    for i in range(1, len(WORK)):
        assert by["comm", i].start >= by["backward", i - 1].end - 1e-12


def test_a_teacher_that_releases_one_by_one_holds_communication_back(monkeypatch):
    plan = replace(plan_of(4), release=2.5)
    live = ideal_replay(monkeypatch, plan, "comm-priority")
    starts = [t.start for t in live.tasks if t.kind == "comm"]
    assert all(start >= 2.5 * (i + 1) - 1e-12 for i, start in enumerate(starts))
    assert starts[0] == pytest.approx(2.5)


@pytest.mark.parametrize("policy", ["comm-priority", "comp-priority", "greedy", "static:1"])
@pytest.mark.parametrize("release", [0.3, 1.7])
def test_releases_in_the_live_loop_are_those_of_the_simulation(monkeypatch, policy, release):
    plan = plan_of(4)
    scenario = scenario_like(plan, {"release": release, "prefetch": 2})
    run = simulate(scenario, policy)
    live = ideal_replay(monkeypatch, replace(plan, release=release, prefetch=2), policy)
    assert live.makespan == pytest.approx(run.makespan, rel=1e-9)
    assert live.task_ends("comm") == pytest.approx(list(run.comm_ends), rel=1e-9)


def test_a_link_needs_a_teacher_that_plays_it(monkeypatch):
    linked = replace(plan_of(2), link=Link.constant(1.0))
    with pytest.raises(WorkloadError, match="a teacher that can be paced"):
        ideal_replay(monkeypatch, linked, "greedy")


def test_data_arrive_chunk_by_chunk_when_the_link_has_carried_them():
    plan = replace(plan_of(2), link=Link(np.array([0.0, 1.0]), np.array([2.0, 0.5]), np.inf))
    bench = SimpleNamespace(
        comms_begun=3, teacher=SimpleNamespace(chunk_mb=0.5), chunks=lambda mb: round(mb / 0.5)
    )
    schedule = schedule_of(plan.with_work(np.array([1.0, 0.0, 2.0]), *[np.ones(3)] * 2), bench, 7.0)
    assert schedule.first_batch == 3
    assert schedule.starts == (0, 2)  # nothing is received in the second cycle
    # 2 MB in the first second, then half a MB per second
    assert schedule.arrivals_s == pytest.approx((0.25, 0.5, 0.75, 1.0, 2.0, 3.0))
    assert schedule.arrival(3, 1) == pytest.approx(7.5)
    assert schedule.arrival(4, 3) == pytest.approx(10.0)
    assert schedule.arrival(2, 0) is None
    assert schedule.arrival(5, 0) is None


def test_starving_cores_are_lent_where_that_pays():
    plan = replace(plan_of(4), link=Link.constant(0.1, "shared"))
    bench = SimpleNamespace(teacher=SimpleNamespace(chunk_mb=0.01))
    lender = Lender(plan, bench)
    assert lends(plan)
    assert lender.pays(1, received_mb=0.1, now_s=1.0)  # nothing waits, a tenth of a core is needed
    assert not lender.pays(1, received_mb=0.1, now_s=60.0)  # much has arrived
    assert not lender.pays(0, received_mb=0.1, now_s=1.0)
    fast = replace(plan, link=Link.constant(0.95, "shared"))
    assert not Lender(fast, bench).pays(1, received_mb=0.95, now_s=1.0)  # the core is busy
    assert not lends(replace(plan, link=Link.constant(0.1, "idle")))
    assert not lends(plan_of(4))


@pytest.mark.slow
def test_over_a_paced_link_nothing_is_received_before_it_has_arrived():
    cores = take_cores(None)
    total, n = len(cores), 3
    c = np.arange(total + 1.0)
    teaching = TeacherProcess(spec={"chunks": 2, "chunk_rows": 64})
    with teaching as teacher:
        mb = 8 * teacher.chunk_mb
        link = Link.constant(mb / 0.2, "shared")  # a batch every 0.2 s
        plan = Plan(
            np.full(n, mb), np.full(n, 0.1), np.full(n, 0.1), 400 * c, 100 * (total - c), link=link
        )
        settings = BenchSettings(cores=cores, student_spec=TINY, timeout_s=30, yielding=True)
        with Bench(settings, teacher) as bench:
            bench.set_split(total)
            bench.start_comm(mb)  # before the run, and not held back
            bench.next_event()
            live = replay(bench, plan, [2] * n, "greedy", pace=teaching.pace)
        assert len(teaching.pace(None)) > 0  # chunks were held back
    for i, end in enumerate(live.task_ends("comm")):
        assert end >= link.arrival_time(mb * (i + 1)) - 1e-6


def test_training_without_a_teacher_receives_nothing(monkeypatch):
    plan = plan_of(4)
    alone = plan.with_work(np.zeros(4), plan.forward, plan.backward)
    live = ideal_replay(monkeypatch, alone, "greedy")
    assert live.task_ends("comm") == []
    assert {c for _, c in live.splits} == {0}


class Half(Policy):
    name = "another name than the reference"

    def decide(self, state):
        return Decision(state.total_cores // 2)


def test_a_run_goes_by_the_name_that_was_asked_for(monkeypatch):
    assert ideal_replay(monkeypatch, plan_of(4), f"{__name__}:Half").policy == f"{__name__}:Half"
    assert ideal_replay(monkeypatch, plan_of(4), Half()).policy == Half.name


def test_a_policy_that_answers_nonsense_ends_the_loop(monkeypatch):
    class Wild(Policy):
        name = "wild"

        def decide(self, state):
            return Decision(99)

    with pytest.raises(PolicyError, match="wild answered comm_cores = 99"):
        ideal_replay(monkeypatch, plan_of(4), Wild())


def test_the_real_loop_runs_under_a_policy_to_the_end():
    total = len(take_cores(None))
    c = np.arange(total + 1.0)
    with TeacherProcess(spec={"chunks": 2, "chunk_rows": 64}) as teacher:
        n, mb = 3, 4 * teacher.chunk_mb
        plan = Plan(np.full(n, mb), np.full(n, 1.0), np.full(n, 1.0), 400 * c, 100 * (total - c))
        settings = BenchSettings(cores=take_cores(None), student_spec=TINY, timeout_s=30)
        with Bench(settings, teacher) as bench:
            live = replay(bench, plan, [2] * n, "greedy")
    assert [t.cycle for t in live.tasks if t.kind == "backward"] == [0, 1, 2]
    assert live.makespan == max(t.end for t in live.tasks) > 0
    for i in range(n):
        ends = {t.kind: t for t in live.tasks if t.cycle == i}
        assert ends["backward"].end > ends["comm"].end
