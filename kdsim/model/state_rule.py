"""The paper's state-based rule (eq. 15), and its form for costs and noise.

``T(S) = min over c of [Delta(c) + T(S'(c))]``: every whole-core split c, held to the next
completion (``Delta(c)`` seconds), leads to a state S'(c); the rule takes the c from which all is
done first. The paper leaves T(S') open. Here it is exact: the length of the taut string from that
state on (``string_tree``).

A change of the split that costs time, and work that turns out other than planned, have no such
closed form. There the rule looks some completions ahead: it plays every constant split, and
eq. 15 itself with the cost of each change, on the planned work, adds the string's length at the
end, and begins the best of them. What gains nothing is not changed, so it does not chatter.

Everything is Python that numba accepts, see ``rules``.
"""

from __future__ import annotations

import math

from kdsim.model.guide import Guide
from kdsim.model.string_tree import first_bend

#: Times that differ by less than this share are equal.
TIE = 1e-12
#: Contended states that the look-ahead plays. Measured on random devices under cost, noise and
#: both (benchmarks/robustness.py): 12 to 48 make no difference, fewer are worse.
HORIZON = 24
#: Contended states between two tests of whether a look-ahead can still be the best.
CHECK_EVERY = 3
#: Stands for eq. 15 where a constant split's core count could stand.
BY_STATE = -1


def time_left(gate: int, dv: float, w: float, guide: Guide) -> float:
    """Return the least seconds from a state to the end, ignoring costs of changing the split.

    Parameters
    ----------
    gate : int
        The gate at which the running Comm task ends; where none runs, the last one passed.
    dv : float
        Data left up to that gate; 0 where it is passed.
    w : float
        Compute work done.
    guide : Guide
    """
    if dv <= 0.0:
        if gate == len(guide.V) - 1:
            rest: float = (guide.total - w) * guide.comp_times[0]
            return rest
        if guide.bounded and guide.lower[gate] > w:
            climb: float = (guide.lower[gate] - w) * guide.comp_times[0]
            return climb + float(guide.left[2 * gate + 1])
        gate += 1
        dv = guide.V[gate] - guide.V[gate - 1]
    corner, x, y = first_bend(
        dv, w, gate, guide.V, guide.upper, guide.lower, guide.following, guide.bounded
    )
    longest = 0.0
    for f in range(len(guide.facet_v)):
        longest = max(longest, guide.facet_v[f] * x + guide.facet_w[f] * y)
    return longest + float(guide.left[corner])


def first_facet(gate: int, dv: float, w: float, guide: Guide) -> tuple[int, float]:
    """Return the facet that measures the string's first edge, and the seconds left."""
    corner, x, y = first_bend(
        dv, w, gate, guide.V, guide.upper, guide.lower, guide.following, guide.bounded
    )
    facet, longest = 0, 0.0
    for f in range(len(guide.facet_v)):
        length = guide.facet_v[f] * x + guide.facet_w[f] * y
        if length > longest:
            facet, longest = f, length
    return facet, longest + float(guide.left[corner])


def held(c: int, gate: int, dv: float, rest: float, end: float, guide: Guide) -> float:
    """Return the seconds to the end when c cores communicate up to the next completion.

    Parameters
    ----------
    c : int
        Communication cores.
    gate, dv
        As for `time_left`; ``dv > 0``.
    rest : float
        Compute work left of the running Forward or Backward task.
    end : float
        Compute work done when that task ends.
    guide : Guide
    """
    comm_time = comp_time = math.inf
    if guide.comm_rates[c] > 0.0:
        comm_time = dv * guide.comm_times[c]
    if guide.comp_rates[c] > 0.0:
        comp_time = rest * guide.comp_times[c]
    step = min(comm_time, comp_time)
    # Both complete at once where rounding alone tells them apart.
    if comm_time <= step * (1.0 + TIE):
        dv = 0.0
    else:
        dv -= guide.comm_rates[c] * step
    if comp_time <= step * (1.0 + TIE):
        rest = 0.0
    else:
        rest -= guide.comp_rates[c] * step
    return step + time_left(gate, dv, end - rest, guide)


def state_based_cores(i: int, k: int, dv: float, rest: float, present: int, guide: Guide) -> int:
    """Return the c that minimises Delta(c) + T(S'(c)), the smallest on ties (eq. 15).

    Parameters
    ----------
    i, k : int
        Completed Comm tasks; completed Forward and Backward tasks together.
    dv, rest : float
        Planned work left of the running Comm, and of the running Forward or Backward.
    present : int
        The split in force, -1 before the first; every other c pays the reallocation cost.
    guide : Guide

    Notes
    -----
    The length of the string is convex in the state, so ``Delta(c) + T(S'(c))`` is at least the
    present T plus the share of Delta(c) that c wastes in the direction of the first edge. Most
    core counts are ruled out by that bound without looking at their S'.
    """
    size = len(guide.comm_rates)
    gate, end = guide.gate_of[i], guide.done[k + 1]
    facet, least = first_facet(gate, dv, end - rest, guide)
    vertices = len(guide.cores)
    light = guide.cores[max(facet - 1, 0)]
    heavy = guide.cores[min(facet, vertices - 1)]
    light_time = held(light, gate, dv, rest, end, guide)
    heavy_time = light_time
    if heavy != light:
        heavy_time = held(heavy, gate, dv, rest, end, guide)
    if present >= 0:
        light_time += guide.cost if light != present else 0.0
        heavy_time += guide.cost if heavy != present else 0.0
    reached = min(light_time, heavy_time)
    best, best_time = 0, math.inf
    for c in range(size):
        price = guide.cost if 0 <= present != c else 0.0
        if c == light:
            time = light_time
        elif c == heavy:
            time = heavy_time
        else:
            step = min(dv * guide.comm_times[c], rest * guide.comp_times[c])
            wasted = guide.shortfall[facet * size + c] * step
            if least + wasted + price > reached * (1.0 + 4.0 * TIE):
                continue
            time = price + held(c, gate, dv, rest, end, guide)
        if time < best_time * (1.0 - TIE):
            best, best_time = c, time
            if time <= least * (1.0 + TIE):
                break  # nothing can be faster
    return best


def played_on(
    kind: int, limit: float, i: int, k: int, dv: float, rest: float, present: int, guide: Guide
) -> float:
    """Play a rule on from a state on the planned work; return the seconds to the end.

    Parameters
    ----------
    kind : int
        Core count of a constant split, or `BY_STATE`.
    limit : float
        What has to be undercut: the play stops, with the seconds reached, once it cannot be.
    i, k, dv, rest, present, guide
        As for `state_based_cores`.
    """
    n, c_total = len(guide.comm), len(guide.comm_rates) - 1
    time, asked = 0.0, 0
    comm_on = comp_on = True
    while True:
        moved = True
        while moved:
            moved = False
            if (
                not comm_on
                and i < n
                and (guide.prefetch == 0 or i < guide.prefetch or k // 2 > i - guide.prefetch)
            ):
                dv = guide.comm[i]
                comm_on = dv > 0.0
                if not comm_on:
                    moved, i = True, i + 1
            if not comp_on and k < 2 * n and (k % 2 == 0 or i > k // 2):
                rest = guide.forward[k // 2] if k % 2 == 0 else guide.backward[k // 2]
                comp_on = rest > 0.0
                if not comp_on:
                    moved, k = True, k + 1
        if not comm_on and not comp_on:
            return time
        if not comm_on:
            c = 0
        elif not comp_on:
            c = c_total
        else:
            if asked > 0 and (asked % CHECK_EVERY == 0 or asked == HORIZON):
                least = time + time_left(guide.gate_of[i], dv, guide.done[k + 1] - rest, guide)
                if asked == HORIZON or least >= limit:
                    return least
            asked += 1
            c = kind
            if kind == BY_STATE:
                c = state_based_cores(i, k, dv, rest, present, guide)
        if c != present:
            if present >= 0:
                time += guide.cost
            present = c
        comm_time = comp_time = math.inf
        if comm_on and guide.comm_rates[c] > 0.0:
            comm_time = dv * guide.comm_times[c]
        if comp_on and guide.comp_rates[c] > 0.0:
            comp_time = rest * guide.comp_times[c]
        step = min(comm_time, comp_time)
        time += step
        if comm_on:
            dv -= guide.comm_rates[c] * step
            if comm_time <= step * (1.0 + TIE):
                comm_on, i = False, i + 1
        if comp_on:
            rest -= guide.comp_rates[c] * step
            if comp_time <= step * (1.0 + TIE):
                comp_on, k = False, k + 1


def look_ahead_cores(i: int, k: int, dv: float, rest: float, present: int, guide: Guide) -> int:
    """Return the first split of the rule that does best from here on the planned work.

    Played are all constant splits, the one with the most communication cores first, so that ties
    leave a reserve of data against noise, and then eq. 15. Parameters as `state_based_cores`.
    """
    best, best_time = 0, math.inf
    for c in range(len(guide.comm_rates) - 1, -1, -1):
        time = played_on(c, best_time, i, k, dv, rest, present, guide)
        if time < best_time * (1.0 - TIE):
            best, best_time = c, time
    time = played_on(BY_STATE, best_time, i, k, dv, rest, present, guide)
    if time < best_time * (1.0 - TIE):
        best = state_based_cores(i, k, dv, rest, present, guide)
    return best
