"""The SimPy engine: communication and computation as processes that share a pool of cores.

The processes say what must come before what; the pool says how fast things go. Tasks are
malleable: whenever the split of the cores changes, remaining work carries over and only rates
change. The event heap stays small however often cores move (see ``pool``).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator
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
    """The two processes of one run, one for each side, and the instants that they note."""

    def __init__(self, env: simpy.Environment, pool: CorePool, planned: Plan, real: Plan) -> None:
        self._env = env
        self._pool = pool
        self._planned = planned
        self._real = real
        # An event takes about 300 bytes: one for each task of a long run would fill the memory.
        # Nobody waits for any but those of the present cycle.
        self._comm_done = self._cycle_done = Event(env)
        self._cycles_done = 0
        self.backward_starts = array("d")
        self.forward_ends = array("d")
        self.comm_ends = array("d")

    def comm(self) -> _Process:
        env, communicate, ends = self._env, self._pool.communicate, self.comm_ends
        prefetch, release = self._planned.prefetch, self._planned.release
        amounts = zip(chunked(self._real.comm), chunked(self._planned.comm), strict=True)
        for i, (work, planned) in enumerate(amounts):
            if prefetch and self._cycles_done <= i - prefetch:
                # Comm i-1 was allowed to start, so the present cycle is the one to wait for.
                yield self._cycle_done
            self._comm_done = Event(env)
            yield communicate(work, planned, release * (i + 1), self._comm_done)
            ends.append(env.now)

    def comp(self) -> _Process:
        env, compute = self._env, self._pool.compute
        real, plan, comm_ends = self._real, self._planned, self.comm_ends
        amounts = zip(
            chunked(real.forward), chunked(plan.forward),
            chunked(real.backward), chunked(plan.backward),
            strict=True,
        )  # fmt: skip
        for i, (forward, planned_forward, backward, planned_backward) in enumerate(amounts):
            self._cycle_done = Event(env)
            yield compute(forward, planned_forward, Event(env))
            self.forward_ends.append(env.now)
            if len(comm_ends) <= i:
                # Backward i-1 needed Comm i-1, so the present Comm is the one to wait for.
                yield self._comm_done
            self.backward_starts.append(env.now)
            yield compute(backward, planned_backward, self._cycle_done)
            self._cycles_done = i + 1


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
    chosen = make_policy(policy, noise=scenario.extensions.noise)
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
    """Start the two processes in `env` and run them to the end; ``env.now`` is the makespan.

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
    for process in (tasks.comm, tasks.comp):
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
