"""What the rules that plan ahead read of a plan: the optimal heights, the corridor's corners.

Prepared once per run and shared by the engines: the SimPy engine reads views of plain numbers, the
compiled engine arrays. What is not here: the rules themselves (``rules``, ``state_rule``).
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from kdsim.model.bound.optimum import Corridor, corridor, is_timed, path_heights, taut_string
from kdsim.model.bound.timed_optimum import (
    arrivals_of,
    releases_of,
    slopes_of,
    tasks_of,
    timed_path,
)
from kdsim.model.curves import FloatArray
from kdsim.model.jit import COMPILE_FROM, compiled
from kdsim.model.lookahead.string_tree import link_corners, times_left
from kdsim.model.numbers import Floats, Ints, WrittenFloats
from kdsim.model.plan import Plan


class Heights(NamedTuple):
    """What `optimal` follows.

    Attributes
    ----------
    heights : (G,)
        Compute work done when a cell of the planned optimum ends. Without a clock a cell is a Comm
        task; for `last`, `rest` and `ends`, empty then, see ``timed_optimum.TimedPath``.
    last : (N + 1,) of int
        The last cell of each Comm task, after a -1.
    rest, ends : (G,)
        Data left of a cell's Comm task behind the cell; the instant when the cell ends.
    done : (2N + 1,)
        Compute work of the first k tasks, Forward and Backward in turn.
    cores, vr, vq : (m,)
        Core counts at the rate region's vertices and the rates there.
    normals : (2 * (m + 1),)
        The region's facets: the two components of each normal in turn.
    """

    heights: Floats
    last: Ints
    rest: Floats
    ends: Floats
    done: Floats
    cores: Ints
    vr: Floats
    vq: Floats
    normals: Floats


class Planned(NamedTuple):
    """What the state-based rule reads, in the order in which its functions take it.

    Attributes
    ----------
    cost : float
        Seconds without progress at each change of the split.
    prefetch : int
        Logit batches that the device can hold, 0 for no limit; else the floor counts.
    splits : (4 * (c_total + 1),)
        r(c), q(c), g(1, c) and f(1, c) of each number c of communication cores in turn.
    tasks : (3N,)
        Planned work of Comm, Forward and Backward of each cycle in turn.
    cores : (m,) of int
        Core counts at the rate region's vertices.
    normals : (2 * (m + 1),)
        The region's facets: the two components of each normal in turn.
    shortfall : ((m + 1) * (c_total + 1),)
        Per facet and core count the share of the time that the count wastes in the directions
        which that facet measures.
    gates : (3n,)
        V, upper and lower of each gate of the corridor in turn.
    gate_of : (N,) of int
        The gate at which each Comm task ends.
    following : (2n,) of int
        Per corner the next one on the taut string; see ``string_tree``.
    left : (2n,)
        Per corner the seconds to the end.
    done : (2N + 1,)
        Compute work of the first k tasks, Forward and Backward in turn.
    """

    cost: float
    prefetch: int
    splits: Floats
    tasks: Floats
    cores: Ints
    normals: Floats
    shortfall: Floats
    gates: Floats
    gate_of: Ints
    following: Ints
    left: Floats
    done: Floats


class Clocked(NamedTuple):
    """What the rules that plan read besides `Planned` where data arrive in time.

    Attributes
    ----------
    releases, ends : (N,)
        Earliest start of each Comm task in seconds; data processed when it ends.
    times, arrived : (K,)
        Corners of the arrivals; empty without a link.
    shared : bool
        Whether computation uses the time that starved cores do not need.
    values, lengths, fastest
        See ``timed_optimum.Slopes``.
    lens, nothing
        Scratch of the number of slopes; an empty sequence.
    """

    releases: Floats
    ends: Floats
    times: Floats
    arrived: Floats
    shared: bool
    values: Floats
    lengths: Floats
    fastest: float
    lens: WrittenFloats
    nothing: WrittenFloats


#: What the rules read: see `_nothing`.
Fields = TypeVar("Fields", Heights, Planned, Clocked)


def clocked_of(plan: Plan) -> Clocked:
    """Prepare what a plan adds for the state-based rule on the clock."""
    ends, slopes = np.cumsum(plan.comm), slopes_of(plan.region)
    times, arrived = arrivals_of(plan, float(plan.comm.sum()))
    return Clocked(
        releases=releases_of(plan),
        ends=ends,
        times=times,
        arrived=arrived,
        shared=plan.link is not None and plan.link.starved == "shared",
        values=slopes.values,
        lengths=slopes.lengths,
        fastest=slopes.fastest,
        lens=np.zeros(slopes.values.size),
        nothing=np.zeros(0),
    )


def heights_of(plan: Plan) -> Heights:
    """Prepare a plan for `optimal`."""
    region = plan.region
    last, rest, ends = np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
    if is_timed(plan):
        timed = timed_path(plan)
        heights, rest, ends = (x.copy() for x in (timed.arrive, timed.rest, timed.end))
        last = np.append(-1, np.flatnonzero(rest == 0.0))
    else:
        gates = corridor(plan)
        heights = path_heights(taut_string(gates), gates.Q)
    return Heights(
        heights=heights,
        last=last,
        rest=rest,
        ends=ends,
        done=_done(plan),
        cores=region.vertices,
        vr=plan.comm_rates[region.vertices],
        vq=plan.comp_rates[region.vertices],
        normals=region.facets.ravel(),
    )


def planned_of(plan: Plan) -> Planned:
    """Prepare a plan for the state-based rule."""
    gates, region = corridor(plan), plan.region
    rates = np.stack([plan.comm_rates, plan.comp_rates])
    following, left = _linked(gates, plan.prefetch > 0, region.facets)
    return Planned(
        cost=plan.reallocation_cost,
        prefetch=plan.prefetch,
        splits=np.stack([*rates, plan.comm_unit_times, plan.comp_unit_times], axis=1).ravel(),
        tasks=tasks_of(plan),
        cores=region.vertices,
        normals=region.facets.ravel(),
        shortfall=np.maximum(1.0 - region.facets @ rates, 0.0).ravel(),
        gates=np.stack([gates.V, gates.upper, gates.lower], axis=1).ravel(),
        gate_of=np.searchsorted(gates.V, gates.Q),
        following=following,
        left=left,
        done=_done(plan),
    )


def _done(plan: Plan) -> FloatArray:
    tasks = np.column_stack([plan.forward, plan.backward]).ravel()
    return np.concatenate([[0.0], np.cumsum(tasks)])


def as_views(fields: tuple[Any, ...]) -> list[Any]:
    """Return the fields with views for arrays: their entries are plain numbers, faster one by one.

    Not lists, which take five times as much memory.
    """
    # mypy does not know that an array is a buffer.
    return [memoryview(x) if isinstance(x, np.ndarray) else x for x in fields]  # type: ignore[arg-type]


def _linked(
    gates: Corridor, bounded: bool, facets: FloatArray
) -> tuple[NDArray[np.int64], FloatArray]:
    """Link the corners of a corridor, see ``string_tree``: lists for few gates, arrays for many."""
    n, total = gates.V.size, float(gates.total)
    following, left = np.zeros(2 * n, np.int64), np.zeros(2 * n)
    if n == 0:
        return following, left
    V, upper, lower = walls = gates.V, gates.upper, gates.lower
    if n >= COMPILE_FROM:
        up, lo = np.zeros(n, np.int64), np.zeros(n, np.int64)
        compiled(link_corners)(*walls, bounded, up, lo, following)
        compiled(times_left)(*walls, total, *facets.T.copy(), following, left)
        return following, left
    V, upper, lower = V.tolist(), upper.tolist(), lower.tolist()
    links, seconds = [0] * (2 * n), [0.0] * (2 * n)
    link_corners(V, upper, lower, bounded, [0] * n, [0] * n, links)
    facet_v, facet_w = facets.T.tolist()
    times_left(V, upper, lower, total, facet_v, facet_w, links, seconds)
    return np.array(links, dtype=np.int64), np.array(seconds)


def _nothing(kind: type[Fields], whole: tuple[str, ...]) -> Fields:
    numbers = {"cost": 0.0, "prefetch": 0, "shared": False, "fastest": 0.0}
    return kind._make(
        numbers.get(name, np.zeros(0, np.int64 if name in whole else float))
        for name in kind._fields
    )


#: For the rules that look at the present tasks alone.
NO_HEIGHTS = _nothing(Heights, ("cores", "last"))
NOT_PLANNED = _nothing(Planned, ("cores", "gate_of", "following"))
NO_CLOCK = _nothing(Clocked, ())
NO_OUTLOOK: FloatArray = np.zeros(0)
