"""Does the simulator predict this device? The live loop against `kdsim.simulate`.

Every (policy, workload) is run for real several times, each run in fresh processes, all runs in
random order; the same scenario is simulated with curves that were fitted to other measurements.
The loop itself is ``calibration.bench.replay``, the curves come from ``calibration.fit``, the
figures are in ``calibration.validation.plots``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from calibration.bench.bench import Bench, BenchSettings
from calibration.bench.replay import LiveRun, replay
from calibration.bench.start import TeacherProcess
from calibration.fit import Fit
from calibration.machine.cores import take_cores
from calibration.machine.disturbance import read_cpu, taken_between, wait_for_calm
from kdsim.engines.des import simulate
from kdsim.errors import WorkloadError
from kdsim.model.plan import Plan
from kdsim.results.intervals import mean_interval
from kdsim.results.run import Run
from kdsim.scenario.study import Scenario

#: Batches that settle a fresh process (allocator, OpenMP team), and MB that open every stream.
_WARM_UP_BATCHES, _WARM_UP_MB = 6, 6.4
_MOST_TRIES = 3
#: Refits of the curves behind a prediction's interval.
_PREDICTION_DRAWS = 40

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload to run for real.

    Attributes
    ----------
    time_ratio : str
        ``"x:y"``, the time of compute work to that of communication, each with every core.
    cycles : int
    batches : int
        Batches of a cycle.
    """

    time_ratio: str
    cycles: int = 8
    batches: int = 6

    def comm_mb(self, fit: Fit) -> float:
        """MB of a cycle that give the ratio on the fitted device."""
        comp, comm = (float(x) for x in self.time_ratio.split(":"))
        seconds = self.batches / float(fit.compute.rates[0]) * comm / comp
        return seconds * float(fit.communication.rates[-1])


@dataclass(frozen=True, slots=True)
class ValidationSettings:
    """How predictions are checked.

    Attributes
    ----------
    policies : tuple of str
    workloads : tuple of Workload
    runs : int
        Real runs of each (policy, workload).
    guard : float
        Foreign CPU share above which a run is repeated.
    patience_s : float
        How long to wait for a calm machine before each run.
    seed : int
        Of the order of the runs and of random policies.
    """

    policies: tuple[str, ...] = (
        "random", "comm-priority", "comp-priority", "greedy", "greedy-full", "static:1", "optimal",
    )  # fmt: skip
    workloads: tuple[Workload, ...] = (Workload("1:1"), Workload("2:1"))
    runs: int = 4
    guard: float = 0.12
    patience_s: float = 10.0
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Predictions beside what happened.

    Attributes
    ----------
    table : DataFrame
        One row a (workload, policy): ``measured``, ``measured_low/high``, ``predicted``,
        ``predicted_low/high`` (seconds), ``error`` (predicted / measured - 1), ``error_low/high``,
        ``runs``, ``worst_task_error``.
    summary : dict
        ``median_absolute_error``, ``p95_absolute_error``, ``kendall_tau`` by workload (NaN where
        nothing differs), and
        ``pairs_separated``, ``pairs_in_order``: how many pairs of policies have separate measured
        intervals, and how many of those are predicted in that order.
    live, simulated : dict
        One (measured, simulated) run for each (ratio, policy), for timelines.
    """

    table: pd.DataFrame
    summary: dict[str, Any]
    live: dict[tuple[str, str], LiveRun]
    simulated: dict[tuple[str, str], Run]


def scenario_of(
    fit: Fit, workload: Workload, chunk_mb: float, *, compute: Any = None, communication: Any = None
) -> Scenario:
    """Describe a workload on the fitted device as a scenario.

    Parameters
    ----------
    fit : Fit
    workload : Workload
    chunk_mb : float
        Payloads are whole chunks of so many MB.
    compute, communication : (total + 1,) float array, optional
        Other rates than the fit's own, e.g. those of a resample.

    Returns
    -------
    Scenario
        Amounts are batches (of forward and backward together) and MB.
    """
    total = fit.trace.total_cores
    q = fit.compute.rates if compute is None else compute
    r = fit.communication.rates if communication is None else communication
    share = forward_share(fit)
    own = list(range(1, total + 1))
    comm = max(1, round(workload.comm_mb(fit) / chunk_mb)) * chunk_mb
    return Scenario.model_validate(
        {
            "name": f"{fit.trace.device} {workload.time_ratio}",
            "device": {
                "cores": total,
                "compute": {"model": "table", "cores": own, "rates": q[::-1][1:].tolist()},
                "communication": {"model": "table", "cores": own, "rates": r[1:].tolist()},
            },
            "workload": {
                "cycles": workload.cycles,
                "comm": comm,
                "forward": workload.batches * share,
                "backward": workload.batches * (1 - share),
            },
            "extensions": {"reallocation_cost": reallocation_cost(fit)},
        }
    )


def forward_share(fit: Fit) -> float:
    """Return the forward half's share of a batch's time, averaged over the measured splits."""
    shares = list(fit.extras.get("forward_share", {}).values())
    return float(np.mean(shares)) if shares else 0.5


def reallocation_cost(fit: Fit) -> float:
    """Return the seconds that a change of the split costs both sides (0 when not told from 0)."""
    costs = [c for c in fit.extras.get("reallocation_cost_s", {}).values() if c["low"] > 0]
    # The model stalls both sides, the device mostly the one that changes its threads: half each.
    return float(sum(c["mean"] for c in costs) / 2)


def validate(
    fit: Fit, settings: ValidationSettings | None = None, *, progress: Progress | None = None
) -> Validation:
    """Run the workloads for real under each policy and compare with the simulation.

    Ctrl-C ends the runs; the rounds that are whole are judged if there are two at least.

    Parameters
    ----------
    fit : Fit
        Curves of *this* machine, measured before.
    settings : ValidationSettings, optional
    progress : callable, optional
        Told ``(done, all, what)`` before each run and at the end.

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
    for what, given in (("policies", settings.policies), ("workloads", settings.workloads)):
        if not given or len(set(given)) < len(given):
            raise WorkloadError(f"{what} must be given, and each once, got {given}")
    header = fit.trace.header
    collected = header.get("settings", {})
    cores = take_cores(len(header["cores"]) if "cores" in header else None)
    virtual = collected.get("virtual_cores")
    if (virtual or len(cores)) != fit.trace.total_cores:
        raise WorkloadError(
            f"the trace is of a device with {fit.trace.total_cores} cores, this one has "
            f"{len(cores)}; validate on the device that was measured"
        )
    bench_settings = BenchSettings(
        cores=cores,
        virtual_cores=virtual,
        prefer_cgroup=collected.get("prefer_cgroup", True),
        student_spec=collected.get("student", {}),
    )
    runs: list[tuple[Workload, LiveRun]] = []
    with TeacherProcess() as teacher:
        plans = {}
        for workload in settings.workloads:
            scenario = scenario_of(fit, workload, teacher.chunk_mb)
            plans[workload] = scenario.plan()
            for policy in settings.policies:
                simulate(scenario, policy, seed=settings.seed)  # fails here or not at all
        order = _order(settings)
        try:
            for done, (workload, policy, number) in enumerate(order):
                if progress is not None:
                    progress(done, len(order), f"{policy}, {workload.time_ratio}")
                run = _one_run(
                    bench_settings, teacher, plans[workload], workload, policy, number, settings
                )
                runs.append((workload, run))
        except KeyboardInterrupt:
            # Whole rounds are a smaller validation; fewer than two give no interval.
            cells = len(settings.policies) * len(settings.workloads)
            rounds = len(runs) // cells
            if rounds < 2:
                raise
            runs, settings = runs[: rounds * cells], replace(settings, runs=rounds)
        if progress is not None:
            progress(len(order), len(order), "done")
        chunk_mb = teacher.chunk_mb
    return judge(fit, settings, runs, chunk_mb)


def _order(settings: ValidationSettings) -> list[tuple[Workload, str, int]]:
    """Interleave: every round holds each (workload, policy) once, in a new order."""
    rng = np.random.default_rng(settings.seed)
    cells = [(w, p) for w in settings.workloads for p in settings.policies]
    return [
        (*cells[i], number) for number in range(settings.runs) for i in rng.permutation(len(cells))
    ]


def _one_run(
    bench_settings: BenchSettings, teacher: Any, plan: Plan, workload: Workload, policy: str,
    number: int, settings: ValidationSettings,
) -> LiveRun:  # fmt: skip
    """Make one real run, again while others disturb it; the calmest counts."""
    tries: list[tuple[float, LiveRun]] = []
    cores = bench_settings.cores
    while len(tries) < _MOST_TRIES:
        wait_for_calm(cores, len(cores) * settings.guard / 2, settings.patience_s)
        with Bench(bench_settings, teacher) as bench:
            warm_up(bench)
            before = read_cpu(bench.device_pids, cores)
            run = replay(
                bench, plan, [workload.batches] * workload.cycles, policy,
                seed=settings.seed, replication=number,
            )  # fmt: skip
            taken = taken_between(before, read_cpu(bench.device_pids, cores))
            foreign = taken.share_of(len(cores))
        tries.append((foreign, run))
        if foreign <= settings.guard:
            break
    return min(tries, key=lambda one: one[0])[1]


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


# --- the verdict ------------------------------------------------------------------------------


def judge(
    fit: Fit,
    settings: ValidationSettings,
    runs: Sequence[tuple[Workload, LiveRun]],
    chunk_mb: float,
) -> Validation:
    """Set predictions beside real runs.

    Parameters
    ----------
    fit : Fit
    settings : ValidationSettings
    runs : sequence of (Workload, LiveRun)
    chunk_mb : float

    Returns
    -------
    Validation
    """
    rows = []
    live: dict[tuple[str, str], LiveRun] = {}
    simulated: dict[tuple[str, str], Run] = {}
    for workload in settings.workloads:
        scenario = scenario_of(fit, workload, chunk_mb)
        variants = _resampled(fit, workload, chunk_mb)
        for policy in settings.policies:
            mine = [run for w, run in runs if w == workload and run.policy == policy]
            predictions = [
                simulate(scenario, policy, seed=run.seed, replication=run.replication)
                for run in mine
            ]
            middle = int(np.argsort([run.makespan for run in mine])[len(mine) // 2])
            live[workload.time_ratio, policy] = mine[middle]
            simulated[workload.time_ratio, policy] = predictions[middle]
            rows.append(
                {
                    "workload": workload.time_ratio,
                    "policy": policy,
                    **_row(mine, predictions),
                    **_prediction_interval(variants, policy, mine, fit.level),
                }
            )
    table = pd.DataFrame(rows)
    return Validation(table, summarise(table), live, simulated)


def _row(live: Sequence[LiveRun], predicted: Sequence[Run]) -> dict[str, Any]:
    measured = mean_interval([run.makespan for run in live])
    errors = mean_interval(
        [p.makespan / m.makespan - 1 for p, m in zip(predicted, live, strict=True)]
    )
    return {
        "measured": measured.mean,
        "measured_low": measured.low,
        "measured_high": measured.high,
        "predicted": float(np.mean([p.makespan for p in predicted])),
        "error": errors.mean,
        "error_low": errors.low,
        "error_high": errors.high,
        "runs": measured.n,
        "worst_task_error": max(
            worst_task_error(p, m) for p, m in zip(predicted, live, strict=True)
        ),
    }


def worst_task_error(predicted: Run, measured: LiveRun) -> float:
    """Return the largest deviation of any task's end, as a share of the measured makespan."""
    pairs = (
        (predicted.comm_ends, measured.task_ends("comm")),
        (predicted.forward_ends, measured.task_ends("forward")),
        (predicted.backward_starts, [t.start for t in measured.tasks if t.kind == "backward"]),
    )
    deviations = [abs(a - b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True)]
    return max(deviations) / measured.makespan


def _resampled(fit: Fit, workload: Workload, chunk_mb: float) -> list[Scenario]:
    n = min(_PREDICTION_DRAWS, len(fit.compute.draws), len(fit.communication.draws))
    base = scenario_of(fit, workload, chunk_mb)
    variants = []
    for i in range(n):
        drawn = scenario_of(
            fit, workload, chunk_mb,
            compute=fit.compute.draws[i], communication=fit.communication.draws[i],
        )  # fmt: skip
        # The amounts are a fact, only the rates are uncertain.
        variants.append(drawn.model_copy(update={"workload": base.workload}))
    return variants


def _prediction_interval(
    variants: Sequence[Scenario], policy: str, live: Sequence[LiveRun], level: float
) -> dict[str, float]:
    """Spread the curves' uncertainty into the prediction."""
    if not variants:
        return {"predicted_low": math.nan, "predicted_high": math.nan}
    means = [
        np.mean(
            [simulate(s, policy, seed=r.seed, replication=r.replication).makespan for r in live[:2]]
        )
        for s in variants
    ]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return {"predicted_low": float(low), "predicted_high": float(high)}


def summarise(table: pd.DataFrame) -> dict[str, Any]:
    """Condense a validation's table; see `Validation.summary`."""
    errors = table["error"].abs()
    tau, separated, ordered = {}, 0, 0
    for ratio, group in table.groupby("workload", sort=False):
        # Policies that do the same differ in the last bits: that is no order.
        ranks = [group[name].map(lambda v: float(f"{v:.6g}")) for name in ("measured", "predicted")]
        told = min(column.nunique() for column in ranks) > 1  # else there is no order to compare
        tau[str(ratio)] = float(kendalltau(*ranks).statistic) if told else math.nan
        rows = list(group.itertuples())
        for a, first in enumerate(rows):
            for second in rows[a + 1 :]:
                low, high = sorted((first, second), key=lambda row: row.measured)
                if low.measured_high < high.measured_low:
                    separated += 1
                    ordered += int(low.predicted < high.predicted)
    return {
        "median_absolute_error": float(errors.median()),
        "p95_absolute_error": float(errors.quantile(0.95)),
        "worst_absolute_error": float(errors.max()),
        "kendall_tau": tau,
        "pairs_separated": separated,
        "pairs_in_order": ordered,
    }
