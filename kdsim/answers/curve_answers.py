"""The answers on cores and policies, in every draw of the curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kdsim._types import Record, RecordView
from kdsim.answers.cores import core_rows, cores_worth
from kdsim.answers.thresholds import EQUAL
from kdsim.engines.curve_uncertainty import over_curve_draws
from kdsim.model.bound.optimum import minimal_makespan
from kdsim.results.curve_uncertainty import LEVEL
from kdsim.scenario.changes import with_fields
from kdsim.scenario.drawn import drawn_scenario
from kdsim.scenario.study import Scenario


def curve_answers(
    scenario: Scenario,
    candidates: Sequence[str],
    pair: tuple[str, str],
    rows: Sequence[RecordView],
    count: int,
) -> Record:
    """Ask the questions on cores and policy again in each draw of the curves.

    Parameters
    ----------
    scenario : Scenario
        Without a sweep.
    pair : (str, str)
        The advised policy and the next one.
    rows : sequence of mapping
        The answer on cores with the fitted curves, see `core_rows`.

    Returns
    -------
    dict
        ``draws``; ``sides`` that were drawn; ``low_s, high_s``: 95 % interval of the least
        makespan, seconds; ``cores``: ``cores`` (the answer), ``same`` (share of the draws that
        give it), ``low, high``; ``makespans``: 95 % interval of the least makespan on each number
        of cores, ``cores, low_s, high_s``; ``policy``: ``policy, next, faster`` (share, ties count
        half), ``ties, within`` (share of the draws in which it is within 1 % of the best
        candidate); ``gaps``: 95 % interval of each candidate's gap, ``policy, low, high``. Policies
        are played without noise.
    """
    devices = [drawn_scenario(scenario, index) for index in range(count)]
    least = [minimal_makespan(device.plan()).makespan for device in devices]
    quiet = with_fields(scenario, {"extensions.noise": 0.0})
    played = over_curve_draws(quiet, candidates, count)
    low, high = _ends(least)
    drawn_rows = [list(core_rows(device)) for device in devices] if len(rows) > 1 else []
    return {
        "draws": count, "sides": list(played.sides), "low_s": low, "high_s": high,
        "cores": _cores(drawn_rows, rows), "makespans": list(_makespans(drawn_rows, rows)),
        "policy": _policy(played.points[0], pair),
        "gaps": [
            {"policy": row["policy"], "low": row["gap_low"], "high": row["gap_high"]}
            for row in played.points[0].intervals()
        ],
    }  # fmt: skip


def _ends(values: Sequence[float]) -> tuple[float, float]:
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


#: `core_rows` of each draw.
_DrawnRows = Sequence[Sequence[RecordView]]


def _makespans(drawn: _DrawnRows, rows: Sequence[RecordView]) -> Iterator[Record]:
    """Yield the interval on each number of cores that is legal in every draw."""
    if not drawn:
        return
    found = [{row["cores"]: row["makespan"] for row in one} for one in drawn]
    for cores in (row["cores"] for row in rows):
        if all(cores in one for one in found):
            low, high = _ends([one[cores] for one in found])
            yield {"cores": cores, "low_s": low, "high_s": high}


def _cores(drawn: _DrawnRows, rows: Sequence[RecordView]) -> Record:
    if not drawn:
        return {}
    answer = cores_worth(rows)
    counts = [cores_worth(one) for one in drawn]
    low, high = _ends(counts)
    same = float(np.mean(np.array(counts) == answer))
    return {"cores": answer, "same": same, "low": low, "high": high}


def _policy(played: Any, pair: tuple[str, str]) -> Record:
    chosen, other = pair
    if chosen == other:
        return {}
    times = played.makespans
    mine = times[:, played.policies.index(chosen)]
    return {
        "policy": chosen, "next": other, "faster": played.faster(chosen, other),
        "ties": played.ties(chosen, other),
        "within": float(np.mean(mine <= times.min(axis=1) * (1.0 + EQUAL))),
    }  # fmt: skip
