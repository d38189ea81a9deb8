"""The compiled engine: many runs of one scenario at once, with the same answers as SimPy's.

Every makespan agrees with the SimPy engine's for the same (seed, replication), which is how each
checks the other. The loops themselves are in ``kernels``, which is loaded when there is enough
to do; policies of a user's own, and small jobs, are played by SimPy.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeGuard, cast

import numpy as np

from kdsim.engines.realised import realised
from kdsim.messages import whole_number
from kdsim.model.bound import optimum
from kdsim.model.bound.optimum import corridor, is_timed, minimal_makespan
from kdsim.model.bound.timed_optimum import timed_makespan
from kdsim.model.curves import FloatArray
from kdsim.model.jit import announced
from kdsim.model.lookahead.guide import (
    NO_CLOCK,
    NO_HEIGHTS,
    NO_OUTLOOK,
    NOT_PLANNED,
    Clocked,
    Heights,
    Planned,
    clocked_of,
    heights_of,
    planned_of,
)
from kdsim.model.lookahead.outlooks import outlooks_of
from kdsim.model.plan import Plan
from kdsim.model.random_streams import POLICY_STREAM, Draws, noise_factors, stream_keys
from kdsim.policies.base import PolicyLike
from kdsim.policies.builtin import Static, looks_ahead
from kdsim.policies.resolve import is_built_in, is_random, make_policy
from kdsim.scenario.changes import with_run_counts
from kdsim.scenario.study import Scenario

#: Simulated cycles above which loading the compiled engine (about half a second) pays.
_WORTH_COMPILING = 30_000
#: Threads that one process may be asked for.
MAX_THREADS = 4096
#: Makespans and bounds of a part of a job.
_Played = tuple[FloatArray, FloatArray]
#: Bytes of realised work in memory at a time, per thread.
_CHUNK_BYTES = 4 * 2**20
#: Simulated cycles of a part of a job, about a second at most: a compiled loop cannot be stopped.
_CYCLES_PER_PART = 5_000_000
#: Simulated cycles below which a job is over before anyone could stop it.
_TOO_SHORT_TO_STOP = 500_000


class _Translated(NamedTuple):
    """A policy as the loop takes it: kind, fixed core count, what it plans by."""

    kind: int
    fixed: int = 0
    heights: Heights = NO_HEIGHTS
    planned: Planned = NOT_PLANNED
    clocked: Clocked = NO_CLOCK
    outlooks: FloatArray = NO_OUTLOOK


# --- many runs -----------------------------------------------------------------------------------


def simulate_many(
    scenario: Scenario,
    policy: PolicyLike = "optimal",
    *,
    replications: int | None = None,
    seed: int | None = None,
    threads: int | None = None,
) -> FloatArray:
    """Simulate many replications of one scenario and policy; see `kdsim.api.simulate_many`."""
    scenario = with_run_counts(scenario, seed, replications)
    threads = checked_threads(threads)
    count = scenario.replications
    if not varies(scenario, policy):
        return np.full(count, makespans(scenario, policy, 0, 1)[0][0])
    return makespans(scenario, policy, 0, count, threads=threads)[0]


def varies(scenario: Scenario, policy: PolicyLike) -> bool:
    """Whether the replications of a policy differ: it may draw at random, or the work is noisy."""
    random = not isinstance(policy, str) or is_random(policy)
    return random or scenario.extensions.noise > 0


def is_compiled(policy: PolicyLike) -> TypeGuard[str]:
    """Whether a policy is built in, and so can be played by the compiled engine."""
    return isinstance(policy, str) and is_built_in(policy)


def makespans(
    scenario: Scenario, policy: PolicyLike, start: int, stop: int, *, threads: int | None = 1
) -> tuple[FloatArray, FloatArray]:
    """Simulate replications ``start .. stop-1`` and bound each from below.

    Parameters
    ----------
    scenario : Scenario
        Without regard to its sweep.
    policy : str, Policy or class
        Compiled when built in, else played by the SimPy engine.
    start, stop : int
        Range of replications.
    threads : int, optional
        Threads of the compiled engine; None for all cores.

    Returns
    -------
    makespans : (stop - start,) float64 array
        Seconds.
    bounds : (stop - start,) or (1,) float64 array
        Proven optimum (or lower bound) of the realised work; one value without noise.
    """
    plan, noise = scenario.plan(), scenario.extensions.noise
    effort = _effort(plan, policy, noise)
    large = is_worth_loading((stop - start) * plan.cycles * effort) or is_loaded()
    if not large or not is_compiled(policy):
        return _by_simpy(scenario, policy, start, stop)
    load(scenario, policy)
    arguments = _policy_arguments(plan, policy, noise)
    rows = max(1, min(65_536, _CYCLES_PER_PART // (plan.cycles * effort)))
    if noise > 0:
        rows = max(1, min(rows, _CHUNK_BYTES // (24 * plan.cycles)))
    parts = [(a, min(a + rows, stop)) for a in range(start, stop, rows)]

    def play(part: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        return _by_kernel(plan, noise, scenario.seed, arguments, *part)

    workers = min(len(parts), threads or available_cores())
    if workers == 1 and (stop - start) * plan.cycles * effort < _TOO_SHORT_TO_STOP:
        results = [play(part) for part in parts]
    else:
        results = _in_threads(play, parts, workers)
    times = np.concatenate([times for times, _ in results])
    if noise > 0:
        return times, np.concatenate([bounds for _, bounds in results])
    return times, np.array([minimal_makespan(plan).makespan])


def _effort(plan: Plan, policy: PolicyLike, noise: float) -> int:
    """Return how many times longer a policy's cycle takes in SimPy than most do, roughly."""
    if policy not in ("state-based", "optimal"):
        return 1
    if looks_ahead(plan, noise):
        return 20
    return 20 if policy == "state-based" and is_timed(plan) else 1


def is_worth_loading(cycles: float) -> bool:
    """Whether so many simulated cycles are worth loading the compiled engine."""
    return cycles >= _WORTH_COMPILING


def is_loaded() -> bool:
    """Whether the compiled engine is there already."""
    return "kdsim.engines.kernels" in sys.modules


def load(scenario: Scenario, policy: str) -> None:
    """Load the compiled engine, if it is not there yet, by one run of a built-in policy."""
    if is_loaded():
        return
    plan, noise = scenario.plan(), scenario.extensions.noise
    with announced("loading the compiled engine (the first time it is compiled, then cached)"):
        arguments = _policy_arguments(plan, policy, noise)
        _by_kernel(plan, noise, scenario.seed, arguments, 0, 1)


def _in_threads(
    play: Callable[[tuple[int, int]], _Played], parts: list[tuple[int, int]], threads: int
) -> list[_Played]:
    """Play the parts of a job beside the caller's thread, so that Ctrl-C reaches it at once.

    A compiled loop does not look for signals. After Ctrl-C no further part begins; those being
    played end on their own, and do not keep the process alive.
    """
    results: dict[int, _Played] = {}
    failures: list[BaseException] = []
    left, taking = iter(enumerate(parts)), threading.Lock()

    def work() -> None:
        while not failures:
            with taking:
                number, part = next(left, (-1, (0, 0)))
            if number < 0:
                return
            try:
                results[number] = play(part)
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                failures.append(error)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    except BaseException as error:
        failures.append(error)
        raise
    if failures:
        raise failures[0]
    return [results[number] for number in range(len(parts))]


def checked_threads(threads: Any) -> int | None:
    """Return how many threads were asked for; None for all cores."""
    return None if threads is None else whole_number(threads, "threads", 1, MAX_THREADS)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _by_simpy(
    scenario: Scenario, policy: PolicyLike, start: int, stop: int
) -> tuple[FloatArray, FloatArray]:
    import simpy

    from kdsim.engines.des import run_processes  # loads SimPy

    plan, noise, seed = scenario.plan(), scenario.extensions.noise, scenario.seed
    times = np.empty(stop - start)
    bounds: list[float] = []
    for replication in range(start, stop):
        real = realised(plan, noise, seed, replication)
        chosen = make_policy(policy, noise=noise)
        env = simpy.Environment()
        run_processes(env, plan, real, chosen, Draws(seed, replication))
        times[replication - start] = env.now
        if noise > 0 or not bounds:
            bounds.append(minimal_makespan(real).makespan)
    return times, np.array(bounds)


def _by_kernel(
    plan: Plan,
    noise: float,
    seed: int,
    policy: _Translated,
    start: int,
    stop: int,
) -> tuple[FloatArray, FloatArray]:
    from kdsim.engines import kernels

    # Scratch of its own: other threads play the same policy.
    clocked = policy.clocked._replace(lens=np.array(policy.clocked.lens))
    numbers = np.arange(start, stop)
    keys = stream_keys(seed, numbers, POLICY_STREAM)
    n = plan.cycles
    if noise > 0:
        factors = noise_factors(seed, numbers, 3 * n, noise)
        comm = plan.comm * factors[:, :n]
        forward = plan.forward * factors[:, n : 2 * n]
        backward = plan.backward * factors[:, 2 * n :]
    else:
        comm, forward, backward = plan.comm[None], plan.forward[None], plan.backward[None]
    times = np.empty(stop - start)
    kernels.many_runs(
        policy.kind, policy.fixed, keys, comm, forward, backward,
        plan.comm, plan.forward, plan.backward,
        plan.comm_rates, plan.comp_rates, plan.comm_unit_times, plan.comp_unit_times,
        plan.prefetch, plan.release, plan.reallocation_cost, _link_argument(plan, comm),
        policy.heights, policy.planned, clocked, policy.outlooks, times,
    )  # fmt: skip
    if noise == 0:
        return times, np.empty(0)
    return times, _bounds(plan.with_work(comm, forward, backward), plan)


def _link_argument(plan: Plan, comm: FloatArray) -> tuple[Any, ...] | None:
    """Translate the link for the loop: stretches in which every replication's data arrive."""
    if plan.link is None:
        return None
    return *plan.link.stretches(comm.sum(axis=-1)), plan.link.starved == "shared"


def _bounds(real: Plan, plan: Plan) -> FloatArray:
    """Bound each replication of realised work; see `minimal_makespan`."""
    from kdsim.engines import kernels

    if is_timed(plan):
        rows = zip(real.comm, real.forward, real.backward, strict=True)
        return np.array([timed_makespan(plan.with_work(*row)) for row in rows])
    gates = corridor(real)
    lengths, n = np.empty(gates.total.size), gates.V.shape[1]
    scratch = (np.empty(n, np.int64), np.empty(n, np.int64), np.empty(2 * n, np.int64))
    walls = (gates.V, gates.upper, gates.lower, gates.start, gates.total)
    kernels.many_lengths(*walls, plan.region.facets, *scratch, lengths)
    return lengths


def bound_kind(scenario: Scenario) -> str:
    """How to call the bounds of a scenario: ``"optimum"`` or ``"lower bound"``."""
    return optimum.bound_kind(scenario.plan(), noisy=scenario.extensions.noise > 0)


def _policy_arguments(plan: Plan, policy: str, noise: float) -> _Translated:
    """Translate a built-in policy for the loop."""
    from kdsim.engines import kernels

    kinds = {
        "random": kernels.RANDOM, "greedy": kernels.GREEDY, "greedy-full": kernels.GREEDY_FULL
    }  # fmt: skip
    if policy in kinds:
        return _Translated(kinds[policy])
    if policy not in ("state-based", "optimal"):
        chosen = cast(Static, make_policy(policy))
        chosen.start(plan)  # refuses more cores than there are
        return _Translated(kernels.STATIC, chosen.comm_cores)
    timed, ahead = is_timed(plan), looks_ahead(plan, noise)
    if policy == "optimal" and not ahead:
        kind = kernels.IN_TIME if timed else kernels.OPTIMAL
        return _Translated(kind, heights=heights_of(plan))
    clocked = clocked_of(plan) if timed else NO_CLOCK
    planned = planned_of(plan)
    if ahead:
        outlooks = outlooks_of(noise)
        return _Translated(kernels.LOOK_AHEAD, planned=planned, clocked=clocked, outlooks=outlooks)
    kind = kernels.STATE_IN_TIME if timed else kernels.STATE_BASED
    return _Translated(kind, planned=planned, clocked=clocked)
