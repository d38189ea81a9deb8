"""The engines and the optimum, measured side by side in one run.

Every figure is a ratio, or stands beside what it is compared with: machines are shared and noisy.

    python benchmarks/engine.py            # about two minutes; prints a table, writes JSON
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import simpy
from numba import njit
from scipy.optimize import linprog

import kdsim
from kdsim.engines import batch
from kdsim.engines import core_pool as pool
from kdsim.engines import des as engine
from kdsim.model.bound import optimum
from kdsim.model.bound.timed_optimum import timed_makespan
from kdsim.model.link import Link
from kdsim.model.random_streams import Draws
from kdsim.policies.base import Decision, Policy
from kdsim.policies.resolve import make_policy
from kdsim.scenario.points import points

RESULTS = Path(__file__).parent / "results" / "engine"


def median_time(*functions, repeats=7):
    """Time functions in turn, `repeats` times; return the median seconds of each."""
    times = [[] for _ in functions]
    for _ in range(repeats):
        for function, seconds in zip(functions, times, strict=True):
            begin = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - begin)
    return [statistics.median(seconds) for seconds in times]


# --- the same model, written by hand as small as it goes ------------------------------------------


class HandPool:
    """A minimal malleable pool: no holds, no extensions, no records, no checks."""

    def __init__(self, env, r, q, draw):
        self.env, self.r, self.q, self.draw = env, r, q, draw
        self.comm = self.comp = None
        self.planned = False

    def run(self, side, work, done):
        setattr(self, side, [work, done])
        if not self.planned:
            self.planned = True
            self.env.process(self.step())
        return done

    def step(self):
        yield self.env.timeout(0)
        while self.comm or self.comp:
            last = len(self.r) - 1
            if not self.comm:
                c = 0
            elif not self.comp:
                c = last
            else:
                c = 1 + int(self.draw() * (last - 1))
            dt = self.comm[0] / self.r[c] if self.comm and c else math.inf
            if self.comp and c < last:
                dt = min(dt, self.comp[0] / self.q[c])
            yield self.env.timeout(dt)
            for side, rate in (("comm", self.r[c]), ("comp", self.q[c])):
                task = getattr(self, side)
                if task:
                    task[0] -= rate * dt
                    if task[0] <= 1e-12:
                        setattr(self, side, None)
                        task[1].succeed()
            yield self.env.timeout(0)
        self.planned = False


def hand_run(n, r, q, draw):
    """Run N cycles of unit work on the hand-written pool; return the makespan."""
    env = simpy.Environment()
    pool = HandPool(env, r, q, draw)
    arrived = [env.event() for _ in range(n)]

    def comm():
        for i in range(n):
            yield pool.run("comm", 1.0, arrived[i])

    def comp():
        for i in range(n):
            yield pool.run("comp", 1.0, env.event())
            yield arrived[i]
            yield pool.run("comp", 1.0, env.event())

    env.process(comm())
    env.process(comp())
    env.run()
    return env.now


def product_run(plan):
    """Run the product's engine, everything included."""
    env = simpy.Environment()
    engine.run_processes(env, plan, plan, make_policy("random"), Draws(0, 0))
    return env.now


def paper_plan(n):
    """The paper's device under N unit cycles."""
    scenario = kdsim.with_fields(kdsim.load_scenario("paper-1to1"), {"workload.cycles": n})
    return scenario.plan()


def simpy_against_hand():
    """Runs per second at N = 100, the engine over the hand-written script (target >= 0.8)."""
    plan = paper_plan(100)
    r, q = plan.comm_rates.tolist(), plan.comp_rates.tolist()
    assert abs(product_run(plan) / hand_run(100, r, q, Draws(0, 0)) - 1) < 1e-9
    ours, hand = median_time(
        lambda: [product_run(plan) for _ in range(20)],
        lambda: [hand_run(100, r, q, Draws(0, 0)) for _ in range(20)],
        repeats=15,
    )
    return {"engine_runs_per_s": 20 / ours, "hand_runs_per_s": 20 / hand, "ratio": hand / ours}


def cost_against_n():
    """Microseconds per cycle from N = 10 to 100,000 (linear: a flat line)."""
    costs = {}
    for n in (10, 100, 1_000, 10_000, 100_000):
        plan = paper_plan(n)
        seconds = median_time(lambda plan=plan: product_run(plan), repeats=7 if n < 10**5 else 1)[0]
        costs[n] = 1e6 * seconds / n
    return {"microseconds_per_cycle": costs, "largest_over_smallest": costs[100_000] / costs[100]}


def heap_after_reallocations():
    """Length of the event heap after 100,000 reallocations, and the longest on the way."""

    class Restless(Policy):
        name = "restless"

        def __init__(self):
            self.flip, self.longest = 0, 0

        def decide(self, state):
            self.longest = max(self.longest, len(env._queue))
            self.flip ^= 1
            return Decision(3 + self.flip, 1e-3)

    env = simpy.Environment()
    big = replace(paper_plan(1), comm=np.array([130.0]), forward=np.array([70.0]))
    limit, pool.MAX_QUESTIONS = pool.MAX_QUESTIONS, 10**9
    policy = Restless()
    try:
        played, _ = engine.run_processes(env, big, big, policy, Draws(0, 0))
    finally:
        pool.MAX_QUESTIONS = limit
    return {"reallocations": played.reallocations, "longest_heap": policy.longest}


# --- the optimum ----------------------------------------------------------------------------------


def random_plan(n, prefetch=0):
    """Unequal cycles on the paper's device."""
    draw = np.random.default_rng(n)
    work = [draw.uniform(0.5, 2.0, n) for _ in range(3)]
    return replace(
        paper_plan(1), comm=work[0], forward=work[1], backward=work[2], prefetch=prefetch
    )


def lp_makespan(plan):
    """The minimal makespan by HiGHS; sparse, so that it can do a few thousand cycles."""
    from scipy.sparse import coo_matrix

    n, facets = plan.cycles, plan.region.facets
    ceiling = np.cumsum(plan.forward + plan.backward) - plan.backward
    m = np.repeat(np.arange(n), len(facets))
    row = np.arange(m.size)
    nv, nw = np.tile(facets[:, 0], n), np.tile(facets[:, 1], n)
    later = m > 0
    entries = [(row, m, nw), (row[later], m[later] - 1, -nw[later]), (row, n + m, -np.ones(m.size))]
    a = coo_matrix(
        (
            np.concatenate([e[2] for e in entries]),
            (np.concatenate([e[0] for e in entries]), np.concatenate([e[1] for e in entries])),
        ),
        shape=(m.size, 2 * n),
    )
    cost = np.concatenate([np.zeros(n), np.ones(n)])
    cost[n - 1] -= 1.0 / plan.comp_rates[0]
    bounds = [(0, top) for top in ceiling] + [(0, None)] * n
    answer = linprog(cost, A_ub=a.tocsr(), b_ub=-nv * plan.comm[m], bounds=bounds, method="highs")
    return answer.fun + (plan.forward + plan.backward).sum() / plan.comp_rates[0]


def optimum_against_lp():
    """Seconds of the exact optimum against HiGHS, and alone up to a million cycles."""
    rows = {}
    for n in (100, 1_000, 3_000):
        plan = random_plan(n)
        ours, lp = median_time(
            lambda plan=plan: optimum.minimal_makespan(plan),
            lambda plan=plan: lp_makespan(plan),
            repeats=3,
        )
        difference = abs(optimum.minimal_makespan(plan).makespan / lp_makespan(plan) - 1)
        rows[n] = {"string_s": ours, "linprog_s": lp, "ratio": lp / ours, "difference": difference}
    for n in (100_000, 1_000_000):
        for prefetch in (0, 3):
            plan = random_plan(n, prefetch)
            optimum.minimal_makespan(plan)
            seconds = median_time(lambda plan=plan: optimum.minimal_makespan(plan), repeats=5)[0]
            rows[f"{n}, prefetch {prefetch or 'none'}"] = {"string_s": seconds}
    return rows


def timed_optimum():
    """Seconds of the optimum with release times, a link and prefetch at 8 cores (linear in N)."""
    rows = {}
    for n in (10_000, 100_000, 1_000_000):
        link = Link(np.array([0.0, 10.0, 20.0]), np.array([0.5, 0.0, 1.5]), 30.0)
        for what, changes in (
            ("release", {"release": 1.5}),
            ("link", {"link": Link.constant(0.6)}),
            ("release, link with outages, prefetch 3", {"release": 1.5, "link": link}),
        ):
            plan = replace(random_plan(n, 3 if "prefetch" in what else 0), **changes)
            timed_makespan(plan)
            rows[f"{n}, {what}"] = median_time(lambda plan=plan: timed_makespan(plan), repeats=3)[0]
    return rows


# --- the compiled engine --------------------------------------------------------------------------


@njit(cache=True)
def hand_loop(n, r, q, uniforms, out):
    """A straightforward numba loop of the paper's model under random allocation."""
    last = r.size - 1
    for run in range(out.size):
        i = j = k = 0
        now, draw = 0.0, 0
        comm, comp = 1.0, 1.0
        while k < n:
            comm_on = i < n
            comp_on = j == k or i > k
            if not comm_on:
                c = 0
            elif not comp_on:
                c = last
            else:
                c = 1 + int(uniforms[run, draw] * (last - 1))
                draw += 1
            dt = np.inf
            if comm_on and c > 0:
                dt = comm / r[c]
            if comp_on and c < last:
                dt = min(dt, comp / q[c])
            now += dt
            if comm_on:
                comm -= r[c] * dt
                if comm <= 1e-12:
                    i, comm = i + 1, 1.0
            if comp_on:
                comp -= q[c] * dt
                if comp <= 1e-12:
                    comp = 1.0
                    if j == k:
                        j += 1
                    else:
                        k += 1
        out[run] = now


def batch_against_simpy():
    """The paper's sweep: c_total 6, 8, 10, 12, both ratios, 1000 random replications, N = 50."""
    cases = [
        point.legal()
        for name in ("paper-1to1", "paper-2to1")
        for point in points(kdsim.load_scenario(name))
    ]
    policies = kdsim.load_scenario("paper-1to1").policies

    def study(play, random_runs):
        for case in cases:
            for policy in policies:
                play(case, policy, random_runs if policy == "random" else 1)

    def compiled(case, policy, runs):
        batch.makespans(case, policy, 0, runs, threads=1)

    def by_simpy(case, policy, runs):
        batch._by_simpy(case, policy, 0, runs)

    threshold, batch._WORTH_COMPILING = batch._WORTH_COMPILING, 0
    try:
        study(compiled, 1000)
        ours = median_time(lambda: study(compiled, 1000), repeats=7)[0]
        share = 25
        slow = median_time(lambda: study(by_simpy, 1000 // share), repeats=3)[0]
        alone = median_time(lambda: study(by_simpy, 0), repeats=3)[0]
        per_policy = {}
        for policy in policies:
            fast = (
                median_time(lambda p=policy: compiled(cases[1], p, 20_000), repeats=5)[0] / 20_000
            )
            one = median_time(lambda p=policy: by_simpy(cases[1], p, 40), repeats=3)[0] / 40
            per_policy[policy] = {
                "simpy_us": 1e6 * one,
                "batch_us": 1e6 * fast,
                "ratio": one / fast,
            }
    finally:
        batch._WORTH_COMPILING = threshold
    simpy_s = alone + share * (slow - alone)
    return {
        "batch_s": ours,
        "simpy_s_from_a_25th_of_the_replications": simpy_s,
        "ratio_per_core": simpy_s / ours,
        "per_run": per_policy,
    }


def batch_against_hand_loop():
    """The compiled engine over the hand-written loop (target >= 0.7 of its speed)."""
    case = kdsim.load_scenario("paper-1to1")
    plan, runs = case.plan(), 20_000
    uniforms = np.random.default_rng(0).random((runs, 150))
    out = np.empty(runs)
    hand_loop(50, plan.comm_rates, plan.comp_rates, uniforms[:1], out[:1])
    batch.makespans(case, "random", 0, runs, threads=1)
    ours, hand, draws = median_time(
        lambda: batch.makespans(case, "random", 0, runs, threads=1),
        lambda: hand_loop(50, plan.comm_rates, plan.comp_rates, uniforms, out),
        lambda: np.random.default_rng(0).random((runs, 150)),
        repeats=15,
    )
    return {
        "batch_us": 1e6 * ours / runs,
        "hand_us_without_draws": 1e6 * hand / runs,
        "hand_us_with_draws": 1e6 * (hand + draws) / runs,
        "speed_ratio": (hand + draws) / ours,
        "speed_ratio_draws_for_free": hand / ours,
        "mean_difference": float(
            out.mean() / batch.makespans(case, "random", 0, runs)[0].mean() - 1
        ),
    }


def main():
    """Measure, print, and write the results with the facts of the machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names of the measurements to make")
    wanted = parser.parse_args().only
    measurements = (
        simpy_against_hand,
        cost_against_n,
        heap_after_reallocations,
        optimum_against_lp,
        timed_optimum,
        batch_against_simpy,
        batch_against_hand_loop,
    )
    results = {}
    for measure in measurements:
        if wanted and measure.__name__ not in wanted:
            continue
        results[measure.__name__] = measure()
        print(measure.__doc__.splitlines()[0])
        print(json.dumps(results[measure.__name__], indent=2), flush=True)
    if wanted:
        return
    facts = {
        "date": datetime.date.today().isoformat(),
        "command": "python benchmarks/engine.py",
        "kdsim": kdsim.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {batch.available_cores()} cores",
        "simpy": simpy.__version__,
        "numpy": np.__version__,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "engine.json").write_text(json.dumps({**facts, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
