"""The light band behind a policy's marks: where its makespan lies over draws of the curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from kdsim._types import Record
from kdsim.plots.style import MUTED, PolicyStyle

if TYPE_CHECKING:
    from kdsim.results.comparison import Comparison, Sample

BAND: Record = {"alpha": 0.16, "linewidth": 0, "zorder": 1}


class CurveBands:
    """The intervals of a comparison's samples over draws of the curves; none if not asked for.

    Parameters
    ----------
    value : {"makespan", "gap"}
        Seconds, or percent above the bound.
    """

    def __init__(self, cmp: Comparison, value: str) -> None:
        self.draws = cmp.curves.draws if cmp.curves else 0
        scale, prefix = (1.0, "") if value == "makespan" else (100.0, "gap_")
        self._ends: Mapping[Any, tuple[float, float]] = {
            (repr(point.point), row["policy"]): (
                scale * row[f"{prefix}low"],
                scale * row[f"{prefix}high"],
            )
            for point in (cmp.curves.points if cmp.curves else ())
            for row in point.intervals()
        }

    def ends(self, sample: Sample) -> tuple[float, float] | None:
        """Return the lower and the upper end for a sample, or None."""
        return self._ends.get((repr(sample.point), sample.policy))

    def box(self, ax: Axes, x: float, width: float, sample: Sample, style: PolicyStyle) -> None:
        """Draw the band of one mark."""
        ends = self.ends(sample)
        if ends is not None:
            corner, height = (x - width / 2, ends[0]), ends[1] - ends[0]
            ax.add_patch(Rectangle(corner, width, height, facecolor=style.color, **BAND))
            ax.update_datalim([corner, (x + width / 2, ends[1])])
            ax.autoscale_view()

    def along(self, ax: Axes, at: list[tuple[float, Sample]], style: PolicyStyle) -> None:
        """Draw the band along a line of samples at their places."""
        found = [(x, ends) for x, sample in at if (ends := self.ends(sample)) is not None]
        if len(found) == len(at) > 1:
            x, (low, high) = [x for x, _ in found], zip(*(ends for _, ends in found), strict=True)
            ax.fill_between(x, low, high, color=style.color, **BAND)

    def handles(self) -> list[Patch]:
        """Return the entry of the legend, if there are bands."""
        words = draws_words(self.draws)
        return [Patch(facecolor=MUTED, alpha=0.25, label=words)] if self._ends else []


def draws_words(draws: int) -> str:
    """Name a band in a legend."""
    return f"95 % of {draws} draws of the curves"
