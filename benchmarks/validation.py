"""Predictions tested where they could fail: conditions x policies for real, in short pieces.

    python benchmarks/validation.py            # measure the device, predict, run: again until done
    python benchmarks/validation.py --drill    # the same with a busy process, started at random
    python benchmarks/validation.py --judge    # tables and figures from the recorded runs alone

Each call ends within `--minutes` and resumes where the one before stopped. What is measured lands
in `benchmarks/results/validation/DEVICE/`: the trace, the predictions (written before anything is
run), every real run, the trace's points measured again between the runs (`between.csv`), the table,
the summary with its verdict, the manifest and the figures. Let the machine do nothing else, except
in the drill.
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
    "1:1 link=0.05x",
    "1:1 link=0.2x",
    "2:1 link=0.2x",
    "1:1 link=0.5x",
    "1:1 link=3x",
    "1:1 link=0.3x starved=shared",
    "1:1 link=0.3x prefetch=2",
    "1:1 link=0.3x prefetch=1 release=0.8x",
    f"1:1 link=0.3x link_trace={TRACE_4G} trace_speed=30",
)
DRILL_CONDITIONS = CONDITIONS[:1] + CONDITIONS[2:3]
DRILL_POLICIES = ("comm-priority", "greedy", "optimal")
#: Left of a call's time for fitting, predicting and writing.
_SPARE_S = 45.0
#: Exit status of a call after which there is more to do.
_GOES_ON = 3


def policies(cores: int) -> tuple[str, ...]:
    """Six policies; on two cores, where `random` is a constant split, the other priority."""
    split = f"static:{max(cores // 4, 1)}"
    other = "comp-priority" if cores == 2 else "random"
    return ("comm-priority", other, split, "greedy", "state-based", "optimal")


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


def measured_trace(folder: Path, cores: int | None, virtual: int | None) -> None:
    """Measure the device (or its first `cores` cores), or resume measuring it."""
    from calibration.bench.collect import collect
    from calibration.bench.measure import quick_settings

    path, done = folder / "trace.csv", folder / "trace.done"
    if not done.exists():
        collect(
            path,
            quick_settings(cores=cores, virtual_cores=virtual, rounds=8, extra_rounds=0),
            resume=path.exists(),
            progress=show_progress,
        )
        done.touch()


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


def read_points(path: Path):
    """Read the points measured between the runs so far; None before the first."""
    from calibration.trace import read_trace

    return read_trace(path).rows if path.exists() else None


def main() -> int:
    """Do one piece of the work."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder [default: by the device's name]")
    parser.add_argument("--minutes", type=float, default=8.5, help="of this call at most")
    parser.add_argument("--cores", type=int, help="of this device [default: all]")
    parser.add_argument("--virtual-cores", type=int, help="fractional shares stand in for cores")
    parser.add_argument("--trace-only", action="store_true", help="measure the device, run nothing")
    parser.add_argument("--drill", action="store_true", help="with busy processes at random")
    parser.add_argument("--judge", action="store_true", help="judge the recorded runs, make none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--conditions", nargs="+", help="instead of the study's own")
    arguments = parser.parse_args()
    ends = time.monotonic() + 60 * arguments.minutes
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    folder = arguments.out or default_folder(arguments.cores, arguments.virtual_cores)
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.judge:
        kinds = [kind for kind in ("", "drill-") if (folder / f"{kind}runs.jsonl").exists()]
        return max((judge_recorded(folder, kind) for kind in kinds), default=1)
    # A collection is stopped as by Ctrl-C, keeps what is there, and is resumed by the next call.
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(max(int(60 * arguments.minutes - _SPARE_S), 1))
    try:
        measured_trace(folder, arguments.cores, arguments.virtual_cores)
    except KeyboardInterrupt:
        print("the device is measured in part; call again to go on")
        return _GOES_ON
    finally:
        signal.alarm(0)
    if arguments.trace_only:
        fitted_curves(folder)
        return 0
    budget_s = ends - time.monotonic() - _SPARE_S
    if budget_s <= 0:
        print("the device is measured; call again for the runs")
        return _GOES_ON
    return run_some(folder, arguments, budget_s)


def default_folder(cores: int | None = None, virtual: int | None = None) -> Path:
    """Return the folder of results of this device, or of its first `cores` cores."""
    from calibration.machine.cores import take_cores
    from calibration.machine.host import device_name

    name = device_name(len(take_cores(cores))) + (f"-{virtual}virtual" if virtual else "")
    return Path("benchmarks/results/validation") / name


def run_some(folder: Path, arguments: argparse.Namespace, budget_s: float) -> int:
    """Make runs until all is known or the budget ends, judge them, and return the exit status."""
    from calibration.trace import write_trace
    from calibration.validation.validate import validate

    kind = "drill-" if arguments.drill else ""
    fitted = fitted_curves(folder)
    settings = settings_of(fitted, arguments, budget_s)
    runs_path, between_path = folder / f"{kind}runs.jsonl", folder / f"{kind}between.csv"

    def keep(one) -> None:
        with runs_path.open("a") as file:
            file.write(json.dumps(one.as_json()) + "\n")

    def note(predictions) -> None:
        write_predictions(predictions, folder / f"{kind}predictions.csv")

    def keep_points(rows) -> None:
        write_trace(between_path, rows, fitted.trace.header)

    options = {"earlier": read_runs(runs_path), "earlier_points": read_points(between_path),
               "on_run": keep, "on_points": keep_points, "on_predicted": note,
               "progress": show_progress}  # fmt: skip
    if arguments.drill:
        with Drill(arguments.seed, max(fitted.trace.total_cores // 4, 1)):
            result = validate(fitted, settings, **options)
    else:
        result = validate(fitted, settings, **options)
    return write(fitted, result, folder, kind)


def fitted_curves(folder: Path):
    """Fit the folder's trace and write the curves beside it.

    Points that vary from trial to trial count: the runs go through the same spells of the machine.
    """
    from calibration.fit import fit_trace
    from calibration.fit.curve_file import write_curves
    from calibration.trace import read_trace

    fitted = fit_trace(read_trace(folder / "trace.csv"), include_noisy=True)
    write_curves(fitted, folder / "curves.yaml")
    return fitted


def settings_of(fitted, arguments: argparse.Namespace, budget_s: float):
    """Return which cells are run, and how precisely."""
    from calibration.machine.sampling import Precision
    from calibration.validation.conditions import parse_condition
    from calibration.validation.predict import ValidationSettings

    texts = arguments.conditions or (DRILL_CONDITIONS if arguments.drill else CONDITIONS)
    return ValidationSettings(
        policies=DRILL_POLICIES if arguments.drill else policies(fitted.trace.total_cores),
        conditions=tuple(parse_condition(text) for text in texts),
        precision=Precision(budget_s=budget_s),
        seed=arguments.seed,
    )


def write_predictions(found, path: Path) -> None:
    """Write what is predicted, once and before any run; later calls must predict the same."""
    import pandas as pd

    rows = [
        {"condition": c, "policy": p, "predicted": x.run.makespan, "low": x.low, "high": x.high}
        for (c, p), x in found.items()
    ]
    text = pd.DataFrame(rows).to_csv(index=False, float_format="%.6g")
    if not path.exists():
        path.write_text(text)
    elif path.read_text() != text:
        raise SystemExit(f"{path} holds other predictions: the code or the trace has changed since "
                         "the runs began; measure into another folder (--out)")  # fmt: skip


def judge_recorded(folder: Path, kind: str) -> int:
    """Make the table, the summary and the figures from the recorded runs; run nothing."""
    from calibration.machine.sampling import Precision
    from calibration.validation.conditions import parse_condition
    from calibration.validation.predict import ValidationSettings, predict
    from calibration.validation.validate import judge

    fitted, runs = fitted_curves(folder), read_runs(folder / f"{kind}runs.jsonl")
    known = json.loads((folder / f"{kind}manifest.json").read_text())
    settings = ValidationSettings(
        policies=tuple(known["settings"]["policies"]),
        conditions=tuple(parse_condition(text) for text in known["condition_texts"]),
        precision=Precision(**known["settings"]["precision"]),
        seed=known["settings"]["seed"],
    )
    chunk_mb = fitted.trace.header["teacher"]["chunk_mb"]
    predictions = predict(fitted, settings, chunk_mb)
    write_predictions(predictions, folder / f"{kind}predictions.csv")
    between = read_points(folder / f"{kind}between.csv")
    result = judge(fitted, chunk_mb, settings, predictions, runs, between=between)
    return write(fitted, result, folder, kind)


def write(fitted, result, folder: Path, kind: str) -> int:
    """Write the table, the summary, the manifest and the figures.

    Returns the exit status: 0 when predictions hold, 3 when runs are missing, else 1.
    """
    from calibration.commands.validate import manifest, sentences
    from calibration.validation.plots import timeline_figure, validation_figure

    result.table.to_csv(folder / f"{kind}table.csv", index=False, float_format="%.6g")
    summary = {"verdict": asdict(result.verdict), **result.summary, "sentences": sentences(result)}
    write_json(folder / f"{kind}summary.json", summary)
    manifest_path = folder / f"{kind}manifest.json"
    if result.runs and not (manifest_path.exists() and "--judge" in sys.argv):
        texts = [condition.label for condition in result.settings.conditions]
        write_json(manifest_path, {**manifest(fitted, result.settings), "condition_texts": texts})
    for name, figure in (
        ("validation", validation_figure(result)),
        ("timelines", timeline_figure(result)),
    ):
        figure.savefig(folder / f"{kind}{name}.png", dpi=120)
    print(result.table.to_string(float_format=lambda x: f"{x:.4g}"))
    print("\n".join(sentences(result)))
    more = result.table["runs"] < result.settings.precision.most
    unknown = int((more & ~result.table["settled"].astype(bool)).sum())
    print(f"{unknown} of {len(result.table)} cells are open; " +
          ("call again to go on" if unknown else "done"))  # fmt: skip
    if unknown and not kind:  # the drill is one call
        return _GOES_ON
    return 0 if result.verdict.word == "holds" else 1


def write_json(path: Path, content: object) -> None:
    """Write JSON values."""
    path.write_text(json.dumps(content, indent=1, sort_keys=True, default=str) + "\n")


if __name__ == "__main__":
    sys.exit(main())
