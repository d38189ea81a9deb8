"""Policies against a swept field: side by side (the paper's fig. 5), or as lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from kdsim.errors import PlotError
from kdsim.plots.lines import (
    BOUND_LINE,
    MANY,
    bound_handle,
    draw_line,
    interval_handle,
    name_axis,
    policy_handle,
)
from kdsim.plots.style import (
    INK,
    MUTED,
    PAPER,
    PolicyStyle,
    add_legend,
    axis_positions,
    field_label,
    new_panels,
    point_label,
    policy_style,
    title,
    value_label,
)
from kdsim.results.intervals import Interval, mean_interval

if TYPE_CHECKING:
    from kdsim.results.comparison import Comparison, Sample

Value = Literal["makespan", "gap"]
Form = Literal["groups", "lines", "scatter"]

#: From so many values of the swept field on, marks side by side give way to lines.
CROWDED = 13
#: Panels of one figure; more would be too small to read.
MAX_PANELS = 12
#: Replications from which on their spread is drawn as a shape, not as single points.
_SHAPE_FROM = 20
#: Order statistics that stand for a larger sample when its shape is estimated.
_SHAPE_POINTS = 2000


@dataclass(frozen=True)
class Panel:
    """One panel of a comparison: samples by the value of the field along its axis.

    Attributes
    ----------
    title : str
        The fields held fixed, e.g. ``Comp : Comm work = 2:1``; empty for an only panel.
    field : str
        The swept field along the axis; empty without a sweep.
    groups : dict
        Value of `field` -> samples, one a policy.
    scattered : bool
        The points are a sample of several fields: neighbours along the axis differ in the others
        too, no line may join them, and a value may have several samples of a policy.
    """

    title: str
    field: str
    groups: dict[Any, list[Sample]]
    scattered: bool = False


def panels_of(samples: Sequence[Sample]) -> list[Panel]:
    """Arrange samples in panels: core counts along the axis, a panel for each other combination.

    Parameters
    ----------
    samples : sequence of Sample

    Returns
    -------
    list of Panel
        One, where at most one field is swept or all change in step.

    Raises
    ------
    PlotError
        If there are no samples, or too many panels.
    """
    if not samples:
        raise PlotError("there is nothing to draw: no samples")
    fields = list(samples[0].point)
    if not fields:
        return [Panel("", "", {"": list(samples)})]
    x = "device.cores" if "device.cores" in fields else fields[0]
    rest = [field for field in fields if field != x]
    values = list(dict.fromkeys(sample.point[x] for sample in samples))
    combinations = list(dict.fromkeys(tuple(s.point[f] for f in rest) for s in samples))
    points = list(dict.fromkeys(tuple(sample.point.items()) for sample in samples))
    if not rest:
        return [_panel("", x, samples)]
    others = " and ".join(field_label(field).partition(" (")[0] for field in rest)
    if len(points) == len(values) and (len(points) < CROWDED or _monotone(points)):
        return [_panel(f"{others} in step", x, samples)]
    if len(points) != math.prod(len({dict(p)[f] for p in points}) for f in fields):
        return [_panel(f"also varying: {others}", x, samples, scattered=True)]
    if len(combinations) > MAX_PANELS:
        raise PlotError(
            f"the sweep needs {len(combinations)} panels, more than {MAX_PANELS}: choose the "
            f"samples of fewer values of {', '.join(rest)}, or draw a gap_heatmap"
        )
    return [
        _panel(
            ", ".join(point_label(field, v) for field, v in zip(rest, fixed, strict=True)),
            x,
            [s for s in samples if tuple(s.point[field] for field in rest) == fixed],
        )
        for fixed in combinations
    ]


def _monotone(points: Sequence[tuple[tuple[str, Any], ...]]) -> bool:
    """Tell whether all fields rise or fall together, as in a zipped design."""
    columns = [[dict(point)[field] for point in points] for field, _ in points[0]]
    if not all(axis_positions(column)[2] for column in columns):
        return False
    order = np.argsort(columns[0])
    steps = [np.diff(np.asarray(column, dtype=float)[order]) for column in columns]
    return all((step >= 0).all() or (step <= 0).all() for step in steps)


def _panel(heading: str, x: str, samples: Sequence[Sample], *, scattered: bool = False) -> Panel:
    groups: dict[Any, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.point[x], []).append(sample)
    ordered, _, _ = axis_positions(list(groups))
    return Panel(heading, x, {value: groups[value] for value in ordered}, scattered)


def comparison(
    cmp: Comparison, ax: Axes | Sequence[Axes] | None = None, *, value: Value = "makespan"
) -> Any:
    """Draw policies side by side for each swept core count, the paper's fig. 5.

    A mark is a mean with its 95 % confidence interval; where replications differ, the shape (or
    single points) behind it shows all of them and the thin line their 5 to 95 % range. The proven
    bound is the line across each group.

    Parameters
    ----------
    cmp : Comparison
    ax : Axes or sequence of Axes, optional
        As many as there are panels; a figure of its own by default.
    value : {"makespan", "gap"}
        Makespan in seconds, or its gap to the bound of the same replication in percent.

    Returns
    -------
    Axes, or list of Axes
        One for each value of a second swept field; a single one as such.

    Raises
    ------
    PlotError
        If there is nothing to draw, or it does not fit in the Axes given.
    """
    if value not in ("makespan", "gap"):
        raise PlotError(f"value must be 'makespan' or 'gap', got {value!r}")
    panels = panels_of(cmp.samples)
    names = list(dict.fromkeys(sample.policy for sample in cmp.samples))
    groups = max(len(panel.groups) for panel in panels)
    form = _form(panels)
    slots = groups * (len(names) + 1.5)
    width = min(max(1.2 + 0.22 * slots, 5.2), 9.0 if len(panels) == 1 else 6.4)
    axes = new_panels(ax, len(panels), width if form == "groups" else 6.6, 3.9)
    for panel, at in zip(panels, axes, strict=True):
        (_groups if form == "groups" else _lines)(at, panel, names, value)
        at.set_ylabel("makespan (s)" if value == "makespan" else "gap (%)", color=INK)
        heading = [cmp.scenario.name] if len(panels) == 1 else []
        title(at, ", ".join([*heading, panel.title] if panel.title else heading))
    handles = _handles(cmp.samples, names, value, form, bands=form == "lines" and groups > MANY)
    add_legend(axes, handles, own=ax is None, marks=cmp.marks)
    if ax is None and len(panels) > 1:
        look: dict[str, Any] = {"color": INK, "fontweight": "bold", "parse_math": False}
        axes[0].figure.suptitle(cmp.scenario.name, **look)
    return axes[0] if len(axes) == 1 else axes


def _form(panels: Sequence[Panel]) -> Form:
    if panels[0].scattered:
        return "scatter"
    crowded = max(len(panel.groups) for panel in panels) >= CROWDED
    return "lines" if crowded and panels[0].field else "groups"


def values_of(sample: Sample, value: Value) -> Any:
    """Return what is drawn of a sample, (n,) array: seconds, or percent above the bound."""
    return sample.makespans if value == "makespan" else 100.0 * sample.gaps


# --- marks side by side -----------------------------------------------------------------------


def _groups(ax: Axes, panel: Panel, names: list[str], value: Value) -> None:
    slot = 0.8 / len(names)
    for center, samples in enumerate(panel.groups.values()):
        for sample in samples:
            offset = (names.index(sample.policy) - (len(names) - 1) / 2) * slot
            style = policy_style(sample.policy, names)
            _mark(ax, center + offset, 0.9 * slot, sample, style, value)
        _bound(ax, center, samples[0].bounds if value == "makespan" else np.zeros(1))
    ax.set_xticks(range(len(panel.groups)), [value_label(v) for v in panel.groups])
    ax.set_xlim(-0.55, len(panel.groups) - 0.45)
    ax.tick_params(axis="x", length=0)
    if panel.field:
        ax.set_xlabel(field_label(panel.field), color=INK)
    if value == "gap":
        ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))


def _bound(ax: Axes, center: float, bounds: Any) -> None:
    left, right = center - 0.45, center + 0.45
    low, high = np.quantile(bounds, [0.05, 0.95])
    if high > low:  # every replication has work, and so a bound, of its own
        ax.hlines([low, high], left, right, color=INK, linewidth=1.0, linestyle=":", zorder=2.5)
    ax.hlines(bounds.mean(), left, right, color=INK, linewidth=1.2, zorder=2.5)


def _mark(
    ax: Axes, x: float, width: float, sample: Sample, style: PolicyStyle, value: Value
) -> None:
    values = values_of(sample, value)
    interval = mean_interval(values, deterministic=not sample.varies)
    if interval.method == "t":
        _spread(ax, x, width, values, style)
    _mean(ax, x, interval, style, sample.policy)


def _spread(ax: Axes, x: float, width: float, values: Any, style: PolicyStyle) -> None:
    if values.size < _SHAPE_FROM:
        # Points beside one another in a fixed pattern: no randomness in a figure.
        jitter = (np.arange(values.size) * 0.618034 % 1.0 - 0.5) * 0.6 * width
        ax.scatter(x + jitter, values, s=5, color=style.color, alpha=0.6, linewidths=0, zorder=2)
        return
    if values.size > _SHAPE_POINTS:
        values = np.quantile(values, np.linspace(0.0, 1.0, _SHAPE_POINTS))
    bodies: Any = ax.violinplot(values, [x], widths=width, showextrema=False)["bodies"]
    for body in bodies:
        body.set(facecolor=style.color, edgecolor=style.color, alpha=0.35, linewidth=0.6, zorder=2)
    low, high = np.quantile(values, [0.05, 0.95])
    ax.vlines(x, low, high, color=style.color, linewidth=1.2, zorder=2.2)


def _mean(ax: Axes, x: float, interval: Interval, style: PolicyStyle, policy: str) -> None:
    ax.plot(
        x,
        interval.mean,
        linestyle="none",
        marker=style.marker,
        markersize=style.size,
        # Without an interval the mark stays open: one run of what may vary tells no mean.
        markerfacecolor=PAPER if interval.method == "none" else style.color,
        markeredgecolor=style.color if interval.method == "none" else PAPER,
        markeredgewidth=0.7,
        label=policy,
        zorder=3,
    )
    if interval.method == "t":
        ends = [[interval.mean - interval.low], [interval.high - interval.mean]]
        ax.errorbar(x, interval.mean, yerr=ends, color=INK, capsize=2.5, linewidth=1.0, zorder=4)


# --- lines ----------------------------------------------------------------------------------------


def _lines(ax: Axes, panel: Panel, names: list[str], value: Value) -> None:
    values, positions, numeric = axis_positions(list(panel.groups))
    for name in names:
        found = [
            (positions[v], mean_interval(values_of(s, value), deterministic=not s.varies))
            for v in values
            for s in panel.groups[v]
            if s.policy == name
        ]
        draw_line(
            ax,
            [x for x, _ in found],
            [i.mean for _, i in found],
            [i.low for _, i in found],
            [i.high for _, i in found],
            policy_style(name, names),
            label=name,
            connected=not panel.scattered,
        )
    bounds = {
        (positions[v], float(s.bounds.mean()) if value == "makespan" else 0.0): None
        for v in values
        for s in panel.groups[v]
    }
    mark: dict[str, Any] = {"color": INK, "linestyle": "none", "marker": "_", "markersize": 9}
    look = mark if panel.scattered else BOUND_LINE
    ax.plot(*zip(*bounds, strict=True), **look)
    at = [positions[v] for v in values]
    name_axis(ax, panel.field, values, at, numeric)


# --- the legend -----------------------------------------------------------------------------------


def _handles(
    samples: Sequence[Sample], names: list[str], value: Value, form: Form, *, bands: bool
) -> list[Any]:
    line = form == "lines"
    handles: list[Any] = [policy_handle(n, policy_style(n, names), line=line) for n in names]
    handles.append(bound_handle({sample.bound_kind for sample in samples}, line=line))
    if form == "groups" and value == "makespan" and any(s.bounds.size > 1 for s in samples):
        handles[-1].set_label(f"{handles[-1].get_label()}: mean; dotted 5–95 %")
    varied = [s for s in samples if s.varies and s.makespans.size > 1]
    if varied:
        handles.append(interval_handle(band=bands))
        if form == "groups":
            handles.append(_spread_handle(max(s.makespans.size for s in varied)))
    return handles


def _spread_handle(n: int) -> Patch:
    words = f"{n:,} replications, line 5–95 %" if n >= _SHAPE_FROM else f"{n} replications"
    return Patch(facecolor=MUTED, alpha=0.35, label=words)
