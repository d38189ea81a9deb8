"""How far the measurement of a device leaves its answers open: policies over draws of the curves.

It is a source of its own beside replications and noise. Every draw is a device that the
measurements support as well, and the same draws are used for every policy: what two policies
share of the error cancels in their difference.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdsim._types import Record, RecordView
from kdsim.model.curves import FloatArray
from kdsim.results.gaps import NO_GAP

LEVEL = 0.95
#: Columns that draws add to a table: ends of the intervals of makespan (seconds) and gap, and the
#: number of draws.
CURVE_COLUMNS = ("curve_low", "curve_high", "curve_gap_low", "curve_gap_high", "curve_draws")


@dataclass(frozen=True, slots=True, eq=False)
class PointDraws:
    """The policies at one point of a sweep, in every draw of the curves.

    Attributes
    ----------
    point : dict
        The swept fields and their values; empty without a sweep.
    makespans : (draws, policies) float array
        Seconds; the mean over the replications, which are the same in every draw.
    gaps : (draws, policies) float array
        Mean gap to the optimum of the same draw.
    """

    point: Record
    policies: tuple[str, ...]
    makespans: FloatArray
    gaps: FloatArray

    def intervals(self) -> Iterator[Record]:
        """Yield each policy's median and 95 % interval over the draws; see `CurveUncertainty`."""
        seconds, gaps = _percentiles(self.makespans), _percentiles(self.gaps)
        for name, time, gap in zip(self.policies, seconds.T, gaps.T, strict=True):
            yield {
                **self.point, "policy": name,
                "median": float(time[1]), "low": float(time[0]), "high": float(time[2]),
                "gap_median": float(gap[1]), "gap_low": float(gap[0]), "gap_high": float(gap[2]),
                "draws": len(self.makespans),
            }  # fmt: skip

    def pairs(self) -> Iterator[Record]:
        """Yield the comparison of each pair of policies over the draws; see `CurveUncertainty`."""
        for policy, other in itertools.combinations(self.policies, 2):
            mine, its, ties = self._two(policy, other)
            low, median, high = _percentiles(np.where(ties, 0.0, mine - its))
            yield {
                **self.point, "policy": policy, "other": other,
                "faster": self.faster(policy, other), "ties": float(np.mean(ties)),
                "difference": float(median), "difference_low": float(low),
                "difference_high": float(high), "draws": len(self.makespans),
            }  # fmt: skip

    def faster(self, policy: str, other: str) -> float:
        """Return the share of the draws in which `policy` is faster; a tie counts half."""
        mine, its, ties = self._two(policy, other)
        return float(np.mean(np.where(ties, 0.5, mine < its)))

    def ties(self, policy: str, other: str) -> float:
        """Return the share of the draws in which the two differ by rounding at most."""
        return float(np.mean(self._two(policy, other)[2]))

    def _two(self, policy: str, other: str) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        mine, its = (self.makespans[:, self.policies.index(name)] for name in (policy, other))
        return mine, its, np.isclose(mine, its, rtol=NO_GAP, atol=0.0)


@dataclass(frozen=True, eq=False)
class CurveUncertainty:
    """What the draws of the curves say of every point and policy.

    Attributes
    ----------
    draws : int
        Number of draws; the first ones of the curve file.
    sides : tuple of str
        The sides that were drawn; the other one's curve is the same in every draw.
    """

    draws: int
    sides: tuple[str, ...]
    points: Sequence[PointDraws]

    @property
    def intervals(self) -> list[Record]:
        """Percentile intervals (95 %) over the draws, one row per point and policy.

        ``policy, median, low, high`` (seconds), ``gap_median, gap_low, gap_high, draws``.
        """
        return [row for point in self.points for row in point.intervals()]

    @property
    def faster(self) -> list[Record]:
        """One row per point and pair of policies.

        ``policy, other, faster`` (share of the draws in which `policy` has the smaller makespan;
        a tie counts half), ``ties`` (share of the draws), ``difference, difference_low,
        difference_high`` (median and 95 % interval of policy minus other, seconds), ``draws``.
        """
        return [row for point in self.points for row in point.pairs()]

    def columns(self, point: RecordView, policy: str) -> Record:
        """Return what `CURVE_COLUMNS` hold for one row of a table; None if it was not drawn."""
        found = self._row_of.get((_key(point), policy), {})
        names = ("low", "high", "gap_low", "gap_high", "draws")
        return dict(zip(CURVE_COLUMNS, map(found.get, names), strict=True))

    @functools.cached_property
    def _row_of(self) -> dict[Any, Record]:
        return {
            (_key(point.point), row["policy"]): row
            for point in self.points
            for row in point.intervals()
        }

    @property
    def note(self) -> str:
        """Say what was drawn, in one line."""
        kept = [side for side in ("compute", "communication") if side not in self.sides]
        held = f"; the {kept[0]} curve has no draws and stays as it is" if kept else ""
        return (
            f"{self.draws} bootstrap draws of the curves, the same for all policies; 95 % "
            f"percentile intervals{held}"
        )

    def to_dict(self) -> Record:
        """Return plain data."""
        return {
            "draws": self.draws,
            "level": LEVEL,
            "sides": list(self.sides),
            "intervals": self.intervals,
            "faster": self.faster,
        }


def _key(point: RecordView) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, repr(value)) for name, value in point.items()))


def _percentiles(values: FloatArray) -> FloatArray:
    """Return the lower end, the median and the upper end over the first axis."""
    tail = (1.0 - LEVEL) / 2.0
    return np.asarray(np.quantile(values, [tail, 0.5, 1.0 - tail], axis=0))
