"""Play policies on every device that the measurements support: the draws of the curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kdsim.engines import batch
from kdsim.policies.resolve import distinct_policies, policy_name
from kdsim.results.curve_uncertainty import CurveUncertainty, PointDraws
from kdsim.results.gaps import gap_of
from kdsim.scenario.drawn import check_draws, drawn_scenario, drawn_sides
from kdsim.scenario.points import Point, points
from kdsim.scenario.study import Scenario


def over_curve_draws(
    scenario: Scenario,
    policies: Sequence[Any],
    count: int,
    *,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> CurveUncertainty:
    """Play every policy at every point of a sweep, in each of the first draws of the curves.

    A policy that plans knows the device of the draw, as it knows the fitted one otherwise. One
    that draws at random, and every policy under noise, runs all replications in every draw, with
    the same randomness: what differs between draws is the device alone.

    Parameters
    ----------
    scenario : Scenario
    policies : sequence of str or Policy classes
    count : int
        Draws, at least 2.
    progress : callable, optional
        Called with (draws done, draws in all).
    threads : int, optional
        Threads of the compiled engine; all cores by default.

    Returns
    -------
    CurveUncertainty

    Raises
    ------
    ScenarioError
        If the curves of a point have fewer draws, or one is not legal at a point.
    PolicyError
        If a policy fails in a run.
    """
    chosen, places = distinct_policies(policies), points(scenario)
    for point in places:
        count = check_draws(point.legal(), count)
    _load_for(scenario, chosen, count * len(places))
    found, total = [], count * len(places)
    for number, point in enumerate(places):

        def done(draws: int, before: int = number * count) -> None:
            if progress is not None:
                progress(before + draws, total)

        found.append(_at_point(point, chosen, count, done, threads))
    return CurveUncertainty(count, drawn_sides(places[0].legal()), found)


def _load_for(scenario: Scenario, policies: Sequence[Any], times: int) -> None:
    """Load the compiled engine if all draws together are worth it."""
    compiled = [policy for policy in policies if batch.is_compiled(policy)]
    cycles = scenario.workload.cycles * times * len(compiled)
    if compiled and batch.is_worth_loading(cycles):
        batch.load(scenario, compiled[0])


def _at_point(
    point: Point,
    policies: Sequence[Any],
    count: int,
    done: Callable[[int], None],
    threads: int | None,
) -> PointDraws:
    base = point.legal()
    makespans = np.empty((count, len(policies)))
    gaps = np.empty_like(makespans)
    for draw in range(count):
        changed = drawn_scenario(base, draw)
        for column, policy in enumerate(policies):
            runs = changed.replications if batch.varies(changed, policy) else 1
            times, bounds = batch.makespans(changed, policy, 0, runs, threads=threads)
            makespans[draw, column] = times.mean()
            gaps[draw, column] = gap_of(times, bounds).mean()
        done(draw + 1)
    return PointDraws(point.values, tuple(map(policy_name, policies)), makespans, gaps)
