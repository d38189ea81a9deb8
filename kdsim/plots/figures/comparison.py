"""Policies against a swept field: side by side (the paper's fig. 5), or as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from kdsim._types import Record
from kdsim.errors import PlotError
from kdsim.plots.curve_band import CurveBands
from kdsim.plots.labels import (
    axis_positions,
    field_label,
    is_log,
    setting,
    value_label,
)
from kdsim.plots.lines import (
    BOUND_LINE,
    MANY,
    bound_handle,
    draw_line,
    interval_handle,
    name_axis,
    policy_handle,
)
from kdsim.plots.panels import CROWDED, Panel, fitting, panels_of
from kdsim.plots.style import (
    INK,
    MUTED,
    PAPER,
    WARNING,
    PolicyStyle,
    add_legend,
    new_panels,
    policy_style,
    title,
)
from kdsim.results.intervals import Interval, mean_interval

if TYPE_CHECKING:
    from kdsim.model.curves import FloatArray
    from kdsim.results.comparison import Comparison, MissingRun, Sample
    from kdsim.scenario.study import Scenario

Value = Literal["makespan", "gap"]
Form = Literal["groups", "lines", "scatter"]

#: Replications from which on their spread is drawn as a shape, not as single points.
_SHAPE_FROM = 20
#: Order statistics that stand for a larger sample when its shape is estimated.
_SHAPE_POINTS = 2000
#: Runs without a result, at the foot of the figure: status -> marker.
MISSING_MARKS = {"failed": "x", "pending": "$?$"}


def comparison(
    cmp: Comparison,
    ax: Axes | Sequence[Axes] | None = None,
    *,
    value: Value = "makespan",
    x: str | None = None,
    lines: bool = False,
    notes: Sequence[str] = (),
) -> Axes | list[Axes]:
    """Draw policies side by side for each swept core count, the paper's fig. 5.

    A mark is a mean with its 95 % confidence interval; where replications differ, the shape (or
    single points) behind it shows all of them and the thin line their 5 to 95 % range. A light band
    holds 95 % of the draws of the curves, where the comparison has them. The proven
    bound is the line across each group. Runs that failed or are pending are marked at the foot.

    Parameters
    ----------
    ax : Axes or sequence of Axes, optional
        As many as there are panels; a figure of its own by default.
    value : {"makespan", "gap"}
        Makespan in seconds, or its gap to the bound of the same replication in percent.
    x : str, optional
        The swept field along the axis; the core count, or else the first one, by default.
    lines : bool
        Join the means of each policy by lines, as is done for many values anyway.
    notes : sequence of str
        What else has to be said below the figure.

    Returns
    -------
    Axes, or list of Axes
        One for each value of a second swept field, the first 12 of many (a note says so); a single
        one as such.

    Raises
    ------
    PlotError
        If there is nothing to draw, or it does not fit in the Axes given.
    """
    if value not in ("makespan", "gap"):
        raise PlotError(f"value must be 'makespan' or 'gap', got {value!r}")
    panels, note = fitting(panels_of(cmp, x))
    names = cmp.policies
    groups = max(len(panel.groups) for panel in panels)
    form = _form(panels, lines=lines)
    bands = CurveBands(cmp, value)
    slots = groups * (len(names) + 1.5)
    width = min(max(1.2 + 0.22 * slots, 5.2), 9.0 if len(panels) == 1 else 6.4)
    axes = new_panels(ax, len(panels), width if form == "groups" else 6.6, 4.1)
    for panel, at in zip(panels, axes, strict=True):
        if form == "groups":
            _groups(at, panel, names, value, bands)
        else:
            _lines(at, panel, names, value, cmp.scenario, bands)
        at.set_ylabel("makespan (s)" if value == "makespan" else "gap (%)", color=INK)
        if value == "gap":
            at.set_ylim(bottom=min(0.0, at.get_ylim()[0]))
        _make_room(at, panel, stacked=form != "groups")
    _name(axes, panels, cmp.scenario, own=ax is None)
    handles = _handles(cmp, names, value, form, bands=form == "lines" and groups > MANY)
    handles += bands.handles() if form != "scatter" else []
    add_legend(axes, handles, own=ax is None, marks=[*cmp.marks, *notes, *note])
    return axes[0] if len(axes) == 1 else axes


def _name(axes: Sequence[Axes], panels: Sequence[Panel], scenario: Scenario, *, own: bool) -> None:
    """Put titles over the panels: the scenario, what is fixed, what differs between them."""
    fixed = setting(scenario, panels[0].groups and _varying(panels))
    if len(panels) == 1:
        heading = ", ".join(filter(None, [scenario.name, panels[0].title]))
        title(axes[0], heading, fixed)
        return
    for panel, at in zip(panels, axes, strict=True):
        title(at, panel.title)
    if own:
        look: Record = {"color": INK, "fontweight": "bold", "parse_math": False}
        axes[0].figure.suptitle(f"{scenario.name}: {fixed}", **look)


def _varying(panels: Sequence[Panel]) -> list[str]:
    samples = (sample for panel in panels for group in panel.groups.values() for sample in group)
    return list(next(samples).point)


def _form(panels: Sequence[Panel], *, lines: bool) -> Form:
    if panels[0].scattered:
        return "scatter"
    crowded = lines or max(len(panel.groups) for panel in panels) >= CROWDED
    return "lines" if crowded and panels[0].field else "groups"


def values_of(sample: Sample, value: Value) -> FloatArray:
    """Return what is drawn of a sample, (n,) array: seconds, or percent above the bound."""
    return sample.makespans if value == "makespan" else 100.0 * sample.gaps


# --- marks side by side -----------------------------------------------------------------------


def _groups(ax: Axes, panel: Panel, names: list[str], value: Value, bands: CurveBands) -> None:
    slot = 0.8 / len(names)
    for center, samples in enumerate(panel.groups.values()):
        for sample in samples:
            offset = _offset(sample.policy, names, slot)
            style = policy_style(sample.policy, names)
            bands.box(ax, center + offset, 0.9 * slot, sample, style)
            _mark(ax, center + offset, 0.9 * slot, sample, style, value)
        if samples:
            _bound(ax, center, samples[0].bounds if value == "makespan" else np.zeros(1))
    ax.set_xticks(range(len(panel.groups)), [value_label(v) for v in panel.groups])
    ax.set_xlim(-0.55, len(panel.groups) - 0.45)
    ax.tick_params(axis="x", length=0)
    if panel.field:
        ax.set_xlabel(field_label(panel.field), color=INK)
    for center, at in enumerate(panel.groups):
        for run in panel.missing.get(at, []):
            _missing(ax, center + _offset(run.policy, names, slot), run, names)


def _offset(policy: str, names: list[str], slot: float) -> float:
    return (names.index(policy) - (len(names) - 1) / 2) * slot


#: Height of a mark at the foot of a figure, as a share of the axes.
_FOOT = 0.06


def _make_room(ax: Axes, panel: Panel, *, stacked: bool) -> None:
    """Lower the axis so that marks at the foot stand below all values."""
    most = max((len(runs) for runs in panel.missing.values()), default=0)
    if most:
        low, high = ax.get_ylim()
        foot = _FOOT * (most if stacked else 1)
        ax.set_ylim(bottom=low - foot / (1.0 - foot) * (high - low))


def _missing(ax: Axes, x: float, run: MissingRun, names: list[str], level: int = 0) -> None:
    """Mark a run without a result at the foot of the figure, in its policy's colour."""
    style = policy_style(run.policy, names)
    ax.plot(
        x, _FOOT * (level + 0.5), linestyle="none", marker=MISSING_MARKS[run.status], markersize=7,
        color=style.color, markeredgewidth=2.0 if run.error else 0.6, clip_on=False, zorder=5,
        transform=ax.get_xaxis_transform(), label=f"{run.policy} {run.status}",
    )  # fmt: skip


def _bound(ax: Axes, center: float, bounds: FloatArray) -> None:
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


def _spread(ax: Axes, x: float, width: float, values: FloatArray, style: PolicyStyle) -> None:
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
        # Without an interval the mark stays open: one run of a random quantity gives no mean.
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


def _lines(
    ax: Axes, panel: Panel, names: list[str], value: Value, scenario: Scenario, bands: CurveBands
) -> None:
    values, positions, numeric = axis_positions(list(panel.groups))
    for at in values:
        for level, run in enumerate(panel.missing.get(at, [])):
            _missing(ax, positions[at], run, names, level)
    for name in names:
        mine = [(positions[v], s) for v in values for s in panel.groups[v] if s.policy == name]
        if not panel.scattered:
            bands.along(ax, mine, policy_style(name, names))
        found = [
            (x, mean_interval(values_of(s, value), deterministic=not s.varies)) for x, s in mine
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
    mark: Record = {"color": INK, "linestyle": "none", "marker": "_", "markersize": 9}
    look = mark if panel.scattered else BOUND_LINE
    ax.plot(*zip(*bounds, strict=True), **look)
    log = is_log(values, scenario.sweep.get(panel.field))
    name_axis(ax, panel.field, values, [positions[v] for v in values], numeric, log=log)


# --- the legend -----------------------------------------------------------------------------------


def _handles(
    cmp: Comparison, names: list[str], value: Value, form: Form, *, bands: bool
) -> list[Any]:
    samples, line = cmp.samples, form == "lines"
    handles: list[Any] = [policy_handle(n, policy_style(n, names), line=line) for n in names]
    handles.append(bound_handle({sample.bound_kind for sample in samples}, line=line))
    if form == "groups" and value == "makespan" and any(s.bounds.size > 1 for s in samples):
        handles[-1].set_label(f"{handles[-1].get_label()}: mean; dotted 5–95 %")
    varied = [s for s in samples if s.varies and s.makespans.size > 1]
    if varied:
        handles.append(interval_handle(band=bands))
        if form == "groups":
            handles.append(_spread_handle(max(s.makespans.size for s in varied)))
    marks: Mapping[str, str] = {run.status: MISSING_MARKS[run.status] for run in cmp.missing}
    look: Record = {"color": WARNING, "linestyle": "none", "markersize": 7}
    handles += [Line2D([], [], marker=mark, label=what, **look) for what, mark in marks.items()]
    return handles


def _spread_handle(n: int) -> Patch:
    words = f"{n:,} replications, line 5–95 %" if n >= _SHAPE_FROM else f"{n} replications"
    return Patch(facecolor=MUTED, alpha=0.35, label=words)
