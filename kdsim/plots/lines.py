"""Policies as lines over a swept field, with the proven bound; and the marks of their legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from kdsim._types import Record, RecordView
from kdsim.errors import PlotError
from kdsim.plots.labels import apart, axis_positions, field_label, is_log, value_label
from kdsim.plots.style import (
    INK,
    MUTED,
    PAPER,
    PolicyStyle,
    add_legend,
    new_axes,
    policy_style,
)

if TYPE_CHECKING:
    import pandas as pd

#: Broad and below the policies' lines: a policy on the bound stays visible on top of it.
BOUND_LINE: Record = {
    "color": MUTED, "alpha": 0.4, "linewidth": 6.0, "solid_capstyle": "round", "zorder": 1.5,
}  # fmt: skip
#: Values on the axis from which on marks would run together, and intervals become bands.
MANY = 25
#: Values up to which each is a tick of its own.
_TICKED = 12


def draw_line(
    ax: Axes,
    x: Sequence[float],
    mean: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    style: PolicyStyle,
    *,
    label: str,
    connected: bool = True,
) -> None:
    """Draw one policy: a line through its means (or none), marks, their confidence intervals."""
    line, down, up = (np.asarray(v, dtype=float) for v in (mean, low, high))
    many = connected and len(x) > MANY
    ax.plot(
        x,
        line,
        color=style.color,
        linestyle=style.linestyle if connected else "none",
        linewidth=1.5,
        marker=style.marker,
        markevery=max(1, len(x) // 15) if many else 1,
        markersize=style.size,
        markeredgecolor=PAPER,
        markeredgewidth=0.6,
        label=label,
        zorder=3,
    )
    known = np.isfinite(down) & np.isfinite(up) & (up > down)
    if not known.any():
        return
    if many:
        ax.fill_between(x, down, up, color=style.color, alpha=0.25, linewidth=0, zorder=2)
    else:
        at = np.asarray(x, dtype=float)[known]
        ends = np.vstack([line - down, up - line])[:, known]
        ax.errorbar(
            at,
            line[known],
            yerr=ends,
            linestyle="none",
            color=INK if connected else style.color,
            capsize=2.5,
            linewidth=1.0,
            zorder=4 if connected else 2,
        )


def sweep_lines(
    frame: pd.DataFrame, x: str, ax: Axes | None = None, *, policies: Sequence[str] | None = None
) -> Axes:
    """Draw the mean makespan of each policy against a swept field, with the proven bound.

    Parameters
    ----------
    frame : DataFrame
        One row per policy and value of `x`, as of `Comparison.frame`.
    x : str
        Column of the swept field.

    Returns
    -------
    Axes
        Makespan in seconds, with 95 % confidence intervals.

    Raises
    ------
    PlotError
        If a column is missing, or several rows share a policy and a value of `x`.
    """
    rows = rows_of(frame, [x])
    names = list(dict.fromkeys(row["policy"] for row in rows))
    chosen = names if policies is None else list(policies)
    rows = [row for row in rows if row["policy"] in chosen]
    if not rows:
        raise PlotError(f"no row is of policy {', '.join(chosen)}; there are {', '.join(names)}")
    seen: set[tuple[str, Any]] = set()
    for row in rows:
        if (row["policy"], row[x]) in seen:
            raise PlotError(
                f"several rows are of {row['policy']} at {x} = {row[x]}: "
                "select one value of every other swept field first"
            )
        seen.add((row["policy"], row[x]))
    own = ax is None
    ax = new_axes(ax, 6.6, 4.2)
    values, positions, numeric = axis_positions([row[x] for row in rows])
    for name in dict.fromkeys(row["policy"] for row in rows):
        mine = sorted((r for r in rows if r["policy"] == name), key=lambda r: positions[r[x]])
        at = [positions[r[x]] for r in mine]
        mean, low, high = ([r[column] for r in mine] for column in ("mean", "ci_low", "ci_high"))
        draw_line(ax, at, mean, low, high, policy_style(name, names), label=name)
    bounds = {row[x]: float(row["bound"]) for row in rows}
    at = [positions[v] for v in values]
    ax.plot(at, [bounds[v] for v in values], label="bound", **BOUND_LINE)
    name_axis(ax, x, values, at, numeric, log=is_log(values))
    ax.set_ylabel("makespan (s)", color=INK)
    kinds = {row["bound_kind"] for row in rows}
    handles: list[Any] = [
        policy_handle(n, policy_style(n, names), line=True) for n in names if n in chosen
    ]
    handles += [bound_handle(kinds, line=True)]
    if any(row["ci_high"] > row["ci_low"] for row in rows):
        handles += [interval_handle(band=len(values) > MANY)]
    add_legend([ax], handles, own=own, marks=marks_in(rows))
    return ax


def marks_in(rows: Iterable[RecordView]) -> list[str]:
    """Return the marks of a comparison's rows, each once."""
    cells = [str(row.get("marks") or "") for row in rows]
    return list(dict.fromkeys(mark for cell in cells for mark in cell.split("; ") if mark))


def rows_of(frame: Any, fields: Sequence[str]) -> list[RecordView]:
    """Return the rows of a comparison's table, having checked that it has all columns needed."""
    columns = list(frame.columns)
    needed = [*fields, "policy", "mean", "ci_low", "ci_high", "bound", "bound_kind"]
    missing = [name for name in needed if name not in columns]
    if missing:
        raise PlotError(f"the table has no column {missing[0]!r}; there are {', '.join(columns)}")
    rows: list[RecordView] = frame.to_dict("records")
    if not rows:
        raise PlotError("there is nothing to draw: the table has no rows")
    return rows


def name_axis(
    ax: Axes,
    field: str,
    values: Sequence[Any],
    at: Sequence[float],
    numeric: bool,
    *,
    log: bool = False,
) -> None:
    """Label the axis of a swept field; its values as ticks, where they are few or text.

    Parameters
    ----------
    values, at : sequence
        The values in ascending order, and where they stand.
    """
    if log:
        ax.set_xscale("log")
    if not numeric or len(values) <= _TICKED:
        figure: Any = ax.figure
        room = 11.0 * figure.get_figwidth() * ax.get_position().width
        labels = [value_label(v) for v in values]
        even = np.log(at) if log else np.asarray(at, dtype=float)
        kept = apart(even.tolist(), labels, room)
        ax.set_xticks([at[k] for k in kept], [labels[k] for k in kept])
        ax.set_xticks([], minor=True)
    ax.set_xlabel(field_label(field), color=INK)


# --- the legend -----------------------------------------------------------------------------------


def policy_handle(name: str, style: PolicyStyle, *, line: bool) -> Line2D:
    """Make the legend's entry of a policy, as a mark or as a line."""
    return Line2D(
        [],
        [],
        color=style.color,
        linestyle=style.linestyle if line else "none",
        linewidth=1.5,
        marker=style.marker,
        markersize=style.size,
        markeredgecolor=PAPER,
        markeredgewidth=0.6,
        label=name,
    )


def bound_handle(kinds: set[str], *, line: bool) -> Line2D:
    """Make the legend's entry of the bound: an optimum only where every one of them is exact."""
    words = "optimum (proven)" if kinds == {"optimum"} else "lower bound (proven)"
    look: Record = BOUND_LINE if line else {"color": INK, "linewidth": 1.2}
    return Line2D([], [], label=words, **look)


def interval_handle(*, band: bool = False) -> Line2D | Patch:
    """Make the legend's entry of the confidence intervals."""
    words = "95 % CI of the mean"
    if band:
        return Patch(facecolor=MUTED, alpha=0.25, label=words)
    return Line2D([], [], color=INK, linestyle="none", marker="|", markersize=9, label=words)
