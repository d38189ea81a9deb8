"""What the PyTorch profiler recorded, imported, against the live loop: beside our own harness.

In one run on this machine: the student's training step is recorded by the profiler on one and on
all cores, in blocks that take turns with plain ones, and goes through `kdsim calibrate import`; our
own harness measures the same device (`collect`); then the live loop runs. Its makespans are
predicted twice, with compute curves from either source; communication, which no profiler of a
training step sees, is the harness's in both.

    python benchmarks/kineto_import.py [--rounds 6] [--steps 20] [--live-s 150]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if __name__ != "__mp_main__":  # the bench's processes run this file again, and need none of it
    import numpy as np
    from front_door import call

    from calibration.bench.collect import collect
    from calibration.bench.measure import quick_settings
    from calibration.fit import Fit, fit_trace
    from calibration.machine.cores import MEASUREMENT_ENVIRONMENT
    from calibration.machine.host import fingerprint
    from calibration.machine.sampling import Precision
    from calibration.trace import Trace, read_trace, trial_times
    from calibration.validation.conditions import Condition, scenario_of
    from calibration.validation.predict import ValidationSettings
    from calibration.validation.validate import validate
    from kdsim import simulate

    CONDITIONS = (Condition("1:1"), Condition("2:1"))

RESULTS = Path(__file__).resolve().parent / "results" / "calibration"
POLICIES = ("comm-priority", "greedy", "optimal")


def record(cores: int, rounds: int, steps: int, folder: str) -> None:
    """Train on `cores` cores: plain blocks timed by the clock, profiled blocks written to files."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    import torch
    from torch.nn import functional
    from torch.profiler import ProfilerActivity, profile, record_function

    from calibration.bench.student import DEFAULT_SPEC, network

    torch.set_num_threads(cores)
    torch.manual_seed(0)
    spec = DEFAULT_SPEC
    net = network(spec["channels"], spec["classes"], spec["image"])
    images = torch.rand(spec["batch"], 1, spec["image"], spec["image"])
    labels = torch.randint(spec["classes"], (spec["batch"],))
    soft = torch.softmax(torch.randn(spec["batch"], spec["classes"]), dim=1)

    def passes() -> float:
        start = time.perf_counter()
        with record_function("forward"):
            logits = net(images)
        with record_function("backward"):
            tempered = functional.log_softmax(logits / spec["temperature"], dim=1)
            distilled = spec["temperature"] ** 2 * -(soft * tempered).sum(1).mean()
            loss = spec["alpha"] * functional.cross_entropy(logits, labels)
            (loss + (1 - spec["alpha"]) * distilled).backward()
        seconds = time.perf_counter() - start
        net.zero_grad(set_to_none=True)
        return seconds

    for _ in range(10):
        passes()
    plain = []
    for i in range(rounds):
        plain += [passes() for _ in range(steps)]
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            for _ in range(steps):
                passes()
        profiled.export_chrome_trace(f"{folder}/{cores}-{i}.json")
    print(json.dumps(plain))


def recorded(trace: Path, total: int, rounds: int, steps: int, folder: str) -> list[dict[str, Any]]:
    """Record on one and on all cores and import; set imported beside plain steps."""
    rows = []
    for cores in sorted({1, total}):
        done = subprocess.run(
            [sys.executable, __file__, "--record", str(cores), folder,
             "--rounds", str(rounds), "--steps", str(steps)],
            check=True, capture_output=True, text=True, timeout=600,
            env={**os.environ, **MEASUREMENT_ENVIRONMENT},
        )  # fmt: skip
        plain = float(np.median(json.loads(done.stdout.splitlines()[-1])))
        for i in range(rounds):
            answer = call("calibrate", "import", f"{folder}/{cores}-{i}.json", "-o", trace,
                          "--device", "here", "--total-cores", total, "--cores", cores,
                          "--add")  # fmt: skip
            if answer.code not in (0, None):
                raise RuntimeError(answer.err)
        times = trial_times(read_trace(trace).rows)
        imported = times[times["comm_cores"] == total - cores]["seconds_per_work"]
        rows.append(
            {"cores": cores, "plain_s": plain, "imported_s": float(imported.median()),
             "quotient": float(imported.median() / plain), "steps": len(imported)}
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def with_imported_compute(own: Fit, imported: Trace) -> Fit:
    """Fit the imported compute times beside the harness's communication."""
    import pandas as pd

    received = own.trace.rows[own.trace.rows["task"] == "comm"]
    trained = imported.rows[imported.rows["task"] == "compute"]
    return fit_trace(Trace(pd.concat([trained, received], ignore_index=True), own.trace.header))


def predictions(fit: Fit, own: Fit, chunk_mb: float) -> dict[tuple[str, str], float]:
    """Predict each cell with the curves of `fit` and the amounts of the runs, which are `own`'s."""
    found = {}
    for condition in CONDITIONS:
        scenario = scenario_of(fit, condition, chunk_mb)
        amount = scenario_of(own, condition, chunk_mb).workload.comm
        work = scenario.workload.model_copy(update={"comm": amount})
        scenario = scenario.model_copy(update={"workload": work})
        for policy in POLICIES:
            found[condition.label, policy] = simulate(scenario, policy, seed=0).makespan
    return found


def live(own: Fit, imported: Trace, budget_s: float) -> dict[str, Any]:
    """Run the live loop and predict it from both sources."""
    settings = ValidationSettings(
        policies=POLICIES, conditions=CONDITIONS, precision=Precision(budget_s=budget_s)
    )
    result = validate(own, settings, progress=lambda i, n, what: print(i, n, what, flush=True))
    other = predictions(
        with_imported_compute(own, imported), own, own.trace.header["teacher"]["chunk_mb"]
    )
    cells = []
    for row in result.table.to_dict("records"):
        by_import = other[row["condition"], row["policy"]]
        cells.append(
            {key: row[key] for key in ("condition", "policy", "measured", "measured_low",
                                       "measured_high", "runs", "disturbed")}
            | {"predicted_harness": row["predicted"], "predicted_kineto": by_import,
               "error_harness": row["predicted"] / row["measured"] - 1,
               "error_kineto": by_import / row["measured"] - 1}
        )  # fmt: skip
    return {"cells": cells, "worst_harness": max(abs(c["error_harness"]) for c in cells),
            "worst_kineto": max(abs(c["error_kineto"]) for c in cells)}  # fmt: skip


def _known(values: Any) -> Any:
    """Write null for what is not known, as JSON can."""
    if isinstance(values, dict):
        return {key: _known(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_known(value) for value in values]
    return None if isinstance(values, float) and np.isnan(values) else values


def main() -> None:
    """Record, import, collect, run, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--live-s", type=float, default=150.0, help="seconds of live runs at most")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "kineto_import.json")
    parser.add_argument("--record", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.record:
        record(int(options.record[0]), options.rounds, options.steps, options.record[1])
        return
    total = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kineto.csv"
        steps = recorded(path, total, options.rounds, options.steps, folder)
        own = fit_trace(collect(Path(folder) / "own.csv", quick_settings()))
        found = live(own, read_trace(path), options.live_s)
    summary = {
        "manifest": {"host": fingerprint(), "rounds": options.rounds, "steps": options.steps},
        "steps": steps,
        "live": found,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(_known(summary), indent=1, allow_nan=False) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
