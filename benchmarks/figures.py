"""Draw the figures of the README.

python benchmarks/figures.py           # half a minute; writes docs/*.png
"""

from __future__ import annotations

from pathlib import Path

import kdsim
from kdsim import plots

DOCS = Path(__file__).resolve().parents[1] / "docs"


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
    plots.save(plots.curves(kdsim.load_scenario("paper-1to1")), DOCS / "curves.png")


if __name__ == "__main__":
    main()
