"""What runs produce: a run, samples of many, comparisons, learning curves, intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsim._lazy import attach

if TYPE_CHECKING:
    from kdsim.results.comparison import SUMMARY_COLUMNS, Comparison, MissingRun, Sample
    from kdsim.results.learning import LearningCurve, LearningCurves
    from kdsim.results.recording import Interval
    from kdsim.results.run import Run, Segment

_HOMES = {
    "Run": "run",
    "Segment": "run",
    "Interval": "recording",
    "Sample": "comparison",
    "Comparison": "comparison",
    "MissingRun": "comparison",
    "SUMMARY_COLUMNS": "comparison",
    "LearningCurve": "learning",
    "LearningCurves": "learning",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - the names are strings

__getattr__, __dir__ = attach(__name__, _HOMES)
