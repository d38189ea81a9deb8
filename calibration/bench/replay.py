"""The real loop under a policy: decisions taken live, applied to cores and threads as tasks end.

The controller keeps the state of the contention paper (completed Comm, Forward and Backward
tasks, and what remains of the running two), asks the same policy objects that the simulator asks,
and lets the bench carry the answer out. Prediction, comparison and tables are in
``calibration.validation.validate``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calibration.bench.bench import Bench, Event
from calibration.bench.lending import Lender, lends
from calibration.bench.paced import Schedule
from kdsim.engines.core_pool import check_decision
from kdsim.errors import WorkloadError
from kdsim.model.plan import Plan
from kdsim.model.random_streams import Draws
from kdsim.policies.base import Decision, Policy, State
from kdsim.policies.resolve import make_policy, policy_name

#: Seconds from handing the teacher its schedule to the start of a run.
_LEAD_S = 0.05
#: How often starving cores are looked for, where computation may use them.
_LOOK_S = 0.01
#: A task whose end is still on its way to the controller has this share of its work left: no
#: policy is asked about a task that has none.
_LEAST_LEFT = 1e-4


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it really ran; seconds since the loop began."""

    kind: str
    cycle: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class LiveRun:
    """One real run.

    Attributes
    ----------
    policy : str
    seed, replication : int
        Of the policy's draws.
    makespan : float
        Seconds from the first task's start to the last Backward's end.
    tasks : tuple of Task
    splits : tuple of (float, int)
        When the split changed, and to how many communication cores.
    decisions : int
        Times the policy was asked.
    reports : tuple of dict
        What the student said after each Backward.
    """

    policy: str
    seed: int
    replication: int
    makespan: float
    tasks: tuple[Task, ...]
    splits: tuple[tuple[float, int], ...]
    decisions: int
    reports: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def task_ends(self, kind: str) -> list[float]:
        """Return when each cycle's task of a kind ended."""
        return [task.end for task in self.tasks if task.kind == kind]


def replay(
    bench: Bench,
    plan: Plan,
    batches: Sequence[int],
    policy: str | Policy,
    *,
    seed: int = 0,
    replication: int = 0,
    pace: Callable[[Schedule], object] | None = None,
) -> LiveRun:
    """Run a workload on the bench under a policy.

    Prefetch and releases hold Comm tasks back here; a link of the plan is played by the teacher.

    Parameters
    ----------
    bench : Bench
        A running bench, warmed up, with no task running.
    plan : Plan
        The planned work and the fitted rates: what the policy knows.
    batches : sequence of int
        Batches of each cycle's Forward and Backward; the plan's amounts are these in its units.
    policy : str or Policy
    seed, replication : int
        The same numbers give the same draws as in the simulator.
    pace : callable, optional
        Hands the teacher the schedule by which data arrive; needed where the plan has a link.

    Returns
    -------
    LiveRun

    Raises
    ------
    PolicyError
        If the policy answers nonsense.
    WorkloadError, TransportError
        If the bench fails.
    """
    if plan.link is not None and pace is None:
        raise WorkloadError("a link can only be played by a teacher that can be paced")
    return _Controller(bench, plan, batches, policy, seed, replication).run(pace)


def schedule_of(plan: Plan, bench: Bench, zero: float) -> Schedule:
    """Return when each chunk of a run that begins at `zero` has crossed the plan's link."""
    chunks = [bench.chunks(float(mb)) for mb in plan.comm if mb > 0]
    ends_mb = np.arange(1.0, sum(chunks) + 1) * bench.teacher.chunk_mb
    if plan.link is None:
        raise WorkloadError("the plan has no link")
    arrivals = np.asarray(plan.link.arrival_time(ends_mb))
    starts = np.cumsum([0, *chunks])[:-1]
    return Schedule(zero, bench.comms_begun, tuple(starts.tolist()), tuple(arrivals.tolist()))


class _Controller:
    def __init__(
        self, bench: Bench, plan: Plan, batches: Sequence[int], policy: str | Policy, seed: int,
        replication: int,
    ) -> None:  # fmt: skip
        self._bench, self._plan, self._batches = bench, plan, batches
        self._name, self._policy = policy_name(policy), make_policy(policy)
        self._policy.start(plan)
        self._draws = Draws(seed, replication)
        self._seed, self._replication = seed, replication
        self._done = {"comm": 0, "forward": 0, "backward": 0}
        self._tasks: list[Task] = []
        self._splits: list[tuple[float, int]] = []
        self._reports: list[dict[str, Any]] = []
        self._change: tuple[float, int | None] | None = None
        self._decisions = 0
        self._started: dict[str, float] = {}
        self._release: float | None = None
        self._lender = Lender(plan, bench) if lends(plan) else None

    def run(self, pace: Callable[[Schedule], object] | None) -> LiveRun:
        n = self._plan.cycles
        self._zero = time.perf_counter()
        if self._plan.link is not None and pace is not None:
            self._zero += _LEAD_S  # so that the teacher knows before the first request
            pace(schedule_of(self._plan, self._bench, self._zero))
            time.sleep(max(self._zero - time.perf_counter(), 0.0))
        self._settle()
        while self._done["backward"] < n:
            event = self._bench.next_event(self._patience())
            if event is None:
                self._look_at_the_clock()
                continue
            self._book(event)
            # Both sides may end at the same instant: book both, then decide once.
            while (other := self._bench.next_event(0.0)) is not None:
                self._book(other)
            self._settle()
        return LiveRun(
            policy=self._name,
            seed=self._seed,
            replication=self._replication,
            makespan=max(task.end for task in self._tasks),
            tasks=tuple(self._tasks),
            splits=tuple(self._splits),
            decisions=self._decisions,
            reports=tuple(self._reports),
        )

    def _patience(self) -> float | None:
        """Return the seconds until something is due; None if only a task's end can come."""
        due = [] if self._change is None else [self._change[0]]
        if self._release is not None:
            due.append(self._release)
        if self._lender is not None and {"comm", "comp"} <= self._started.keys():
            due.append(time.perf_counter() + _LOOK_S)
        return max(min(due) - time.perf_counter(), 0.0) if due else None

    def _look_at_the_clock(self) -> None:
        now = time.perf_counter()
        if self._release is not None and now >= self._release:
            self._settle()
        elif self._change is not None and now >= self._change[0]:
            self._hold_is_over()
        elif self._lender is not None:
            self._put(self._splits[-1][1])

    def _book(self, event: Event) -> None:
        cycle = self._done[event.task]
        self._done[event.task] += 1
        start = self._started.pop("comm" if event.task == "comm" else "comp")
        self._tasks.append(Task(event.task, cycle, start, event.end - self._zero))
        if event.task == "backward":
            self._reports.append(event.report)

    def _settle(self) -> None:
        """Start what may start, then share the cores."""
        n, now = self._plan.cycles, time.perf_counter() - self._zero
        prefetch = self._plan.prefetch
        while self._done["comm"] < n and self._plan.comm[self._done["comm"]] == 0:
            self._done["comm"] += 1  # Nothing to receive, e.g. training without a teacher.
        i, j, k = self._done["comm"], self._done["forward"], self._done["backward"]
        self._release = None
        starting = []
        if i < n and "comm" not in self._started and not (prefetch and i >= prefetch + k):
            ready = self._zero + self._plan.release * (i + 1)
            # Compared as it is waited for: a difference may round to just before the instant.
            if time.perf_counter() >= ready:
                starting.append("comm")
                self._started["comm"] = now
            else:
                self._release = ready
        if "comp" not in self._started and ((j == k and j < n) or (j > k and i > k)):
            starting.append("forward" if j == k else "backward")
            self._started["comp"] = now
        # The split first: a worker of the last one would claim chunks of a Comm that it is not to
        # receive, all of it where a Comm is one chunk.
        self._share()
        for task in starting:
            self._start(task)

    def _start(self, task: str) -> None:
        cycle = self._done[task]
        if task == "comm":
            self._bench.start_comm(float(self._plan.comm[cycle]))
        elif task == "forward":
            self._bench.start_forward(self._batches[cycle])
        else:
            self._bench.start_backward(self._batches[cycle])

    def _share(self) -> None:
        """Apply eq. 13, asking the policy in the contended case only."""
        total = self._plan.c_total
        self._change = None
        if "comm" not in self._started:
            self._set(0)
        elif "comp" not in self._started:
            self._set(total)
        else:
            self._follow(self._ask())

    def _follow(self, answer: Decision) -> None:
        self._set(answer.comm_cores)
        if answer.hold is not None:
            self._change = (time.perf_counter() + answer.hold, answer.then)

    def _hold_is_over(self) -> None:
        then = self._change[1] if self._change else None
        self._change = None
        if then is None:
            self._share()
        else:
            self._set(then)

    def _ask(self) -> Decision:
        self._decisions += 1
        i, j, k = self._done["comm"], self._done["forward"], self._done["backward"]
        plan = self._plan
        full = float((plan.backward if j > k else plan.forward)[k])
        state = State(
            i, j, k,
            float(plan.comm[i]) * max(1.0 - self._bench.comm_progress(), _LEAST_LEFT),
            full * max(1.0 - self._bench.comp_progress(), _LEAST_LEFT),
            time.perf_counter() - self._zero,
            plan,
            self._draws,
        )  # fmt: skip
        return check_decision(self._policy.decide(state), self._policy, state)

    def _set(self, comm_cores: int) -> None:
        if not self._splits or self._splits[-1][1] != comm_cores:
            self._put(comm_cores)
            self._splits.append((time.perf_counter() - self._zero, comm_cores))
        elif self._lender is not None:
            self._put(comm_cores)

    def _put(self, comm_cores: int) -> None:
        """Assign the cores; starved ones compute as well where the plan allows it."""
        contended = {"comm", "comp"} <= self._started.keys()
        if self._lender is not None and contended:
            now = time.perf_counter() - self._zero
            received = float(self._plan.comm[: self._done["comm"]].sum())
            received += float(self._plan.comm[self._done["comm"]]) * self._bench.comm_progress()
            if self._lender.pays(comm_cores, received, now):
                self._bench.set_split(comm_cores, self._plan.c_total)
                return
        self._bench.set_split(comm_cores)
