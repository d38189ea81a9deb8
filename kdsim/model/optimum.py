"""The exact optimum: the least makespan, the path that attains it, its schedule on whole cores.

Progress is a path in the plane of communication work V and compute work W. Precedence says that
while ``V < Q_m`` (Comm_m is not done), ``W <= U_m`` (Backward_m has not begun); a bounded
prefetch adds a floor. Because the time of a straight piece is a gauge (convex and positively
homogeneous), the taut string between floor and ceiling is the fastest path for every rate region
at once, and no schedule whatever can beat it.

What is not here: the rate region and its gauge (``curves``), the policy that follows the string
(``policies``).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kdsim.model.curves import FloatArray, RateRegion
from kdsim.model.jit import compiled
from kdsim.model.link import Link
from kdsim.model.plan import Plan
from kdsim.model.rules import split_direction

#: Below this many cycles the interpreter is done before a compiled version is even loaded.
COMPILE_FROM = 20_000


class Piece(NamedTuple):
    """A stretch of a schedule: from `start` on, `duration` seconds on this split of the cores."""

    start: float
    duration: float
    comm_cores: int
    comp_cores: int


@dataclass(frozen=True, eq=False)
class Corridor:
    """Where a path may pass: gates at the distinct values of Q_m.

    Leading dimensions, if any, are replications of one plan.

    Attributes
    ----------
    V : (..., n) float array
        Increasing communication work at which a Comm task ends, V > 0.
    upper, lower : (..., n) float array
        A path arrives at V no higher than `upper` and leaves it no lower than `lower`. Where
        ``lower > upper`` it has to climb there.
    start : (...,) float array
        Compute work that must be done before any communication, usually 0.
    total : (...,) float array
        All compute work.
    Q, U : (..., N) float array
        Corners of the ceiling for every cycle, in the notation of the model.
    """

    V: FloatArray
    upper: FloatArray
    lower: FloatArray
    start: FloatArray
    total: FloatArray
    Q: FloatArray
    U: FloatArray


def corridor(plan: Plan) -> Corridor:
    """Build the corridor of a plan: the ceiling of precedence and the floor of prefetch.

    Parameters
    ----------
    plan : Plan
        Its work may have leading dimensions, as long as no task is empty in one replication and
        not in another. Its `prefetch` B bounds the logit batches held: ``Comm_{m+1}`` may start
        only when ``Backward_{m+1-B}`` is done.

    Returns
    -------
    Corridor
    """
    n, bound = plan.cycles, plan.prefetch
    cycle_work = np.cumsum(plan.forward + plan.backward, axis=-1)
    Q = np.cumsum(plan.comm, axis=-1)
    U = cycle_work - plan.backward
    L = np.zeros_like(U)
    if 0 < bound < n:
        L[..., bound - 1 : n - 1] = cycle_work[..., : n - bound]
    # Cycles without data end their Comm where the one before ended: one gate for all of them,
    # entered below the first ceiling and left above the last floor.
    first = np.flatnonzero(plan.comm.reshape(-1, n)[0] > 0)
    last = np.append(first[1:] - 1, n - 1) if first.size else first
    no_data = first[0] if first.size else n
    start = L[..., no_data - 1] if no_data else np.zeros(U.shape[:-1])
    lower = np.maximum(L[..., last], np.asarray(start)[..., None])
    lower[..., -1:] = 0.0  # nothing has to be done before the end of all communication
    return Corridor(
        Q[..., first], U[..., first], lower, np.asarray(start), cycle_work[..., -1], Q, U
    )


def string_bends(V: Any, upper: Any, lower: Any, start: float, up: Any, lo: Any, out: Any) -> int:
    """Pull the string tight (funnel); write gate indexes of its bends to `out`, return their count.

    `up` and `lo` are the two chains of the funnel as gate indexes from an apex on: the greatest
    convex minorant of the ceiling, the least concave majorant of the floor. A bend at gate k is
    written as ``2*k`` (on the ceiling) or ``2*k + 1`` (on the floor); a forced climb writes both.
    """
    n = len(V)
    count = 0
    x, y = 0.0, start
    nu = hu = nl = hl = 0  # chains are up[hu:nu], lo[hl:nl], apex not included
    for i in range(n):
        v, top, bottom = V[i], upper[i], lower[i]
        climb = bottom > top
        last = i == n - 1
        if climb or last:
            bottom = top
        # The ceiling: keep slopes increasing along the chain.
        while nu > hu:
            k = up[nu - 1]
            px, py = (V[up[nu - 2]], upper[up[nu - 2]]) if nu - hu > 1 else (x, y)
            if (top - py) * (V[k] - px) <= (upper[k] - py) * (v - px):
                nu -= 1
            else:
                break
        if nu == hu:
            # The new gate lies below all that is seen past the floor's bends: go round them.
            while nl > hl:
                k = lo[hl]
                if (top - y) * (V[k] - x) < (lower[k] - y) * (v - x):
                    out[count] = 2 * k + 1
                    count += 1
                    x, y = V[k], lower[k]
                    hl += 1
                else:
                    break
        up[nu] = i
        nu += 1
        # The floor: keep slopes decreasing along the chain.
        while nl > hl:
            k = lo[nl - 1]
            px, py = (V[lo[nl - 2]], lower[lo[nl - 2]]) if nl - hl > 1 else (x, y)
            if (bottom - py) * (V[k] - px) >= (lower[k] - py) * (v - px):
                nl -= 1
            else:
                break
        if nl == hl:
            while nu > hu and up[hu] != i:
                k = up[hu]
                if (bottom - y) * (V[k] - x) > (upper[k] - y) * (v - x):
                    out[count] = 2 * k
                    count += 1
                    x, y = V[k], upper[k]
                    hu += 1
                else:
                    break
        lo[nl] = i
        nl += 1
        if climb or last:
            # Here both chains meet: what is left of either is the string.
            while hl < nl - 1:
                out[count] = 2 * lo[hl] + 1
                count += 1
                hl += 1
            while hu < nu - 1:
                out[count] = 2 * up[hu]
                count += 1
                hu += 1
            out[count] = 2 * i
            count += 1
            if climb and not last:
                out[count] = 2 * i + 1
                count += 1
            x, y = v, lower[i] if climb else top
            hu, hl = nu, nl
    return count


def taut_string(gates: Corridor) -> FloatArray:
    """Return the vertices of the fastest path.

    Parameters
    ----------
    gates : Corridor

    Returns
    -------
    (k, 2) float array
        Points (V, W) from (0, 0) to (all communication, all computation).
    """
    n = gates.V.size
    string = string_bends
    if n >= COMPILE_FROM:
        string = compiled(string_bends)
        bends = np.empty(2 * n, np.int64)
        work = (np.empty(n, np.int64), np.empty(n, np.int64))
        start = float(gates.start)
        count = string(gates.V, gates.upper, gates.lower, start, *work, bends)
        bends = bends[:count]
    else:
        plain = (gates.V.tolist(), gates.upper.tolist(), gates.lower.tolist())
        found = [0] * (2 * n)
        count = string(*plain, float(gates.start), [0] * n, [0] * n, found)
        bends = np.array(found[:count], dtype=np.int64)
    gate, on_floor = bends // 2, bends % 2 == 1
    heights = np.where(on_floor, gates.lower[gate], gates.upper[gate])
    head = [[0.0, 0.0], [0.0, float(gates.start)]]
    tail = [[float(gates.V[-1]) if n else 0.0, float(gates.total)]]
    path = np.vstack([head, np.column_stack([gates.V[gate], heights]), tail])
    keep = np.append(True, (np.diff(path, axis=0) != 0).any(axis=1))
    return np.asarray(path[keep])


@dataclass(frozen=True, eq=False)
class Optimum:
    """The least makespan that any schedule can reach, and how.

    Attributes
    ----------
    makespan : float
        Seconds.
    path : (k, 2) float array
        Vertices (V, W) of the fastest path, data units and compute units.
    exact : bool
        Whether a schedule attains `makespan`. False under `release`, `reallocation_cost` or a link,
        where it is a lower bound, and has to be called so.
    plan : Plan
        What was solved.
    """

    makespan: float
    path: FloatArray
    exact: bool
    plan: Plan

    @property
    def kind(self) -> str:
        """How to call `makespan`: ``"optimum"`` or ``"lower bound"``."""
        return "optimum" if self.exact else "lower bound"

    @functools.cached_property
    def heights(self) -> FloatArray:
        """Compute work done when Comm_m ends on the fastest path, (N,) array."""
        return path_heights(self.path, np.cumsum(self.plan.comm))

    @functools.cached_property
    def schedule(self) -> list[Piece]:
        """The path as pieces on whole cores, communication-heavy part first in every cycle."""
        return list(_schedule(self.path, self.heights, self.plan))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: makespan, kind, path, schedule."""
        return {
            "makespan": self.makespan,
            "kind": self.kind,
            "path": self.path.tolist(),
            "schedule": [piece._asdict() for piece in self.schedule],
        }


def path_heights(path: FloatArray, Q: FloatArray) -> FloatArray:
    """Return the height at which a path arrives at each Q_m (the lowest, where it climbs)."""
    arrive = np.searchsorted(path[:, 0], Q, side="left")
    before = np.maximum(arrive - 1, 0)
    dv = path[arrive, 0] - path[before, 0]
    share = np.divide(Q - path[before, 0], dv, out=np.ones_like(Q), where=dv > 0)
    return np.asarray(path[before, 1] + share * (path[arrive, 1] - path[before, 1]))


def _schedule(path: FloatArray, heights: FloatArray, plan: Plan) -> Iterator[Piece]:
    region, c_total = plan.region, plan.c_total
    cores = region.vertices.tolist()
    vr = region.comm_rates[region.vertices].tolist()
    vq = region.comp_rates[region.vertices].tolist()
    # Where the path leaves each Q_m: above where it arrives, if it climbs there.
    ends = np.cumsum(plan.comm)
    leave = path[np.searchsorted(path[:, 0], ends, side="right") - 1]
    leave_w = np.where(leave[:, 0] == ends, np.maximum(leave[:, 1], heights), heights)
    now, pending, length = 0.0, -1, 0.0
    v, w = 0.0, float(path[path[:, 0] == 0.0][-1, 1])
    pieces = [(cores[0], w / vq[0])] if w > 0 else []
    for q, arrive, out in zip(ends.tolist(), heights.tolist(), leave_w.tolist(), strict=True):
        if q > v:
            heavy, heavy_s, light, light_s = split_direction(q - v, arrive - w, vr, vq)
            pieces += [(cores[heavy], heavy_s), (cores[light], light_s)]
        if out > max(arrive, w):
            pieces.append((cores[0], (out - max(arrive, w)) / vq[0]))
        v, w = q, max(out, w)
    for c, seconds in pieces:
        if seconds <= 0.0:
            continue
        if c != pending and length > 0.0:
            yield Piece(now, length, pending, c_total - pending)
            now, length = now + length, 0.0
        pending, length = c, length + seconds
    if length > 0.0:
        yield Piece(now, length, pending, c_total - pending)


def minimal_makespan(scenario: Any) -> Optimum:
    """Compute the least makespan of a scenario, exactly and in O(N).

    Parameters
    ----------
    scenario : Scenario, Plan, str or Path
        A scenario (or a bundled name, or a path), or the plan of one. Noise is left aside: the
        planned work is what is solved.

    Returns
    -------
    Optimum

    Notes
    -----
    Under `release`, `reallocation_cost` or a link the result is a lower bound (``exact`` is False):
    the larger of the taut string and, for each cycle i, the time at which its data are there plus
    what cannot have been done before.

    Examples
    --------
    >>> import kdsim
    >>> opt = kdsim.minimal_makespan("paper-1to1")
    >>> opt.exact, len(opt.path)
    (True, 4)
    """
    plan = scenario if isinstance(scenario, Plan) else _plan_of(scenario)
    gates = corridor(plan)
    path = taut_string(gates)
    steps = np.diff(path, axis=0)
    # Summed edge by edge, as the compiled engine does: not a bit may depend on which of the two
    # a run was given to, and numpy's sum goes pairwise.
    length = float(np.cumsum(plan.region.gauge(steps[:, 0], steps[:, 1]))[-1])
    if plan.release > 0:
        length = max(length, float(release_bound(plan, gates)))
    if plan.link is not None:
        length = max(length, float(link_bound(plan.link, plan, gates)))
    return Optimum(length, path, is_exact(plan), plan)


def is_exact(plan: Plan) -> bool:
    """Whether the taut string is attained by a schedule, or only bounds it from below."""
    return plan.release == 0 and plan.reallocation_cost == 0 and plan.link is None


def _plan_of(scenario: Any) -> Plan:
    from kdsim.scenario.load import (
        load_scenario,  # a file is read only when a name or path is given
    )

    return load_scenario(scenario).plan()


def link_bound(link: Link, plan: Plan, gates: Corridor) -> FloatArray:
    """Bound from below, for each i, by what must still be done when its data have arrived."""
    there = link.arrival_time(gates.Q)
    left = plan.region.gauge(gates.Q[..., -1:] - gates.Q, gates.total[..., None] - gates.U)
    return np.asarray((there + left).max(axis=-1))


def release_bound(plan: Plan, gates: Corridor) -> FloatArray:
    """Bound from below, for each i, by what must still be done when logits i arrive."""
    region: RateRegion = plan.region
    after = np.arange(1, plan.cycles + 1) * plan.release
    data_left = gates.Q[..., -1:] - gates.Q + plan.comm
    together = after + region.gauge(data_left, gates.total[..., None] - gates.U)
    one_by_one = after + region.gauge(data_left, 0.0) + region.gauge(0.0, plan.backward[..., -1:])
    return np.asarray(np.maximum(together, one_by_one).max(axis=-1))
