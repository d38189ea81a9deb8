"""How well calibration recovers what it should: coverage, and the naive fit beside ours.

Synthetic traces of known parameters, 5 % log-normal noise and 10 % slow outliers, are fitted by
``calibration.fit`` and, on the same trials, by ``scipy.optimize.curve_fit`` of the paper's form
as it stands. Run as a script; results go to ``benchmarks/results/calibration``.

    python -m benchmarks.recovery_study.traces [--datasets 200] [--bootstrap 200]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from synthetic_traces import A1, A2, B1, B2, B3, synthetic

from calibration.fit import fit_trace
from calibration.fit.estimate import side_samples
from calibration.machine.host import fingerprint
from kdsim.model import curves

RESULTS = Path(__file__).resolve().parents[1] / "results" / "calibration"
TOTAL, TRIALS, NOISE, OUTLIERS = 8, 10, 0.05, 0.10
TRUE_Q = curves.paper_compute_rates(A1, A2, TOTAL, TOTAL)[:TOTAL]
TRUE_R = curves.paper_communication_rates(B1, B2, B3, TOTAL)[1:]


def naive_g(trace) -> dict[str, object]:
    """Fit g(1, c) = 1/(b1*c + b2*ln(b3*c)) to the trials with curve_fit's defaults."""
    samples = side_samples(trace)["communication"]
    times = np.exp(samples.log_time)

    def g(c, b1, b2, b3):
        return 1.0 / (b1 * c + b2 * np.log(b3 * c))

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", OptimizeWarning)
        try:
            b, covariance = curve_fit(g, samples.cores.astype(float), times)
        except (RuntimeError, ValueError, OptimizeWarning) as error:
            return {"failure": type(error).__name__}
        rates = 1.0 / g(np.arange(1.0, TOTAL + 1), *b)
    if not np.isfinite(rates).all() or (rates <= 0).any():
        return {"failure": "negative rate or pole"}
    half = 1.96 * np.sqrt(np.diag(covariance))
    truth = np.array([B1, B2, B3])
    return {
        "failure": None,
        "rate_error": float(np.abs(rates / TRUE_R - 1).max()),
        "parameters_covered": ((b - half <= truth) & (truth <= b + half)).tolist(),
    }


def one(seed: int, bootstrap: int) -> dict[str, object]:
    """Fit one data set both ways."""
    trace = synthetic(TOTAL, TRIALS, noise=NOISE, outliers=OUTLIERS, seed=seed)
    fit = fit_trace(
        trace, compute_model="paper", communication_model="paper", bootstrap=bootstrap, seed=seed
    )
    truth = {
        "compute": {"a1": A1, "a2": A2},
        "communication": {"b1": B1, "b2": B2, "b3": B3},
    }
    covered = {
        name: bool(fit.ci[side][name][0] <= value <= fit.ci[side][name][1])
        for side, values in truth.items()
        for name, value in values.items()
    }
    q, r = fit.compute, fit.communication
    return {
        "parameters": covered,
        "q": ((q.low[:TOTAL] <= TRUE_Q) & (q.high[:TOTAL] >= TRUE_Q)).tolist(),
        "r": ((r.low[1:] <= TRUE_R) & (r.high[1:] >= TRUE_R)).tolist(),
        "legal": bool((q.draws[:, :TOTAL] > 0).all() and (r.draws[:, 1:] > 0).all()),
        "rate_error": float(np.abs(r.rates[1:] / TRUE_R - 1).max()),
        "naive": naive_g(trace),
    }


def summarise(found: list[dict]) -> dict[str, object]:
    """Condense the data sets."""
    naive_ok = [f["naive"] for f in found if f["naive"]["failure"] is None]
    failures: dict[str, int] = {}
    for f in found:
        if f["naive"]["failure"]:
            failures[f["naive"]["failure"]] = failures.get(f["naive"]["failure"], 0) + 1
    return {
        "coverage_parameters": {
            name: float(np.mean([f["parameters"][name] for f in found]))
            for name in ("a1", "a2", "b1", "b2", "b3")
        },
        "coverage_all_parameters": float(
            np.mean([v for f in found for v in f["parameters"].values()])
        ),
        "coverage_rates_q": np.mean([f["q"] for f in found], axis=0).tolist(),
        "coverage_rates_r": np.mean([f["r"] for f in found], axis=0).tolist(),
        "coverage_all_rates": float(np.mean([[*f["q"], *f["r"]] for f in found])),
        "illegal_fits": int(sum(not f["legal"] for f in found)),
        "worst_rate_error_median": float(np.median([f["rate_error"] for f in found])),
        "naive": {
            "failures": sum(failures.values()),
            "failures_by_kind": failures,
            "worst_rate_error_median": float(np.median([n["rate_error"] for n in naive_ok]))
            if naive_ok
            else None,
            "coverage_all_parameters": float(np.mean([n["parameters_covered"] for n in naive_ok]))
            if naive_ok
            else None,
        },
    }


def draw(found: list[dict], path: Path) -> None:
    """Draw coverage by core count, and the worst rate error of both fits."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, offset, colour, marker in (("q", 0, "#0072B2", "o"), ("r", 1, "#D55E00", "s")):
        share = np.mean([f[name] for f in found], axis=0)
        half = 1.96 * np.sqrt(share * (1 - share) / len(found))
        left.errorbar(np.arange(TOTAL) + offset, 100 * share, yerr=100 * half, fmt=marker,
                      color=colour, capsize=2, label=f"{name}(c)")  # fmt: skip
    left.axhline(95, color="#666666", lw=0.8)
    left.axhline(93, color="#666666", lw=0.8, ls=":")
    left.set_ylim(85, 100)
    left.set_xlabel("cores given to communication")
    left.set_ylabel("intervals that hold the truth (%)")
    left.legend(frameon=False, title="nominal: 95 %")
    ours = sorted(100 * f["rate_error"] for f in found)
    naive = sorted(100 * f["naive"]["rate_error"] for f in found if f["naive"]["failure"] is None)
    right.step(ours, np.arange(1, len(ours) + 1) / len(found) * 100, color="#D55E00",
               label="kdsim")  # fmt: skip
    right.step(naive, np.arange(1, len(naive) + 1) / len(found) * 100, color="#666666", ls="--",
               label="curve_fit of eq. 4")  # fmt: skip
    right.set_xscale("log")
    right.set_xlabel("worst error of r(c), c = 1..8 (%)")
    right.set_ylabel("data sets at most that wrong (%)")
    right.set_ylim(0, 100)
    right.legend(frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", type=int, default=200)
    parser.add_argument("--bootstrap", type=int, default=200)
    options = parser.parse_args()
    started = time.perf_counter()
    found = []
    for seed in range(options.datasets):
        found.append(one(seed, options.bootstrap))
        if seed % 20 == 19 or seed == options.datasets - 1:
            # Written as it grows: a study that is stopped leaves what it has.
            write(found, options.bootstrap, time.perf_counter() - started)
            print(f"{seed + 1} of {options.datasets}", file=sys.stderr)
    print((RESULTS / "recovery.json").read_text())


def write(found: list[dict], bootstrap: int, seconds: float) -> None:
    """Write the results of the data sets so far."""
    summary = {
        "manifest": {
            "total_cores": TOTAL, "trials": TRIALS, "noise": NOISE, "outliers": OUTLIERS,
            "parameters": {"a1": A1, "a2": A2, "b1": B1, "b2": B2, "b3": B3},
            "datasets": len(found), "bootstrap": bootstrap, "seeds": f"0..{len(found) - 1}",
            "host": fingerprint(), "seconds": round(seconds),
        },
        **summarise(found),
    }  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "recovery.json").write_text(json.dumps(summary, indent=2) + "\n")
    draw(found, RESULTS / "recovery.png")


if __name__ == "__main__":
    main()
