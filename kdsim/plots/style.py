"""What all figures share: colours, markers, axes, labels with units, saving.

No figure touches matplotlib's global settings or needs a display: figures are made from
`matplotlib.figure.Figure`, colours and marks are passed with each call. What is not here: the
figures themselves (``plots``, ``plot_timeline``).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdsim.errors import PlotError
from kdsim.output_file import suffix_of, write_output

#: Text and proven bounds, secondary text, grid, paper. A report swaps these four in dark mode.
INK, MUTED, GRID, PAPER = "#1d1d1b", "#62615c", "#e4e3de", "#fefefe"

#: A gap below this share is rounding: the run is as fast as the bound.
NO_GAP = 1e-9

#: Comm, Forward, Backward: Tol's high-contrast scheme, three different greys in print.
STAGE_COLORS = {"comm": "#004488", "forward": "#ddaa33", "backward": "#bb5566"}


@dataclass(frozen=True, slots=True)
class PolicyStyle:
    """How one policy looks in every figure; colour, marker and line each tell it apart."""

    color: str
    marker: str
    linestyle: Any

    @property
    def size(self) -> float:
        """Marker size in points at which all markers look equally large."""
        return {"*": 10.0, "<": 7.5, ">": 7.5, "^": 7.0, "v": 7.0, "P": 7.5, "X": 7.5}.get(
            self.marker, 6.0
        )


# Okabe and Ito's palette, told apart by the colour-blind; neighbours differ in lightness too.
_BUILT_IN = {
    "random": PolicyStyle("#8a8983", "o", (0, (1, 1.2))),
    "comm-priority": PolicyStyle("#009e73", "<", (0, (6, 2))),
    "comp-priority": PolicyStyle("#56b4e9", ">", (0, (2, 2))),
    "greedy": PolicyStyle("#e69f00", "s", "-"),
    "greedy-full": PolicyStyle("#b8450b", "D", (0, (6, 1.5, 1, 1.5))),
    "optimal": PolicyStyle("#0072b2", "*", "-"),
}
_OTHER_COLORS = ("#cc79a7", "#332288", "#999933", "#882255", "#44aa99", "#661100", "#aa4499")
_OTHER_MARKERS = ("P", "X", "^", "v", "d", "p")  # none that a small print turns into a dot


def policy_style(name: str, names: Iterable[str] = ()) -> PolicyStyle:
    """Return the colour, marker and line of a policy.

    Built-in policies have their own. Any other takes a place that follows from its name alone;
    where two names of a figure would share one, the later in the alphabet moves on.

    Parameters
    ----------
    name : str
    names : iterable of str
        All policies of the figure (or of all the figures that belong together).

    Returns
    -------
    PolicyStyle

    Examples
    --------
    >>> policy_style("optimal").marker
    '*'
    >>> policy_style("mine:A") == policy_style("mine:A", ["mine:B", "random"])
    True
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    # 7 colours and 6 markers are coprime: stepping through both meets all 42 pairs.
    places = len(_OTHER_COLORS) * len(_OTHER_MARKERS)
    taken: dict[int, str] = {}
    place = 0
    for other in sorted({name, *names} - set(_BUILT_IN)):
        place = _first_place(other) % places
        if len(taken) < places:
            while place in taken:
                place = (place + 1) % places
        taken[place] = other
        if other == name:
            break
    line = ("-", (0, (4, 1.5)), (0, (4, 1, 1, 1)))[place % 3]
    return PolicyStyle(
        _OTHER_COLORS[place % len(_OTHER_COLORS)], _OTHER_MARKERS[place % len(_OTHER_MARKERS)], line
    )


def _first_place(name: str) -> int:
    # Core counts beside one another are compared the most: neighbours differ in both.
    count = name.removeprefix("static:")
    return int(count) if count != name and count.isdecimal() else zlib.crc32(name.encode())


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


def title(ax: Axes, text: str, *, size: str = "medium") -> None:
    """Put a left-aligned title over the Axes; names in it are no formulas."""
    look: dict[str, Any] = {"fontsize": size, "fontweight": "bold", "color": INK}
    ax.set_title(text, loc="left", parse_math=False, **look)


def add_legend(axes: Sequence[Axes], handles: Sequence[Any], *, own: bool) -> None:
    """Add one legend: below the panels of an own figure, inside the Axes of a caller's."""
    look: dict[str, Any] = {
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
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, **look)
    else:
        legend = axes[-1].legend(handles=handles, ncols=2, **look)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _legend_columns(lengths: Sequence[int], room: float) -> int:
    """Return how many columns of entries of those lengths fit into `room` points."""
    for columns in range(len(lengths), 1, -1):
        parts = np.array_split(np.asarray(lengths), columns)
        if sum(5.3 * part.max() + 46.0 for part in parts) <= room:
            rows = -(-len(lengths) // columns)
            return -(-len(lengths) // rows)
    return 1


# --- words ----------------------------------------------------------------------------------------

_FIELD_LABELS = {
    "device.cores": "cores of the device",
    "device.reference_cores": "reference cores",
    "workload.ratio": "Comp : Comm work",
    "workload.cycles": "cycles N",
    "workload.comm": "communication work a cycle (data units)",
    "workload.forward": "Forward work a cycle (compute units)",
    "workload.backward": "Backward work a cycle (compute units)",
    "extensions.prefetch": "prefetch (logit batches)",
    "extensions.noise": "noise (coefficient of variation)",
    "extensions.link_rate": "link rate (data units/s)",
    "extensions.release": "release interval (s)",
    "extensions.reallocation_cost": "reallocation cost (s)",
    "device.compute.a1": "a1 (s per compute unit)",
    "device.compute.a2": "a2 (share of speed per core)",
    "device.communication.b1": "b1 (data units/s per core)",
    "device.communication.b2": "b2 (data units/s)",
    "device.communication.b3": "b3 (per core)",
}


def field_label(field: str) -> str:
    """Name a swept field on an axis, with its unit where it has one."""
    return _FIELD_LABELS.get(field, field)


def value_label(value: Any) -> str:
    """Write the value of a swept field."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    """Write a share in percent, with rounding errors written as none."""
    return f"{0.0 if abs(share) < NO_GAP else 100.0 * share:.2f} %"


def point_label(field: str, value: Any) -> str:
    """Write field and value, e.g. of a panel: ``8 cores``, ``Comp : Comm work = 2:1``."""
    if field == "device.cores":
        return f"{value} core" if value == 1 else f"{value} cores"
    name, _, unit = field_label(field).partition(" (")
    unit = f" {unit.rstrip(')')}" if unit in ("s)", "data units/s)") else ""
    return f"{name} = {value_label(value)}{unit}"


def axis_positions(values: Sequence[Any]) -> tuple[list[Any], dict[Any, float], bool]:
    """Order the distinct values of a swept field along an axis.

    Returns
    -------
    ordered : list
        Numbers by size; with any text among them, all in the order met.
    positions : dict
        Value -> position: the number itself, or 0, 1, 2, .. for text.
    numeric : bool
    """
    distinct = list(dict.fromkeys(values))
    numeric = all(
        isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in distinct
    )
    if numeric:
        ordered = sorted(distinct)
        return ordered, {v: float(v) for v in ordered}, True
    return distinct, {v: float(i) for i, v in enumerate(distinct)}, False


# --- saving ---------------------------------------------------------------------------------------

#: Suffix -> metadata that would differ from one run to the next, switched off.
_FORMATS: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}


def figure_of(drawn: Any) -> Figure:
    """Return the figure of an Axes, of a sequence of Axes, or a figure itself.

    Raises
    ------
    PlotError
        If it is none of these.
    """
    first = drawn
    if isinstance(drawn, np.ndarray | list | tuple) and len(drawn):
        first = np.ravel(np.asarray(drawn, object))[0]
    figure = first if isinstance(first, Figure) else getattr(first, "figure", None)
    while figure is not None and not isinstance(figure, Figure):
        figure = getattr(figure, "figure", None)  # a subfigure
    if figure is None:
        raise PlotError(f"only a figure or Axes can be saved, got {type(drawn).__name__}")
    return figure


def render(drawn: Any, kind: str, *, dpi: float = 200.0) -> bytes:
    """Return a figure as the bytes of a ``png``, ``svg`` or ``pdf``, the same for the same input.

    Raises
    ------
    PlotError
        If `kind` is none of the three.
    """
    if kind not in _FORMATS:
        raise PlotError(f"figures are written as png, svg or pdf, got {kind!r}")
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "kdsim", "pdf.fonttype": 42}):
        figure_of(drawn).savefig(buffer, format=kind, dpi=dpi, metadata=_FORMATS[kind])
    return buffer.getvalue()


def save(drawn: Any, path: str | Path, *, dpi: float = 200.0) -> Path:
    """Save a figure as png, svg or pdf, by the suffix of `path`.

    Parameters
    ----------
    drawn : Figure, Axes or sequence of Axes
        What a plot function returned.
    path : str or Path
        Its folder must exist. The same input gives the same bytes.
    dpi : float
        Dots per inch of a png.

    Returns
    -------
    Path
        The path written.

    Raises
    ------
    PlotError
        If the suffix is another one, or the place cannot be written.
    """
    kind = suffix_of(path, "figure").lstrip(".")
    return write_output(path, render(drawn, kind, dpi=dpi))
