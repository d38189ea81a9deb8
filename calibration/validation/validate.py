"""Does the simulator predict this device? The live loop against `kdsim.simulate`.

Every (condition, policy) is predicted first, with curves that were fitted to other measurements,
then run for real. How often is in ``calibration.validation.measure``, what the runs say in
``calibration.validation.judge``, the loop itself in ``calibration.bench.replay``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from calibration.bench.bench import Bench, BenchSettings
from calibration.bench.replay import LiveRun, replay
from calibration.bench.start import TeacherProcess
from calibration.fit import Fit
from calibration.machine.cores import take_cores
from calibration.machine.disturbance import read_cpu, taken_between, wait_for_calm
from calibration.machine.sampling import Precision
from calibration.validation.conditions import Condition, scenario_of
from calibration.validation.judge import (
    Prediction,
    Target,
    Verdict,
    summarise,
    tabulate,
    verdict,
)
from calibration.validation.measure import Cell, Measured, Progress, measure_cells
from kdsim.engines.des import simulate
from kdsim.errors import WorkloadError
from kdsim.results.run import Run
from kdsim.scenario.study import Scenario

#: Batches that settle a fresh process (allocator, OpenMP team), and MB that open every stream.
_WARM_UP_BATCHES, _WARM_UP_MB = 6, 6.4
#: Refits of the curves behind a prediction's interval, and replications of each.
_PREDICTION_DRAWS, _PREDICTION_REPLICATIONS = 40, 2


@dataclass(frozen=True, slots=True)
class ValidationSettings:
    """How predictions are tested.

    Attributes
    ----------
    policies : tuple of str
    conditions : tuple of Condition
    precision : Precision
        Runs of each (condition, policy), guard and budget.
    target : Target
    seed : int
        Of the order of the runs and of random policies.
    """

    policies: tuple[str, ...] = (
        "random", "comm-priority", "comp-priority", "greedy", "greedy-full", "static:1", "optimal",
    )  # fmt: skip
    conditions: tuple[Condition, ...] = (Condition("1:1"), Condition("2:1"))
    precision: Precision = field(default_factory=Precision)
    target: Target = field(default_factory=Target)
    seed: int = 0

    def __post_init__(self) -> None:
        labels = tuple(condition.label for condition in self.conditions)
        for what, given in (("policies", self.policies), ("conditions", labels)):
            if not given or len(set(given)) < len(given):
                raise WorkloadError(f"{what} must be given, and each once, got {given}")


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
    """

    table: pd.DataFrame
    summary: dict[str, Any]
    verdict: Verdict
    settings: ValidationSettings
    runs: tuple[Measured, ...]
    predictions: dict[Cell, Prediction]
    stopped: bool = False

    def typical_run(self, cell: Cell) -> LiveRun | None:
        """Return the undisturbed run of median length of a cell."""
        guard = self.settings.precision.guard
        runs = [m.run for m in self.runs if m.cell == cell and not m.taken.disturbs(guard)]
        return sorted(runs, key=lambda run: run.makespan)[len(runs) // 2] if runs else None


def predict(fit: Fit, settings: ValidationSettings, chunk_mb: float) -> dict[Cell, Prediction]:
    """Predict every (condition, policy); nothing is run for real.

    Raises
    ------
    PolicyError
        If a policy is unknown or answers nonsense.
    """
    found = {}
    for condition in settings.conditions:
        scenario = scenario_of(fit, condition, chunk_mb)
        variants = _resampled(fit, condition, chunk_mb, scenario)
        for policy in settings.policies:
            run = simulate(scenario, policy, seed=settings.seed)
            low, high = _prediction_interval(variants, policy, settings.seed, fit.level)
            found[condition.label, policy] = Prediction(run, low, high)
    return found


def validate(
    fit: Fit,
    settings: ValidationSettings | None = None,
    *,
    earlier: Sequence[Measured] = (),
    on_predicted: Callable[[dict[Cell, Prediction]], None] | None = None,
    on_run: Callable[[Measured], None] | None = None,
    progress: Progress | None = None,
) -> Validation:
    """Predict, run for real under each policy, and compare.

    Ctrl-C ends the runs; what was measured is judged if every cell has an undisturbed run.

    Parameters
    ----------
    fit : Fit
        Curves of *this* machine, measured before.
    settings : ValidationSettings, optional
    earlier : sequence of Measured
        Runs of the same settings that were made before.
    on_predicted : callable, optional
        Called with every prediction before the first run.
    on_run : callable, optional
        Called with each new run.
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
        try:
            measure_cells(
                list(predictions), loop.run, settings.precision,
                seed=settings.seed, earlier=earlier, on_run=keep, progress=progress,
            )  # fmt: skip
        except KeyboardInterrupt:
            clean = {m.cell for m in runs if not m.taken.disturbs(settings.precision.guard)}
            if set(predictions) - clean:
                raise
            stopped = True
    return judge(settings, predictions, runs, stopped=stopped)


def judge(
    settings: ValidationSettings,
    predictions: dict[Cell, Prediction],
    runs: Sequence[Measured],
    *,
    stopped: bool = False,
) -> Validation:
    """Set predictions beside real runs; see `Validation`."""
    table = tabulate(predictions, runs, settings.precision)
    summary = summarise(table, runs, settings.precision)
    said = verdict(table, summary, settings.precision, settings.target)
    return Validation(table, summary, said, settings, tuple(runs), predictions, stopped)


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
            warm_up(bench)
            before = read_cpu(bench.device_pids, cores)
            run = replay(
                bench, scenario.plan(), [condition.batches] * condition.cycles, policy,
                seed=seed, replication=number, pace=self._teaching.pace,
            )  # fmt: skip
            taken = taken_between(before, read_cpu(bench.device_pids, cores))
        late_s = max(self._teaching.pace(None), default=0.0)
        error = worst_task_error(predicted, run)
        return Measured(label, run, taken, predicted.makespan, error, late_s)


def warm_up(bench: Bench) -> None:
    """Let a fresh bench reach its steady pace, on every thread and every stream."""
    for split in (0, bench.total_cores - 1):
        bench.set_split(split)
        bench.start_forward(_WARM_UP_BATCHES // 2)
        bench.next_event()
        bench.start_backward(_WARM_UP_BATCHES // 2)
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


def _resampled(fit: Fit, condition: Condition, chunk_mb: float, base: Scenario) -> list[Scenario]:
    n = min(_PREDICTION_DRAWS, len(fit.compute.draws), len(fit.communication.draws))
    variants = []
    for i in range(n):
        drawn = scenario_of(
            fit, condition, chunk_mb,
            compute=fit.compute.draws[i], communication=fit.communication.draws[i],
        )  # fmt: skip
        # The amounts are a fact, only the rates are uncertain.
        variants.append(drawn.model_copy(update={"workload": base.workload}))
    return variants


def _prediction_interval(
    variants: Sequence[Scenario], policy: str, seed: int, level: float
) -> tuple[float, float]:
    """Spread the curves' uncertainty into the prediction; NaN without resamples."""
    if not variants:
        return math.nan, math.nan
    means = [
        np.mean(
            [
                simulate(s, policy, seed=seed, replication=i).makespan
                for i in range(_PREDICTION_REPLICATIONS)
            ]
        )
        for s in variants
    ]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
