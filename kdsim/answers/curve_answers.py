"""The answers on cores and policies, in every draw of the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdsim.answers.cores import core_rows, cores_worth
from kdsim.engines.curve_uncertainty import over_curve_draws
from kdsim.model.bound.optimum import minimal_makespan
from kdsim.results.curve_uncertainty import LEVEL
from kdsim.scenario.changes import with_fields
from kdsim.scenario.drawn import drawn_scenario
from kdsim.scenario.study import Scenario

#: A candidate within this share of the best one of a draw is as good.
_EQUAL = 0.01


def curve_answers(
    scenario: Scenario,
    candidates: Sequence[str],
    pair: tuple[str, str],
    rows: Sequence[Mapping[str, Any]],
    count: int,
) -> dict[str, Any]:
    """Ask the questions on cores and policy again in each draw of the curves.

    Parameters
    ----------
    scenario : Scenario
        Without a sweep.
    candidates : sequence of str
    pair : (str, str)
        The advised policy and the next one.
    rows : sequence of mapping
        The answer on cores with the fitted curves, see `core_rows`.
    count : int
        Draws.

    Returns
    -------
    dict
        ``draws``; ``sides`` that were drawn; ``low_s, high_s``: 95 % interval of the least
        makespan, seconds; ``cores``: ``cores`` (the answer), ``same`` (share of the draws that
        give it), ``low, high``; ``policy``: ``policy, next, faster`` (share, ties count half),
        ``ties, within`` (share of the draws in which it is within 1 % of the best candidate).
        Policies are played without noise.
    """
    devices = [drawn_scenario(scenario, index) for index in range(count)]
    least = [minimal_makespan(device.plan()).makespan for device in devices]
    quiet = with_fields(scenario, {"extensions.noise": 0.0})
    played = over_curve_draws(quiet, candidates, count)
    low, high = _ends(least)
    return {
        "draws": count, "sides": list(played.sides), "low_s": low, "high_s": high,
        "cores": _cores(devices, rows), "policy": _policy(played.points[0], pair),
    }  # fmt: skip


def _ends(values: Sequence[float]) -> tuple[float, float]:
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


def _cores(devices: Sequence[Scenario], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(rows) < 2:
        return {}
    answer = cores_worth(rows)
    counts = [cores_worth(list(core_rows(device))) for device in devices]
    low, high = _ends(counts)
    same = float(np.mean(np.array(counts) == answer))
    return {"cores": answer, "same": same, "low": low, "high": high}


def _policy(played: Any, pair: tuple[str, str]) -> dict[str, Any]:
    chosen, other = pair
    if chosen == other:
        return {}
    times = played.makespans
    mine = times[:, played.policies.index(chosen)]
    return {
        "policy": chosen, "next": other, "faster": played.faster(chosen, other),
        "ties": played.ties(chosen, other),
        "within": float(np.mean(mine <= times.min(axis=1) * (1.0 + _EQUAL))),
    }  # fmt: skip
