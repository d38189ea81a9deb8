"""The map of where a policy matters: contours of its gap over two fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm

from kdsim._types import Record
from kdsim.plots.labels import field_label, is_log, setting
from kdsim.plots.style import INK, MUTED, PAPER, add_marks, new_panels, title

if TYPE_CHECKING:
    from kdsim.answers.policy_map import PolicyMap
    from kdsim.model.curves import FloatArray

#: Gaps in percent at which the shade changes; lines stand at 1, 5 and 10 %.
LEVELS = (0.0, 0.1, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_LINES = (1.0, 5.0, 10.0)
#: Values of an axis that each have their tick.
_TICKS = 12


def policy_map(made: PolicyMap, ax: Axes | Sequence[Axes] | None = None) -> list[Axes]:
    """Draw the gap of each policy over two fields, a panel per policy.

    Parameters
    ----------
    ax : Axes or sequence of Axes, optional
        As many as there are policies; a figure of its own by default.

    Returns
    -------
    list of Axes
        On one scale of shades; contour lines at 1, 5 and 10 %.
    """
    axes = new_panels(ax, len(made.gaps), 4.6, 3.8, columns=3)
    norm = BoundaryNorm(LEVELS, 256, extend="max")
    shades: Any = None
    for panel, (name, gaps) in zip(axes, made.gaps.items(), strict=True):
        shades = _draw(panel, made, np.clip(100.0 * gaps, 0.0, None), norm)
        title(panel, name)
    figure: Any = axes[0].figure
    bar = figure.colorbar(shades, ax=axes, ticks=LEVELS)
    bar.set_label(f"gap to the {made.bound_kind} (%)", color=INK)
    bar.outline.set_edgecolor(PAPER)
    bar.ax.tick_params(colors=MUTED, labelcolor=INK)
    where = setting(made.scenario, [made.x_field, made.y_field])
    figure.suptitle(f"{made.scenario.name}: where the policy matters\n{where}", parse_math=False)
    add_marks(axes, list(made.scenario.marks()))
    return axes


def draw_gaps(
    ax: Axes, x: FloatArray, y: FloatArray, percent: FloatArray, norm: BoundaryNorm
) -> Any:
    """Draw gaps over two fields: shades, and contour lines at 1, 5 and 10 %.

    Parameters
    ----------
    x, y : (nx,), (ny,) float array
    percent : (ny, nx) float array
    norm : BoundaryNorm
        Of `LEVELS`.

    Returns
    -------
    QuadMesh
        For a colour bar.
    """
    shades = ax.pcolormesh(x, y, percent, norm=norm, cmap="Blues", shading="nearest")
    levels = [level for level in _LINES if percent.min() < level < percent.max()]
    if levels and min(percent.shape) > 1:
        lines = ax.contour(x, y, percent, levels=levels, colors=INK, linewidths=0.9)
        ax.clabel(lines, fmt="%g %%", fontsize="small")
    ax.grid(visible=False)
    return shades


def _draw(ax: Axes, made: PolicyMap, percent: FloatArray, norm: BoundaryNorm) -> Any:
    shades = draw_gaps(ax, made.x, made.y, percent, norm)
    for name, values, axis in ((made.x_field, made.x, "x"), (made.y_field, made.y, "y")):
        if is_log(values.tolist(), made.scenario.sweep.get(name)):
            getattr(ax, f"set_{axis}scale")("log")
        elif len(values) <= _TICKS:
            getattr(ax, f"set_{axis}ticks")(values)
        getattr(ax, f"set_{axis}label")(_label(name), color=INK)
    look: Record = {"color": "#b8450b", "lw": 1.0, "ls": (0, (3, 2))}
    words: Record = {"color": "#b8450b", "fontsize": "small"}
    for mark in made.marks:
        if mark.x is not None and mark.y is not None:
            ax.plot(mark.x, mark.y, marker="D", ms=5, color="#b8450b", mec=PAPER)
            ax.annotate(
                mark.name, (mark.x, mark.y), xytext=(5, 4), textcoords="offset points", **words
            )
        elif mark.x is not None:
            ax.axvline(mark.x, **look)
            ax.annotate(
                mark.name, (mark.x, 0.02), xycoords=("data", "axes fraction"), rotation=90,
                xytext=(-9, 0), textcoords="offset points", **words,
            )  # fmt: skip
        elif mark.y is not None:
            ax.axhline(mark.y, **look)
            ax.annotate(
                mark.name, (0.02, mark.y), xycoords=("axes fraction", "data"), xytext=(0, 3),
                textcoords="offset points", **words,
            )  # fmt: skip
    return shades


def _label(field: str) -> str:
    if field == "workload.ratio":
        return "data per compute (times the scenario's)"
    return field_label(field)
