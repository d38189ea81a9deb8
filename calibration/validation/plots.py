"""Figures of a validation: measured against predicted makespans, and timelines of both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from calibration.bench.replay import LiveRun, Task
from calibration.validation.judge import cell_rows
from calibration.validation.validate import Validation
from kdsim.plots.style import BLUE, GREEN, GREY, PURPLE, VERMILION
from kdsim.results.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "os^Dv<>P*X"
_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, GREY)
_LANES = {"comm": (0, VERMILION), "forward": (1, BLUE), "backward": (1, GREEN)}


def plot_validation(result: Validation, ax: Axes) -> Axes:
    """Draw predicted over measured makespans with both intervals and the 5 % and 10 % bands.

    Where every run was disturbed there is nothing to compare, and the figure says so.

    Returns
    -------
    Axes
    """
    table = result.table.dropna(subset=["measured"])
    if table.empty:  # logarithmic axes cannot be drawn without a positive number
        return _say_nothing_is_left(ax)
    ends = np.array([table["measured"].min() * 0.9, table["measured"].max() * 1.1])
    for share, alpha in ((0.10, 0.10), (0.05, 0.16)):
        ax.fill_between(ends, ends * (1 - share), ends * (1 + share), color=GREY, alpha=alpha, lw=0,
                        label=f"within {share:.0%}")  # fmt: skip
    ax.plot(ends, ends, color=GREY, lw=0.8)
    policies = list(dict.fromkeys(table["policy"]))
    conditions = list(dict.fromkeys(table["condition"]))
    for row in cell_rows(table):
        number, place = policies.index(row.policy), conditions.index(row.condition)
        ax.errorbar(
            row.measured, row.predicted,
            xerr=_reach(row.measured, row.measured_low, row.measured_high),
            yerr=_reach(row.predicted, row.predicted_low, row.predicted_high),
            fmt=_MARKERS[number % len(_MARKERS)], ms=6, color=_COLOURS[place % len(_COLOURS)],
            mfc="none" if place // len(_COLOURS) % 2 else None, elinewidth=0.8,
        )  # fmt: skip
    for number, policy in enumerate(policies):
        ax.plot([], [], _MARKERS[number % len(_MARKERS)], color=GREY, label=policy)
    for place, condition in enumerate(conditions):
        filled = "full" if place // len(_COLOURS) % 2 == 0 else "none"
        ax.plot([], [], "h", color=_COLOURS[place % len(_COLOURS)], fillstyle=filled,
                label=condition)  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("measured makespan (s)")
    ax.set_ylabel("predicted makespan (s)")
    ax.legend(frameon=False, fontsize="x-small", loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return ax


def _say_nothing_is_left(ax: Axes) -> Axes:
    ax.text(0.5, 0.5, "every run was disturbed:\nnothing to compare", ha="center", va="center")
    ax.set_axis_off()
    return ax


def _reach(value: float, low: float, high: float) -> list[list[float]]:
    """Return how far an interval reaches to either side; nothing where there is none."""
    return [[np.nan_to_num(max(value - low, 0.0))], [np.nan_to_num(max(high - value, 0.0))]]


def validation_figure(result: Validation) -> Figure:
    """Make the figure of measured against predicted makespans."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 5.0), layout="constrained")
    plot_validation(result, figure.subplots())
    return figure


def plot_live_timeline(run: LiveRun, total_cores: int, ax: Axes) -> Axes:
    """Draw a real run's tasks over time, with the communication cores as a line below.

    A task's bar is interrupted where its side had no core.
    """
    for task in run.tasks:
        lane, colour = _LANES[task.kind]
        for start, end in _served(task, run, total_cores):
            ax.broken_barh([(start, end - start)], (lane - 0.35, 0.7), facecolor=colour)
        ax.plot([task.end, task.end], [lane - 0.35, lane + 0.35], color="white", lw=0.5)
    times = [t for t, _ in run.splits] + [run.makespan]
    cores = [c for _, c in run.splits] + [run.splits[-1][1]]
    _cores_line(ax, times, cores)
    return _lanes(ax, f"measured: {run.policy}, {run.makespan:.3f} s")


def _served(task: Task, run: LiveRun, total_cores: int) -> Iterator[tuple[float, float]]:
    """Yield the stretches of a task in which its side had a core."""
    without = 0 if task.kind == "comm" else total_cores
    ends = [t for t, _ in run.splits[1:]] + [run.makespan]
    for (start, cores), end in zip(run.splits, ends, strict=True):
        low, high = max(start, task.start), min(end, task.end)
        if cores != without and high > low:
            yield low, high


def plot_simulated_timeline(run: Run, ax: Axes) -> Axes:
    """Draw a simulated run in the same way."""
    for piece in run.intervals:
        for working, kind in ((piece.comm >= 0, "comm"), (piece.comp >= 0, piece.stage)):
            if working and not piece.stalled:
                lane, colour = _LANES[kind]
                ax.broken_barh([(piece.start, piece.end - piece.start)], (lane - 0.35, 0.7),
                               facecolor=colour)  # fmt: skip
    ends = [*run.comm_ends, *run.forward_ends]
    for end in ends:
        lane = 0 if end in run.comm_ends else 1
        ax.plot([end, end], [lane - 0.35, lane + 0.35], color="white", lw=0.5)
    times = [p.start for p in run.intervals] + [run.makespan]
    cores = [p.comm_cores for p in run.intervals] + [run.intervals[-1].comm_cores]
    _cores_line(ax, times, cores)
    return _lanes(ax, f"predicted: {run.policy}, {run.makespan:.3f} s")


def _cores_line(ax: Axes, times: list[float], cores: list[int]) -> None:
    top = max([*cores, 1])
    ax.step(times, [-1.4 + 0.8 * c / top for c in cores], where="post", color=PURPLE, lw=1.2)


def _lanes(ax: Axes, title: str) -> Axes:
    ax.set_yticks([-1, 0, 1], ["comm cores", "Comm", "Forward/Backward"])
    ax.set_ylim(-1.6, 1.6)
    ax.set_title(title, fontsize="small", loc="left")
    ax.set_xlabel("time (s)")
    return ax


def timeline_figure(result: Validation, *, policies: int = 3) -> Figure:
    """Set the first condition's timelines above each other, measured over predicted.

    Parameters
    ----------
    result : Validation
    policies : int
        How many policies at most; those whose makespans lie furthest apart are shown. Where
        every run was disturbed the figure says so.

    Returns
    -------
    Figure
    """
    from matplotlib.figure import Figure

    condition = str(result.table["condition"].iloc[0])
    here = result.table[result.table["condition"] == condition].dropna(subset=["measured"])
    here = here.sort_values("measured")
    if here.empty:
        figure = Figure(figsize=(9, 2.6), layout="constrained")
        _say_nothing_is_left(figure.subplots())
        return figure
    picks = here["policy"].iloc[np.unique(np.linspace(0, len(here) - 1, policies).astype(int))]
    figure = Figure(figsize=(9, 2.6 * len(picks)), layout="constrained")
    axes = figure.subplots(2 * len(picks), 1, sharex=True, squeeze=False)[:, 0]
    for row, policy in enumerate(picks):
        simulated = result.predictions[condition, policy].run
        live = result.typical_run((condition, policy))
        if live is not None:
            plot_live_timeline(live, simulated.plan.c_total, axes[2 * row])
        plot_simulated_timeline(simulated, axes[2 * row + 1])
    for ax in axes[:-1]:
        ax.set_xlabel("")
    figure.suptitle(f"{condition}: blue Forward, green Backward, orange Comm", fontsize="medium")
    return figure
