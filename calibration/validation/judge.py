"""The verdict: predictions beside what was measured, and whether they hold.

Only undisturbed runs count, and every figure is the median of a cell's runs with the 95 %
interval of order statistics. A ranking can only be right or wrong between predictions that
differ: policies that are predicted alike form one group, and pairs are pairs of groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from calibration.machine.sampling import Precision
from calibration.validation.drift import Drift
from calibration.validation.measure import Cell, Measured
from kdsim.results.intervals import median_interval
from kdsim.results.run import Run

#: Predictions closer than this count as equal: no measurement to 3 % could distinguish them.
_ALIKE = 1e-3

Word = Literal["holds", "does not hold", "too disturbed to say"]


@dataclass(frozen=True, slots=True)
class Target:
    """What predictions are held to: absolute errors over all cells, and every pair in order.

    Attributes
    ----------
    median, p95 : float
        Shares of the measured makespan.
    """

    median: float = 0.05
    p95: float = 0.10


@dataclass(frozen=True, slots=True)
class Verdict:
    """What can be said in the end.

    Attributes
    ----------
    word : str
        ``"holds"``, ``"does not hold"`` or ``"too disturbed to say"``.
    reason : str
        Why, in one sentence.
    """

    word: Word
    reason: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was predicted for a cell before it was run.

    Attributes
    ----------
    run : Run
        The simulated run of the first replication.
    low, high : float
        Ends of the 95 % interval that the curves' uncertainty gives the makespan, seconds; NaN
        for a fit without resamples.
    """

    run: Run
    low: float
    high: float


def tabulate(
    predictions: Mapping[Cell, Prediction], runs: Sequence[Measured], precision: Precision
) -> pd.DataFrame:
    """Set predictions beside measurements, one row per cell.

    Returns
    -------
    DataFrame
        ``condition``, ``policy``; ``measured``, ``predicted`` (seconds) and ``error`` (predicted
        / measured - 1), each with ``_low`` and ``_high``; ``runs`` that count, ``disturbed`` ones
        that do not, ``settled`` (known as precisely as asked) and ``worst_task_error``. NaN where
        no undisturbed run is there.
    """
    rows = []
    for (condition, policy), prediction in predictions.items():
        mine = [m for m in runs if m.cell == (condition, policy)]
        clean = [m for m in mine if not m.taken.disturbs(precision.guard)]
        rows.append(
            {
                "condition": condition,
                "policy": policy,
                **_estimates(clean, prediction),
                "runs": len(clean),
                "disturbed": len(mine) - len(clean),
                "settled": precision.is_precise([m.ratio for m in clean]),
                "worst_task_error": max((m.worst_task_error for m in clean), default=math.nan),
            }
        )
    return pd.DataFrame(rows)


class CellRow(NamedTuple):
    """A row of `tabulate`'s table, with its columns' types."""

    condition: str
    policy: str
    predicted: float
    predicted_low: float
    predicted_high: float
    measured: float
    measured_low: float
    measured_high: float
    error: float
    error_low: float
    error_high: float
    runs: int
    disturbed: int
    settled: bool
    worst_task_error: float


def cell_rows(table: pd.DataFrame) -> list[CellRow]:
    """Return the rows of a table made by `tabulate`, or of a part of one."""
    columns = (table[name].tolist() for name in CellRow._fields)
    return [CellRow(*values) for values in zip(*columns, strict=True)]


def _estimates(clean: Sequence[Measured], prediction: Prediction) -> dict[str, float]:
    row = {"predicted": prediction.run.makespan}
    row |= {"predicted_low": prediction.low, "predicted_high": prediction.high}
    columns = {
        "measured": [m.run.makespan for m in clean],
        "error": [1 / m.ratio - 1 for m in clean],
    }
    for name, values in columns.items():
        row |= dict.fromkeys((name, f"{name}_low", f"{name}_high"), math.nan)
        if values:
            interval = median_interval(values)
            row |= {name: interval.median, f"{name}_low": interval.low}
            row[f"{name}_high"] = interval.high
    if clean:  # of the very draws that were run
        row["predicted"] = float(np.median([m.predicted_s for m in clean]))
    return row


def summarise(
    table: pd.DataFrame, runs: Sequence[Measured], precision: Precision
) -> dict[str, Any]:
    """Condense a table.

    Returns
    -------
    dict
        ``median_absolute_error``, ``p95_absolute_error``, ``worst_absolute_error``; by condition
        ``distinct_predictions`` and ``kendall_tau`` between them (NaN for fewer than two);
        ``pairs`` of distinct predictions, ``pairs_separated`` of them whose measured intervals do
        not overlap, ``pairs_in_order`` of those that were predicted in that order, and
        ``alike_but_apart``: pairs of policies predicted alike whose measured intervals separate.
    """
    errors = table["error"].abs()
    summary: dict[str, Any] = {
        "median_absolute_error": float(errors.median()),
        "p95_absolute_error": float(errors.quantile(0.95)),
        "worst_absolute_error": float(errors.max()),
        "distinct_predictions": {},
        "kendall_tau": {},
        "pairs": 0,
        "pairs_separated": 0,
        "pairs_in_order": 0,
        "alike_but_apart": 0,
    }
    for condition, rows in table.dropna(subset=["measured"]).groupby("condition", sort=False):
        alike = _alike(rows)
        groups = [_pooled(group, runs, precision) for group in alike]
        summary["distinct_predictions"][str(condition)] = len(groups)
        summary["kendall_tau"][str(condition)] = _tau(groups)
        for a, first in enumerate(groups):
            for second in groups[a + 1 :]:  # predicted to take longer than the first
                summary["pairs"] += 1
                if _apart(first, second):
                    summary["pairs_separated"] += 1
                    summary["pairs_in_order"] += int(first.measured < second.measured)
        for group in alike:
            members = cell_rows(group)
            summary["alike_but_apart"] += sum(
                _apart(one, other) for i, one in enumerate(members) for other in members[i + 1 :]
            )
    return summary


@dataclass(frozen=True, slots=True)
class _Group:
    """Policies that are predicted alike: one prediction, all their runs together."""

    predicted: float
    measured: float
    measured_low: float
    measured_high: float


def _alike(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Split a condition's rows into groups of like predictions, the shortest first."""
    ordered = rows.sort_values("predicted")
    groups: list[list[Any]] = []
    for label, predicted in ordered["predicted"].items():
        if groups and predicted <= ordered.loc[groups[-1][0], "predicted"] * (1 + _ALIKE):
            groups[-1].append(label)
        else:
            groups.append([label])
    return [ordered.loc[labels] for labels in groups]


def _pooled(rows: pd.DataFrame, runs: Sequence[Measured], precision: Precision) -> _Group:
    cells = set(zip(rows["condition"], rows["policy"], strict=True))
    clean = [m for m in runs if m.cell in cells and not m.taken.disturbs(precision.guard)]
    seconds = median_interval([m.run.makespan for m in clean])
    return _Group(float(rows["predicted"].median()), seconds.median, seconds.low, seconds.high)


def _tau(groups: Sequence[_Group]) -> float:
    if len(groups) < 2:
        return math.nan
    return float(kendalltau([g.predicted for g in groups], [g.measured for g in groups]).statistic)


def _apart(one: CellRow | _Group, other: CellRow | _Group) -> bool:
    """Whether two measured intervals do not overlap (never, where one has no interval)."""
    return one.measured_high < other.measured_low or other.measured_high < one.measured_low


def verdict(
    table: pd.DataFrame,
    summary: Mapping[str, Any],
    precision: Precision,
    target: Target | None = None,
    drifted: Sequence[Drift] = (),
) -> Verdict:
    """Say whether the predictions hold.

    Nothing can be said when the device itself has become slower or faster since its trace. Else
    they do not hold when the cells that are settled show it, whatever the others would have
    shown; they hold when every cell is settled and the target is met.
    """
    target = target or Target()
    moved = [one.sentence for one in drifted if one.is_beyond(precision.half_width)]
    if moved:
        return Verdict("too disturbed to say", f"{'; '.join(moved)}; measure the trace again")
    settled = table["settled"].astype(bool)
    kindest = table["error"].abs().where(settled, 0.0)
    if kindest.median() > target.median or kindest.quantile(0.95) > target.p95:
        asked = f"asked for is at most {target.median:.0%} and {target.p95:.0%}"
        return Verdict("does not hold", f"the error is {_described(kindest)}; {asked}")
    if not settled.all():
        return Verdict("too disturbed to say", _what_is_missing(table, precision))
    separated, in_order = summary["pairs_separated"], summary["pairs_in_order"]
    if in_order < separated:
        reason = (
            f"{separated - in_order} of {separated} pairs of distinct predictions were measured "
            "in the other order"
        )
        return Verdict("does not hold", reason)
    return Verdict(
        "holds",
        f"the error is {_described(table['error'].abs())}; {in_order} of {separated} pairs of "
        "distinct predictions whose measured intervals separate are in order",
    )


def _described(errors: pd.Series) -> str:
    median, p95 = errors.median(), errors.quantile(0.95)
    return f"{median:.1%} in the median and {p95:.1%} at the 95th percentile"


def _what_is_missing(table: pd.DataFrame, precision: Precision) -> str:
    open_cells = table[~table["settled"].astype(bool)]
    few = int((open_cells["runs"] < precision.least).sum())
    wide = len(open_cells) - few
    parts = []
    if few:
        parts.append(
            f"{few} of {len(table)} cells have fewer than {precision.least} undisturbed runs"
        )
    if wide:
        parts.append(f"{wide} of {len(table)} cells are not known to {precision.half_width:.0%}")
    disturbed, made = int(table["disturbed"].sum()), int((table["disturbed"] + table["runs"]).sum())
    return f"{' and '.join(parts)}; others disturbed {disturbed} of {made} runs"
