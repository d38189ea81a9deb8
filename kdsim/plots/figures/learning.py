"""Learning curves: accuracy against simulated time, policy by policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from kdsim.plots.lines import BOUND_LINE, interval_handle, policy_handle
from kdsim.plots.style import INK, MUTED, PAPER, add_legend, new_panels, policy_style, title

if TYPE_CHECKING:
    from kdsim.results.learning import LearningCurve, LearningCurves

#: Accuracies of a curve from which on marks would run together.
_MANY = 25


def learning(
    curves: LearningCurves,
    ax: Axes | Sequence[Axes] | None = None,
    *,
    target: float | None = None,
) -> Axes | list[Axes]:
    """Draw the accuracy of real runs against simulated time, a panel for each profile.

    Parameters
    ----------
    ax : Axes or sequence of Axes, optional
        As many as there are profiles; a figure of its own by default.
    target : float, optional
        Accuracy in [0, 1] to mark; the highest that every profile reaches by default.

    Returns
    -------
    Axes, or list of Axes
        Accuracy in percent over seconds, with the 95 % confidence interval of the mean moment.

    Raises
    ------
    PlotError
        If the Axes given are not as many as the profiles.
    """
    target = curves.common_accuracy if target is None else target
    profiles = list(dict.fromkeys(curve.profile for curve in curves.curves))
    names = list(dict.fromkeys(curve.policy for curve in curves.curves))
    axes = new_panels(ax, len(profiles), 5.6 if len(profiles) > 1 else 6.8, 4.0, sharey=True)
    latest = max(float(curve.seconds.max()) for curve in curves.curves)
    for profile, at in zip(profiles, axes, strict=True):
        mine = [curve for curve in curves.curves if curve.profile == profile]
        for curve in mine:
            _draw(at, curve, names)
        bound = mine[0].bounds.mean(axis=0)
        at.plot(bound, 100.0 * mine[0].accuracies, **BOUND_LINE)
        at.axhline(100.0 * target, color=MUTED, linewidth=1.0, linestyle=(0, (1, 2)), zorder=1)
        at.set_xlim(0.0, 1.03 * latest)
        at.set_xlabel("simulated time (s)", color=INK)
        at.set_ylabel("test accuracy (%)", color=INK)
        heading = [curves.scenario.name, profile] if len(profiles) == 1 else [profile]
        title(at, ": ".join(heading))
    handles: list[Any] = [policy_handle(n, policy_style(n, names), line=True) for n in names]
    handles.append(Line2D([], [], label="earliest possible (proven)", **BOUND_LINE))
    handles.append(
        Line2D([], [], color=MUTED, linestyle=(0, (1, 2)), label=f"{100 * target:.1f} %")
    )
    if any(curve.at(-1).method == "t" for curve in curves.curves):
        handles.append(interval_handle())
    add_legend(axes, handles, own=ax is None, marks=curves.marks)
    if ax is None and len(profiles) > 1:
        axes[0].figure.suptitle(curves.scenario.name, color=INK, fontweight="bold")
    return axes[0] if len(axes) == 1 else axes


def _draw(ax: Axes, curve: LearningCurve, names: Sequence[str]) -> None:
    style = policy_style(curve.policy, names)
    moments = [curve.at(mark) for mark in range(curve.accuracies.size)]
    mean = np.array([moment.mean for moment in moments])
    percent = 100.0 * curve.accuracies
    ax.plot(
        mean,
        percent,
        color=style.color,
        linestyle=style.linestyle,
        linewidth=1.5,
        marker=style.marker,
        markevery=max(1, mean.size // 15) if mean.size > _MANY else 1,
        markersize=style.size,
        markeredgecolor=PAPER,
        markeredgewidth=0.6,
        zorder=3,
    )
    if any(moment.method == "t" for moment in moments):
        low, high = ([getattr(moment, end) for moment in moments] for end in ("low", "high"))
        ax.errorbar(
            mean,
            percent,
            xerr=[mean - low, high - mean],
            linestyle="none",
            color=INK,
            capsize=2.5,
            linewidth=1.0,
            zorder=4,
        )
