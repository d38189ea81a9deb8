"""Gaps to the proven bound: over two swept fields, and over the replications of noisy work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from kdsim._types import Record, RecordView
from kdsim.errors import PlotError
from kdsim.plots.labels import axis_positions, field_label, point_label, value_label
from kdsim.plots.lines import marks_in, rows_of
from kdsim.plots.panels import MAX_PANELS
from kdsim.plots.style import (
    INK,
    MUTED,
    PAPER,
    PolicyStyle,
    add_legend,
    add_marks,
    new_axes,
    new_panels,
    policy_style,
    title,
)
from kdsim.results.comparison import marks_of
from kdsim.results.gaps import NO_GAP

if TYPE_CHECKING:
    import pandas as pd

    from kdsim.results.comparison import Sample

#: Cells of a heat map that still have room for their number.
_NUMBERED_CELLS = 150
#: Steps of a distribution function; more cannot be distinguished in print.
_STEPS = 1000

_Cells = dict[tuple[int, int], RecordView]


def gap_heatmap(
    frame: pd.DataFrame,
    x: str,
    y: str,
    policy: str,
    ax: Axes | None = None,
    *,
    top: float | None = None,
    places: tuple[Sequence[Any], Sequence[Any]] | None = None,
) -> Axes:
    """Draw the mean gap of one policy to the proven bound over two swept fields.

    Parameters
    ----------
    frame : DataFrame
        One row per policy and point, as of `Comparison.frame`.
    x, y : str
        Columns of the two swept fields.
    top : float, optional
        Gap at which the colour scale ends (a share, e.g. 0.1), for maps to be compared; the
        largest gap by default.
    places : (sequence, sequence), optional
        Values of `x` and of `y` that have a place, with or without a row; those of the rows by
        default.

    Returns
    -------
    Axes
        Gaps in percent; below each, where replications differ, half the 95 % confidence interval
        of the mean gap. Missing points are hatched.

    Raises
    ------
    PlotError
        If a column or the policy is missing, or several rows share a cell.
    """
    needed = [x, y, "gap_mean", "gap_ci_low", "gap_ci_high"]
    known_rows = rows_of(frame, needed) if len(frame) or places is None else []
    rows = [row for row in known_rows if row["policy"] == policy]
    if not rows and places is None:
        known = ", ".join(dict.fromkeys(row["policy"] for row in known_rows))
        raise PlotError(f"no row is of policy {policy}; there are {known}")
    values = places or ([row[x] for row in rows], [row[y] for row in rows])
    xs, ys = (axis_positions(every)[0] for every in values)
    cells: _Cells = {}
    for row in rows:
        cell = (ys.index(row[y]), xs.index(row[x]))
        if cell in cells:
            raise PlotError(
                f"several rows are of {policy} at {x} = {row[x]}, {y} = {row[y]}: "
                "select one value of every other swept field first"
            )
        cells[cell] = row
    width, height = 2.6 + 0.75 * len(xs), 1.6 + 0.55 * len(ys)
    own = ax is None
    ax = new_axes(ax, min(max(width, 4.8), 12.0), min(max(height, 2.8), 9.0))
    _heat(ax, cells, len(xs), len(ys), top)
    ax.set_xticks(range(len(xs)), [value_label(v) for v in xs])
    ax.set_yticks(range(len(ys)), [value_label(v) for v in ys])
    ax.set_xlabel(field_label(x), color=INK)
    ax.set_ylabel(field_label(y), color=INK)
    exact = {row["bound_kind"] for row in rows} == {"optimum"}
    title(ax, f"{policy}: mean gap to the {'optimum' if exact else 'lower bound'}")
    add_marks([ax], marks_in(rows), own=own)
    return ax


def _heat(ax: Axes, cells: _Cells, columns: int, rows: int, top: float | None) -> None:
    gaps = np.full((rows, columns), np.nan)
    for cell, row in cells.items():
        gaps[cell] = 0.0 if abs(row["gap_mean"]) < NO_GAP else 100.0 * row["gap_mean"]
    ax.grid(False)
    # Visible where a cell is missing.
    hatch: Record = {"facecolor": PAPER, "edgecolor": MUTED, "hatch": "////"}
    ax.add_patch(Rectangle((-0.5, -0.5), columns, rows, linewidth=0, zorder=0, **hatch))
    end = float(np.nanmax(gaps)) if top is None else 100.0 * top
    end = end if end > 0 else 1.0
    mesh = ax.pcolormesh(
        np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, np.ma.masked_invalid(gaps),
        cmap="Blues", vmin=0.0, vmax=end, edgecolors=PAPER, linewidth=1.0,
    )  # fmt: skip
    uncertain = False
    if gaps.size <= _NUMBERED_CELLS:
        for (j, i), row in cells.items():
            half = 50.0 * (row["gap_ci_high"] - row["gap_ci_low"])
            known = half > 100.0 * NO_GAP
            uncertain |= known
            words = f"{gaps[j, i]:.2f}" + (f"\n± {half:.2f}" if known else "")
            # Fixed colours: they stand on the cell, not on the paper.
            color = _readable_on(mesh.cmap(gaps[j, i] / end))
            look: Record = {"ha": "center", "va": "center", "fontsize": "small"}
            ax.text(i, j, words, color=color, linespacing=1.15, **look)
    figure: Any = ax.figure
    bar = figure.colorbar(mesh, ax=ax)
    bar.set_label("gap (%), ± its 95 % CI" if uncertain else "gap (%)", color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, labelcolor=INK)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(length=0)


def _readable_on(color: Any) -> str:
    """Return black or white, whichever contrasts more with an RGB colour (WCAG)."""
    linear = np.power(np.asarray(color[:3], dtype=float), 2.2)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return "#111111" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


# --- gaps under noise -----------------------------------------------------------------------------


def regret_distribution(
    samples: Sequence[Sample],
    ax: Axes | Sequence[Axes] | None = None,
    *,
    marks: Sequence[str] | None = None,
) -> Axes | list[Axes]:
    """Draw how the gaps of each policy are distributed over the replications.

    Parameters
    ----------
    samples : sequence of Sample
        Of one point or of several, a panel for each; of many points the first 12 (a note says so).
    ax : Axes or sequence of Axes, optional
        As many as there are points.
    marks : sequence of str, optional
        What is said below the figure; the samples' own marks by default.

    Returns
    -------
    Axes, or list of Axes
        Empirical distribution functions of the gap (%), each with its 95 % confidence band
        (Dvoretzky, Kiefer and Wolfowitz, with Massart's constant).

    Raises
    ------
    PlotError
        If there are no samples.
    """
    if not samples:
        raise PlotError("there is nothing to draw: no samples")
    points: dict[str, list[Sample]] = {}
    for sample in samples:
        points.setdefault(repr(sample.point), []).append(sample)
    shown = list(points.values())[:MAX_PANELS]
    names = list(dict.fromkeys(sample.policy for sample in samples))
    axes = new_panels(ax, len(shown), 6.0 if len(shown) == 1 else 5.0, 3.6)
    for panel, group in zip(axes, shown, strict=True):
        for sample in group:
            _distribution(panel, sample, policy_style(sample.policy, names))
        title(panel, ", ".join(point_label(field, v) for field, v in group[0].point.items()))
        panel.set_ylim(0.0, 1.03)
        bound = "optimum" if group[0].bound_kind == "optimum" else "lower bound"
        panel.set_xlabel(f"gap to the {bound} of the same replication (%)", color=INK)
        panel.set_ylabel("share of replications", color=INK)
    n = max(sample.makespans.size for sample in samples)
    handles: list[Any] = [_handle(name, policy_style(name, names)) for name in names]
    handles.append(Patch(facecolor=MUTED, alpha=0.25, label=f"95 % band, n = {n:,}"))
    note = [f"The first {MAX_PANELS} of {len(points):,} points."] * (len(points) > MAX_PANELS)
    said = marks_of(samples) if marks is None else marks
    add_legend(axes, handles, own=ax is None, marks=[*said, *note])
    return axes[0] if len(axes) == 1 else axes


def _handle(name: str, style: PolicyStyle) -> Line2D:
    look: Record = {"color": style.color, "linestyle": style.linestyle}
    look |= {"marker": style.marker, "markersize": style.size, "markeredgecolor": PAPER}
    return Line2D([], [], label=name, markeredgewidth=0.6, linewidth=1.5, **look)


def _distribution(ax: Axes, sample: Sample, style: PolicyStyle) -> None:
    gaps = np.sort(100.0 * sample.gaps)
    n = gaps.size
    index = np.unique(np.linspace(0, n - 1, min(n, _STEPS)).astype(int))
    x = np.concatenate([[gaps[0]], gaps[index]])
    y = np.concatenate([[0.0], (index + 1) / n])
    ax.step(
        x, y, where="post", color=style.color, linestyle=style.linestyle, linewidth=1.5,
        marker=style.marker, markevery=(0.06, 0.22), markersize=style.size,
        markeredgecolor=PAPER, markeredgewidth=0.6, label=sample.policy,
    )  # fmt: skip
    if sample.varies and n > 1:
        half = math.sqrt(math.log(2.0 / 0.05) / (2.0 * n))
        low, high = np.clip(y - half, 0.0, 1.0), np.clip(y + half, 0.0, 1.0)
        ax.fill_between(x, low, high, step="post", color=style.color, alpha=0.2, linewidth=0)
