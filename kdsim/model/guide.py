"""What the rules that plan ahead read of a plan: the corridor's corners, and the time left there.

Prepared once per run and shared by the engines: the SimPy engine reads lists, the compiled engine
arrays. What is not here: the rules themselves (``rules``, ``state_rule``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kdsim.model.jit import compiled
from kdsim.model.optimum import COMPILE_FROM, corridor, path_heights, taut_string
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
        return Guide(*(x.tolist() if isinstance(x, np.ndarray) else x for x in self))


def guide_of(plan: Plan) -> Guide:
    """Prepare a plan for the rules that plan ahead."""
    gates, region = corridor(plan), plan.region
    n, total = gates.V.size, float(gates.total)
    bounded = plan.prefetch > 0
    scratch = (np.zeros(n, np.int64), np.zeros(n, np.int64))
    following, left = np.zeros(2 * n, np.int64), np.zeros(2 * n)
    if n:
        link, measure = link_corners, times_left
        if n >= COMPILE_FROM:
            link, measure = compiled(link_corners), compiled(times_left)
        link(gates.V, gates.upper, gates.lower, bounded, *scratch, following)
        facet_v, facet_w = region.facets.T.copy()
        measure(gates.V, gates.upper, gates.lower, total, facet_v, facet_w, following, left)
    rates = np.stack([plan.comm_rates, plan.comp_rates])
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
        facet_v=region.facets[:, 0].copy(),
        facet_w=region.facets[:, 1].copy(),
        shortfall=np.maximum(1.0 - region.facets @ rates, 0.0).ravel(),
        heights=path_heights(taut_string(gates), gates.Q),
        gate_of=np.searchsorted(gates.V, gates.Q),
        V=gates.V,
        upper=gates.upper,
        lower=gates.lower,
        following=following,
        left=left,
        bounded=bounded,
        done=np.concatenate([[0.0], np.cumsum(tasks)]),
        total=total,
    )
