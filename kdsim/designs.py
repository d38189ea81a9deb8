"""Designs: from swept fields to points, and from points to scenarios.

A point is a dict of dotted fields and values, in the order of the scenario file. Which points a
design has depends on the scenario alone, never on the order in which anything runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from kdsim.curves import FloatArray
from kdsim.scenario import COUNT_FIELDS, Range, Scenario, with_fields

Point = dict[str, Any]


def point_values(scenario: Scenario) -> Iterator[Point]:
    """Yield the points of the scenario's design; one empty point when nothing is swept.

    Values are as the scenario gives them (whole numbers for fields that count); whether they are
    legal together is for `with_fields` to say.
    """
    names = list(scenario.sweep)
    if not names:
        yield {}
        return
    method = scenario.design.method
    if method in ("grid", "zip"):
        lists = [[_plain(name, v) for v in scenario.sweep[name]] for name in names]  # type: ignore[union-attr]
        rows = itertools.product(*lists) if method == "grid" else zip(*lists, strict=True)
        for row in rows:
            yield dict(zip(names, row, strict=True))
        return
    ranges = [scenario.sweep[name] for name in names]
    columns = [
        _scaled(name, swept, unit)  # type: ignore[arg-type]
        for name, swept, unit in zip(names, ranges, _unit_sample(scenario).T, strict=True)
    ]
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def points(scenario: Scenario) -> list[tuple[Point, Scenario]]:
    """Return every point of the design with the scenario that stands there.

    Parameters
    ----------
    scenario : Scenario

    Returns
    -------
    list of (dict, Scenario)
        In the order of the design; a grid's first field varies slowest.

    Raises
    ------
    ScenarioError
        If the values of a point are not legal together.

    Examples
    --------
    >>> import kdsim
    >>> [point for point, _ in points(kdsim.load_scenario("paper-1to1"))]
    [{'device.cores': 6}, {'device.cores': 8}, {'device.cores': 10}, {'device.cores': 12}]
    """
    return [(point, with_fields(scenario, point)) for point in point_values(scenario)]


def count_points(scenario: Scenario) -> int:
    """Return the number of points of the design, repeated ones included."""
    if not scenario.sweep:
        return 1
    if scenario.design.samples is not None:
        return scenario.design.samples
    lengths = [len(v) for v in scenario.sweep.values()]  # type: ignore[arg-type]
    return lengths[0] if scenario.design.method == "zip" else math.prod(lengths)


def _plain(name: str, value: Any) -> Any:
    if name in COUNT_FIELDS and isinstance(value, float) and value.is_integer():
        return int(value)
    return " ".join(value.split()) if isinstance(value, str) else value


def _unit_sample(scenario: Scenario) -> FloatArray:
    """Sample the unit cube: (samples, fields), from the scenario's seed only."""
    from scipy.stats import qmc  # not at import: scipy must not slow down `kdsim --help`

    samples, fields = scenario.design.samples or 1, len(scenario.sweep)
    generator = np.random.default_rng(scenario.seed)
    if scenario.design.method == "latin-hypercube":
        return np.asarray(qmc.LatinHypercube(fields, seed=generator).random(samples))
    # A Sobol sequence is balanced at powers of two; its first points are the same whatever
    # follows, so that a larger sample contains the smaller one.
    power = max(0, math.ceil(math.log2(samples)))
    return np.asarray(qmc.Sobol(fields, seed=generator).random_base2(power)[:samples])


def _scaled(name: str, swept: Range, unit: FloatArray) -> list[Any]:
    """Map [0, 1) to a range; whole numbers get equal shares."""
    low, high = swept.low, swept.high
    whole = name in COUNT_FIELDS
    if whole:
        low, high = math.ceil(low) - 0.5, math.floor(high) + 0.5
    if swept.scale == "log":
        low = max(low, 1e-300)
        values = np.exp(math.log(low) + unit * (math.log(high) - math.log(low)))
    else:
        values = low + unit * (high - low)
    if not whole:
        return np.clip(values, swept.low, swept.high).tolist()  # type: ignore[no-any-return]
    inside = np.clip(np.rint(values), math.ceil(swept.low), math.floor(swept.high))
    return [int(v) for v in inside]
