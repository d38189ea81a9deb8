"""The rate region of a device: all velocities that core allocations reach, and its gauge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdsim.model.curves import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class RateRegion:
    """All velocities (dV/dt, dW/dt) that whole-core allocations, mixed in time, can reach.

    The convex hull of the points ``(r(c), q(c))`` and of everything below them (idling is
    allowed). Built by :func:`rate_region`.

    Attributes
    ----------
    comm_rates, comp_rates : (c_total + 1,) float array
        r(c) and q(c), indexed by communication cores.
    vertices : (m,) int array
        Core counts on the upper right border, from communication-light to communication-heavy:
        r increases, q decreases strictly.
    facets : (m + 1, 2) float array
        Outer normals n scaled so that the region is ``{v >= 0 : n @ v <= 1 for all n}``.
    """

    comm_rates: FloatArray
    comp_rates: FloatArray
    vertices: NDArray[np.int64]
    facets: FloatArray

    def gauge(self, dv: ArrayLike, dw: ArrayLike) -> FloatArray:
        """Return rho(dV, dW), the least time in which dV data and dW compute work can be done.

        Parameters
        ----------
        dv, dw : array_like
            Non-negative amounts of communication and compute work, broadcast together.

        Returns
        -------
        float array
            Seconds; the maximum of ``n @ (dv, dw)`` over the facets.
        """
        v, w = np.asarray(dv, float)[..., None], np.asarray(dw, float)[..., None]
        return np.asarray((v * self.facets[:, 0] + w * self.facets[:, 1]).max(axis=-1))


def rate_region(comm_rates: ArrayLike, comp_rates: ArrayLike) -> RateRegion:
    """Build the rate region from r(c) and q(c).

    Parameters
    ----------
    comm_rates, comp_rates : (c_total + 1,) array_like
        r and q, indexed by communication cores; ``r[0] = 0`` and ``q[c_total] = 0``.

    Returns
    -------
    RateRegion

    Examples
    --------
    >>> region = rate_region([0.0, 1.0, 1.5], [2.0, 1.5, 0.0])
    >>> region.vertices.tolist()
    [0, 1, 2]
    >>> float(region.gauge(1.0, 1.5))
    1.0
    """
    r, q = np.asarray(comm_rates, float), np.asarray(comp_rates, float)
    # From the fastest communication downwards keep what raises q (drop dominated points), then
    # turn left only (upper hull). Ties go to the smaller core count.
    order = sorted(range(r.size), key=lambda c: (-r[c], -q[c], c))
    hull: list[int] = []
    for c in order:
        if hull and q[c] <= q[hull[-1]]:
            continue
        while len(hull) > 1 and _not_left_turn(r, q, hull[-2], hull[-1], c):
            hull.pop()
        hull.append(c)
    vertices = np.array(hull[::-1], dtype=np.int64)
    rv, qv = r[vertices], q[vertices]
    det = rv[1:] * qv[:-1] - rv[:-1] * qv[1:]
    inner = np.column_stack([(qv[:-1] - qv[1:]) / det, (rv[1:] - rv[:-1]) / det])
    facets = np.vstack([[0.0, 1.0 / qv[0]], inner, [1.0 / rv[-1], 0.0]])
    return RateRegion(r, q, vertices, facets)


def _not_left_turn(r: FloatArray, q: FloatArray, a: int, b: int, c: int) -> bool:
    cross = (r[b] - r[a]) * (q[c] - q[a]) - (q[b] - q[a]) * (r[c] - r[a])
    # The scale makes three points in one line (perfect scaling) one facet despite rounding.
    scale = abs((r[b] - r[a]) * (q[c] - q[a])) + abs((q[b] - q[a]) * (r[c] - r[a]))
    return bool(cross <= 1e-14 * scale)
