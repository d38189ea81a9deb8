"""Predictions tested where they could fail: conditions x policies for real, in short pieces.

    python benchmarks/validation.py            # measure the device, predict, run: again until done
    python benchmarks/validation.py --drill    # the same with a busy process, started at random

Each call ends within `--minutes` and resumes where the one before stopped. What is measured lands
in `benchmarks/results/validation/DEVICE/`: the trace, the predictions (written before anything is
run), every real run, the table, the summary with its verdict, the manifest and the figures. Let the
machine do nothing else, except in the drill.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRACE_4G = "scenarios/links/4g-car.json"

#: From far below to far above what the cores can receive; the paper's own setting among them.
CONDITIONS = (
    "1:1",
    "2:1 prefetch=1",
    "1:2 prefetch=2",
    "1:1 link=0.05x",
    "1:1 link=0.3x",
    "1:1 link=0.3x starved=shared",
    "2:1 link=0.8x",
    "1:1 link=3x",
    f"1:1 link=0.3x link_trace={TRACE_4G} trace_speed=30",
    "1:1 release=1x",
    "1:1 link=0.3x prefetch=1 release=0.8x",
)
DRILL_CONDITIONS = CONDITIONS[:1] + CONDITIONS[4:5]
DRILL_POLICIES = ("comm-priority", "greedy", "optimal")
#: Left of a call's time for fitting, predicting and writing.
_SPARE_S = 75.0


def policies(cores: int) -> tuple[str, ...]:
    """Six policies that differ; the paper's state-based rule where the simulator has it."""
    from kdsim.policies.names import POLICY_NAMES

    planned = "state-based" if "state-based" in POLICY_NAMES else "greedy-full"
    return ("comm-priority", "random", f"static:{max(cores // 4, 1)}", "greedy", planned, "optimal")


class Drill:
    """Busy processes that start and stop at random, from a seed."""

    def __init__(self, seed: int, processes: int) -> None:
        self._rng, self._count = random.Random(seed), processes
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.busy_s = 0.0

    def __enter__(self) -> Drill:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        spin = [sys.executable, "-c", "while True: pass"]
        while not self._end.wait(self._rng.expovariate(1 / 6.0)):
            started = time.monotonic()
            busy = [subprocess.Popen(spin) for _ in range(self._rng.randint(1, self._count))]
            self._end.wait(self._rng.expovariate(1 / 4.0))
            for process in busy:
                process.kill()
                process.wait()
            self.busy_s += time.monotonic() - started


def measured_trace(folder: Path, virtual: int | None):
    """Measure the device, or resume measuring it, and return its trace."""
    from calibration.bench.collect import collect
    from calibration.bench.measure import quick_settings
    from calibration.trace import read_trace

    path, done = folder / "trace.csv", folder / "trace.done"
    if not done.exists():
        collect(
            path,
            quick_settings(virtual_cores=virtual),
            resume=path.exists(),
            progress=show_progress,
        )
        done.touch()
    return read_trace(path)


def show_progress(done: int, total: int, what: str) -> None:
    """Report progress, one line each."""
    print(f"{time.strftime('%H:%M:%S')} {done}/{total} {what}", flush=True)


def read_runs(path: Path):
    """Read the runs made so far; a line that was cut off by a kill is left out."""
    from calibration.validation.measure import Measured

    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(Measured.from_json(json.loads(line)))
        except ValueError:
            continue
    return found


def main() -> int:
    """Do one piece of the work."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder [default: by the device's name]")
    parser.add_argument("--minutes", type=float, default=8.5, help="of this call at most")
    parser.add_argument("--virtual-cores", type=int, help="fractional shares stand in for cores")
    parser.add_argument("--drill", action="store_true", help="with busy processes at random")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    ends = time.monotonic() + 60 * arguments.minutes
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))

    from calibration.fit import fit_trace
    from calibration.fit.curve_file import write_curves
    from calibration.machine.cores import take_cores
    from calibration.machine.host import device_name
    from calibration.machine.sampling import Precision
    from calibration.validation.conditions import parse_condition
    from calibration.validation.validate import ValidationSettings, validate

    cores = len(take_cores(None))
    name = device_name(cores) + (
        f"-{arguments.virtual_cores}virtual" if arguments.virtual_cores else ""
    )
    folder = arguments.out or Path("benchmarks/results/validation") / name
    folder.mkdir(parents=True, exist_ok=True)
    # A collection is stopped as by Ctrl-C, keeps what is there, and is resumed by the next call.
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(max(int(60 * arguments.minutes - _SPARE_S), 1))
    try:
        trace = measured_trace(folder, arguments.virtual_cores)
    except KeyboardInterrupt:
        print("the device is measured in part; call again to go on")
        return 3
    finally:
        signal.alarm(0)
    fitted = fit_trace(trace)
    write_curves(fitted, folder / "curves.yaml")

    texts = DRILL_CONDITIONS if arguments.drill else CONDITIONS
    budget_s = ends - time.monotonic() - _SPARE_S
    if budget_s <= 0:
        print("the device is measured; call again for the runs")
        return 3
    settings = ValidationSettings(
        policies=DRILL_POLICIES if arguments.drill else policies(fitted.trace.total_cores),
        conditions=tuple(parse_condition(text) for text in texts),
        precision=Precision(budget_s=budget_s),
        seed=arguments.seed,
    )
    kind = "drill-" if arguments.drill else ""
    runs_path = folder / f"{kind}runs.jsonl"
    write_predictions(fitted, settings, folder / f"{kind}predictions.csv")

    def keep(one) -> None:
        with runs_path.open("a") as file:
            file.write(json.dumps(one.as_json()) + "\n")

    options = {"earlier": read_runs(runs_path), "on_run": keep, "progress": show_progress}
    if arguments.drill:
        with Drill(arguments.seed, max(cores // 4, 1)):
            result = validate(fitted, settings, **options)
    else:
        result = validate(fitted, settings, **options)
    return write(fitted, result, folder, kind)


def write_predictions(fitted, settings, path: Path) -> None:
    """Write what is predicted, once and before any run."""
    import pandas as pd

    from calibration.bench.start import TeacherProcess
    from calibration.validation.validate import predict

    if path.exists():
        return
    with TeacherProcess() as teacher:
        found = predict(fitted, settings, teacher.chunk_mb)
    rows = [
        {"condition": c, "policy": p, "predicted": x.run.makespan, "low": x.low, "high": x.high}
        for (c, p), x in found.items()
    ]
    pd.DataFrame(rows).to_csv(path, index=False, float_format="%.6g")


def write(fitted, result, folder: Path, kind: str) -> int:
    """Write the table, the summary, the manifest and the figures; return the exit status."""
    from calibration.commands.validate import manifest, sentences
    from calibration.validation.plots import timeline_figure, validation_figure

    result.table.to_csv(folder / f"{kind}table.csv", index=False, float_format="%.6g")
    summary = {"verdict": asdict(result.verdict), **result.summary, "sentences": sentences(result)}
    for name, content in (
        ("summary", summary),
        ("manifest", manifest(fitted, result.settings)),
    ):
        text = json.dumps(content, indent=1, sort_keys=True, default=str)
        (folder / f"{kind}{name}.json").write_text(text + "\n")
    for name, figure in (
        ("validation", validation_figure(result)),
        ("timelines", timeline_figure(result)),
    ):
        figure.savefig(folder / f"{kind}{name}.png", dpi=120)
    print(result.table.to_string(float_format=lambda x: f"{x:.4g}"))
    print("\n".join(sentences(result)))
    open_cells = int((~result.table["settled"].astype(bool)).sum())
    print(f"{open_cells} of {len(result.table)} cells are open; " +
          ("call again to go on" if open_cells else "done"))  # fmt: skip
    return 0 if result.verdict.word == "holds" else 1


if __name__ == "__main__":
    sys.exit(main())
