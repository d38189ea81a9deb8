"""The dissimilarity study's figure: accuracy against alpha, one line per measure.

What is *not* here: tables and verdicts (``dissimilarity_report``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from calibration.workloads.losses import MEASURES
from calibration.workloads.records.tables import summarise
from kdsim._types import Row
from kdsim.errors import WorkloadError
from kdsim.plots.style import BLACK, BLUE, GREEN, ORANGE, PURPLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colour and marker of each measure.
_STYLE = {
    "ce": (BLACK, "s"),
    "kl": (ORANGE, "D"),
    "js": (BLUE, "o"),
    "sed": (GREEN, "^"),
    "td": (PURPLE, "v"),
}

_CASE_TITLE = {"sum": "case 1: sum of losses", "average": "case 2: averaged predictions"}


def plot_accuracy(
    rows: Sequence[Row],
    which: str,
    case: str,
    *,
    value: str = "shared",
    ax: Axes | None = None,
) -> Axes:
    """Draw mean accuracy against alpha, one line per measure.

    Thick bars are 95 % intervals of the mean over seeds; thin pale ones reach one standard
    deviation over clients to either side. What alpha = 0 gives stands in words.

    Parameters
    ----------
    rows : sequence of mapping
        From :func:`calibration.workloads.decentralized.study.rows`.

    Raises
    ------
    WorkloadError
        If the rows hold nothing on this split and case.
    """
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(5.5, 4.0), layout="constrained").add_subplot()
    chosen = [row for row in rows if row["split"] == which and row["case"] == case]
    if not chosen:
        raise WorkloadError(f"the study has no rows for split {which!r} and case {case!r}")
    sizes = [c["n"] for c in summarise(chosen, value, ("measure", "alpha"))]
    n = f"{max(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    drawn = [row for row in chosen if row["alpha"] > 0]
    if drawn and len(drawn) < len(chosen):
        _note_alpha_zero(ax, [row for row in chosen if row["alpha"] == 0], value)
    else:
        drawn = chosen
    measures = [m for m in MEASURES if any(row["measure"] == m for row in drawn)]
    for place, measure in enumerate(measures):
        mine = [row for row in drawn if row["measure"] == measure]
        aside = 0.014 * (place - (len(measures) - 1) / 2)  # so that bars do not hide one another
        _draw_line(ax, mine, value, measure, aside)
    ax.set_title(f"{which}, {_CASE_TITLE[case]} (n = {n})", fontsize="medium")
    ax.set_xlabel("alpha, weight of the labels (1 = no distillation)")
    ax.set_ylabel(f"{value} accuracy, mean over clients (%)")
    ax.legend(fontsize="small", loc="lower center", ncols=3)
    return ax


def _draw_line(ax: Axes, rows: Sequence[Row], value: str, measure: str, aside: float) -> None:
    """Draw one measure's means with both kinds of bars."""
    means = sorted(summarise(rows, value, ("alpha",)), key=lambda cell: cell["alpha"])
    spreads = sorted(summarise(rows, f"{value}_sd", ("alpha",)), key=lambda cell: cell["alpha"])
    x = np.array([cell["alpha"] for cell in means]) + aside
    y = 100 * np.array([cell["mean"] for cell in means])
    # One seed has no interval; the thin bars over clients are drawn in any case.
    half = 100 * np.array(
        [0.0 if cell["ci_high"] is None else cell["ci_high"] - cell["mean"] for cell in means]
    )
    colour, marker = _STYLE[measure]
    clients = 100 * np.array([cell["mean"] for cell in spreads])
    ax.errorbar(x, y, clients, fmt="none", ecolor=colour, alpha=0.35, lw=0.8)
    ax.errorbar(
        x, y, half, color=colour, marker=marker, ms=4, lw=1, elinewidth=2.2, label=measure.upper()
    )


def _note_alpha_zero(ax: Axes, rows: Sequence[Row], value: str) -> None:
    """Write what alpha = 0 gives: without any label it is chance, and would squash the scale."""
    means = [100 * cell["mean"] for cell in summarise(rows, value, ("measure",))]
    ax.annotate(
        f"alpha = 0: {min(means):.1f} to {max(means):.1f} %",
        (0.02, 0.97),
        xycoords="axes fraction",
        va="top",
        fontsize="small",
    )


def plot_study(rows: Sequence[Row], *, value: str = "shared") -> Figure:
    """Draw every split (rows) and case (columns) of a study; accuracies share one scale per row."""
    from matplotlib.figure import Figure

    splits = [s for s in ("iid", "skew") if any(row["split"] == s for row in rows)]
    cases = [c for c in ("sum", "average") if any(row["case"] == c for row in rows)]
    figure = Figure(figsize=(5.2 * len(cases), 4.0 * len(splits)), layout="constrained")
    axes = figure.subplots(len(splits), len(cases), sharey="row", squeeze=False)
    for i, which in enumerate(splits):
        for j, case in enumerate(cases):
            plot_accuracy(rows, which, case, value=value, ax=axes[i, j])
    return figure
