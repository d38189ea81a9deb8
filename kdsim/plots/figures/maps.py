"""Gaps of each policy over two fields of any design: a panel per policy and mix of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from kdsim._types import Record
from kdsim.errors import PlotError
from kdsim.plots.figures.gaps import gap_heatmap
from kdsim.plots.labels import field_label, is_log, point_label, setting
from kdsim.plots.panels import MAX_PANELS, default_axis, varying_fields
from kdsim.plots.style import INK, MUTED, PAPER, WARNING, add_marks, new_panels, title
from kdsim.results.comparison import MissingRun

if TYPE_CHECKING:
    from kdsim.results.comparison import Comparison, Sample


def gap_maps(cmp: Comparison, x: str | None = None, y: str | None = None) -> list[Axes]:
    """Draw the mean gap of every policy over two fields, whatever was swept.

    With one swept field the policies stand on the other axis. Of a sampled design, where no two
    points share a value, each point is a mark in the colour of its gap.

    Parameters
    ----------
    x, y : str, optional
        Swept fields; the first two that vary by default.

    Returns
    -------
    list of Axes
        All on one colour scale; the first 12 of many (a note says so).

    Raises
    ------
    PlotError
        If there are no samples, or a field was not swept.
    """
    if not cmp.samples:
        raise PlotError("there is nothing to draw: no samples")
    points = [run.point for run in cmp.runs]
    fields = list(points[0])
    for name in (x, y):
        if name is not None and name not in fields:
            raise PlotError(f"{name} was not swept; swept are: {', '.join(fields) or 'no fields'}")
    varying = varying_fields(points)
    x = x or default_axis([name for name in varying if name != y]) or default_axis(fields)
    y = y or next((name for name in varying if name != x), None)
    top = max(0.0, *(row["gap_mean"] for row in cmp.rows))
    if y is None:
        return [_by_policy(cmp, x, top)]
    return _by_fields(cmp, x, y, top)


def _by_policy(cmp: Comparison, x: str, top: float) -> Axes:
    """Draw policies against the only field that varies."""
    frame = cmp.frame.drop(columns="marks").assign(row=cmp.frame["policy"], policy="gap")
    points = [run.point for run in cmp.runs]
    places = ([point[x] for point in points] if x else ["the only point"], cmp.policies)
    if not x:
        x, frame = "point", frame.assign(point="the only point")
    ax = gap_heatmap(frame, x, "row", "gap", top=top, places=places)
    ax.set_ylabel("")
    if x == "point":
        ax.set_xlabel("")
    title(ax, f"{cmp.scenario.name}: mean gap to the proven bound", setting(cmp.scenario, [x]))
    add_marks([ax], cmp.marks)
    return ax


def _by_fields(cmp: Comparison, x: str, y: str, top: float) -> list[Axes]:
    items = cmp.runs
    rest = [name for name in items[0].point if name not in (x, y)]
    scattered = _is_scattered([item.point for item in items], x, y, rest)
    groups: dict[str, list[int]] = {}
    for k, item in enumerate(items):
        mix = "" if scattered else repr([item.point[name] for name in rest])
        groups.setdefault(f"{item.policy} {mix}", []).append(k)
    shown = list(groups.values())[:MAX_PANELS]
    axes = new_panels(None, len(shown), 6.0, 4.4)
    finished = len(cmp.samples)
    for ax, rows in zip(axes, shown, strict=True):
        first = items[rows[0]]
        if scattered:
            _scatter(ax, [items[k] for k in rows], x, y, top, cmp)
        else:
            part = cmp.frame.iloc[[k for k in rows if k < finished]]
            places = [items[k].point[x] for k in rows], [items[k].point[y] for k in rows]
            # Marks are said once, below the figure.
            part = part.drop(columns="marks")
            gap_heatmap(part, x, y, first.policy, ax, top=top, places=places)
        held = [] if scattered else [point_label(name, first.point[name]) for name in rest]
        title(ax, ", ".join([first.policy, *held]), setting(cmp.scenario, first.point))
    figure: Any = axes[0].figure
    look: Record = {"color": INK, "fontweight": "bold", "parse_math": False}
    figure.suptitle(f"{cmp.scenario.name}: mean gap to the proven bound", **look)
    more = f"The first {MAX_PANELS} of {len(groups):,} panels; choose with -p and --at."
    add_marks(axes, [*cmp.marks, *([more] if len(groups) > len(shown) else [])])
    return axes


def _is_scattered(every: Sequence[Record], x: str, y: str, rest: Sequence[str]) -> bool:
    """Return whether the points are a sample, in which cells would have one point each."""
    points = {repr(point): point for point in every}
    cells = {repr((p[x], p[y])) for p in points.values()}
    mixes = {repr([p[name] for name in rest]) for p in points.values()}
    columns = {repr(p[x]) for p in points.values()}
    return (len(mixes) > 1 and len(mixes) == len(points)) or len(columns) == len(cells) > MAX_PANELS


def _scatter(
    ax: Axes, items: Sequence[Sample | MissingRun], x: str, y: str, top: float, cmp: Comparison
) -> None:
    """Draw each point in the colour of its gap; one without a result is a cross."""
    gaps = []
    places = [[item.point[name] for item in items] for name in (x, y)]
    for item in items:
        if isinstance(item, MissingRun):
            gaps.append(np.nan)
            ax.plot(item.point[x], item.point[y], "x", color=WARNING, label=item.status)
        else:
            gaps.append(100.0 * float(item.gaps.mean()))
    marks = ax.scatter(
        places[0], places[1], c=gaps, cmap="Blues", vmin=0.0, vmax=100.0 * top or 1.0, s=36,
        edgecolors=MUTED, linewidths=0.6,
    )  # fmt: skip
    for name, values, axis in zip((x, y), places, ("x", "y"), strict=True):
        numeric = all(isinstance(v, int | float | np.number) for v in values)
        if numeric and is_log(values, cmp.scenario.sweep.get(name)):
            getattr(ax, f"set_{axis}scale")("log")
        getattr(ax, f"set_{axis}label")(field_label(name), color=INK)
    figure: Any = ax.figure
    bar = figure.colorbar(marks, ax=ax)
    bar.set_label("gap (%)", color=INK)
    bar.outline.set_edgecolor(PAPER)
    bar.ax.tick_params(colors=MUTED, labelcolor=INK)
