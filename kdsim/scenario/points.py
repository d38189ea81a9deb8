"""From a scenario's sweep to its points: grids, lists in step, space-filling samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kdsim._types import Record
from kdsim.errors import ScenarioError
from kdsim.scenario.changes import COUNT_FIELDS, with_fields
from kdsim.scenario.files.faults import FaultyFileError
from kdsim.scenario.study import Range, Scenario


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """One point of a sweep.

    Attributes
    ----------
    values : dict
        Swept fields and their values here; empty for a scenario without a sweep.
    scenario : Scenario or None
        The scenario at this point; None if the combination is not legal.
    error : str
        Why it is not legal, else empty.
    """

    values: Record
    scenario: Scenario | None
    error: str = ""

    def legal(self) -> Scenario:
        """Return the scenario, or raise the `ScenarioError` that says why there is none."""
        if self.scenario is None:
            where = ", ".join(f"{name} = {value}" for name, value in self.values.items())
            raise ScenarioError(f"at {where}: {self.error}")
        return self.scenario


def points(scenario: Scenario) -> list[Point]:
    """Expand a scenario's sweep under its design.

    Returns
    -------
    list of Point
        In the order of the file, the last field varying fastest; one point without a sweep. A
        sampled design depends on the scenario's seed and on nothing else.

    Examples
    --------
    >>> import kdsim
    >>> [point.values for point in points(kdsim.load_scenario("paper-1to1"))][:2]
    [{'device.cores': 6}, {'device.cores': 8}]
    """
    return list(iterate(scenario))


def iterate(scenario: Scenario) -> Iterator[Point]:
    """Yield the points of `points` one by one: a million of them need not be in memory at once."""
    if not scenario.sweep:
        yield Point({}, scenario)
        return
    for values in _combinations(scenario):
        yield _point(scenario, values)


def _point(scenario: Scenario, values: Record) -> Point:
    try:
        return Point(values, with_fields(scenario, values))
    except FaultyFileError as error:
        reasons = [f"{fault.field}: {fault.reason}" for fault in error.faults]
        return Point(values, None, "; ".join(reasons))
    except ScenarioError as error:
        return Point(values, None, str(error))


def _combinations(scenario: Scenario) -> Iterator[Record]:
    names = list(scenario.sweep)
    method = scenario.design.method
    if method in ("grid", "zip"):
        columns = [value for value in scenario.sweep.values() if isinstance(value, list)]
        rows = itertools.product(*columns) if method == "grid" else zip(*columns, strict=True)
        yield from (dict(zip(names, row, strict=True)) for row in rows)
        return
    ranges = {n: r for n, r in scenario.sweep.items() if isinstance(r, Range)}
    yield from _sample(ranges, method, scenario.design.samples or 1, scenario.seed)


def _sample(ranges: Mapping[str, Range], method: str, samples: int, seed: int) -> list[Record]:
    import warnings

    from scipy.stats import qmc  # only sampled designs need scipy.stats, which loads slowly

    kind = qmc.LatinHypercube if method == "latin-hypercube" else qmc.Sobol
    with warnings.catch_warnings():
        # Sobol' warns that balance needs a power of two; the user chose the number of samples.
        warnings.simplefilter("ignore", UserWarning)
        unit = kind(d=len(ranges), rng=seed).random(samples)
    rows = []
    for draw in unit.tolist():
        pairs = zip(ranges.items(), draw, strict=True)
        rows.append({name: _within(name, spread, share) for (name, spread), share in pairs})
    return rows


def _within(name: str, spread: Range, share: float) -> float | int:
    low, high = spread.low, spread.high
    if name in COUNT_FIELDS:
        high += 1.0  # cut down below, so that both ends have the weight of any other count
    if spread.scale == "log":
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        value = low + share * (high - low)
    return min(math.floor(value), math.floor(spread.high)) if name in COUNT_FIELDS else value
