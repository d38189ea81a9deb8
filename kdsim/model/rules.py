"""The decision rules of the built-in policies, as plain functions of numbers.

Each is written once, in Python that numba accepts: the SimPy engine calls it as it is, the
compiled engine calls its compiled form. Sequences may be lists or arrays.
"""

from __future__ import annotations

import math

from kdsim.model.numbers import Floats, Ints

#: A part of a mix that is shorter than this share of the whole is rounding, not a decision.
NO_TIME = 1e-12


def split_direction(dv: float, dw: float, vr: Floats, vq: Floats) -> tuple[int, float, int, float]:
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


def aim(
    dv: float, dw: float, now: float, cores: Ints, vr: Floats, vq: Floats
) -> tuple[int, float, int]:
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


def aim_in_time(
    dv: float, w: float, now: float, first: int, last: int,
    rest: Floats, heights: Floats, ends: Floats, cores: Ints, vr: Floats, vq: Floats,
    normals: Floats,
) -> tuple[int, float, int]:  # fmt: skip
    """Return the splits that reach the end of the present cell of a timed path when it does.

    Computation first, as long as the cell's end leaves time; then the communication-light part of
    the mix, then the heavy one: so data are never asked for before the path has them.

    Parameters
    ----------
    dv, w, now : float
        Data left of the running Comm task, compute work done, seconds.
    first, last : int
        The task's cells.
    rest, heights, ends : (G,) sequence of float
        Per cell the data left of the task, the compute work done and the instant when it ends.
    cores, vr, vq : (m,) sequence
        Core counts at the rate region's vertices and the rates there.
    normals : (2 * (m + 1),) sequence of float
        The region's facets.

    Returns
    -------
    comm_cores, hold, then
        As `aim`; with a finite ``hold`` and ``then`` of -1 the rule has to be asked again.
    """
    low, high = first, last
    while low < high:  # the first cell that is not behind
        middle = (low + high) // 2
        if dv > rest[middle] * (1.0 + NO_TIME):
            high = middle
        else:
            low = middle + 1
    while True:
        whole = low == last
        part = dv - rest[low]
        work = max(heights[low] - w, 0.0)
        needed = 0.0
        for f in range(len(normals) // 2):
            needed = max(needed, normals[2 * f] * part + normals[2 * f + 1] * work)
        slack = ends[low] - now - needed
        if slack > NO_TIME * ends[low] and now + slack > now:
            return 0, slack, -1
        heavy, heavy_s, light, light_s = split_direction(part, work, vr, vq)
        if heavy_s == 0.0 and vr[light] == 0.0:
            heavy, heavy_s = light + 1, part / vr[light + 1]
        if light_s > 0.0 and now + light_s > now:
            if not whole:
                return cores[light], light_s, -1
            if heavy_s == 0.0:
                return cores[light], math.inf, -1
            return cores[light], light_s, cores[heavy]
        if whole:
            return cores[heavy], math.inf, -1
        if now + heavy_s > now:
            return cores[heavy], heavy_s, -1
        low += 1


def random_cores(draw: float, c_total: int) -> int:
    """Return 1..c_total-1 uniformly (the paper's baseline); on one core, 0 or 1."""
    if c_total == 1:
        return int(draw * 2.0)
    return 1 + int(draw * (c_total - 1))


def greedy_cores(comm: float, comp: float, comm_times: Floats, comp_times: Floats) -> int:
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
