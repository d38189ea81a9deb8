"""Figures of a validation: measured against predicted makespans, and timelines of both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from calibration.bench.replay import LiveRun, Task
from calibration.fit.plots import BLUE, GREEN, GREY, ORANGE, PURPLE
from calibration.validation.validate import Validation
from kdsim.results.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "os^Dv<>P*X"
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)
_LANES = {"comm": (0, ORANGE), "forward": (1, BLUE), "backward": (1, GREEN)}


def plot_validation(result: Validation, ax: Axes) -> Axes:
    """Draw predicted over measured makespans with both intervals and the 5 % and 10 % bands.

    Returns
    -------
    Axes
    """
    table = result.table
    ends = np.array([table["measured"].min() * 0.9, table["measured"].max() * 1.1])
    for share, alpha in ((0.10, 0.10), (0.05, 0.16)):
        ax.fill_between(ends, ends * (1 - share), ends * (1 + share), color=GREY, alpha=alpha, lw=0,
                        label=f"within {share:.0%}")  # fmt: skip
    ax.plot(ends, ends, color=GREY, lw=0.8)
    policies = list(dict.fromkeys(table["policy"]))
    for w, (ratio, group) in enumerate(table.groupby("workload", sort=False)):
        for row in group.itertuples():
            number = policies.index(row.policy)
            ax.errorbar(
                row.measured, row.predicted,
                xerr=[[row.measured - row.measured_low], [row.measured_high - row.measured]],
                yerr=[[max(row.predicted - row.predicted_low, 0)],
                      [max(row.predicted_high - row.predicted, 0)]],
                fmt=_MARKERS[number % len(_MARKERS)], ms=6, color=_COLOURS[w % len(_COLOURS)],
                mfc="none" if w % 2 else None, elinewidth=0.8,
                label=f"{row.policy}, {ratio}",
            )  # fmt: skip
    ax.set_xlabel("measured makespan (s)")
    ax.set_ylabel("predicted makespan (s)")
    ax.legend(frameon=False, fontsize="x-small", loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return ax


def validation_figure(result: Validation) -> Figure:
    """Make the figure of measured against predicted makespans."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
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
    """Set the first workload's timelines above each other, measured over predicted.

    Parameters
    ----------
    result : Validation
    policies : int
        How many policies at most; those whose makespans lie furthest apart are shown.

    Returns
    -------
    Figure
    """
    from matplotlib.figure import Figure

    ratio = str(result.table["workload"].iloc[0])
    here = result.table[result.table["workload"] == ratio].sort_values("measured")
    picks = here["policy"].iloc[np.unique(np.linspace(0, len(here) - 1, policies).astype(int))]
    figure = Figure(figsize=(9, 2.6 * len(picks)), layout="constrained")
    axes = figure.subplots(2 * len(picks), 1, sharex=True, squeeze=False)[:, 0]
    for row, policy in enumerate(picks):
        simulated = result.simulated[ratio, policy]
        plot_live_timeline(result.live[ratio, policy], simulated.plan.c_total, axes[2 * row])
        plot_simulated_timeline(simulated, axes[2 * row + 1])
    for ax in axes[:-1]:
        ax.set_xlabel("")
    figure.suptitle(f"workload {ratio}: blue Forward, green Backward, orange Comm",
                    fontsize="medium")  # fmt: skip
    return figure
