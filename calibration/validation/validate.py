"""Does the simulator predict this device? The live loop against `kdsim.simulate`.

Every (condition, policy) is predicted first, with curves that were fitted to other measurements,
then run for real. How often is in ``calibration.validation.measure``, what the runs say in
``calibration.validation.judge``, the loop itself in ``calibration.bench.replay``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd

from calibration.bench.bench import Bench, BenchSettings
from calibration.bench.replay import LiveRun, replay
from calibration.bench.start import TeacherProcess
from calibration.fit import Curve, Fit
from calibration.machine.cores import take_cores
from calibration.machine.disturbance import read_cpu, taken_between, wait_for_calm
from calibration.validation.conditions import scenario_of
from calibration.validation.drift import Drift, Recheck, curves_between, drifts, since_trace
from calibration.validation.judge import (
    Prediction,
    Verdict,
    summarise,
    tabulate,
    verdict,
)
from calibration.validation.measure import Cell, Measured, Progress, measure_cells
from calibration.validation.predict import ValidationSettings, predict, predict_again
from kdsim.engines.des import simulate
from kdsim.errors import WorkloadError
from kdsim.results.run import Run

#: MB that open every stream.
_WARM_UP_MB = 6.4


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Predictions beside what happened.

    Attributes
    ----------
    table : DataFrame
        One row per (condition, policy); see `calibration.validation.judge.tabulate`.
    summary : dict
        See `calibration.validation.judge.summarise`.
    verdict : Verdict
    settings : ValidationSettings
    runs : tuple of Measured
        Every real run, disturbed ones included.
    predictions : dict
        The prediction of each (condition, policy).
    stopped : bool
        Whether Ctrl-C ended the runs.
    between : DataFrame
        Points of the trace that were measured again between the runs, as rows of a trace.
    drifts : tuple of Drift
        How far they lie from the trace.
    curves_between : (Curve, Curve) or None
        f and g of these points; the columns ``predicted_between`` and ``error_between`` of the
        table are made with them.
    """

    table: pd.DataFrame
    summary: dict[str, Any]
    verdict: Verdict
    settings: ValidationSettings
    runs: tuple[Measured, ...]
    predictions: dict[Cell, Prediction]
    stopped: bool = False
    between: pd.DataFrame = field(default_factory=pd.DataFrame)
    drifts: tuple[Drift, ...] = ()
    curves_between: tuple[Curve, Curve] | None = None

    def typical_run(self, cell: Cell) -> LiveRun | None:
        """Return the undisturbed run of median length of a cell."""
        guard = self.settings.precision.guard
        runs = [m.run for m in self.runs if m.cell == cell and not m.taken.disturbs(guard)]
        return sorted(runs, key=lambda run: run.makespan)[len(runs) // 2] if runs else None


def validate(
    fit: Fit,
    settings: ValidationSettings | None = None,
    *,
    earlier: Sequence[Measured] = (),
    earlier_points: pd.DataFrame | None = None,
    on_predicted: Callable[[dict[Cell, Prediction]], None] | None = None,
    on_run: Callable[[Measured], None] | None = None,
    on_points: Callable[[pd.DataFrame], None] | None = None,
    progress: Progress | None = None,
) -> Validation:
    """Predict, run for real under each policy, and compare.

    In turns with the runs the trace's own points are measured again, so that a device that has
    become slower or faster since is seen. Ctrl-C ends the runs; what was measured is judged if
    every cell has an undisturbed run.

    Parameters
    ----------
    fit : Fit
        Curves of *this* machine, measured before.
    settings : ValidationSettings, optional
    earlier : sequence of Measured
        Runs of the same settings that were made before.
    earlier_points : DataFrame, optional
        Points measured between them.
    on_predicted : callable, optional
        Called with every prediction before the first run.
    on_run : callable, optional
        Called with each new run.
    on_points : callable, optional
        Called with all points measured between the runs, whenever there are more.
    progress : callable, optional
        Called with ``(made, needed at least, what)`` before each run.

    Returns
    -------
    Validation

    Raises
    ------
    WorkloadError, TransportError
        If this is not the machine of the trace, or the bench fails.
    PolicyError
        If a policy is unknown or answers nonsense; nothing has been run for real by then.
    """
    settings = settings or ValidationSettings()
    bench_settings = _bench_settings(fit)
    runs = list(earlier)
    stopped = False

    def keep(one: Measured) -> None:
        runs.append(one)
        if on_run is not None:
            on_run(one)

    teaching = TeacherProcess()
    with teaching as teacher:
        predictions = predict(fit, settings, teacher.chunk_mb)
        if on_predicted is not None:
            on_predicted(predictions)
        loop = _Loop(fit, settings, bench_settings, teaching)
        recheck = Recheck(fit, bench_settings, teacher, earlier=earlier_points, on_rows=on_points)
        try:
            measure_cells(
                list(predictions), loop.run, settings.precision, seed=settings.seed,
                earlier=earlier, on_run=keep, progress=progress, between=recheck.visit,
            )  # fmt: skip
            recheck.visit(last=True)
        except KeyboardInterrupt:
            clean = {m.cell for m in runs if not m.taken.disturbs(settings.precision.guard)}
            if set(predictions) - clean:
                raise
            stopped = True
    return judge(
        fit, teacher.chunk_mb, settings, predictions, runs, between=recheck.rows, stopped=stopped
    )


def judge(
    fit: Fit,
    chunk_mb: float,
    settings: ValidationSettings,
    predictions: dict[Cell, Prediction],
    runs: Sequence[Measured],
    *,
    between: pd.DataFrame | None = None,
    stopped: bool = False,
) -> Validation:
    """Set predictions beside real runs; see `Validation`."""
    between = pd.DataFrame() if between is None else between
    table = tabulate(predictions, runs, settings.precision)
    summary = summarise(table, runs, settings.precision)
    drifted, curves = drifts(fit.trace, between), curves_between(fit, between)
    if curves is not None and runs:
        again = predict_again(fit, chunk_mb, curves, settings, predictions, runs)
        table = table.merge(again, on=["condition", "policy"], validate="1:1")
        errors = table["error_between"].abs()
        summary["between"] = {
            "median_absolute_error": float(errors.median()),
            "p95_absolute_error": float(errors.quantile(0.95)),
            "worst_absolute_error": float(errors.max()),
        }
    summary["drifts"] = [asdict(one) for one in drifted]
    said = verdict(table, summary, settings.precision, settings.target, drifted)
    return Validation(
        table, summary, said, settings, tuple(runs), predictions, stopped, between, drifted, curves
    )


def _bench_settings(fit: Fit) -> BenchSettings:
    """Return the bench on which the trace was measured, if this is its machine."""
    header = fit.trace.header
    collected = header.get("settings", {})
    cores = take_cores(len(header["cores"]) if "cores" in header else None)
    virtual = collected.get("virtual_cores")
    if (virtual or len(cores)) != fit.trace.total_cores:
        raise WorkloadError(
            f"the trace is of a device with {fit.trace.total_cores} cores, this one has "
            f"{len(cores)}; validate on the device that was measured"
        )
    return BenchSettings(
        cores=cores,
        virtual_cores=virtual,
        prefer_cgroup=collected.get("prefer_cgroup", True),
        student_spec=collected.get("student", {}),
    )


class _Loop:
    """Makes one real run after the other, each on a fresh bench beside the same teacher."""

    def __init__(
        self, fit: Fit, settings: ValidationSettings, bench: BenchSettings, teaching: TeacherProcess
    ) -> None:
        self._settings, self._bench, self._teaching = settings, bench, teaching
        self._trace = fit.trace
        chunk_mb = teaching.teacher.chunk_mb
        self._conditions = {c.label: c for c in settings.conditions}
        self._scenarios = {c.label: scenario_of(fit, c, chunk_mb) for c in settings.conditions}

    def run(self, cell: Cell, number: int) -> Measured:
        """Run a cell once; `number` is the replication, so that each run has draws of its own."""
        label, policy = cell
        condition, scenario = self._conditions[label], self._scenarios[label]
        seed, precision, cores = self._settings.seed, self._settings.precision, self._bench.cores
        predicted = simulate(scenario, policy, seed=seed, replication=number)
        wait_for_calm(cores, precision.guard, precision.patience_s)
        settings = replace(self._bench, yielding=condition.starved == "shared")
        with Bench(settings, self._teaching.teacher) as bench:
            warm_up(bench, condition.batches)
            before = read_cpu(bench.device_pids, cores)
            run = replay(
                bench, scenario.plan(), [condition.batches] * condition.cycles, policy,
                seed=seed, replication=number, pace=self._teaching.pace,
            )  # fmt: skip
            taken = taken_between(before, read_cpu(bench.device_pids, cores))
        late_s = max(self._teaching.pace(None), default=0.0)
        error = worst_task_error(predicted, run)
        at_s = since_trace(self._trace)
        return Measured(label, run, taken, predicted.makespan, error, late_s, at_s)


def warm_up(bench: Bench, batches: int) -> None:
    """Let a fresh bench reach its steady pace, on every thread and every stream.

    A whole cycle's batches go through: the first to be kept until the backward half touches memory
    for the first time, which takes long on a virtual machine.
    """
    for split in (0, bench.total_cores - 1):
        bench.set_split(split)
        bench.start_forward(batches)
        bench.next_event()
        bench.start_backward(batches)
        bench.next_event()
    bench.set_split(bench.total_cores)
    for _ in range(2):  # as many as cycles of the student, so that both count alike
        bench.start_comm(_WARM_UP_MB)
        bench.next_event()


def worst_task_error(predicted: Run, measured: LiveRun) -> float:
    """Return the largest deviation of any task's end, as a share of the measured makespan."""
    pairs = (
        (predicted.comm_ends, measured.task_ends("comm")),
        (predicted.forward_ends, measured.task_ends("forward")),
        (predicted.backward_starts, [t.start for t in measured.tasks if t.kind == "backward"]),
    )
    deviations = [abs(a - b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True)]
    return max(deviations) / measured.makespan
