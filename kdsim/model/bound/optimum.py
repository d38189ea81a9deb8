"""The exact optimum: the least makespan, the path that attains it, its schedule on whole cores.

Progress is a path in the plane of communication work V and compute work W. Precedence says that
while ``V < Q_m`` (Comm_m is not done), ``W <= U_m`` (Backward_m has not begun); a bounded
prefetch adds a floor. Because the time of a straight piece is a gauge (convex and positively
homogeneous), the taut string between floor and ceiling is the fastest path for every rate region
at once, and no schedule whatever can beat it.

What is not here: the rate region and its gauge (``curves``), data that arrive in time
(``timed_optimum``), the schedule (``schedule``), the policy that follows the string
(``policies``).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdsim.messages import html_table
from kdsim.model.bound.schedule import Piece, string_schedule, timed_schedule
from kdsim.model.bound.timed_optimum import TimedPath, timed_path
from kdsim.model.curves import FloatArray
from kdsim.model.jit import COMPILE_FROM, compiled
from kdsim.model.numbers import Floats, WrittenInts
from kdsim.model.plan import Plan

#: Pieces of a schedule that a notebook shows.
_SHOWN = 12


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


def string_bends(
    V: Floats, upper: Floats, lower: Floats, start: float,
    up: WrittenInts, lo: WrittenInts, out: WrittenInts,
) -> int:  # fmt: skip
    """Compute the taut string (funnel); write its bends to `out` and return their count.

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
        Whether a schedule attains `makespan`. False under `reallocation_cost`, where it is a lower
        bound, and has to be called so.
    plan : Plan
        What was solved.
    timed : TimedPath, optional
        The path with its instants, where data arrive in time.
    """

    makespan: float
    path: FloatArray
    exact: bool
    plan: Plan
    timed: TimedPath | None = None

    @property
    def kind(self) -> str:
        """How to call `makespan`: ``"optimum"`` or ``"lower bound"``."""
        return bound_kind(self.plan)

    @functools.cached_property
    def heights(self) -> FloatArray:
        """Compute work done when Comm_m ends on the fastest path, (N,) array."""
        return path_heights(self.path, np.cumsum(self.plan.comm))

    @functools.cached_property
    def schedule(self) -> list[Piece]:
        """The path as pieces on whole cores; see ``schedule`` for their order in a cycle."""
        if self.timed is not None:
            return list(timed_schedule(self.timed, self.plan))
        return list(string_schedule(self.path, self.heights, self.plan))

    def _repr_html_(self) -> str:
        pieces = self.schedule
        rows = [
            (f"{p.start:.5g}", f"{p.duration:.5g}", p.comm_cores, p.comp_cores)
            for p in pieces[:_SHOWN]
        ]
        kind = "minimal makespan" if self.exact else "lower bound of the makespan"
        more = f"{len(pieces) - _SHOWN:,} more pieces" if len(pieces) > _SHOWN else ""
        headings = ("start (s)", "duration (s)", "comm cores", "compute cores")
        return html_table(f"{kind} {self.makespan:.5g} s", headings, rows, more)

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


def minimal_makespan(plan: Plan) -> Optimum:
    """Compute the least makespan of a plan, exactly; see `kdsim.api.minimal_makespan`."""
    exact = bound_kind(plan) == "optimum"
    if is_timed(plan):
        timed = timed_path(plan)
        return Optimum(timed.makespan, _points(timed, plan), exact, plan, timed)
    path = taut_string(corridor(plan))
    steps = np.diff(path, axis=0)
    # Summed edge by edge, as the compiled engine does: not a bit may depend on which of the two
    # a run was given to, and numpy's sum goes pairwise.
    length = float(np.cumsum(plan.region.gauge(steps[:, 0], steps[:, 1]))[-1])
    return Optimum(length, path, exact, plan)


def is_timed(plan: Plan) -> bool:
    """Whether the clock counts: logits are released one by one, or a link delivers the data."""
    return plan.release > 0 or plan.link is not None


def bound_kind(plan: Plan, *, noisy: bool = False) -> str:
    """How to call the minimal makespan: ``"optimum"``, or ``"lower bound"`` where none attains it.

    A reallocation cost is left out of it, and under noise only who knows all work beforehand could
    attain it.
    """
    return "lower bound" if noisy or plan.reallocation_cost > 0 else "optimum"


#: What outputs say where the minimal makespan is a lower bound.
BOUND_NOTE = (
    "The bound is a lower bound: it leaves out what changes of the split cost, and it knows the "
    "noise, which no policy does. The policy optimal looks ahead there; it is not proven to be the "
    "fastest."
)


def _points(timed: TimedPath, plan: Plan) -> FloatArray:
    """Return the path's vertices (V, W) without repetitions."""
    v = np.cumsum(timed.data)
    corners = np.empty((2 * v.size + 2, 2))
    corners[0] = 0.0
    corners[1:-1:2] = np.column_stack([v - timed.data, timed.leave])
    corners[2:-1:2] = np.column_stack([v, timed.arrive])
    corners[-1] = v[-1], (plan.forward + plan.backward).sum()
    keep = np.append(True, (np.diff(corners, axis=0) != 0).any(axis=1))
    return np.asarray(corners[keep])
