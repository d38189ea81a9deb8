"""The timed optimum as a linear program, written from the definitions: seconds per split and cell.

The variables of a cell are the seconds spent on each whole number of communication cores, compute
work done where the path leaves the gate before the cell and where it reaches the one behind it,
and the clock at both. Nothing here knows of facets, slopes or envelopes.
"""

import numpy as np
from linear_programs import least_cost
from scipy.sparse import coo_matrix

from kdsim.model.link import Link
from kdsim.model.plan import Plan

_SAME = 1e-12


def cells_of(plan):
    """Yield (cycle, whether its first cell, data, earliest start, arrival of the last datum)."""
    ends = np.cumsum(plan.comm)
    times = cumulative = np.zeros(0)
    if plan.link is not None and ends[-1] > 0:
        times, cumulative = plan.link.breakpoints(float(ends[-1]))
    v = 0.0
    for m, end in enumerate(ends):
        inside = (cumulative > v * (1 + _SAME)) & (cumulative < end * (1 - _SAME))
        for number, stop in enumerate([*np.unique(cumulative[inside]), end]):
            start = plan.release * (m + 1) if number == 0 else 0.0
            arrive = 0.0
            if times.size and plan.comm[m] > 0:
                start = max(start, times[cumulative <= v * (1 + _SAME)].max())
                k = int(np.searchsorted(cumulative, stop * (1 - _SAME), side="left"))
                arrive = np.interp(stop, cumulative[k - 1 : k + 1], times[k - 1 : k + 1])
            yield m, number == 0, stop - v, start, arrive
            v = stop


def timed_program(plan):
    """Return the minimal makespan by linear programming, None where the solver finds none."""
    work = np.cumsum(plan.forward + plan.backward)
    ceiling, fastest = work - plan.backward, plan.comp_rates[0]
    cells = list(cells_of(plan))
    width = 5 + plan.comm_rates.size
    rows, columns, values, right = [], [], [], []

    def at_most(limit, *terms):
        for column, factor in terms:
            rows.append(len(right))
            columns.append(column)
            values.append(factor)
        right.append(limit)

    bounds = [(0.0, None)] * (width * len(cells))
    for g, (m, first, data, start, arrive) in enumerate(cells):
        leave, begin, reach, end, climb = range(width * g, width * g + 5)
        seconds = range(width * g + 5, width * (g + 1))
        before, clock = width * (g - 1) + 2, width * (g - 1) + 3
        known = g > 0
        at_most(0.0, (leave, 1.0), (climb, -fastest), *[(before, -1.0)] * known)
        at_most(0.0, (begin, -1.0), (climb, 1.0), *[(clock, 1.0)] * known)
        at_most(0.0, (leave, -1.0), *[(before, 1.0)] * known)
        splits = list(zip(seconds, plan.comm_rates, plan.comp_rates, strict=True))
        at_most(0.0, (reach, 1.0), (leave, -1.0), *[(s, -q) for s, _, q in splits])
        at_most(-data, *[(s, -r) for s, r, _ in splits])
        at_most(0.0, (begin, 1.0), (end, -1.0), *[(s, 1.0) for s, _, _ in splits])
        at_most(0.0, (leave, 1.0), (reach, -1.0))
        held = plan.prefetch and m >= plan.prefetch and first
        bounds[leave] = (work[m - plan.prefetch] if held else 0.0, ceiling[m])
        bounds[reach] = (0.0, ceiling[m])
        bounds[begin], bounds[end] = (start, None), (arrive, None)
    cost = np.zeros(width * len(cells))
    cost[reach], cost[end] = -1.0 / fastest, 1.0
    table = coo_matrix((values, (rows, columns)), shape=(len(right), cost.size)).tocsr()
    least = least_cost(cost, table, right, bounds)
    return None if least is None else least + work[-1] / fastest


def timed_plan(seed):
    """Return a random plan: release times, links with outages, prefetch, in all combinations."""
    draw = np.random.default_rng(seed)
    cores, n = draw.integers(1, 9), draw.integers(1, 13)
    r = np.append(0.0, np.sort(draw.uniform(0.05, 5.0, cores)))
    q = np.append(np.sort(draw.uniform(0.05, 5.0, cores))[::-1], 0.0)
    if draw.random() < 0.2:
        q[:cores] = q[0]  # a core more for communication costs nothing
    if draw.random() < 0.2:
        r[1:] = np.minimum(r[1:], r[1 + cores // 2 :].min(initial=r[-1]))
    work = draw.uniform(0.01, 10.0, (3, n))
    work[draw.random((3, n)) < 0.15] = 0.0
    work[0, 0] = max(work[0, 0], 0.01)
    alone = work[0].sum() / r[-1] + work[1:].sum() / q[0]
    link, combination = None, seed % 4
    if combination & 1:
        k = draw.integers(1, 12)
        lengths = draw.uniform(0.01, 1.0, k) * alone / k * 1.5
        rates = draw.uniform(0.01, 3.0, k) * work[0].sum() / alone
        rates[draw.random(k) < 0.3] = 0.0  # outages
        rates[draw.integers(k)] = work[0].sum() / alone
        starts = np.append(0.0, np.cumsum(lengths)[:-1])
        link = Link(starts, rates, float(lengths.sum()), str(draw.choice(["idle", "shared"])))
    release = draw.uniform(0.0, 1.5) * alone / n if combination & 2 else 0.0
    prefetch = int((seed // 4) % 5)
    return Plan(*work, r, q, prefetch=prefetch, release=release, link=link)
