"""The main job: policies side by side at every point of a scenario's sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kdsim.engines import batch
from kdsim.engines.curve_uncertainty import over_curve_draws
from kdsim.policies.base import Policy, PolicyLike
from kdsim.policies.resolve import distinct_policies, policy_name
from kdsim.results.comparison import Comparison, Sample
from kdsim.scenario.changes import with_run_counts
from kdsim.scenario.drawn import check_draws
from kdsim.scenario.points import Point, points
from kdsim.scenario.study import Scenario

#: Called with (runs done, runs in all) as work goes on.
Progress = Callable[[int, int], None]
#: Simulated cycles between two reports of progress, compiled and in SimPy.
_STEP_CYCLES = 5_000_000
_STEP_CYCLES_SIMPY = 5_000


def compare(
    scenario: Scenario,
    policies: Sequence[str | type[Policy]] | None = None,
    *,
    replications: int | None = None,
    seed: int | None = None,
    curve_draws: int | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Comparison:
    """Compare policies at every point of a scenario's sweep; see `kdsim.api.compare`."""
    scenario = with_run_counts(scenario, seed, replications)
    threads = batch.checked_threads(threads)
    chosen = distinct_policies(policies or scenario.policies)
    if curve_draws is not None:
        curve_draws = check_draws(scenario, curve_draws)
    todo = [(point, policy) for point in points(scenario) for policy in chosen]
    counts = [_runs(scenario, policy) for _, policy in todo]
    total, done = sum(counts) + len(todo) * (curve_draws or 0), 0
    _load_for(todo, counts)
    samples = []
    for (point, policy), count in zip(todo, counts, strict=True):
        before = done

        def report(runs: int, before: int = before) -> None:
            if progress:
                progress(before + runs, total)

        samples.append(sample(point.legal(), policy, count, point.values, report, threads))
        done += count
    if curve_draws is None:
        return Comparison(scenario, samples)

    def drawn(draws: int, _: int) -> None:
        if progress:
            progress(done + draws * len(chosen), total)

    curves = over_curve_draws(scenario, chosen, curve_draws, progress=drawn, threads=threads)
    return Comparison(scenario, samples, curves=curves)


def _load_for(todo: Sequence[tuple[Point, Any]], counts: Sequence[int]) -> None:
    """Load the compiled engine if the comparison as a whole is worth it, not one sample of it."""
    fit = [
        (point.scenario, policy, count * point.scenario.workload.cycles)
        for (point, policy), count in zip(todo, counts, strict=True)
        if batch.is_compiled(policy) and point.scenario is not None
    ]
    if batch.is_worth_loading(sum(cycles for *_, cycles in fit)):
        batch.load(*fit[0][:2])


def _runs(scenario: Scenario, policy: PolicyLike) -> int:
    return scenario.replications if batch.varies(scenario, policy) else 1


def sample(
    scenario: Scenario,
    policy: PolicyLike,
    count: int,
    point: dict[str, Any],
    report: Callable[[int], None] = lambda _: None,
    threads: int | None = None,
) -> Sample:
    """Run replications 0..count-1 of one policy at one point, in steps, reporting after each."""
    import numpy as np

    plan = scenario.plan()
    cycles = _STEP_CYCLES if batch.is_compiled(policy) else _STEP_CYCLES_SIMPY
    step = max(1, cycles // plan.cycles)
    times, bounds = [], []
    for start in range(0, count, step):
        stop = min(start + step, count)
        more, bound = batch.makespans(scenario, policy, start, stop, threads=threads)
        times.append(more)
        bounds.append(bound)
        report(stop)
    noisy = scenario.extensions.noise > 0
    return Sample(
        point=point,
        policy=policy_name(policy),
        makespans=np.concatenate(times),
        bounds=np.concatenate(bounds) if noisy else bounds[0],
        bound_kind=batch.bound_kind(scenario),
        varies=batch.varies(scenario, policy),
        marks=scenario.marks(),
    )
