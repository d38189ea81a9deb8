"""Do the intervals over curve draws hold the truth as often as they say.

Synthetic traces of a device with known curves (5 % log-normal noise, ten trials at each split) are
fitted by ``calibration.fit``. Each fit's curve file gives a device, and ``kdsim.compare`` its
policies in every bootstrap draw of it. Counted is how often the 95 % interval of the makespan of
greedy (Algorithm 1) minus that of state-based holds the difference on the true device; the
makespans' and the gaps' own intervals are counted beside it. Models are chosen by the fit
(``auto``), as a user would have it.

    python -m benchmarks.answers.curve_draws [--datasets 100] [--bootstrap 200]

Writes ``benchmarks/results/answers/curve_draws_coverage.json``.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from synthetic_traces import A1, A2, B1, B2, B3, synthetic

import kdsim
from calibration.fit import fit_trace
from calibration.fit.curve_file import curve_document

RESULT = Path(__file__).resolve().parents[1] / "results" / "answers" / "curve_draws_coverage.json"
CORES, TRIALS, NOISE = 8, 10, 0.05
POLICIES = ("greedy", "state-based")
TRUE_DEVICE = {
    "cores": CORES,
    "reference_cores": CORES,
    "compute": {"a1": A1, "a2": A2},
    "communication": {"b1": B1, "b2": B2, "b3": B3},
}


def scenario(device: dict[str, Any], batches: float) -> kdsim.Scenario:
    """Put a device to work: 50 cycles of 1 MB and so many batches forward and backward."""
    work = {"cycles": 50, "comm": 1.0, "forward": batches, "backward": batches}
    return kdsim.Scenario.model_validate({"name": "coverage", "device": device, "workload": work})


def truth(batches: float) -> dict[str, float]:
    """Return what every interval should hold: the same numbers on the true device."""
    rows = kdsim.compare(scenario(TRUE_DEVICE, batches), POLICIES).rows
    greedy, state = rows
    return {
        "difference": greedy["mean"] - state["mean"],
        "greedy": greedy["mean"],
        "state-based": state["mean"],
        "greedy gap": greedy["gap_mean"],
    }


def intervals(device: dict[str, Any], batches: float, draws: int) -> dict[str, list[float]]:
    """Return the 95 % intervals that a user of the fitted device is given."""
    made = kdsim.compare(scenario(device, batches), POLICIES, curve_draws=draws)
    (pair,) = made.faster
    greedy, state = made.curve_intervals
    return {
        "difference": [pair["difference_low"], pair["difference_high"]],
        "greedy": [greedy["low"], greedy["high"]],
        "state-based": [state["low"], state["high"]],
        "greedy gap": [greedy["gap_low"], greedy["gap_high"]],
    }


def fitted(seed: int, bootstrap: int, loads: list[float]) -> dict[str, Any]:
    """Fit one synthetic trace and return the intervals at each load."""
    trace = synthetic(CORES, TRIALS, noise=NOISE, seed=seed)
    fit = fit_trace(trace, bootstrap=bootstrap, seed=seed)
    document = curve_document(fit)
    keys = ("reference_cores", "measured_cores", "compute", "communication", "draws")
    device = {"cores": CORES, **{key: document[key] for key in keys}}
    draws = document["draws"]["count"]
    return {
        "models": f"{fit.compute.model}, {fit.communication.model}",
        "intervals": {load: intervals(device, load, draws) for load in loads},
    }


def counted(found: list[dict[str, Any]], bootstrap: int, loads: list[float]) -> dict[str, Any]:
    """Count how often the intervals of these fits hold the truth."""
    result: dict[str, Any] = {
        "datasets": len(found), "trials": TRIALS, "noise": NOISE, "bootstrap": bootstrap,
        "level": 0.95, "models": dict(Counter(one["models"] for one in found)), "loads": [],
    }  # fmt: skip
    for load in loads:
        quantities = []
        for name, value in truth(load).items():
            ends = np.array([one["intervals"][load][name] for one in found])
            held = int(np.sum((ends[:, 0] <= value) & (value <= ends[:, 1])))
            quantities.append(
                {
                    "name": name, "truth": value, "held": held, "coverage": held / len(found),
                    "below": int(np.sum(ends[:, 1] < value)),
                    "above": int(np.sum(ends[:, 0] > value)),
                    "median_width": float(np.median(ends[:, 1] - ends[:, 0])),
                }
            )  # fmt: skip
        result["loads"].append({"batches": load, "quantities": quantities})
    return result


def main() -> None:
    """Run the study; its result is written after every ten fits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", type=int, default=100)
    parser.add_argument("--bootstrap", type=int, default=200)
    parser.add_argument("--batches", type=float, nargs="+", default=[2.0, 8.0, 32.0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    one = functools.partial(fitted, bootstrap=arguments.bootstrap, loads=arguments.batches)
    found: list[dict[str, Any]] = []
    with ProcessPoolExecutor(arguments.workers) as pool:
        for each in pool.map(one, range(arguments.datasets)):
            found.append(each)
            if len(found) % 10 and len(found) < arguments.datasets:
                continue
            result = counted(found, arguments.bootstrap, arguments.batches)
            arguments.output.write_text(json.dumps(result, indent=2) + "\n")
            print(f"{len(found)} of {arguments.datasets} fits", file=sys.stderr)
    for load in result["loads"]:
        for row in load["quantities"]:
            print(f"{load['batches']:g} batches, {row['name']}: {row['held']} of {len(found)}")


if __name__ == "__main__":
    main()
