"""What the rules that plan ahead read of a plan: the corridor's corners, and the time left there.

Prepared once per run and shared by the engines: the SimPy engine reads lists, the compiled engine
arrays. What is not here: the rules themselves (``rules``, ``state_rule``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kdsim.model.jit import compiled
from kdsim.model.optimum import COMPILE_FROM, Corridor, corridor, path_heights, taut_string
from kdsim.model.plan import Plan
from kdsim.model.string_tree import link_corners, times_left


class Guide(NamedTuple):
    """A plan as the planning rules read it; every field an array, a list of one, or a number.

    Attributes
    ----------
    comm, forward, backward : (N,)
        Planned work.
    comm_rates, comp_rates, comm_times, comp_times : (c_total + 1,)
        Rates and seconds per unit of work, by communication cores.
    prefetch : int
        Logit batches that the device can hold, 0 for no limit.
    cost : float
        Seconds without progress at each change of the split.
    cores, vr, vq : (m,)
        Core counts at the rate region's vertices and the rates there.
    facet_v, facet_w : (m + 1,)
        The region's normals.
    shortfall : ((m + 1) * (c_total + 1),)
        Per facet and core count the share of the time that the count wastes in the directions of
        that facet.
    heights : (N,)
        Compute work done when Comm_i ends on the planned optimum.
    gate_of : (N,)
        The gate at which each Comm task ends.
    V, upper, lower : (n,)
        The gates of the corridor.
    following, left : (2n,)
        Per corner the next one on the taut string, and the seconds left; see ``string_tree``.
    bounded : bool
        Whether prefetch is bounded, so that the floor counts.
    done : (2N + 1,)
        Compute work of the first k tasks, Forward and Backward in turn.
    total : float
        All compute work.
    """

    comm: Any
    forward: Any
    backward: Any
    comm_rates: Any
    comp_rates: Any
    comm_times: Any
    comp_times: Any
    prefetch: int
    cost: float
    cores: Any
    vr: Any
    vq: Any
    facet_v: Any
    facet_w: Any
    shortfall: Any
    heights: Any
    gate_of: Any
    V: Any
    upper: Any
    lower: Any
    following: Any
    left: Any
    bounded: bool
    done: Any
    total: float

    def as_lists(self) -> Guide:
        """Return the same with lists for arrays: plain floats are faster one by one."""
        return Guide._make(x.tolist() if isinstance(x, np.ndarray) else x for x in self)


def guide_of(plan: Plan, *, corners: bool = True) -> Guide:
    """Prepare a plan for the rules that plan ahead.

    Parameters
    ----------
    plan : Plan
    corners : bool
        Whether the corners and the time left at each are needed; else they are left empty.

    Returns
    -------
    Guide
        With arrays.
    """
    gates, region = corridor(plan), plan.region
    facet_v, facet_w = region.facets.T.copy()
    following, left = np.zeros(0, np.int64), np.zeros(0)
    if corners and gates.V.size:
        following, left = _linked(gates, plan.prefetch > 0, facet_v, facet_w)
    tasks = np.column_stack([plan.forward, plan.backward]).ravel()
    return Guide(
        comm=plan.comm,
        forward=plan.forward,
        backward=plan.backward,
        comm_rates=plan.comm_rates,
        comp_rates=plan.comp_rates,
        comm_times=plan.comm_unit_times,
        comp_times=plan.comp_unit_times,
        prefetch=plan.prefetch,
        cost=plan.reallocation_cost,
        cores=region.vertices,
        vr=plan.comm_rates[region.vertices],
        vq=plan.comp_rates[region.vertices],
        facet_v=facet_v,
        facet_w=facet_w,
        shortfall=np.maximum(
            1.0 - region.facets @ np.stack([plan.comm_rates, plan.comp_rates]), 0.0
        ).ravel(),
        heights=path_heights(taut_string(gates), gates.Q),
        gate_of=np.searchsorted(gates.V, gates.Q),
        V=gates.V,
        upper=gates.upper,
        lower=gates.lower,
        following=following,
        left=left,
        bounded=plan.prefetch > 0,
        done=np.concatenate([[0.0], np.cumsum(tasks)]),
        total=float(gates.total),
    )


def _linked(gates: Corridor, bounded: bool, facet_v: Any, facet_w: Any) -> tuple[Any, Any]:
    """Link the corners of a corridor, see ``string_tree``: lists for few gates, arrays for many."""
    n = gates.V.size
    following, left = np.zeros(2 * n, np.int64), np.zeros(2 * n)
    walls = (gates.V, gates.upper, gates.lower)
    scratch = (np.zeros(n, np.int64), np.zeros(n, np.int64))
    if n >= COMPILE_FROM:
        compiled(link_corners)(*walls, bounded, *scratch, following)
        total = float(gates.total)
        compiled(times_left)(*walls, total, facet_v, facet_w, following, left)
        return following, left
    V, upper, lower = (wall.tolist() for wall in walls)
    links, seconds = [0] * (2 * n), [0.0] * (2 * n)
    link_corners(V, upper, lower, bounded, [0] * n, [0] * n, links)
    facets = (facet_v.tolist(), facet_w.tolist())
    times_left(V, upper, lower, float(gates.total), *facets, links, seconds)
    return np.array(links, dtype=np.int64), np.array(seconds)


def _empty_guide() -> Guide:
    whole = dict.fromkeys(("cores", "gate_of", "following"), np.zeros(0, np.int64))
    numbers = {"prefetch": 0, "cost": 0.0, "bounded": False, "total": 0.0}
    given = {**whole, **numbers}
    return Guide._make(given.get(name, np.zeros(0)) for name in Guide._fields)


#: For the rules that look at the present tasks alone.
NO_GUIDE = _empty_guide()
