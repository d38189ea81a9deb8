"""Play one plan under one policy in the SimPy engine, without a scenario around it."""

import numpy as np
import simpy

from kdsim.engines.des import counters, run_processes
from kdsim.model import curves
from kdsim.model.plan import Plan
from kdsim.model.random_streams import Draws
from kdsim.policies.base import Decision, Policy
from kdsim.policies.resolve import make_policy
from kdsim.results.run import Run


def play(plan, policy, *, seed=0, replication=0, real=None):
    """Return (makespan, pool, tasks) of one run."""
    env = simpy.Environment()
    chosen = make_policy(policy) if isinstance(policy, str) else policy
    pool, tasks = run_processes(
        env, plan, plan if real is None else real, chosen, Draws(seed, replication)
    )
    return env.now, pool, tasks


def play_run(plan, policy):
    """Return a Run, for its segments and its timeline."""
    makespan, pool, tasks = play(plan, policy)
    return Run(
        scenario="test", policy="test", seed=0, replication=0, makespan=makespan,
        minimal_makespan=makespan, bound_kind="optimum", counters=counters(pool, tasks),
        intervals=pool.intervals, backward_starts=tasks.backward_starts,
        forward_ends=tasks.forward_ends, comm_ends=tasks.comm_ends, plan=plan,
    )  # fmt: skip


class Sequence(Policy):
    """Answer a list of core counts, or of (cores, hold) pairs, one after the other, for ever."""

    name = "sequence"

    def __init__(self, answers):
        self._answers = answers
        self._asked = 0

    def decide(self, state):
        answer = self._answers[self._asked % len(self._answers)]
        self._asked += 1
        if isinstance(answer, tuple):
            return Decision(min(answer[0], state.total_cores), answer[1])
        return Decision(min(answer, state.total_cores))


def constant_plan(n=4, y=1.0, x_f=1.0, x_b=1.0, c_total=8):
    """Return a plan of equal cycles on the paper's device."""
    q = curves.paper_compute_rates(1.0, 0.125, c_total, 8)
    r = curves.paper_communication_rates(0.05, 0.3, 2.0, c_total)
    return Plan(np.full(n, y), np.full(n, x_f), np.full(n, x_b), r, q)
