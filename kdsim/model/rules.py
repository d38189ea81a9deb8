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
    if heavy_s <= NO_TIME * whole and vr[low] > 0.0:
        return high, 0.0, low, whole
    return high, heavy_s, low, light_s


def aim(dv: float, dw: float, now: float, cores: Any, vr: Any, vq: Any) -> tuple[int, float, int]:
    """Return the splits that do `dv` and `dw` together: cores, hold, cores after it.

    Parameters
    ----------
    dv, dw : float
        Data left of the running Comm task; compute work to be done by its end.
    now : float
        The clock, in seconds: a hold that does not advance it is left out.
    cores, vr, vq : (m,) sequence
        Core counts at the rate region's vertices and the rates there.

    Returns
    -------
    comm_cores, hold, then
        ``hold`` is infinite, and ``then`` -1, where one split stands to the next completion.
    """
    heavy, heavy_s, light, light_s = split_direction(dv, dw, vr, vq)
    if light_s == 0.0:
        return cores[heavy], math.inf, -1
    if vr[light] == 0.0 and dv > 0.0:
        # Comm ends with the heavy part. No hold, lest rounding leave a rest of it that no core
        # works on up to the next completion, however small it is.
        return cores[light + 1], math.inf, -1
    if heavy_s == 0.0 or now + heavy_s == now:
        return cores[light], math.inf, -1
    return cores[heavy], heavy_s, cores[light]


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
