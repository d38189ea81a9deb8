"""Draw the figures of the README, and the site's plane of the optimum.

python benchmarks/figures.py           # half a minute; writes docs/*.png, docs/model/string.svg
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import kdsim
from kdsim import plots
from kdsim.model.bound.optimum import corridor
from kdsim.plots import style
from kdsim.scenario.changes import with_fields

DOCS = Path(__file__).resolve().parents[1] / "docs"
PROFILES = Path(__file__).resolve().parent / "results" / "learning"
#: MB per second, 2 Mbit/s; and batches of 128 per second of the host that recorded the profiles, on
#: one core (``calibration/traces/epyc-2core.curves.yaml``).
LINK_MB_S, HOST_RATE = 0.25, 55.3
#: Unequal cycles, so that the string bends on the ceiling and on the floor.
COMM = [1.8, 0.5, 0.6, 0.7, 2.6, 1.8, 2.0]
FORWARD = [0.4, 1.6, 1.6, 1.4, 0.3, 0.3, 2.0]
BACKWARD = [0.5, 1.6, 1.6, 1.2, 0.3, 1.4, 1.6]
DEVICE = {
    "cores": 8,
    "compute": {"a1": 1.0, "a2": 0.125},
    "communication": {"b1": 0.05, "b2": 0.3, "b3": 2.0},
}


def main() -> None:
    """Compare, simulate, draw, save."""
    DOCS.mkdir(exist_ok=True)
    plots.save(kdsim.compare("measured").plot(), DOCS / "measured.png")
    eighths = kdsim.compare("measured-8virtual")
    plots.save(eighths.plot(value="gap"), DOCS / "measured-8virtual-gap.png")
    paper = kdsim.compare("paper-1to1")
    plots.save(paper.plot(), DOCS / "paper-1to1.png")
    plots.save(paper.plot(value="gap"), DOCS / "paper-1to1-gap.png")
    for policy in ("greedy", "optimal"):
        plots.save(kdsim.simulate("paper-1to1", policy).plot(), DOCS / f"timeline-{policy}.png")
    device = with_fields(kdsim.load_scenario("measured-8virtual"), {"link.rate": LINK_MB_S})
    runs = [PROFILES / f"edge-1-{method}.csv" for method in ("baseline", "aflkd-reverse")]
    learned = kdsim.learning_curves(device, runs, profile_rate=HOST_RATE)
    plots.save(learned.plot(), DOCS / "learning.png")
    plots.save(plots.curves(kdsim.load_scenario("paper-1to1")), DOCS / "curves.png")
    planes().savefig(DOCS / "model" / "string.svg", metadata={"Date": None})


def draw_plane(ax: Axes, prefetch: int | None) -> None:
    """Draw one corridor with its string."""
    scenario = kdsim.Scenario.model_validate(
        {
            "name": "plane",
            "device": DEVICE,
            "workload": {
                "cycles": len(COMM),
                "comm": COMM,
                "forward": FORWARD,
                "backward": BACKWARD,
            },
            "extensions": {"prefetch": prefetch},
        }
    )
    optimum = kdsim.minimal_makespan(scenario)
    gates = corridor(scenario.plan())
    total = float(gates.total)
    edges = np.concatenate([[0.0], gates.V])
    ax.fill_between(
        np.repeat(edges, 2)[1:-1], np.repeat(gates.upper, 2), total, color="#d9d8d2", lw=0,
        label="ceiling: logits have not arrived",
    )  # fmt: skip
    if prefetch:
        floor = np.concatenate([[0.0], gates.lower[:-1]])
        ax.fill_between(
            np.repeat(edges, 2)[1:-1], 0.0, np.repeat(floor, 2), color="#f0e2c8", lw=0,
            label=f"floor: no room beyond {prefetch} batches",
        )  # fmt: skip
    path = np.asarray(optimum.path)
    ax.plot(path[:, 0], path[:, 1], color="#0b5d8a", lw=2.0, marker="o", ms=4, label="taut string")
    ax.plot(gates.V, gates.upper, ls="", marker="v", ms=5, color=style.INK, label="(Q_m, U_m)")
    ax.set_xlim(0, path[-1, 0] * 1.02)
    ax.set_ylim(0, total * 1.02)
    ax.set_xlabel("communication work V (data units)")
    room = "no bound on prefetch" if prefetch is None else f"prefetch {prefetch}"
    ax.set_title(f"{room}: {optimum.makespan:.2f} s", loc="left", fontsize="medium")


def planes() -> Figure:
    """Draw ceiling, floor and taut string, without and with a bound on prefetch, side by side."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    draw_plane(left, None)
    draw_plane(right, 2)
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    left.set_ylabel("compute work W (compute units)")
    return figure


if __name__ == "__main__":
    main()
