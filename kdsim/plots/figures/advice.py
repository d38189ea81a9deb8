"""The figure of an advice: cores, link, policies under noise, sensitivity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from kdsim._types import Record
from kdsim.plots.curve_band import BAND, draws_words
from kdsim.plots.labels import setting
from kdsim.plots.style import INK, MUTED, add_marks, new_panels, policy_style, title

if TYPE_CHECKING:
    from kdsim.answers.advice import Advice

#: Policies and fields that are drawn; the others stand in the JSON.
_POLICIES, _FIELDS = 6, 8
_DOWN, _UP = "#0072b2", "#e69f00"


def advice(made: Advice) -> list[Axes]:
    """Draw the four studies of an advice.

    Returns
    -------
    list of Axes
        Makespan over cores, makespans over the link's rate, gaps under noise, sensitivity.
    """
    axes = new_panels(None, 4, 5.6, 3.8)
    _cores(axes[0], made)
    _link(axes[1], made)
    _noise(axes[2], made)
    _sensitivity(axes[3], made)
    figure: Any = axes[0].figure
    figure.suptitle(
        f"{made.scenario.name}: {setting(made.scenario)}", color=INK, parse_math=False, wrap=True
    )
    add_marks(axes, list(made.scenario.marks()))
    return axes


def _cores(ax: Axes, made: Advice) -> None:
    counts = [row["cores"] for row in made.cores]
    ax.plot(counts, [row["makespan"] for row in made.cores], color=INK, marker="o", ms=4)
    drawn = made.curves.get("makespans")
    if drawn:
        at = [row["cores"] for row in drawn]
        ends = ([row["low_s"] for row in drawn], [row["high_s"] for row in drawn])
        words = draws_words(made.curves["draws"])
        ax.fill_between(at, *ends, color=INK, label=words, **BAND)
        ax.legend(fontsize="small", frameon=False)
    ax.axvline(made.scenario.device.cores, color=MUTED, lw=0.8, ls=(0, (4, 3)))
    ax.set_ylim(bottom=0)
    ax.set_xlabel("cores", color=INK)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel(f"{made.bound_kind} of the makespan (s)", color=INK)
    title(ax, "How many cores")


def _link(ax: Axes, made: Advice) -> None:
    if not made.link:
        title(ax, "No data, no link")
        return
    rates = [row["rate"] for row in made.link]
    for key, label, look in (
        ("worst", "worst policy", {"color": "#b8450b", "ls": (0, (4, 2))}),
        ("best", "best policy", {"color": "#0072b2", "ls": "-"}),
        ("bound", made.bound_kind, {"color": INK, "ls": (0, (1, 1.2))}),
    ):
        ax.plot(rates, [row[key] for row in made.link], label=label, **look)
    if made.scenario.link.rate:
        ax.axvline(made.scenario.link.rate, color=MUTED, lw=0.8, ls=(0, (4, 3)))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("link (data units per second)", color=INK)
    ax.set_ylabel("makespan (s)", color=INK)
    ax.legend(fontsize="small", frameon=False)
    title(ax, "Which link")


def _noise(ax: Axes, made: Advice) -> None:
    worst: dict[str, float] = {}
    for row in made.policies:
        worst[row["policy"]] = max(worst.get(row["policy"], 0.0), row["gap"])
    # The advised policy, and the best of the others.
    names = sorted(worst, key=lambda name: (name != made.against["policy"], worst[name]))
    for name in names[:_POLICIES]:
        rows = [row for row in made.policies if row["policy"] == name]
        look = policy_style(name, names)
        noise = [100 * row["noise"] for row in rows]
        gaps = [100 * row["gap"] for row in rows]
        low = [100 * (row["gap"] - row["gap_low"]) for row in rows]
        high = [100 * (row["gap_high"] - row["gap"]) for row in rows]
        ax.errorbar(
            noise, gaps, yerr=np.maximum([low, high], 0.0), label=name, color=look.color,
            marker=look.marker, ms=look.size * 0.8, ls=look.linestyle, lw=1.2, capsize=2,
        )  # fmt: skip
    if made.curves:
        _gaps_over_draws(ax, made, names)
    ax.set_xticks(sorted({100 * row["noise"] for row in made.policies}))
    ax.set_ylim(bottom=-0.03 * max(ax.get_ylim()[1], 0.01))  # marks at 0 stand whole
    ax.set_xlabel("coefficient of variation of the work (%)", color=INK)
    ax.set_ylabel(f"mean gap to the {made.bound_kind} (%)", color=INK)
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top + 0.45 * (top - bottom))  # room for the legend above the marks
    ax.legend(fontsize="small", frameon=False, ncols=2, loc="upper center")
    title(ax, f"Which policy: {made.against['policy']}")


def _gaps_over_draws(ax: Axes, made: Advice, names: list[str]) -> None:
    """Draw the intervals over draws left of noise 0, under which the draws were played."""
    gaps = {row["policy"]: row for row in made.curves["gaps"]}
    step = 0.03 * max(100 * row["noise"] for row in made.policies) or 0.03
    bar: Record = {"lw": 4, "alpha": 0.4, "capstyle": "butt"}
    for number, name in enumerate(names[:_POLICIES], start=1):
        low, high = (100 * gaps[name][end] for end in ("low", "high"))
        ax.vlines(-step * number, low, high, color=policy_style(name, names).color, **bar)
    ax.vlines([], [], [], color=MUTED, label=draws_words(made.curves["draws"]), **bar)


def _sensitivity(ax: Axes, made: Advice) -> None:
    rows = list(made.sensitivity)[:_FIELDS][::-1]
    places = range(len(rows))
    for side, color, label in (("down", _DOWN, "10 % less"), ("up", _UP, "10 % more")):
        ax.barh(
            places, [100 * row[side] for row in rows], color=color, height=0.7, alpha=0.85,
            label=label,
        )  # fmt: skip
    ax.axvline(0.0, color=INK, lw=0.8)
    ax.set_yticks(
        list(places), [row["field"].removeprefix("device.").removeprefix("the ") for row in rows]
    )
    ax.set_xlabel("change of the makespan (%)", color=INK)
    ax.legend(fontsize="small", frameon=False, loc="lower right")
    title(ax, "What it depends on")
