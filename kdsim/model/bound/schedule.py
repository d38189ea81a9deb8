"""The fastest path as a schedule on whole cores.

Every direction of the path is a mix of two core counts that are neighbours on the rate region's
border. Inside a cell of the corridor both orders are possible. Without time the
communication-heavy part comes first, so that data are ahead; where data arrive in time it comes
last, because it would process them before they are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from kdsim.model.bound.timed_optimum import TimedPath
from kdsim.model.curves import FloatArray
from kdsim.model.plan import Plan
from kdsim.model.rules import split_direction


class Piece(NamedTuple):
    """A stretch of a schedule: from `start` on, `duration` seconds on this split of the cores."""

    start: float
    duration: float
    comm_cores: int
    comp_cores: int


def string_schedule(path: FloatArray, heights: FloatArray, plan: Plan) -> Iterator[Piece]:
    """Yield the pieces of a taut string.

    Parameters
    ----------
    path : (k, 2) float array
        Its vertices (V, W).
    heights : (N,) float array
        Compute work done when each Comm task ends.
    plan : Plan
    """
    region = plan.region
    cores = region.vertices.tolist()
    vr = region.comm_rates[region.vertices].tolist()
    vq = region.comp_rates[region.vertices].tolist()
    # Where the path leaves each Q_m: above where it arrives, if it climbs there.
    ends = np.cumsum(plan.comm)
    leave = path[np.searchsorted(path[:, 0], ends, side="right") - 1]
    leave_w = np.where(leave[:, 0] == ends, np.maximum(leave[:, 1], heights), heights)
    v, w = 0.0, float(path[path[:, 0] == 0.0][-1, 1])
    pieces = [(cores[0], w / vq[0])] if w > 0 else []
    for q, arrive, out in zip(ends.tolist(), heights.tolist(), leave_w.tolist(), strict=True):
        if q > v:
            heavy, heavy_s, light, light_s = split_direction(q - v, arrive - w, vr, vq)
            pieces += [(cores[heavy], heavy_s), (cores[light], light_s)]
        if out > max(arrive, w):
            pieces.append((cores[0], (out - max(arrive, w)) / vq[0]))
        v, w = q, max(out, w)
    return _merged(pieces, plan.c_total)


def timed_schedule(timed: TimedPath, plan: Plan) -> Iterator[Piece]:
    """Yield the pieces of a path on which data arrive in time.

    Before each cell, and before the last part of one whose data come late, computation has all
    cores: it climbs, or waits at the ceiling.
    """
    region = plan.region
    cores = region.vertices.tolist()
    vr = region.comm_rates[region.vertices].tolist()
    vq = region.comp_rates[region.vertices].tolist()
    clock, pieces = 0.0, []
    lengths = region.gauge(timed.data, timed.arrive - timed.leave)
    rows = (timed.data, timed.arrive - timed.leave, timed.end, lengths)
    for data, work, end, length in zip(*(row.tolist() for row in rows), strict=True):
        pieces.append((0, end - clock - length))
        if data > 0:
            heavy, heavy_s, light, light_s = split_direction(data, work, vr, vq)
            pieces += [(cores[light], light_s), (cores[heavy], heavy_s)]
        else:
            pieces.append((0, length))
        clock = end
    pieces.append((0, timed.makespan - clock))
    return _merged(pieces, plan.c_total)


def _merged(pieces: Iterable[tuple[int, float]], c_total: int) -> Iterator[Piece]:
    """Join pieces on the same split and leave empty ones out."""
    now, pending, length = 0.0, -1, 0.0
    for c, seconds in pieces:
        if seconds <= 0.0:
            continue
        if c != pending and length > 0.0:
            yield Piece(now, length, pending, c_total - pending)
            now, length = now + length, 0.0
        pending, length = c, length + seconds
    if length > 0.0:
        yield Piece(now, length, pending, c_total - pending)
