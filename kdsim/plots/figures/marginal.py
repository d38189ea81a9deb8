"""What one more core is worth: seconds saved per extra core, from one core count to the next."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.axes import Axes

from kdsim._types import Record
from kdsim.errors import PlotError
from kdsim.plots.labels import axis_positions, field_label, setting
from kdsim.plots.lines import draw_line, interval_handle, policy_handle
from kdsim.plots.panels import Panel, default_axis, fitting, panels_of, varying_fields
from kdsim.plots.style import (
    INK,
    MUTED,
    WARNING,
    add_legend,
    new_panels,
    policy_style,
    title,
)
from kdsim.results.intervals import Interval, paired_difference

if TYPE_CHECKING:
    from kdsim.results.comparison import Comparison, Sample


class Saving(NamedTuple):
    """Seconds saved per extra unit of a field, from one of its values to the next larger one.

    Attributes
    ----------
    policy : str
        Name of the policy; ``"bound"`` for the proven bound.
    low, high : float
        The two values of the field.
    saved : Interval
        Mean over replications, with its 95 % confidence interval; negative where more is slower.
    """

    policy: str
    low: float
    high: float
    saved: Interval


def savings(panel: Panel) -> list[Saving]:
    """Return what each policy, and the bound, saves from one value of a field to the next.

    Returns
    -------
    list of Saving
        By policy; replications are paired, since they meet the same draws and noise.
    """
    values, places, _ = axis_positions(list(panel.groups))
    found: dict[str, list[Saving]] = {}
    for low, high in itertools.pairwise(values):
        step = places[high] - places[low]
        before = {sample.policy: sample for sample in panel.groups[low]}
        for sample in panel.groups[high]:
            if sample.policy in before:
                saved = _saved(before[sample.policy], sample, step)
                mine = Saving(sample.policy, places[low], places[high], saved)
                found.setdefault(sample.policy, []).append(mine)
        both = [group[0] for group in (panel.groups[low], panel.groups[high]) if group]
        if len(both) == 2:
            gain = (both[0].bounds.mean() - both[1].bounds.mean()) / step
            exact = Interval(gain, gain, gain, 1, 0.95, "exact", 0.0)
            found.setdefault("bound", []).append(Saving("bound", places[low], places[high], exact))
    return [saving for mine in found.values() for saving in mine]


def _saved(before: Sample, after: Sample, step: float) -> Interval:
    varies = before.varies or after.varies
    pairs = min(before.makespans.size, after.makespans.size)
    return paired_difference(
        before.makespans[:pairs] / step, after.makespans[:pairs] / step, deterministic=not varies
    )


def marginal(
    cmp: Comparison, ax: Axes | Sequence[Axes] | None = None, *, x: str | None = None
) -> Axes | list[Axes]:
    """Draw the seconds saved per extra core, or per extra unit of another swept field.

    Parameters
    ----------
    ax : Axes or sequence of Axes, optional
        As many as there are panels; a figure of its own by default.
    x : str, optional
        The swept field; the core count, or else the first with several numbers, by default.

    Returns
    -------
    Axes, or list of Axes
        One for each mix of the other fields. A mark stands at the larger of the two values.

    Raises
    ------
    PlotError
        If no field with several numbers was swept.
    """
    if not cmp.samples:
        raise PlotError("there is nothing to draw: no samples")
    points = [sample.point for sample in cmp.samples]
    reason = no_steps(cmp, x)
    if reason:
        raise PlotError(f"{reason} (swept: {', '.join(points[0]) or 'no fields'})")
    x = x or default_axis(_numeric(cmp))
    panels, note = fitting(panels_of(cmp, x))
    unit = "core" if x == "device.cores" else field_label(x).partition(" (")[0]
    axes = new_panels(ax, len(panels), 6.6, 4.1)
    names = cmp.policies
    for at, panel in zip(axes, panels, strict=True):
        _panel(at, panel, names)
        at.set_ylabel(f"seconds saved per extra {unit}", color=INK)
        at.set_xlabel(field_label(x), color=INK)
        fixed = setting(cmp.scenario, points[0])
        title(at, ", ".join(filter(None, [cmp.scenario.name, panel.title])), fixed)
    handles: list[Any] = [policy_handle(n, policy_style(n, names), line=True) for n in names]
    if any(sample.varies for sample in cmp.samples):
        handles.append(interval_handle())
    add_legend(axes, handles, own=ax is None, marks=[*cmp.marks, *note])
    return axes[0] if len(axes) == 1 else axes


def no_steps(cmp: Comparison, x: str | None = None) -> str:
    """Say why a design has no steps from one value of a field to the next; empty if it has."""
    x = x or default_axis(_numeric(cmp))
    panels = panels_of(cmp, x or None)
    numeric = axis_positions(list(panels[0].groups))[2]
    if x and numeric and not panels[0].scattered:
        return ""
    return "seconds saved per extra core need a field swept over several numbers, all else equal"


def _numeric(cmp: Comparison) -> list[str]:
    points = [sample.point for sample in cmp.samples]
    return [f for f in varying_fields(points) if axis_positions([p[f] for p in points])[2]]


def _panel(ax: Axes, panel: Panel, names: Sequence[str]) -> None:
    found = savings(panel)
    for name in names:
        mine = [saving for saving in found if saving.policy == name]
        intervals = [saving.saved for saving in mine]
        draw_line(
            ax,
            [saving.high for saving in mine],
            [interval.mean for interval in intervals],
            [interval.low for interval in intervals],
            [interval.high for interval in intervals],
            policy_style(name, names),
            label=name,
        )
    ax.axhline(0.0, color=MUTED, linewidth=0.8)
    values, places, _ = axis_positions(list(panel.groups))
    if 2 <= len(values) <= 13:
        steps = itertools.pairwise(values)
        labels = [f"{low:g} to {high:g}" for low, high in steps]
        ax.set_xticks([places[value] for value in values[1:]], labels)
    if not found:
        ax.set(xlim=(places[values[0]], places[values[-1]]), yticks=[])
        words = "no two neighbouring values are finished"
        look: Record = {"color": WARNING, "ha": "center", "va": "bottom"}
        ax.text(0.5, 0.55, words, transform=ax.transAxes, **look)
