"""Profiled steps imported against the live loop: the same steps, with and without the profiler.

On each core count blocks of plain and of profiled steps take turns in one process, so that both
see the same machine; the profiled ones go through `kdsim calibrate import`. The quotient of the
imported to the plain time per batch is what the profiler adds (its own work within the two passes)
and what the import loses (the optimizer's step is in neither pass).

    python benchmarks/kineto_import.py [--rounds 6] [--steps 20]
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

RESULTS = Path(__file__).resolve().parent / "results" / "calibration"


def record(cores: int, rounds: int, steps: int, folder: str) -> None:
    """Train on `cores` cores: plain blocks timed by the clock, profiled blocks written to files."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    import torch
    from torch.nn.functional import cross_entropy
    from torch.profiler import ProfilerActivity, profile, record_function

    torch.set_num_threads(cores)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(16, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(32 * 49, 100),
    )  # fmt: skip
    images, labels = torch.randn(128, 1, 28, 28), torch.randint(100, (128,))

    def passes() -> float:
        start = time.perf_counter()
        with record_function("forward"):
            loss = cross_entropy(net(images), labels)
        with record_function("backward"):
            loss.backward()
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


def main() -> None:
    """Record on one and on all cores, import, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--record", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.record:
        record(int(options.record[0]), options.rounds, options.steps, options.record[1])
        return
    import numpy as np
    from front_door import call

    from calibration.machine.host import fingerprint
    from calibration.trace import read_trace, trial_times

    total = len(os.sched_getaffinity(0))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.csv"
        for cores in sorted({1, total}):
            done = subprocess.run(
                [sys.executable, __file__, "--record", str(cores), folder,
                 "--rounds", str(options.rounds), "--steps", str(options.steps)],
                check=True, capture_output=True, text=True, timeout=600,
                env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            )  # fmt: skip
            plain = float(np.median(json.loads(done.stdout.splitlines()[-1])))
            for i in range(options.rounds):
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
            print(rows[-1])
    summary = {"manifest": {"host": fingerprint(), "rounds": options.rounds,
                            "steps": options.steps}, "rows": rows}  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "kineto_import.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
