"""The SimPy engine: Comm, Forward and Backward as processes that share a pool of cores.

The processes say what must come before what; the pool says how fast things go. Tasks are
malleable: whenever the split of the cores changes, remaining work carries over and only rates
change. The event heap stays small however often cores move (see ``pool``).
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import simpy
from simpy.events import Event

from kdsim.engines.core_pool import CorePool
from kdsim.engines.realised import realised
from kdsim.errors import PolicyError
from kdsim.messages import whole_number
from kdsim.model.bound.optimum import bound_kind, minimal_makespan
from kdsim.model.plan import Plan
from kdsim.model.random_streams import Draws
from kdsim.policies.base import Policy, PolicyLike
from kdsim.policies.resolve import make_policy, policy_name
from kdsim.results.recording import chunked
from kdsim.results.run import Run
from kdsim.scenario.study import MAX_SEED, Scenario

#: Replications are numbered far beyond what any study runs.
MAX_REPLICATION = 2**53

_Process = Generator[Event, Any, None]


# --- the processes ----------------------------------------------------------------------


class _Tasks:
    """The three processes of one run and the instants they note."""

    def __init__(self, env: simpy.Environment, pool: CorePool, planned: Plan, real: Plan) -> None:
        self._env = env
        self._pool = pool
        self._planned = planned
        self._real = real
        # Made when first asked for, dropped once nobody waits for them: an event takes about 300
        # bytes, and three for each cycle of a long run would fill the memory.
        self._comm_done, self._forward_done, self._backward_done = (
            defaultdict[int, Event](partial(Event, env)) for _ in range(3)
        )
        self.backward_starts = array("d")
        self.forward_ends = array("d")
        self.comm_ends = array("d")

    def comm(self) -> _Process:
        env, pool, done = self._env, self._pool, self._comm_done
        prefetch, release = self._planned.prefetch, self._planned.release
        amounts = zip(chunked(self._real.comm), chunked(self._planned.comm), strict=True)
        for i, (work, planned) in enumerate(amounts):
            if prefetch and i >= prefetch:
                yield self._backward_done[i - prefetch]
                del self._backward_done[i - prefetch]
            yield pool.communicate(work, planned, release * (i + 1), done[i])
            del done[i]
            self.comm_ends.append(env.now)

    def forward(self) -> _Process:
        env, pool, done = self._env, self._pool, self._forward_done
        prefetch = self._planned.prefetch
        amounts = zip(chunked(self._real.forward), chunked(self._planned.forward), strict=True)
        for i, (work, planned) in enumerate(amounts):
            if i:
                yield self._backward_done[i - 1]
                if not prefetch:
                    del self._backward_done[i - 1]
            yield pool.compute(work, planned, done[i])
            self.forward_ends.append(env.now)

    def backward(self) -> _Process:
        env, pool, done = self._env, self._pool, self._backward_done
        amounts = zip(chunked(self._real.backward), chunked(self._planned.backward), strict=True)
        for i, (work, planned) in enumerate(amounts):
            yield self._forward_done[i]
            del self._forward_done[i]
            if len(self.comm_ends) <= i:
                yield self._comm_done[i]
            self.backward_starts.append(env.now)
            yield pool.compute(work, planned, done[i])


# --- one run ----------------------------------------------------------------------


def simulate(
    scenario: Scenario,
    policy: PolicyLike = "optimal",
    *,
    seed: int | None = None,
    replication: int = 0,
) -> Run:
    """Simulate one run with the SimPy engine; see `kdsim.api.simulate`."""
    seed = scenario.seed if seed is None else whole_number(seed, "seed", 0, MAX_SEED)
    replication = whole_number(replication, "replication", 0, MAX_REPLICATION)
    plan = scenario.plan()
    real = realised(plan, scenario.extensions.noise, seed, replication)
    chosen = make_policy(policy, noisy=real is not plan)
    env = simpy.Environment()
    pool, tasks = run_processes(env, plan, real, chosen, Draws(seed, replication))
    bound = minimal_makespan(real)
    return Run(
        scenario=scenario.name,
        policy=policy_name(policy),
        seed=seed,
        replication=replication,
        makespan=env.now,
        minimal_makespan=bound.makespan,
        bound_kind=bound_kind(plan, noisy=real is not plan),
        counters=counters(pool, tasks),
        intervals=pool.intervals,
        backward_starts=tasks.backward_starts,
        forward_ends=tasks.forward_ends,
        comm_ends=tasks.comm_ends,
        plan=plan,
        marks=scenario.marks(),
    )


def run_processes(
    env: simpy.Environment,
    plan: Plan,
    real: Plan,
    policy: Policy,
    draws: Callable[[], float],
) -> tuple[CorePool, _Tasks]:
    """Start the three processes in `env` and run them to the end; ``env.now`` is the makespan.

    Raises
    ------
    PolicyError
        If the policy fails, or stops all progress.
    """
    plan = plan.read_only()
    try:
        policy.start(plan)
    except (PolicyError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PolicyError(
            f"policy {policy_name(policy)} raised {type(error).__name__} in start: {error}"
        ) from error
    pool = CorePool(env, plan, policy, draws, float(real.comm.sum()))
    tasks = _Tasks(env, pool, plan, real)
    for process in (tasks.comm, tasks.forward, tasks.backward):
        env.process(process())
    env.run()
    return pool, tasks


def counters(pool: CorePool, tasks: _Tasks) -> dict[str, float]:
    """Return what a run counted; see `Run`."""
    waits = zip(tasks.backward_starts, tasks.forward_ends, strict=True)
    return {
        "decisions": pool.decisions,
        "reallocations": pool.reallocations,
        "wait_s": sum(start - end for start, end in waits),
        "stall_s": pool.stall_s,
        "starved_s": pool.starved_s,
        "buffer_peak": pool.buffer_peak,
    }
