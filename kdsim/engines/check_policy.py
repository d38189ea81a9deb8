"""Exercise a user's policy on small runs of every kind and say what is wrong with it."""

from __future__ import annotations

import copy
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from kdsim.engines.core_pool import describe_state
from kdsim.engines.des import run_processes
from kdsim.errors import KdsimError
from kdsim.messages import seconds_allowed
from kdsim.model.bound.optimum import minimal_makespan
from kdsim.model.link import Link
from kdsim.model.plan import Plan
from kdsim.model.random_streams import Draws
from kdsim.policies.base import Decision, Policy, PolicyLike, State
from kdsim.policies.resolve import make_policy, policy_name
from kdsim.scenario.study import Scenario

_SLOW_DECISION_S = 0.01
#: Seconds between two looks at the policy's present call.
_TICK_S = 0.1
#: Faulty cases after which no more are tried.
_ENOUGH = 3
_VALUES = re.compile(r"\d[\d.e+-]*")


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """What `check_policy` found.

    Attributes
    ----------
    policy : str
        Name of the policy.
    problems : list of str
        Faults to correct; empty when the policy can be used.
    remarks : list of str
        What is worth knowing: its gap, how often it asks to be called again, how slow it is.
    runs : int
        Number of runs made.
    """

    policy: str
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    runs: int = 0

    @property
    def ok(self) -> bool:
        """Whether no faults were found."""
        return not self.problems

    def __str__(self) -> str:
        head = f"policy {self.policy}: {'ok' if self.ok else 'not usable'} ({self.runs} runs)"
        lines = [f"  problem: {' '.join(text.split())}" for text in self.problems]
        return "\n".join([head, *lines, *(f"  {text}" for text in self.remarks)])


def check_policy(
    policy: PolicyLike,
    scenario: Scenario | None,
    *,
    limit_s: float,
) -> PolicyReport:
    """Exercise a policy on many small devices; see `kdsim.api.check_policy`."""
    limit_s = seconds_allowed(limit_s, "limit_s")
    name = policy_name(policy)
    watch = _Watch()
    outcome: Future[PolicyReport] = Future()
    # A thread can be abandoned; the main thread sleeps, so that Ctrl-C ends the check at once.
    threading.Thread(target=_deliver, args=(outcome, policy, scenario, watch), daemon=True).start()
    while not wait([outcome], timeout=min(limit_s, _TICK_S)).done:
        late = watch.late(limit_s)
        if late:
            return PolicyReport(name, [f"policy {name} {late}"])
    return outcome.result()


def _deliver(outcome: Future[PolicyReport], *arguments: Any) -> None:
    try:
        outcome.set_result(_exercise(*arguments))
    except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
        outcome.set_exception(error)


def _exercise(policy: PolicyLike, scenario: Scenario | None, watch: _Watch) -> PolicyReport:
    """Play all cases; `watch` sees each call of the policy."""
    name = policy_name(policy)
    try:
        watch.begin("being made")
        make_policy(policy)
    except KdsimError as error:
        return PolicyReport(name, [str(error)])
    finally:
        watch.end()
    found = _Found()
    gaps: list[float] = []
    asked, spent, runs = 0, 0.0, 0
    for label, plan in _cases(scenario):
        frozen = copy.deepcopy(plan)
        results = []
        for replication in (0, 0, 1):
            runs += 1
            begin = time.perf_counter()
            try:
                env = simpy.Environment()
                chosen = _Watched(make_policy(policy), watch)
                pool, _ = run_processes(env, plan, plan, chosen, Draws(0, replication))
            except KdsimError as error:
                found.add(str(error), label)
                break
            spent += time.perf_counter() - begin
            asked += pool.decisions
            results.append(env.now)
            gaps.append(env.now / minimal_makespan(frozen).makespan - 1.0)
        if not _same(plan, frozen):
            found.add("it wrote to the plan", label)
        elif len(results) > 1 and results[0] != results[1]:
            found.add(
                f"the same replication gave {results[0]!r} s and then {results[1]!r} s: it "
                "keeps state between runs or draws from a generator of its own; use "
                "state.rng_draw() and start()",
                label,
            )
        if found.cases >= _ENOUGH:
            break
    remarks = []
    if gaps and not found.cases:
        low, middle, high = 100.0 * np.maximum(np.quantile(gaps, [0.0, 0.5, 1.0]), 0.0)
        remarks.append(f"gap to the optimum: {low:.1f} % to {high:.1f} %, median {middle:.1f} %")
    if asked and spent / asked > _SLOW_DECISION_S:
        remarks.append(f"slow: {1e3 * spent / asked:.0f} ms per decision")
    return PolicyReport(name, found.lines(), remarks, runs)


class _Watch:
    """What the policy is being asked, and since when."""

    def __init__(self) -> None:
        self._now: tuple[float, str | State] | None = None

    def begin(self, what: str | State) -> None:
        self._now = time.monotonic(), what

    def end(self) -> None:
        self._now = None

    def late(self, limit_s: float) -> str:
        """Describe a call that takes longer than the limit; empty if none does."""
        now = self._now
        if now is None or time.monotonic() - now[0] < limit_s:
            return ""
        if isinstance(now[1], str):
            return f"did not return within {limit_s:g} s while {now[1]}"
        return f"did not answer within {limit_s:g} s (state: {describe_state(now[1])})"


class _Watched(Policy):
    """A policy whose calls are noted."""

    def __init__(self, policy: Policy, watch: _Watch) -> None:
        self.name = policy.name
        self._policy = policy
        self._watch = watch

    def start(self, plan: Plan) -> None:
        """Pass on the start of a run."""
        self._watch.begin("starting a run")
        try:
            self._policy.start(plan)
        finally:
            self._watch.end()

    def decide(self, state: State) -> Decision:
        """Pass on a question."""
        self._watch.begin(state)
        try:
            return self._policy.decide(state)
        finally:
            self._watch.end()


@dataclass(slots=True)
class _Found:
    """Problems by kind: the first case of each in full, and the number of further cases."""

    first: dict[str, str] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)
    cases: int = 0

    def add(self, problem: str, label: str) -> None:
        kind = _VALUES.sub("#", problem.partition(" (state:")[0])
        self.first.setdefault(kind, f"{problem} (case: {label})")
        self.count[kind] = self.count.get(kind, 0) + 1
        self.cases += 1

    def lines(self) -> list[str]:
        out = []
        for kind, text in self.first.items():
            more = self.count[kind] - 1
            out.append(f"{text}; {more} more of this kind" if more else text)
        return [*out, "stopped after three faulty cases"] if self.cases >= _ENOUGH else out


def _cases(scenario: Scenario | None) -> Iterator[tuple[str, Plan]]:
    """Small plans that reach every corner: one core, many, empty tasks, blocked sides."""
    generator = np.random.default_rng(0)
    extras: list[dict[str, Any]] = [
        {}, {"prefetch": 1}, {"prefetch": 2}, {"release": 0.7}, {"reallocation_cost": 0.05},
        {"link": Link.constant(0.5)},
        {"link": Link(np.array([0.0, 3.0]), np.array([0.0, 1.0]), 6.0, "shared")},
    ]  # fmt: skip
    for c_total in (1, 2, 3, 8):
        share = np.arange(c_total + 1) / c_total
        rates = (share**0.7, 1.0 - share)
        for extra in extras:
            work = generator.uniform(0.2, 2.0, (3, 6)) * (generator.random((3, 6)) > 0.1)
            work[:, 0] = 1.0
            label = f"{c_total} core{'s' * (c_total > 1)}, 6 cycles" + "".join(
                f", {k} = {v}" for k, v in extra.items()
            )
            yield label, Plan(work[0], work[1], work[2], *rates, **extra)
    if scenario is not None:
        yield f"scenario {scenario.name}", scenario.plan()


def _same(a: Plan, b: Plan) -> bool:
    names = ("comm", "forward", "backward", "comm_rates", "comp_rates")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)
