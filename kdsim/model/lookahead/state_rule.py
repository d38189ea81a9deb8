"""The paper's state-based rule: eq. 15 with the exact time left.

``T(S) = min over c of [Delta(c) + T(S'(c))]``: every whole-core split c, held to the next
completion (``Delta(c)`` seconds), leads to a state S'(c); the rule takes the c from which all is
done first. The paper leaves T(S') open. Here it is exact: the length of the taut string from that
state on (``string_tree``).

A change of the split that costs time, and work that turns out other than planned, have no such
closed form; ``look_ahead`` is the rule there.

Everything is Python that numba accepts, see ``rules``. What the functions read of the plan they
take as separate flat sequences, in the order of `guide.Planned`: a compiled function pays for each
array that it finds inside another object.
"""

from __future__ import annotations

import math

from kdsim.model.jit import inlined
from kdsim.model.lookahead.string_tree import first_bend
from kdsim.model.numbers import Floats, Ints

#: Times that differ by less than this share are equal.
TIE = 1e-12


@inlined
def measured(
    gate: int, dv: float, w: float, bounded: bool,
    normals: Floats, gates: Floats, following: Ints, left: Floats,
) -> tuple[int, float]:  # fmt: skip
    """Return the facet that measures the taut string's first edge, and the seconds to the end.

    Parameters
    ----------
    gate : int
        The gate at which the running Comm task ends.
    dv : float
        Data left of it.
    w : float
        Compute work done.
    bounded, normals, gates, following, left
        See `guide.Planned`.
    """
    corner, x, y = first_bend(dv, w, gate, bounded, gates, following)
    facet, longest = 0, 0.0
    for f in range(len(normals) // 2):
        length = normals[2 * f] * x + normals[2 * f + 1] * y
        if length > longest:
            facet, longest = f, length
    return facet, longest + left[corner]


@inlined
def passed(
    gate: int, w: float, total: float, bounded: bool,
    splits: Floats, normals: Floats, gates: Floats, following: Ints, left: Floats,
) -> float:  # fmt: skip
    """Return the seconds to the end when a gate is reached with compute work w done.

    The parameters are those of `held`.
    """
    if 3 * (gate + 1) == len(gates):
        return float((total - w) * splits[3])
    if bounded and gates[3 * gate + 2] > w:
        return float((gates[3 * gate + 2] - w) * splits[3] + left[2 * gate + 1])
    dv = gates[3 * gate + 3] - gates[3 * gate]
    _, seconds = measured(gate + 1, dv, w, bounded, normals, gates, following, left)
    return seconds


@inlined
def held(
    c: int, gate: int, dv: float, rest: float, end: float, total: float, bounded: bool,
    splits: Floats, normals: Floats, gates: Floats, following: Ints, left: Floats,
) -> float:  # fmt: skip
    """Return the seconds to the end when c cores communicate up to the next completion.

    Parameters
    ----------
    c : int
        Communication cores.
    gate, dv
        As for `measured`.
    rest : float
        Compute work left of the running Forward or Backward task.
    end : float
        Compute work done when that task ends.
    total : float
        All compute work.
    bounded, splits, normals, gates, following, left
        See `guide.Planned`.
    """
    comm_rate, comp_rate = splits[4 * c], splits[4 * c + 1]
    comm_time = comp_time = math.inf
    if comm_rate > 0.0:
        comm_time = dv * splits[4 * c + 2]
    if comp_rate > 0.0:
        comp_time = rest * splits[4 * c + 3]
    step = min(comm_time, comp_time)
    # The two complete at once if their times differ by rounding alone.
    both = step * (1.0 + TIE)
    w = end
    if comp_time > both:
        w -= rest - comp_rate * step
    if comm_time > both:
        dv -= comm_rate * step
    else:
        return step + passed(gate, w, total, bounded, splits, normals, gates, following, left)
    _, seconds = measured(gate, dv, w, bounded, normals, gates, following, left)
    return step + seconds


def state_based_cores(
    i: int, k: int, dv: float, rest: float, present: int,
    cost: float, prefetch: int, splits: Floats, tasks: Floats, cores: Ints, normals: Floats,
    shortfall: Floats,
    gates: Floats, gate_of: Ints, following: Ints, left: Floats, done: Floats,
) -> int:  # fmt: skip
    """Return the c that minimises Delta(c) + T(S'(c)), the smallest on ties (eq. 15).

    Parameters
    ----------
    i, k : int
        Completed Comm tasks; completed Forward and Backward tasks together.
    dv, rest : float
        Planned work left of the running Comm, and of the running Forward or Backward.
    present : int
        The split in force, -1 before the first; every other c pays the reallocation cost.
    cost, prefetch, splits, tasks, cores, normals, shortfall, gates, gate_of, following, left, done
        See `guide.Planned`.

    Notes
    -----
    The length of the string is convex in the state, so ``Delta(c) + T(S'(c))`` is at least the
    present T plus the share of Delta(c) that c wastes in the direction of the first edge. Most
    core counts are ruled out by that bound without looking at their S'.
    """
    size, bounded = len(splits) // 4, prefetch > 0
    if not (dv > 0.0 and rest > 0.0):
        return 0 if rest > 0.0 else size - 1  # a rest below the least number is no work
    gate, end, total = gate_of[i], done[k + 1], done[len(done) - 1]
    facet, least = measured(gate, dv, end - rest, bounded, normals, gates, following, left)
    light, heavy = cores[max(facet - 1, 0)], cores[min(facet, len(cores) - 1)]
    reached = light_time = heavy_time = held(
        light, gate, dv, rest, end, total, bounded, splits, normals, gates, following, left
    )
    if present >= 0 and light != present:
        reached = light_time = light_time + cost
    if heavy != light:
        heavy_time = held(
            heavy, gate, dv, rest, end, total, bounded, splits, normals, gates, following, left
        )
        if present >= 0 and heavy != present:
            heavy_time += cost
        reached = min(reached, heavy_time)
    ruled_out = reached * (1.0 + 4.0 * TIE) - least
    best, best_time = 0, math.inf
    for c in range(size):
        if c == light:
            time = light_time
        elif c == heavy:
            time = heavy_time
        else:
            price = cost if 0 <= present != c else 0.0
            step = min(dv * splits[4 * c + 2], rest * splits[4 * c + 3])
            if shortfall[facet * size + c] * step + price > ruled_out:
                continue
            time = price + held(
                c, gate, dv, rest, end, total, bounded, splits, normals, gates, following, left
            )
        if time < best_time * (1.0 - TIE):
            best, best_time = c, time
            if time <= least * (1.0 + TIE):
                break  # nothing can be faster
    return best
