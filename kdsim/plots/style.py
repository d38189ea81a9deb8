"""What all figures share: colours, markers, axes, titles, legends.

No figure touches matplotlib's global settings or needs a display: figures are made from
`matplotlib.figure.Figure`, colours and marks are passed with each call. Words and ticks are in
``labels``, files in ``saving``.
"""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from kdsim._types import Record
from kdsim.errors import PlotError

#: Text and proven bounds, secondary text, grid, paper. A report swaps these four in dark mode.
INK, MUTED, GRID, PAPER = "#1d1d1b", "#62615c", "#e4e3de", "#fefefe"

#: What is missing, failed or beyond what was measured; dark enough to be read, also in print.
WARNING = "#a3260b"

#: Comm, Forward, Backward: Tol's high-contrast scheme, three different greys in print.
STAGE_COLORS = {"comm": "#004488", "forward": "#ddaa33", "backward": "#bb5566"}


#: Okabe and Ito's palette, distinct for colour-blind readers, and a grey for what stands behind.
BLACK, GREY = "#000000", "#8a8983"
BLUE, SKY, GREEN = "#0072b2", "#56b4e9", "#009e73"
ORANGE, VERMILION, PURPLE = "#e69f00", "#d55e00", "#cc79a7"


@dataclass(frozen=True, slots=True)
class PolicyStyle:
    """How one policy looks in every figure; colour, marker and line each distinguish it."""

    color: str
    marker: str
    linestyle: Any

    @property
    def size(self) -> float:
        """Marker size in points at which all markers look equally large."""
        return {"*": 10.0, "<": 7.5, ">": 7.5, "^": 7.0, "v": 7.0, "P": 7.5, "X": 7.5}.get(
            self.marker, 6.0
        )


# Neighbours differ in lightness too.
_BUILT_IN = {
    "random": PolicyStyle(GREY, "o", (0, (1, 1.2))),
    "comm-priority": PolicyStyle(GREEN, "<", (0, (6, 2))),
    "comp-priority": PolicyStyle(SKY, ">", (0, (2, 2))),
    "greedy": PolicyStyle(ORANGE, "s", "-"),
    "greedy-full": PolicyStyle("#b8450b", "D", (0, (6, 1.5, 1, 1.5))),
    "state-based": PolicyStyle(PURPLE, "P", (0, (4, 1))),
    "optimal": PolicyStyle(BLUE, "*", "-"),
}
_OTHER_COLORS = ("#117733", "#332288", "#999933", "#882255", "#44aa99", "#661100", "#aa4499")
_OTHER_MARKERS = ("h", "X", "^", "v", "d", "p")  # none that a small print turns into a dot
_LINES = ("-", (0, (4, 1.5)), (0, (4, 1, 1, 1)))


def policy_style(name: str, names: Iterable[str] = ()) -> PolicyStyle:
    """Return the colour, marker and line of a policy.

    Built-in policies have their own. Any other has a preferred look that follows from its name
    alone; where another policy of the figure has its colour or marker, the later in the alphabet
    takes the next free one. No two of up to 42 share both, and no two of up to 7 the colour.

    Parameters
    ----------
    names : iterable of str
        All policies of the figure (or of all the figures that belong together).

    Examples
    --------
    >>> policy_style("optimal").marker
    '*'
    >>> policy_style("mine:A") == policy_style("mine:A", ["mine:B", "random"])
    True
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    taken: set[tuple[int, int]] = set()
    for other in sorted({name, *names} - set(_BUILT_IN)):
        look = _free_look(_first_place(other), taken)
        if other == name:
            break
        taken.add(look)
    color, marker = look
    return PolicyStyle(
        _OTHER_COLORS[color], _OTHER_MARKERS[marker], _LINES[(color + marker) % len(_LINES)]
    )


def _free_look(place: int, taken: set[tuple[int, int]]) -> tuple[int, int]:
    """Return indexes of colour and marker from `place` on, as different as can be from `taken`."""
    colors, markers = len(_OTHER_COLORS), len(_OTHER_MARKERS)
    # The two numbers are coprime: stepping through both meets all pairs.
    looks = [((place + k) % colors, (place + k) % markers) for k in range(colors * markers)]
    used = {color for color, _ in taken}, {marker for _, marker in taken}
    return min(
        looks,
        key=lambda look: (look in taken, look[0] in used[0], look[1] in used[1]),
    )


def _first_place(name: str) -> int:
    # Core counts beside one another are compared the most: neighbours differ in both.
    count = name.removeprefix("static:")
    return int(count) if count != name and count.isdecimal() else zlib.crc32(name.encode())


#: From light to dark and back: core counts and other ordered things, distinguished by lightness.
_ORDERED_COLORS = ("#e0b43c", "#d0743c", "#a83c64", "#6a2a7c", "#2b4a8c", "#4f8a8b")
_ORDERED_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def ordered_style(k: int, count: int) -> tuple[str, str]:
    """Return colour and marker of number `k` of `count` ordered things; all colours differ."""
    at = k if count <= len(_ORDERED_COLORS) else k * (len(_ORDERED_COLORS) - 1) / (count - 1)
    below = min(int(at), len(_ORDERED_COLORS) - 2)
    ends = (np.array(to_rgb(color)) for color in _ORDERED_COLORS[below : below + 2])
    first, second = ends
    color = to_hex(first + (at - below) * (second - first))
    return color, _ORDERED_MARKERS[k % len(_ORDERED_MARKERS)]


# --- axes -----------------------------------------------------------------------------------------


def new_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return `ax`, or the only Axes of a new figure of that size (inches)."""
    return new_panels(None if ax is None else [ax], 1, width, height)[0]


def new_panels(
    axes: Axes | Sequence[Axes] | None,
    count: int,
    width: float,
    height: float,
    *,
    columns: int = 2,
    sharey: bool | Literal["none", "all", "row", "col"] = False,
) -> list[Axes]:
    """Return `count` prepared Axes: those given, or panels of a new figure.

    Raises
    ------
    PlotError
        If Axes are given, but not as many as there are panels.
    """
    if axes is not None:
        given = [axes] if isinstance(axes, Axes) else list(np.ravel(np.asarray(axes, object)))
        if len(given) != count:
            raise PlotError(f"this figure has {count} panels, got {len(given)} Axes to draw on")
        panels = given
    else:
        columns = min(columns, count)
        rows = -(-count // columns)
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        figure.set_facecolor(PAPER)
        grid = figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel()
        for spare in grid[count:]:
            spare.remove()
        panels = list(grid[:count])
    for panel in panels:
        prepare(panel)
    return panels


def prepare(ax: Axes) -> None:
    """Give an Axes the plain look: two spines, a faint grid behind the data."""
    ax.set_facecolor(PAPER)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(MUTED)
    ax.tick_params(colors=MUTED, labelcolor=INK, which="both")
    ax.grid(True, axis="y", color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)


def title(ax: Axes, text: str, setting: str = "") -> None:
    """Put a left-aligned title over the Axes, and below it the setting; neither is a formula."""
    look: Record = {"fontsize": "medium", "fontweight": "bold", "color": INK}
    lines = _wrapped(setting, ax)
    ax.set_title(text, loc="left", parse_math=False, pad=6.0 + 11.0 * len(lines), **look)
    if lines:
        ax.annotate(
            "\n".join(lines), (0.0, 1.0), (0.0, 5.0), xycoords="axes fraction",
            textcoords="offset points", ha="left", va="bottom", fontsize="small", color=MUTED,
            annotation_clip=False, parse_math=False,
        )  # fmt: skip


def _wrapped(text: str, ax: Axes) -> list[str]:
    """Break a line where the Axes end, estimated from its length."""
    figure: Any = ax.figure
    grid = ax.get_subplotspec()
    columns = 1 if grid is None else grid.get_gridspec().ncols
    return textwrap.wrap(text, max(30, int(13.0 * figure.get_figwidth() / columns) - 6))


def add_legend(
    axes: Sequence[Axes], handles: Sequence[Any], *, own: bool, marks: Sequence[str] = ()
) -> None:
    """Add one legend: below the panels of an own figure, inside the Axes of a caller's.

    `marks` is what everything drawn must say, e.g. that it is extrapolated.
    """
    look: Record = {
        "frameon": False,
        "fontsize": "small",
        "labelcolor": INK,
        "handlelength": 2.2,
    }
    figure = axes[0].figure
    if own and isinstance(figure, Figure):
        columns = _legend_columns(
            [len(str(handle.get_label())) for handle in handles], figure.get_figwidth() * 72.0
        )
        # The legend's title keeps clear of axis labels and of the entries below it.
        title = _wrapped_marks(marks, figure)
        legend = figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, title=title, **look
        )
        legend.get_title().set(parse_math=False, **_MARK_LOOK)
    else:
        legend = axes[-1].legend(handles=handles, ncols=2, **look)
        add_marks(axes, marks, own=False)
    for text in legend.get_texts():
        text.set_parse_math(False)


_MARK_LOOK: Record = {"fontsize": "small", "color": WARNING, "fontweight": "bold"}


def _wrapped_marks(marks: Sequence[str], figure: Figure) -> str:
    room = int(figure.get_figwidth() * 72.0 / 6.4)
    return "\n".join(line for mark in marks for line in textwrap.wrap(mark, room))


def add_marks(axes: Sequence[Axes], marks: Sequence[str], *, own: bool = True) -> None:
    """Write what everything drawn must say under an own figure, or into the Axes of a caller's.

    For figures without a common legend; see `add_legend`.
    """
    if not marks:
        return
    figure = axes[0].figure
    if own and isinstance(figure, Figure):
        text = figure.supxlabel(_wrapped_marks(marks, figure), x=0.01, ha="left", **_MARK_LOOK)
    else:
        lines = [line for mark in marks for line in textwrap.wrap(mark, 70)]
        text = axes[0].text(
            0.01, 0.99, "\n".join(lines), transform=axes[0].transAxes, va="top", **_MARK_LOOK
        )
    text.set_parse_math(False)


def _legend_columns(lengths: Sequence[int], room: float) -> int:
    """Return how many columns of entries of those lengths fit into `room` points."""
    for columns in range(len(lengths), 1, -1):
        parts = np.array_split(np.asarray(lengths), columns)
        if sum(5.3 * part.max() + 46.0 for part in parts) <= room:
            rows = -(-len(lengths) // columns)
            return -(-len(lengths) // rows)
    return 1
