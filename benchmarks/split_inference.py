"""Split inference at 224 x 224: every network, mode and transport against the whole, in one run.

    python benchmarks/split_inference.py [--rounds 30] [--nets edge-3] [--out DIR]
    python benchmarks/split_inference.py --drill    # edge-3 beside a busy process, at random

Needs two free cores; takes about three minutes. Writes for each network NET.json and NET.png, for
edge-3 also the timeline of one image (Chrome trace), and a summary of all; then shares the rows
anew for a worker of half the speed and reports what each worker idles before and after, and
sends a stream of images through two workers that share the layers.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration.commands.split import draw
from calibration.workloads.records.results import manifest, write_json
from calibration.workloads.split_inference import SplitModel, WorkerPool, WorkerSpec, trace
from calibration.workloads.split_inference.pipeline import PipelinedModel
from calibration.workloads.split_inference.study.measure import Study, run_study
from calibration.workloads.split_inference.study.report import chrome_trace, sentences, to_json
from calibration.workloads.split_inference.workers.worker_process import (
    available_cores,
    one_core_each,
)
from calibration.workloads.training.networks import build_network
from kdsim.plots.saving import save
from kdsim.results.intervals import mean_interval

SHAPE = (3, 224, 224)
STREAMED = 24


def features(name: str) -> torch.nn.Module:
    """Return a network's trunk in channels-last layout."""
    net = build_network(name, (3, 32, 32), 10).features.eval()
    return net.to(memory_format=torch.channels_last)


def rebalance(rounds: int) -> dict[str, Any]:
    """Give one of two workers half the speed, and measure idling before and after rebalancing."""
    cores = available_cores()
    specs = [WorkerSpec((cores[0],)), WorkerSpec((cores[1 % len(cores)],), slowdown=2.0)]
    x = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    result: dict[str, Any] = {"slowdown": [1.0, 2.0]}
    with (
        WorkerPool(specs, timeout_s=60) as pool,
        SplitModel(features("edge-3"), SHAPE, parts=2, pool=pool, timeout_s=60) as split,
    ):
        for when in ("before", "after"):
            if when == "after":
                split.rebalance()
            idle, trunk = [], []
            for _ in range(rounds):
                split(x)
                timing = split.timing
                if timing is None:
                    raise RuntimeError("an inference left no timing")
                idle.append([1 - timing.busy_s(p) / timing.trunk_s for p in (0, 1)])
                trunk.append(timing.trunk_s)
            result[when] = {
                "shares": list(split.plan.shares),
                "median_ms": float(np.median(trunk)) * 1e3,
                "median_idle": np.median(idle, axis=0).tolist(),
                "mean_idle": [mean_interval(np.array(idle)[:, p]).mean for p in (0, 1)],
                "n": rounds,
            }
    return result


def stream(name: str, rounds: int) -> dict[str, Any]:
    """Send a stream of images through one worker and through two that share the layers."""
    images = [
        torch.randn(*SHAPE, generator=torch.Generator().manual_seed(i)) for i in range(STREAMED)
    ]
    net, each = features(name), {1: [], 2: []}
    with (
        WorkerPool(one_core_each(2), timeout_s=60) as pool,
        PipelinedModel(net, SHAPE, stages=1, pool=pool) as one,
        PipelinedModel(net, SHAPE, stages=2, pool=pool) as two,
    ):
        for _ in range(rounds + 1):
            for stages, model in ((1, one), (2, two)):
                for _ in model.stream(images):
                    pass
                # Without the first images, while the pipeline fills.
                each[stages].append(np.diff(model.completed_ns)[4:].mean() * 1e-6)
        ranges = two.pipeline.ranges
    ratios = mean_interval(np.array(each[2][1:]) / np.array(each[1][1:]))
    return {
        "net": name,
        "layers": ranges,
        "images": STREAMED,
        "one_worker_ms": float(np.median(each[1][1:])),
        "two_stages_ms": float(np.median(each[2][1:])),
        "ratio": ratios.mean,
        "ci_low": ratios.low,
        "ci_high": ratios.high,
        "n": ratios.n,
    }


def summary(name: str, study: Study) -> list[dict[str, Any]]:
    """Return one row for each method of a network."""
    rows = []
    for method in study.methods:
        ratio = study.ratio(method)
        row = {
            "net": name,
            "method": method,
            "median_ms": float(np.median(study.methods[method].rounds_s)) * 1e3,
            "ratio": ratio.mean,
            "ci_low": ratio.low,
            "ci_high": ratio.high,
            "n": ratio.n,
            "median_ratio": study.median_ratio(method),
            "disturbed": study.verdict.is_too_disturbed,
        }
        if method in study.predicted_s:
            row["prediction_error"] = study.prediction_error(method)
        if method not in ("whole", "openmp"):
            for kind, (a, b) in study.kinds(method).items():
                row[f"{kind}_ratio"] = b / a
        rows.append(row)
    return rows


def drill(rounds: int, out: Path) -> int:
    """Measure edge-3 beside a process that starts and stops at random; status as of the command."""
    from validation import Drill  # beside this script

    config = {"net": "edge-3", "input": list(SHAPE), "parts": 2, "rounds": rounds, "seed": 0}
    with Drill(seed=0, processes=1) as busy:
        study = run_study(
            trace(features("edge-3"), SHAPE), modes=("layerwise",), transports=("tcp",),
            rounds=rounds,
        )  # fmt: skip
    data = to_json(study, config) | {"busy_s": busy.busy_s}
    write_json(out / "drill-edge-3.json", data)
    print(f"layerwise/tcp {study.median_ratio('layerwise/tcp'):.3f}", *sentences(study), sep="\n")
    return int(study.verdict.is_too_disturbed)


def main() -> int:
    """Run the benchmark and write its results; status 1 when others disturbed too much of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--nets", nargs="+", default=["edge-3", "edge-1", "edge-2", "cloud"])
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "split_inference"
    )
    parser.add_argument("--drill", action="store_true", help="beside a busy process at random")
    options = parser.parse_args()
    if options.drill:
        return drill(max(options.rounds, 100), options.out)  # long enough to be disturbed
    config = {"input": list(SHAPE), "parts": 2, "rounds": options.rounds, "seed": 0}
    rows: list[dict[str, Any]] = []
    for name in options.nets:
        study = run_study(trace(features(name), SHAPE), parts=2, rounds=options.rounds)
        write_json(options.out / f"{name}.json", to_json(study, config | {"net": name}))
        figure = draw(study, "layerwise/tcp", f"{name}, 224 x 224, 2 workers")
        save(figure, options.out / f"{name}.png", dpi=130)
        if name == "edge-3":
            timeline = chrome_trace(study.methods["overlap/tcp"].timing)
            write_json(options.out / "edge-3-overlap.trace.json", timeline)
        rows += summary(name, study)
        for row in rows[-len(study.methods) :]:
            error = row.get("prediction_error")
            shown = "" if error is None else f"  predicted {error:+.1%}"
            print(
                f"{name:7s} {row['method']:15s} {row['median_ms']:7.2f} ms  ratio "
                f"{row['ratio']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
                f"  of medians {row['median_ratio']:.3f}{shown}",
                flush=True,
            )
        print(name, {t: round(float(np.median(v)), 1) for t, v in study.halo_us.items()}, "us")
        print(name, *sentences(study), sep="\n  ", flush=True)
    unequal = rebalance(options.rounds * 2)
    print(json.dumps(unequal, indent=1))
    streams = [stream(name, max(2, options.rounds // 4)) for name in options.nets]
    print(json.dumps(streams, indent=1))
    result = {
        "manifest": manifest(config, seeds=[0]),
        "methods": rows,
        "unequal_workers": unequal,
        "streams": streams,
    }
    write_json(options.out / "summary.json", result)
    return int(any(row["disturbed"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
