"""How a design becomes panels: one field along the axis, a panel for each mix of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as defaulting
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsim._types import RecordView
from kdsim.errors import PlotError
from kdsim.plots.labels import axis_positions, field_label, point_label

if TYPE_CHECKING:
    from kdsim.results.comparison import Comparison, MissingRun, Sample

#: From so many values of the swept field on, marks side by side give way to lines.
CROWDED = 13
#: Panels of one figure; more would be too small to read.
MAX_PANELS = 12


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
        Value of `field` -> samples, one per policy.
    scattered : bool
        The points are a sample of several fields: neighbours along the axis differ in the others
        too, no line may join them, and a value may have several samples of a policy.
    missing : dict
        Value of `field` -> runs without a result; a value that has no others is in `groups` too.
    """

    title: str
    field: str
    groups: dict[Any, list[Sample]]
    scattered: bool = False
    missing: dict[Any, list[MissingRun]] = defaulting(default_factory=dict)


def default_axis(fields: Sequence[str]) -> str:
    """Return the field that stands along the axis unless the user names one; empty if none."""
    return "device.cores" if "device.cores" in fields else next(iter(fields), "")


def varying_fields(points: Sequence[RecordView]) -> list[str]:
    """Return the swept fields that have more than one value among these points."""
    fields = list(points[0]) if points else []
    return [name for name in fields if len({repr(point[name]) for point in points}) > 1]


def panels_of(cmp: Comparison, x: str | None = None) -> list[Panel]:
    """Arrange a comparison in panels: one field along the axis, a panel for each other mix.

    Parameters
    ----------
    x : str, optional
        The field along the axis; the core count, or else the first swept field, by default.

    Returns
    -------
    list of Panel
        One, where at most one field is swept or all change in step.

    Raises
    ------
    PlotError
        If there are no samples, or `x` was not swept.
    """
    if not cmp.samples:
        raise PlotError("there is nothing to draw: no samples")
    items = cmp.runs
    fields = list(cmp.samples[0].point)
    if x is not None and x not in fields:
        swept = ", ".join(fields) or "no fields"
        raise PlotError(f"{x} was not swept; swept are: {swept}")
    if not fields:
        return [_panel("", "", items)]
    x = x or default_axis(varying_fields([item.point for item in items]) or fields)
    rest = [name for name in fields if name != x]
    values = {repr(item.point[x]) for item in items}
    points = list({repr(item.point): item.point for item in items}.values())
    others = " and ".join(field_label(name).partition(" (")[0] for name in rest)
    if not rest:
        return [_panel("", x, items)]
    if len(points) == len(values) and (len(points) < CROWDED or _monotone(points)):
        return [_panel(f"{others} in step" if len(points) > 1 else "", x, items)]
    if len(points) != math.prod(len({repr(point[f]) for point in points}) for f in fields):
        return [_panel(f"also varying: {others}", x, items, scattered=True)]
    mixes = {repr([item.point[f] for f in rest]): item.point for item in items}
    return [
        _panel(
            ", ".join(point_label(name, point[name]) for name in rest),
            x,
            [item for item in items if repr([item.point[f] for f in rest]) == mix],
        )
        for mix, point in mixes.items()
    ]


def fitting(panels: Sequence[Panel]) -> tuple[Sequence[Panel], list[str]]:
    """Return as many panels as one figure holds, and what has to be said about the others."""
    if len(panels) <= MAX_PANELS:
        return panels, []
    return panels[:MAX_PANELS], [
        f"The first {MAX_PANELS} of {len(panels):,} panels; the others can be chosen "
        "(kdsim plot --at FIELD=VALUE)."
    ]


def _monotone(points: Sequence[RecordView]) -> bool:
    """Return whether all fields rise or fall together, as in a zipped design."""
    columns = [[point[name] for point in points] for name in points[0]]
    if not all(axis_positions(column)[2] for column in columns):
        return False
    order = np.argsort(columns[0])
    steps = [np.diff(np.asarray(column, dtype=float)[order]) for column in columns]
    return all((step >= 0).all() or (step <= 0).all() for step in steps)


def _panel(
    heading: str, x: str, items: Sequence[Sample | MissingRun], *, scattered: bool = False
) -> Panel:
    from kdsim.results.comparison import MissingRun

    groups: dict[Any, list[Sample]] = {}
    missing: dict[Any, list[MissingRun]] = {}
    for item in items:
        value = item.point[x] if x else ""
        group = groups.setdefault(value, [])
        if isinstance(item, MissingRun):
            missing.setdefault(value, []).append(item)
        else:
            group.append(item)
    ordered, _, _ = axis_positions(list(groups))
    return Panel(heading, x, {value: groups[value] for value in ordered}, scattered, missing)
