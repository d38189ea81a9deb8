"""Figures of a calibration: curves with what was measured, residuals, prediction against reality.

Every function takes axes and returns them; nothing is shown or saved here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from calibration.fit import Curve, Fit
from calibration.fit.models import COMPUTE
from kdsim.plots.style import BLUE, GREY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE = {"compute": (BLUE, "o"), "communication": (VERMILION, "s")}
_UNIT = {"compute": "batch", "communication": "MB"}


def plot_curve(fit: Fit, side: str, ax: Axes | None = None) -> Axes:
    """Draw a side's fitted time for a unit of work over the split, with every trial.

    Parameters
    ----------
    side : {"compute", "communication"}
    """
    ax = _axes(ax)
    curve: Curve = fit.compute if side == COMPUTE else fit.communication
    colour, marker = _STYLE[side]
    cores = np.flatnonzero(curve.rates > 0)
    scale = 1e3
    low, high = scale / curve.high[cores], scale / curve.low[cores]
    ax.fill_between(cores, low, high, color=colour, alpha=0.25, lw=0,
                    label=f"{100 * fit.level:g} % interval")  # fmt: skip
    ax.plot(cores, scale / curve.rates[cores], color=colour, label=f"{curve.model} form")
    samples = fit.samples[side]
    rng = np.random.default_rng(0)  # only spreads the dots sideways
    for condition, fill in (("alone", "none"), ("contended", colour)):
        here = samples.conditions == condition
        if here.any():
            jitter = rng.uniform(-0.06, 0.06, here.sum())
            ax.plot(
                samples.cores[here] + jitter, scale * np.exp(samples.log_time[here]), marker,
                ms=5, mfc=fill, mec=colour, alpha=0.8, ls="none", label=f"trials, {condition}",
            )  # fmt: skip
    ax.set_xlabel("cores given to communication")
    ax.set_ylabel(f"{side} time (ms per {_UNIT[side]})")
    _core_axis(ax, curve.total_cores)
    ax.margins(y=0.1)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_residuals(fit: Fit, ax: Axes | None = None) -> Axes:
    """Draw every trial's deviation from the fitted curves, in per cent."""
    ax = _axes(ax)
    for offset, curve in ((-0.12, fit.compute), (0.12, fit.communication)):
        samples = fit.samples[curve.side]
        colour, marker = _STYLE[curve.side]
        deviation = 100 * np.expm1(samples.log_time + np.log(curve.rates[samples.cores]))
        ax.plot(samples.cores + offset, deviation, marker, mfc="none", mec=colour, ls="none",
                label=curve.side)  # fmt: skip
    ax.axhline(0, color=GREY, lw=0.8)
    ax.axhspan(-5, 5, color=GREY, alpha=0.12, lw=0, label="within 5 %")
    ax.set_xlabel("cores given to communication")
    ax.set_ylabel("measured against fitted time (%)")
    _core_axis(ax, fit.trace.total_cores)
    ax.legend(frameon=False, fontsize="small")
    return ax


def fit_figure(fit: Fit) -> Figure:
    """Make the figure of a fit: both curves over what was measured, and the residuals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    plot_curve(fit, "compute", axes[0])
    plot_curve(fit, "communication", axes[1])
    plot_residuals(fit, axes[2])
    host = fit.trace.header.get("host", {})
    cpu, given = host.get("cpu"), fit.trace.header.get("cores_given_by")
    figure.suptitle(
        f"{fit.trace.device}: {f'{cpu}, ' if cpu else ''}"
        f"{fit.trace.total_cores} cores{f' ({given})' if given else ''}",
        fontsize="medium",
    )
    return figure


def _core_axis(ax: Axes, total: int) -> None:
    ax.set_xticks(range(total + 1))
    ax.set_xlim(-0.4, total + 0.4)


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(5, 3.6), layout="constrained").subplots()
