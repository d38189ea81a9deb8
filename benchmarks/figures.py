"""Draw the figures of the README.

python benchmarks/figures.py           # half a minute; writes docs/*.png
"""

from __future__ import annotations

from pathlib import Path

import kdsim
from kdsim import plots
from kdsim.scenario.changes import with_fields

DOCS = Path(__file__).resolve().parents[1] / "docs"
PROFILES = Path(__file__).resolve().parent / "results" / "learning"
#: MB per second, 2 Mbit/s; and batches of 128 per second of the host that recorded the profiles, on
#: one core (``calibration/traces/epyc-2core.curves.yaml``).
LINK_MB_S, HOST_RATE = 0.25, 55.3


def main():
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


if __name__ == "__main__":
    main()
