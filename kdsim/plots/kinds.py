"""The kinds of figures that can be drawn of any study, whatever was swept in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kdsim.errors import PlotError
from kdsim.plots.figures.comparison import comparison
from kdsim.plots.figures.gaps import regret_distribution
from kdsim.plots.figures.maps import gap_maps
from kdsim.plots.figures.marginal import marginal, no_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kdsim.results.comparison import Comparison

_Draw = Callable[["Comparison", str | None, str | None], "Axes | list[Axes]"]


def _marginal(cmp: Comparison, x: str | None) -> Axes | list[Axes]:
    reason = no_steps(cmp, x)
    if reason:
        return comparison(cmp, x=x, notes=[f"Makespans instead of savings: {reason}."])
    return marginal(cmp, x=x)


#: Name -> (what it shows, how it is drawn).
KINDS: dict[str, tuple[str, _Draw]] = {
    "comparison": ("policies side by side", lambda cmp, x, _: comparison(cmp, x=x)),
    "gap": ("gaps to the proven bound", lambda cmp, x, _: comparison(cmp, value="gap", x=x)),
    "lines": ("makespans against a field", lambda cmp, x, _: comparison(cmp, x=x, lines=True)),
    "heatmap": ("gaps over two fields", gap_maps),
    "regret": (
        "gaps over replications",
        lambda cmp, _, __: regret_distribution(cmp.samples, marks=cmp.marks),
    ),
    "marginal": ("seconds saved per extra core", lambda cmp, x, _: _marginal(cmp, x)),
}


def draw(
    cmp: Comparison, kind: str, x: str | None = None, y: str | None = None
) -> Axes | list[Axes]:
    """Draw a figure of one of the `KINDS`.

    Parameters
    ----------
    cmp : Comparison
        Of any design. Fields that have no axis become panels, the first 12 of many; a kind that
        the design does not allow is replaced by makespans. Both is said below the figure.

    Raises
    ------
    PlotError
        If there is no such kind, nothing to draw, or a field was not swept.
    """
    if kind not in KINDS:
        raise PlotError(f"kind must be one of {', '.join(KINDS)} (got {kind!r})")
    return KINDS[kind][1](cmp, x, y)
