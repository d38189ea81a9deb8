"""What the sweep machinery costs beside the bare engine, measured side by side in one run.

Overhead over a loop that calls the engine and keeps nothing; two worker processes beside one; a
million runs end to end with their peak memory; the command line from the shell to the figure.

    python benchmarks/sweep.py             # about three minutes; prints a table, writes JSON
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import kdsim
from kdsim.api import sweep
from kdsim.engines import batch
from kdsim.policies.base import Decision, Policy
from kdsim.scenario.points import points
from kdsim.scenario.validate import scenario_from_data
from kdsim.sweeps.ledger.store import Store

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "sweep"


class Half(Policy):
    """A user's policy, simulated run by run in SimPy."""

    name = "half"

    def decide(self, state):
        """Split the cores evenly."""
        return Decision(state.total_cores // 2)


OWN = "sweep:Half"


def study(*, cycles, seeds, replications, policies, cores=(8,)):
    """Return the paper's device with another workload and design."""
    data = kdsim.load_scenario("paper-1to1").model_dump()
    data["workload"]["cycles"] = cycles
    return scenario_from_data(
        {
            **data,
            "name": "benchmark",
            "replications": replications,
            "policies": list(policies),
            "sweep": {"device.cores": list(cores), "seed": list(range(seeds))},
        }
    )


def bare(scenario, threads=1):
    """Play all runs of a scenario and keep nothing."""
    for point in points(scenario):
        for policy in scenario.policies:
            here = point.legal()
            count = scenario.replications if batch.varies(here, policy) else 1
            batch.makespans(here, policy, 0, count, threads=threads)


def stored(scenario, **where):
    """Sweep a scenario into a new store on disk."""
    with tempfile.TemporaryDirectory() as folder:
        sweep(scenario, Path(folder) / "s.sqlite", **where)


def seconds(function):
    """Time one call: wall and processor seconds of this process."""
    begin, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - begin, time.process_time() - cpu


def side_by_side(one, other, repeats):
    """Time two functions in turn; return medians and the median of the ratios other / one."""
    pairs = [(seconds(one), seconds(other)) for _ in range(repeats)]
    ratios = [b[0] / a[0] for a, b in pairs]
    return {
        "seconds": [statistics.median(p[i][0] for p in pairs) for i in (0, 1)],
        "ratio": statistics.median(ratios),
        "cpu_ratio": statistics.median(b[1] / a[1] for a, b in pairs),
        "ratios": ratios,
    }


def overhead(repeats):
    """Measure the sweep over the bare engine at about 10 ms per run."""
    cycles = 100
    for _ in range(3):  # as many cycles as take 10 ms here
        one = study(cycles=cycles, seeds=1, replications=20, policies=[OWN])
        cycles = max(10, round(cycles * 0.01 / (seconds(lambda one=one: bare(one))[0] / 20)))
    scenario = study(cycles=cycles, seeds=4, replications=100, policies=[OWN])
    result = side_by_side(lambda: bare(scenario), lambda: stored(scenario), repeats)
    return {
        "runs": 400,
        "ms_a_run": 1e3 * result["seconds"][0] / 400,
        "overhead": result["ratio"] - 1,
        "cpu_overhead": result["cpu_ratio"] - 1,
        **result,
    }


PARALLEL = {"cycles": 200, "seeds": 40, "replications": 100, "policies": [OWN]}


def free(count):
    """Play the same runs in `count` independent processes that share nothing: the ceiling."""
    share = [sys.executable, __file__, "--share", str(count)]
    processes = [subprocess.Popen([*share, str(i)]) for i in range(count)]
    for process in processes:
        process.wait(timeout=600)


def share_here(count, number):
    """Run in a process of its own: every count-th point of the parallel study, bare."""
    scenario = study(**PARALLEL)
    for point in points(scenario)[number::count]:
        batch.makespans(point.legal(), OWN, 0, scenario.replications)


def parallel(repeats):
    """Measure two worker processes beside one, and beside independent processes.

    Starting them is included. Two cores seldom do twice the work of one (shared caches, threads
    of one core, neighbours): the independent processes say what this machine can do.
    """
    scenario = study(**PARALLEL)
    cases = {
        "one_worker": lambda: stored(scenario, workers=1),
        "two_workers": lambda: stored(scenario, workers=2),
        "one_free": lambda: free(1),
        "two_free": lambda: free(2),
    }
    times = {name: [] for name in cases}
    for _ in range(repeats):
        for name, function in cases.items():
            times[name].append(seconds(function)[0])
    middle = {name: statistics.median(values) for name, values in times.items()}
    return {
        "runs": 4000,
        "efficiency": middle["one_worker"] / (2 * middle["two_workers"]),
        "machine": middle["one_free"] / (2 * middle["two_free"]),
        "of_the_possible": middle["two_free"] / middle["two_workers"],
        "seconds": times,
    }


MILLION = {
    "cycles": 50, "seeds": 125, "replications": 1000, "policies": ["random"],
    "cores": [5, 6, 7, 8, 9, 10, 11, 12],
}  # fmt: skip


def million_here(what):
    """Run in a process of its own: a million runs, bare or as a sweep; print time and memory."""
    scenario = study(**MILLION)
    bare(study(**{**MILLION, "seeds": 1}))  # what follows is measured without compiling
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    if what == "bare":
        bare(scenario, threads=None)
        count = 0
    else:
        with tempfile.TemporaryDirectory() as folder:
            sweep(scenario, Path(folder) / "s.sqlite")
            taken = time.perf_counter() - begin
            with Store.open(Path(folder) / "s.sqlite") as store:
                count = store.state().replications_done
    taken = taken if what == "sweep" else time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": taken, "peak_mb": peak / 1024, "before_mb": before / 1024,
                      "makespans": count}))  # fmt: skip


def million():
    """Measure a million runs, bare and as a sweep."""
    result = {}
    for what in ("bare", "sweep"):
        command = [sys.executable, __file__, "--million", what]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        result[what] = json.loads(done.stdout.splitlines()[-1])
    result["ratio"] = result["sweep"]["seconds"] / result["bare"]["seconds"]
    return result


def command_line():
    """Measure `kdsim sweep paper-1to1` from the shell to the figure, cold and warm."""
    figure = importlib.util.find_spec("kdsim.plots") is not None
    result = {"figure": figure}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": f"{folder}/cache", "PYTHONPATH": str(ROOT)}
        for name in ("cold", "warm"):
            target = f"{folder}/{name}.png" if figure else f"{folder}/{name}.csv"
            command = [sys.executable, "-m", "kdsim", "sweep", "paper-1to1"]
            command += ["--store", f"{folder}/{name}.sqlite", "-o", target]
            begin = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env=environment, timeout=300)
            result[f"{name}_s"] = time.perf_counter() - begin
    return result


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--million", choices=["bare", "sweep"], help=argparse.SUPPRESS)
    parser.add_argument("--share", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS / "sweep.json")
    options = parser.parse_args()
    if options.million:
        million_here(options.million)
        return
    if options.share:
        share_here(*options.share)
        return
    figures = {
        "overhead": overhead(options.repeats),
        "parallel": parallel(max(1, options.repeats // 2)),
        "million": million(),
        "command_line": command_line(),
    }
    figures["manifest"] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "python benchmarks/sweep.py",
        "kdsim": kdsim.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cores": batch.available_cores(),
        "load": os.getloadavg()[0],
        "repeats": options.repeats,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    over, par, mil, line = (figures[k] for k in ("overhead", "parallel", "million", "command_line"))
    print(f"overhead over the bare engine at {over['ms_a_run']:.1f} ms per run: "
          f"{over['overhead']:+.1%} wall, {over['cpu_overhead']:+.1%} processor time "
          "(target < 5 %)")  # fmt: skip
    print(f"parallel efficiency with 2 workers: {par['efficiency']:.2f} (target >= 0.85); "
          f"of independent processes here: {par['machine']:.2f}; "
          f"reached of what is possible here: {par['of_the_possible']:.2f}")  # fmt: skip
    print(f"a million runs: {mil['sweep']['seconds']:.1f} s (bare {mil['bare']['seconds']:.1f} s), "
          f"peak {mil['sweep']['peak_mb']:.0f} MB (target < 500 MB)")  # fmt: skip
    print(f"kdsim sweep paper-1to1, shell to {'figure' if line['figure'] else 'table'}: "
          f"{line['cold_s']:.1f} s cold, {line['warm_s']:.1f} s warm (target < 10 s)")  # fmt: skip


if __name__ == "__main__":
    main()
