"""Figures of curves, comparisons, sweeps and runs: the public names of this package.

``comparison`` is the paper's fig. 5, ``curves`` its fig. 4; ``sweep_lines``, ``gap_heatmap`` and
``regret_distribution`` show sweeps and noise; ``timeline`` shows one run, ``learning`` accuracy
against simulated time; ``save`` writes any of them. Each draws on the Axes it is given, or on a
figure of its own, and returns the Axes. Nothing is shown, no global setting is touched and no
display is needed; in a notebook, ``ax.figure`` at the end of a cell shows the figure. All marks
are distinguishable without colour, every axis carries its unit, and what is uncertain is drawn
with its uncertainty.
"""

from __future__ import annotations

from kdsim.plots.figures.advice import advice
from kdsim.plots.figures.comparison import comparison
from kdsim.plots.figures.curves import CurvePoint, curves
from kdsim.plots.figures.devices import library_device
from kdsim.plots.figures.gaps import gap_heatmap, regret_distribution
from kdsim.plots.figures.learning import learning
from kdsim.plots.figures.maps import gap_maps
from kdsim.plots.figures.marginal import marginal
from kdsim.plots.figures.policy_map import policy_map
from kdsim.plots.figures.timeline import timeline
from kdsim.plots.kinds import KINDS, draw
from kdsim.plots.lines import sweep_lines
from kdsim.plots.saving import render, save
from kdsim.plots.style import PolicyStyle, policy_style

__all__ = [
    "KINDS",
    "CurvePoint",
    "PolicyStyle",
    "advice",
    "comparison",
    "curves",
    "draw",
    "gap_heatmap",
    "gap_maps",
    "learning",
    "library_device",
    "marginal",
    "policy_map",
    "policy_style",
    "regret_distribution",
    "render",
    "save",
    "sweep_lines",
    "timeline",
]
