"""The curves f and g over the core allocation, the paper's fig. 4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from kdsim._types import Record
from kdsim.errors import PlotError, ScenarioError
from kdsim.plots.labels import point_label
from kdsim.plots.style import INK, MUTED, PAPER, add_legend, new_panels, ordered_style, title

if TYPE_CHECKING:
    from kdsim.scenario.study import Scenario


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A measured time for unit work, to be drawn beside the curves.

    Attributes
    ----------
    side : {"compute", "communication"}
    total_cores, comm_cores : int
        Cores in all, and those given to communication.
    seconds, low, high : float
        Mean time of one unit of work, and the ends of its confidence interval.
    """

    side: Literal["compute", "communication"]
    total_cores: int
    comm_cores: int
    seconds: float
    low: float
    high: float


_SIDES = ("compute", "communication")
#: The paper's core counts.
_USUAL = (6, 8, 10, 12)


def curves(
    scenario: Scenario,
    core_counts: Sequence[int] | None = None,
    axes: Sequence[Axes] | None = None,
    *,
    points: Sequence[CurvePoint] = (),
) -> list[Axes]:
    """Draw f and g for unit work over the core allocation, the paper's fig. 4.

    Parameters
    ----------
    core_counts : sequence of int, optional
        Core counts of the device, a line each. By default those swept, else 6, 8, 10, 12 and the
        scenario's own, as far as its curves reach.
    axes : sequence of two Axes, optional
        For f and for g.
    points : sequence of CurvePoint
        Measurements to draw with their confidence intervals.

    Returns
    -------
    list of two Axes
        Seconds per unit of work, against the cores allocated to computation (the others receive).

    Raises
    ------
    PlotError
        If a core count is not legal for the curves.
    """
    counts = _core_counts(scenario, core_counts)
    panels = new_panels(axes, 2, 4.6, 3.7)
    rates = [_rates(scenario, c_total) for c_total in counts]
    for ax, side, drawn in zip(panels, _SIDES, zip(*rates, strict=True), strict=True):
        for k, rate in enumerate(drawn):
            _curve(ax, rate, _look(k, len(counts)))
        _measured(ax, [p for p in points if p.side == side and p.total_cores in counts])
        if len(counts) > 1 and _coincide(drawn):
            ax.text(
                0.97, 0.95, "the same for all core counts", transform=ax.transAxes, ha="right",
                va="top", fontsize="small", color=MUTED,
            )  # fmt: skip
    for ax, name, unit in zip(panels, ("f, Comp", "g, Comm"), ("compute", "data"), strict=True):
        title(ax, f"{name} time of one {unit} unit")
        ax.set_xlabel("cores allocated to Comp (the others to Comm)", color=INK)
        ax.set_ylabel(f"time (s per {unit} unit)", color=INK)
        ax.set_ylim(bottom=0.0)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [
        Line2D([], [], label=point_label("device.cores", c), **_look(k, len(counts)))
        for k, c in enumerate(counts)
    ]
    if points:
        handles.append(Line2D([], [], label="measured, mean and 95 % CI", **_POINT))
    add_legend(panels, handles, own=axes is None, marks=_marks(scenario, counts))
    return panels


def _marks(scenario: Scenario, counts: Sequence[int]) -> list[str]:
    marks = (mark for c_total in counts for mark in scenario.device.marks(c_total))
    return list(dict.fromkeys(marks))


def _core_counts(scenario: Scenario, asked: Sequence[int] | None) -> list[int]:
    swept = scenario.sweep.get("device.cores")
    if asked is None and not isinstance(swept, list):
        # Nobody asked for these: leave out those that the curves cannot give.
        return [c for c in sorted({*_USUAL, scenario.device.cores}) if _reached(scenario, c)]
    wanted: Any = asked if asked is not None else swept
    counts = list(dict.fromkeys(int(c) for c in wanted))
    if not counts or min(counts) < 1:
        raise PlotError(f"core counts must be whole numbers from 1 on, got {counts}")
    return counts


def _reached(scenario: Scenario, c_total: int) -> bool:
    try:
        _rates(scenario, c_total)
    except PlotError:
        return False
    return True


def _rates(scenario: Scenario, c_total: int) -> tuple[Any, Any]:
    try:
        device = scenario.device
        return device.compute_rates(c_total), device.communication_rates(c_total)
    except ScenarioError as error:
        raise PlotError(f"the curves do not reach {c_total} cores: {error}") from error


def _coincide(rates: Sequence[Any]) -> bool:
    """Return whether all core counts share one curve over the cores of computation."""
    fewest = min(rate.size for rate in rates)
    by_comp_cores = [rate[::-1][:fewest] for rate in rates]
    return all(np.allclose(rate, by_comp_cores[0], rtol=1e-9) for rate in by_comp_cores)


#: Measurements: means and their intervals.
_POINT: Record = {
    "color": INK, "linestyle": "none", "marker": "x", "markersize": 5, "zorder": 4,
}  # fmt: skip


def _look(k: int, count: int) -> Record:
    color, marker = ordered_style(k, count)
    return {
        "color": color,
        "marker": marker,
        # Largest first: where curves coincide, the later marks are seen inside the earlier.
        "markersize": 7.5 - 3.5 * k / max(count - 1, 1),
        "markeredgecolor": PAPER,
        "markeredgewidth": 0.5,
        "linewidth": 1.4,
    }


def _curve(ax: Axes, rate: Any, look: Record) -> None:
    c_total = rate.size - 1
    comp_cores = c_total - np.arange(c_total + 1)
    works = rate > 0  # a side without cores never ends
    ax.plot(comp_cores[works], 1.0 / rate[works], label=f"{c_total}", **look)


def _measured(ax: Axes, points: Sequence[CurvePoint]) -> None:
    if not points:
        return
    x = [p.total_cores - p.comm_cores for p in points]
    y = [p.seconds for p in points]
    ends = [[p.seconds - p.low for p in points], [p.high - p.seconds for p in points]]
    ax.errorbar(x, y, yerr=ends, capsize=3, elinewidth=1, **_POINT)
