"""The timeline of one run: which task on how many cores, who waits, where segments end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from kdsim._types import Record
from kdsim.errors import PlotError
from kdsim.plots.labels import percent
from kdsim.plots.style import (
    INK,
    MUTED,
    PAPER,
    STAGE_COLORS,
    add_legend,
    new_axes,
    title,
)
from kdsim.results.gaps import NO_GAP

if TYPE_CHECKING:
    from kdsim.results.recording import Interval
    from kdsim.results.run import Run

#: Of a run of many cycles this many are shown, from the start.
CYCLES_THAT_FIT = 10
#: Width of one character of a task's name, in points.
_CHARACTER_PT = 5.5
#: Ticks at the top are numbered as long as there are no more of them.
_NUMBERED_TICKS = 30

#: Kind of block -> (words of the legend, fill, hatch, line).
_LOOK: dict[str, tuple[str, str, str, str]] = {
    "comm": ("Comm", STAGE_COLORS["comm"], "", PAPER),
    "forward": ("Forward", STAGE_COLORS["forward"], "", PAPER),
    "backward": ("Backward", STAGE_COLORS["backward"], "", PAPER),
    "starved": ("Comm waits for data (at the link's pace)", PAPER, "---", STAGE_COLORS["comm"]),
    "comp waits": ("computation waits", PAPER, "//////", MUTED),
    "comm waits": ("communication waits", PAPER, "\\\\\\\\\\\\", MUTED),
    "idle": ("cores idle", PAPER, "....", MUTED),
    "stall": ("stalled by reallocation", PAPER, "xxxxxx", INK),
}
#: Kind of task -> letter of its name, colour on the fill (the same in dark mode).
_LETTER = {
    "comm": ("C", "#ffffff"),
    "forward": ("F", "#111111"),
    "backward": ("B", "#ffffff"),
}


class Block(NamedTuple):
    """A rectangle of the picture: what happens from `start` to `end` between two heights.

    `kind` is ``comm``, ``starved``, ``forward``, ``backward``, ``idle``, ``stall``, ``comp waits``
    or ``comm waits``; `cycle` counts from 1, 0 where no task is meant. Heights are cores; the two
    lanes of waits lie below 0 (communication) and above ``c_total`` (computation).
    """

    kind: str
    start: float
    end: float
    low: float
    high: float
    cycle: int


def lane_of(c_total: int) -> tuple[float, float]:
    """Return distance and thickness of the lanes of waits, in cores."""
    return 0.03 * c_total, 0.08 * c_total


def blocks(run: Run, begin: float = 0.0, end: float = math.inf) -> Iterator[Block]:
    """Yield the rectangles of a run between two instants.

    Communication has the cores from 0 up, computation those above. A side waits while it has
    nothing to run on or nothing that it may run, until its last task is done.
    """
    c_total, all_comm = run.plan.c_total, run.comm_ends[-1]
    off, thick = lane_of(c_total)
    for piece in run.intervals:
        if piece.start >= end:
            break
        a, b = max(piece.start, begin), min(piece.end, end)
        if a >= b:
            continue
        yield from _on_cores(piece, a, b, c_total)
        if piece.comp < 0:
            yield Block("comp waits", a, b, c_total + off, c_total + off + thick, 0)
        if piece.comm < 0 and piece.start < all_comm:
            yield Block("comm waits", a, b, -off - thick, -off, 0)


def _on_cores(piece: Interval, a: float, b: float, c_total: int) -> Iterator[Block]:
    c = piece.comm_cores
    receiving = "starved" if piece.starved else "comm"
    sides = ((receiving, piece.comm, 0, c), (piece.stage, piece.comp, c, c_total))
    for kind, task, low, high in sides:
        if high > low:
            what = "stall" if piece.stalled else kind if task >= 0 else "idle"
            yield Block(what, a, b, low, high, task + 1)


def timeline(
    run: Run, ax: Axes | None = None, *, cycles: int | tuple[int, int] | None = None
) -> Axes:
    """Draw one run: the cores over time, who has them, who waits.

    Parameters
    ----------
    ax : Axes, optional
        Where to draw; a figure of its own by default.
    cycles : int or (int, int), optional
        Show the first so many cycles, or those from the first to the last named, counted from 1.
        By default all of a short run and the first ten of a long one.

    Returns
    -------
    Axes
        Time in seconds against cores. Ticks at the top mark the starts of Backward, where the
        paper's segments end.

    Raises
    ------
    PlotError
        If the run has no such cycles.
    """
    first, last = _range(run, cycles)
    n = run.plan.cycles
    begin = run.backward_starts[first - 2] if first > 1 else 0.0
    end = run.makespan if last == n else run.backward_starts[last]
    if end <= begin and cycles is None:  # the first cycles have no work
        last, end = n, run.makespan
    if end <= begin:
        raise PlotError(
            f"cycles {first} to {last} of this run take no time, there is nothing to draw"
        )
    own = ax is None
    ax = new_axes(ax, 10.0, 3.6)
    drawn = joined(blocks(run, begin, end))
    kinds = _draw_blocks(ax, drawn)
    _scale_cores(ax, run.plan.c_total, kinds)
    ax.set_xlim(begin, end)
    ax.set_xlabel("time (s)", color=INK)
    _name_tasks(ax, drawn, end - begin)
    _segment_ticks(ax, run, first, last)
    part = "" if last - first + 1 == n else f" (cycles {first}–{last} of {n})"
    bound = f"the proven {run.bound_kind}"
    gap = f"{percent(run.gap)} above {bound}" if run.gap > NO_GAP else f"equal to {bound}"
    title(ax, f"{run.scenario} · {run.policy}: makespan {run.makespan:.5g} s, {gap}{part}")
    handles = [_key(kind) for kind in _LOOK if kind in kinds]
    add_legend([ax], handles, own=own, marks=run.marks)
    return ax


def _range(run: Run, cycles: int | tuple[int, int] | None) -> tuple[int, int]:
    n = run.plan.cycles
    if cycles is None:
        return 1, n if n <= CYCLES_THAT_FIT + 2 else CYCLES_THAT_FIT
    first, last = (1, cycles) if isinstance(cycles, int) else cycles
    if not 1 <= first <= last:
        raise PlotError(f"cycles must be a count or (first, last), counted from 1, got {cycles!r}")
    if first > n:
        raise PlotError(f"the run has {n} cycles, none from {first} on")
    return first, min(last, n)


# --- marks ----------------------------------------------------------------------------------------


def joined(drawn: Iterator[Block]) -> list[Block]:
    """Join adjacent pieces with the same content, cut only by an event of the other side."""
    whole: list[Block] = []
    latest: dict[tuple[str, float, float, int], int] = {}
    for block in drawn:
        what = (block.kind, block.low, block.high, block.cycle)
        k = latest.get(what)
        if k is not None and whole[k].end == block.start:
            whole[k] = whole[k]._replace(end=block.end)
        else:
            latest[what] = len(whole)
            whole.append(block)
    return whole


def outlines(drawn: Sequence[Block]) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Yield kind and corners of each outline: the pieces of a task that follow one another are one.

    So a line between two fields always means another task, never another allocation.
    """
    chains: dict[tuple[str, int], list[Block]] = {}
    for block in drawn:
        key = (block.kind, block.cycle)
        chain = chains.get(key)
        if chain and chain[-1].end == block.start:
            chain.append(block)
            continue
        if chain:
            yield block.kind, _corners(chain)
        chains[key] = [block]
    for (kind, _), chain in chains.items():
        yield kind, _corners(chain)


def _corners(chain: Sequence[Block]) -> list[tuple[float, float]]:
    above = [corner for b in chain for corner in ((b.start, b.high), (b.end, b.high))]
    below = [corner for b in chain for corner in ((b.start, b.low), (b.end, b.low))]
    return above + below[::-1]


def _key(kind: str) -> Patch:
    words, fill, hatch, line = _LOOK[kind]
    return Patch(facecolor=fill, edgecolor=line, hatch=hatch, linewidth=0.5, label=words)


def _draw_blocks(ax: Axes, drawn: Sequence[Block]) -> set[str]:
    shapes: dict[str, list[list[tuple[float, float]]]] = {}
    for kind, corners in outlines(drawn):
        shapes.setdefault(kind, []).append(corners)
    for kind, (_, fill, hatch, line) in _LOOK.items():
        if kind in shapes:
            look: Record = {"facecolor": fill, "edgecolor": line, "linewidth": 0.6}
            if hatch:
                look |= {"hatch": hatch, "linewidth": 0.5}
            ax.add_collection(PolyCollection(shapes[kind], label=kind, **look))
    return set(shapes)


def _scale_cores(ax: Axes, c_total: int, kinds: set[str]) -> None:
    off, thick = lane_of(c_total)
    step = MaxNLocator(6, integer=True, steps=[1, 2, 4, 5, 8, 10]).tick_values(0, c_total)[1]
    ticks = [*np.arange(0.0, c_total - step / 2, step), float(c_total)]
    names = [f"{tick:g}" for tick in ticks]
    low, high = 0.0, float(c_total)
    if "comp waits" in kinds:
        ticks.append(c_total + off + thick / 2)
        names.append("Comp waits")
        high += 2 * off + thick
    if "comm waits" in kinds:
        ticks.append(-off - thick / 2)
        names.append("Comm waits")
        low -= 2 * off + thick
    ax.set_ylim(low, high)
    ax.set_yticks(ticks, names)
    ax.set_ylabel("cores", color=INK)
    ax.grid(False)


def _name_tasks(ax: Axes, drawn: list[Block], span: float) -> None:
    """Write C3, F3, B3 into the longest piece of each task, where it is wide enough."""
    box = ax.get_position()
    figure: Any = ax.figure
    points_a_second = figure.get_figwidth() * box.width * 72.0 / span
    cores = max(block.high for block in drawn)
    points_a_core = figure.get_figheight() * box.height * 72.0 / cores
    widest: dict[tuple[str, int], Block] = {}
    for block in drawn:
        if block.kind in _LETTER and (block.high - block.low) * points_a_core > 9.0:
            task = (block.kind, block.cycle)
            if (
                task not in widest
                or block.end - block.start > widest[task].end - widest[task].start
            ):
                widest[task] = block
    for (kind, cycle), block in widest.items():
        letter, color = _LETTER[kind]
        name = f"{letter}{cycle}"
        if (block.end - block.start) * points_a_second > _CHARACTER_PT * len(name) + 2.0:
            ax.text(
                (block.start + block.end) / 2,
                (block.low + block.high) / 2,
                name,
                color=color,
                fontsize="small",
                ha="center",
                va="center",
                clip_on=True,
            )


def _segment_ticks(ax: Axes, run: Run, first: int, last: int) -> None:
    top = ax.secondary_xaxis("top")
    starts = run.backward_starts[first - 1 : last]
    step = math.ceil(len(starts) / _NUMBERED_TICKS)
    names = [f"{i}" if (i - first) % step == 0 else "" for i in range(first, last + 1)]
    top.set_xticks(starts, names)
    top.tick_params(colors=MUTED, labelcolor=MUTED, labelsize="x-small", length=4)
    top.spines["top"].set_color(MUTED)
    top.set_xlabel("segment ends (Backward starts)", color=MUTED, fontsize="x-small")
