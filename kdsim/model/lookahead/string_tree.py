"""The taut string from every state on: which corner it touches next, and the time left from there.

Every shortest way to the end of a corridor runs through corners of its ceiling and its floor, and
from each corner there is one next corner: a tree, rooted at the end. Built once, backwards, with
a funnel whose corners each enter and leave once (O(N)); after that the first bend from any state
is found by walking a few links, and the time left is one gauge and one stored number.

Corner ``2*m`` is the ceiling's at gate m, corner ``2*m + 1`` the floor's. What is not here: the
corridor and the string itself (``optimum``), the decisions (``rules``).
"""

from __future__ import annotations

from kdsim.model.jit import inlined
from kdsim.model.numbers import Floats, Ints, WrittenFloats, WrittenInts


def link_corners(
    V: Floats,
    upper: Floats,
    lower: Floats,
    bounded: bool,
    up: WrittenInts,
    lo: WrittenInts,
    following: WrittenInts,
) -> None:
    """Write for each corner the next one on the taut string to the end, -1 at the end.

    Parameters
    ----------
    V, upper, lower : (n,) sequence of float
        The gates of the corridor.
    bounded : bool
        Whether the floor counts; without it only the ceiling's corners are linked.
    up, lo : (n,) sequence of int
        Scratch: the two chains of the funnel, from the apex outwards.
    following : (2n,) sequence of int
        Written to.
    """
    n = len(V)
    apex = 2 * (n - 1)
    following[apex] = following[apex + 1] = -1
    nu = hu = nl = hl = 0  # chains are up[hu:nu], lo[hl:nl], apex not included
    for m in range(n - 2, -1, -1):
        v = V[m]
        climb = bounded and lower[m] > upper[m]
        ax, ay = V[apex >> 1], lower[apex >> 1] if apex & 1 else upper[apex >> 1]
        if not climb:
            top = upper[m]
            while nu > hu:
                k = up[nu - 1] >> 1
                px, py = (V[up[nu - 2] >> 1], upper[up[nu - 2] >> 1]) if nu - hu > 1 else (ax, ay)
                if (py - top) * (V[k] - v) > (upper[k] - top) * (px - v):
                    break
                nu -= 1
            if nu == hu:
                # All of the ceiling's chain is passed: the floor's may be in the way.
                while nl > hl:
                    k = lo[hl] >> 1
                    if (lower[k] - top) * (ax - v) <= (ay - top) * (V[k] - v):
                        break
                    apex, ax, ay = lo[hl], V[k], lower[k]
                    hl += 1
            following[2 * m] = up[nu - 1] if nu > hu else apex
            up[nu] = 2 * m
            nu += 1
        if not bounded:
            following[2 * m + 1] = -1
            continue
        bottom = lower[m]
        while nl > hl:
            k = lo[nl - 1] >> 1
            px, py = (V[lo[nl - 2] >> 1], lower[lo[nl - 2] >> 1]) if nl - hl > 1 else (ax, ay)
            if (py - bottom) * (V[k] - v) < (lower[k] - bottom) * (px - v):
                break
            nl -= 1
        if nl == hl:
            while nu > hu and up[hu] != 2 * m:
                k = up[hu] >> 1
                if (upper[k] - bottom) * (ax - v) >= (ay - bottom) * (V[k] - v):
                    break
                apex, ax, ay = up[hu], V[k], upper[k]
                hu += 1
        following[2 * m + 1] = lo[nl - 1] if nl > hl else apex
        lo[nl] = 2 * m + 1
        nl += 1
        if climb:
            # Every way goes up here, from the ceiling's corner to the floor's.
            following[2 * m] = 2 * m + 1
            apex = 2 * m
            nu = hu = nl = hl = 0


def times_left(
    V: Floats, upper: Floats, lower: Floats, total: float,
    facet_v: Floats, facet_w: Floats, following: Ints, left: WrittenFloats,
) -> None:  # fmt: skip
    """Write for each corner the seconds from it to the end of all work.

    `facet_v` and `facet_w` are the rate region's normals, `left` the (2n,) sequence written to; the
    others as in `link_corners`.
    """
    n = len(V)
    for m in range(n - 1, -1, -1):
        for side in (1, 0):
            corner = 2 * m + side
            after = following[corner]
            y = lower[m] if side == 1 else upper[m]
            if after < 0:
                x, rise, rest = 0.0, max(total - y, 0.0), 0.0
            else:
                to = lower[after >> 1] if after & 1 else upper[after >> 1]
                x, rise, rest = V[after >> 1] - V[m], max(to - y, 0.0), left[after]
            longest = 0.0
            for f in range(len(facet_v)):
                longest = max(longest, facet_v[f] * x + facet_w[f] * rise)
            left[corner] = longest + rest


@inlined
def first_bend(
    dv: float, w: float, gate: int, bounded: bool, gates: Floats, following: Ints
) -> tuple[int, float, float]:
    """Find the first corner that the taut string from a state touches.

    Parameters
    ----------
    dv : float
        Data left of the running Comm task. Not V itself: what is left may be less than one
        rounding unit of V.
    w : float
        Compute work done.
    gate : int
        The gate at which that task ends.
    bounded : bool
        Whether the floor counts.
    gates : (3n,) sequence of float
        V, upper and lower of each gate in turn.
    following : (2n,) sequence of int
        See `link_corners`.

    Returns
    -------
    corner, x, y
        The corner, and communication and compute work up to it.
    """
    here = gates[3 * gate]
    node, x, y = 2 * gate, dv, gates[3 * gate + 1] - w
    if not bounded:
        k = following[node]
        while k >= 0:
            at = 3 * (k >> 1)
            kx, ky = (gates[at] - here) + dv, gates[at + 1] - w
            if ky * x > y * kx:
                break
            node, x, y = k, kx, ky
            k = following[node]
        return node, x, y
    if 3 * (gate + 1) == len(gates) or gates[3 * gate + 2] > gates[3 * gate + 1]:
        return node, x, y
    # Between the directions to `node` and to `low` the view is free, up to the corners passed.
    low, lx, ly = node + 1, dv, gates[3 * gate + 2] - w
    u, d = following[node], following[low]
    while u != d:
        if u >> 1 <= d >> 1:
            at = 3 * (u >> 1)
            kx, ky = (gates[at] - here) + dv, gates[at + 1] - w
            if ky * lx <= ly * kx:
                return low, lx, ly
            if ky * x > y * kx:
                return node, x, y
            node, x, y = u, kx, ky
            u = following[u]
        else:
            at = 3 * (d >> 1)
            kx, ky = (gates[at] - here) + dv, gates[at + 2] - w
            if ky * x >= y * kx:
                return node, x, y
            if ky * lx < ly * kx:
                return low, lx, ly
            low, lx, ly = d, kx, ky
            d = following[d]
    at = 3 * (u >> 1)
    kx, ky = (gates[at] - here) + dv, gates[at + 1 + (u & 1)] - w
    if ky * lx < ly * kx:
        return low, lx, ly
    if ky * x > y * kx:
        return node, x, y
    return u, kx, ky
