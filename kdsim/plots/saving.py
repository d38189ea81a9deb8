"""Figures as files: png, svg and pdf, the same bytes for the same input."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from kdsim._types import Record
from kdsim.errors import PlotError
from kdsim.output_file import suffix_of, write_output

#: Suffix -> metadata that would differ from one run to the next, switched off.
_FORMATS: dict[str, Record] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}


def figure_of(drawn: object) -> Figure:
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


def render(drawn: object, kind: str, *, dpi: float = 200.0) -> bytes:
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


def save(drawn: object, path: str | Path, *, dpi: float = 200.0) -> Path:
    """Save a figure as png, svg or pdf, by the suffix of `path`.

    Parameters
    ----------
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
