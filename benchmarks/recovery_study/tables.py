"""How well a table of someone's own is imported: known rates against those fitted to it.

Tables of random devices of the paper's forms (8 cores, six repeats, two sizes of work per repeat,
own column names, milliseconds, decimal commas, 5 % log-normal noise, 10 % slow outliers, neither
trial nor phase nor header) go through `kdsim calibrate import`, one command each, and the fit.

    python -m benchmarks.recovery_study.tables [--devices 50] [--bootstrap 40]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from front_door import call
from own_tables import OPTIONS, random_device, table

from calibration.fit import fit_trace
from calibration.machine.host import fingerprint

RESULTS = Path(__file__).resolve().parents[1] / "results" / "calibration"


def one(seed: int, bootstrap: int, folder: Path) -> dict[str, object]:
    """Import and fit one device's table; return the errors of its sixteen rates."""
    rng = np.random.default_rng(seed)
    q, r = random_device(rng)
    own, trace = folder / f"{seed}.csv", folder / f"{seed}.trace.csv"
    own.write_text(table(rng, q, r))
    answer = call("calibrate", "import", own, "-o", trace, *OPTIONS)
    if answer.code not in (0, None):
        raise RuntimeError(answer.err)
    fit = fit_trace(trace, bootstrap=bootstrap)
    rates = np.concatenate([fit.compute.rates[:8] / q, fit.communication.rates[1:] / r])
    return {
        "seed": seed, "models": [fit.compute.model, fit.communication.model],
        "errors": [round(float(e), 5) for e in rates - 1],
    }  # fmt: skip


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--bootstrap", type=int, default=40)
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = [one(seed, options.bootstrap, Path(folder)) for seed in range(options.devices)]
    errors = np.abs([device["errors"] for device in found])
    summary = {
        "manifest": {
            "devices": options.devices, "bootstrap": options.bootstrap, "host": fingerprint(),
            "seconds": round(time.perf_counter() - started),
        },
        "median": float(np.median(errors)),
        "p95": float(np.quantile(errors, 0.95)),
        "worst": float(errors.max()),
        "within": {"3 % in the median": bool(np.median(errors) < 0.03),
                   "10 % at worst": bool(errors.max() < 0.10)},
        "devices": found,
    }  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "import_recovery.json").write_text(json.dumps(summary, indent=1) + "\n")
    print({key: summary[key] for key in ("median", "p95", "worst")})


if __name__ == "__main__":
    main()
