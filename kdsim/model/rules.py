"""The decision rules of the built-in policies, as plain functions of numbers.

Each is written once, in Python that numba accepts: the SimPy engine calls it as it is, the
compiled engine calls its compiled form. Sequences may be lists or arrays.
"""

from __future__ import annotations

import math
from typing import Any

#: A part of a mix that is shorter than this share of the whole is rounding, not a decision.
NO_TIME = 1e-12


def split_direction(dv: float, dw: float, vr: Any, vq: Any) -> tuple[int, float, int, float]:
    """Split a direction into its two neighbours on the rate region's border.

    Parameters
    ----------
    dv, dw : float
        Communication and compute work to be done together, not both 0.
    vr, vq : (m,) sequence of float
        Rates at the region's vertices, from communication-light to communication-heavy.

    Returns
    -------
    heavy, heavy_s, light, light_s
        Vertex numbers and the seconds spent at each; ``heavy_s*(vr, vq)[heavy] +
        light_s*(vr, vq)[light]`` is (dv, dw) where the direction lies inside the border. One of
        the parts may be empty; the heavy one is meant to come first, so that the way stays below
        the chord.
    """
    last = len(vr) - 1
    if dw <= 0.0 or dv * vq[last] >= dw * vr[last]:
        return last, dv / vr[last], last, 0.0
    if dv <= 0.0 or dv * vq[0] <= dw * vr[0]:
        return 0, 0.0, 0, dw / vq[0]
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) // 2
        if dv * vq[middle] >= dw * vr[middle]:
            low = middle
        else:
            high = middle
    det = vr[high] * vq[low] - vr[low] * vq[high]
    heavy_s = (dv * vq[low] - dw * vr[low]) / det
    light_s = (dw * vr[high] - dv * vq[high]) / det
    whole = heavy_s + light_s
    if light_s <= NO_TIME * whole:
        return high, whole, low, 0.0
    if heavy_s <= NO_TIME * whole:
        return high, 0.0, low, whole
    return high, heavy_s, low, light_s


def random_cores(draw: float, c_total: int) -> int:
    """Return 1..c_total-1 uniformly (the paper's baseline); on one core, 0 or 1."""
    if c_total == 1:
        return int(draw * 2.0)
    return 1 + int(draw * (c_total - 1))


def greedy_cores(comm: float, comp: float, comm_times: Any, comp_times: Any) -> int:
    """Return the c that minimises max(g(comm, c), f(comp, c)), the smallest on ties (Algorithm 1).

    Parameters
    ----------
    comm, comp : float
        Work of the two tasks: what remains (`greedy`) or all of it (`greedy-full`).
    comm_times, comp_times : (c_total + 1,) sequence of float
        g(1, c) and f(1, c) by communication cores.
    """
    best, best_time = 0, math.inf
    for c in range(1, len(comm_times) - 1):
        time = max(comm * comm_times[c], comp * comp_times[c])
        if time < best_time:
            best, best_time = c, time
    return best


def string_slope(
    v: float, w: float, gate: int, V: Any, upper: Any, lower: Any, following: Any, bounded: bool
) -> float:
    """Return the first slope of the taut string from a state on.

    Parameters
    ----------
    v, w : float
        Planned communication and compute work done.
    gate : int
        The gate ahead, ``v < V[gate]``.
    V, upper, lower : (n,) sequence of float
        The gates of the corridor.
    following : (n,) sequence of int
        For each gate the next one on the greatest convex minorant of the ceiling from it on
        (-1 at the end); unused when `bounded`.
    bounded : bool
        Whether prefetch is bounded, so that the floor counts.
    """
    highest: float = (upper[gate] - w) / (V[gate] - v)
    if not bounded:
        while following[gate] >= 0:
            gate = following[gate]
            slope = (upper[gate] - w) / (V[gate] - v)
            if slope > highest:
                break
            highest = slope
        return highest
    lowest = 0.0
    for m in range(gate, len(V)):
        reach = (upper[m] - w) / (V[m] - v)
        if reach <= lowest:
            return lowest
        highest = min(highest, reach)
        if m == len(V) - 1 or lower[m] > upper[m]:
            break
        lowest = max(lowest, (lower[m] - w) / (V[m] - v))
        if lowest >= highest:
            break
    return highest
