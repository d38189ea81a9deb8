"""The state-based rule where data arrive in time: eq. 15 with the exact time left on the clock.

As ``state_rule``, with two differences: how far Comm gets depends on what has arrived, and the
time left is the timed optimum from the state after it (``timed_optimum``), for a number of cycles
ahead, closed by the taut string.
"""

from __future__ import annotations

import math

from kdsim.model.bound.timed_optimum import timed_pass, to_the_end
from kdsim.model.lookahead.state_rule import TIE, passed
from kdsim.model.numbers import Floats, Ints, WrittenFloats

#: Cycles ahead for which the time left is exact: beyond, data are taken to be there.
EXACT_CYCLES = 64


def arrived_by(t: float, times: Floats, arrived: Floats) -> float:
    """Return the data units that are there at an instant; infinite without a link."""
    low, high = 0, len(times)
    if high == 0:
        return math.inf
    while low < high:
        middle = (low + high) // 2
        if times[middle] <= t:
            low = middle + 1
        else:
            high = middle
    if low == len(times):
        return math.inf
    a, b = low - 1, low
    share = (t - times[a]) / (times[b] - times[a])
    amount: float = arrived[a] + share * (arrived[b] - arrived[a])
    return amount


def there_from(amount: float, times: Floats, arrived: Floats) -> float:
    """Return the instant from which so many data units are there; 0 without a link."""
    low, high = 0, len(times)
    if high == 0:
        return 0.0
    while low < high:
        middle = (low + high) // 2
        if arrived[middle] < amount * (1.0 - TIE):
            low = middle + 1
        else:
            high = middle
    if low == 0:
        return 0.0
    if low == len(times):
        return float(times[low - 1])
    a, b = low - 1, low
    share = min((amount - arrived[a]) / (arrived[b] - arrived[a]), 1.0)
    instant: float = times[a] + share * (times[b] - times[a])
    return instant


def timed_left(
    i: int, dv: float, w: float, now: float, prefetch: int,
    splits: Floats, tasks: Floats, normals: Floats, gates: Floats, gate_of: Ints,
    following: Ints, left: Floats,
    done: Floats, releases: Floats, ends: Floats, times: Floats, arrived: Floats,
    values: Floats, lengths: Floats, fastest: float, lens: WrittenFloats, nothing: WrittenFloats,
) -> float:  # fmt: skip
    """Return the instant at which all is done at the earliest, from a state on.

    Parameters
    ----------
    i, dv : int, float
        Completed Comm tasks, and the data left of the next one.
    w, now : float
        Compute work done, seconds.
    prefetch, ..., done
        See `guide.Planned`; the others `guide.Clocked`.
    """
    n, total = len(tasks) // 3, done[len(done) - 1]
    if i >= n:
        return now + float((total - w) * splits[3])
    floor = 0.0
    if 0 < prefetch <= i:
        floor = done[2 * (i - prefetch) + 2]
    stop = min(n, i + EXACT_CYCLES)
    t, low, _ = timed_pass(
        i, stop, dv, ends[i] - dv, w, now, done[2 * i + 1], floor, tasks, releases, prefetch,
        times, arrived, values, lengths, fastest, lens, nothing, nothing,
    )  # fmt: skip
    if stop == n:
        return to_the_end(t, tasks[len(tasks) - 1], lens, values)
    gate, bounded = gate_of[stop - 1], prefetch > 0
    best = t + passed(gate, low, total, bounded, splits, normals, gates, following, left)
    for s in range(len(values)):
        if lens[s] > 0.0:
            low += lens[s]
            t += values[s] * lens[s]
            rest = passed(gate, low, total, bounded, splits, normals, gates, following, left)
            best = min(best, t + rest)
    return best


def state_in_time_cores(
    i: int, k: int, dv: float, rest: float, present: int, now: float,
    cost: float, prefetch: int, splits: Floats, tasks: Floats, cores: Ints, normals: Floats,
    shortfall: Floats,
    gates: Floats, gate_of: Ints, following: Ints, left: Floats, done: Floats,
    releases: Floats, ends: Floats, times: Floats, arrived: Floats, shared: bool,
    values: Floats, lengths: Floats, fastest: float, lens: WrittenFloats, nothing: WrittenFloats,
) -> int:  # fmt: skip
    """Return the c that minimises Delta(c) + T(S'(c)) on the clock, the smallest on ties (eq. 15).

    Parameters
    ----------
    i, k, dv, rest, present
        As for ``state_rule.state_based_cores``.
    now : float
        Seconds.
    cost, ..., done
        See `guide.Planned`; the others `guide.Clocked`.
    """
    n = len(tasks) // 3
    v = ends[i] - dv
    there = there_from(ends[i], times, arrived)
    best, best_time = 0, math.inf
    for c in range(len(splits) // 4):
        comm_rate, comp_rate = splits[4 * c], splits[4 * c + 1]
        comm_time = comp_time = math.inf
        if comm_rate > 0.0:
            comm_time = max(dv * splits[4 * c + 2], there - now)
        if comp_rate > 0.0:
            comp_time = rest * splits[4 * c + 3]
        step = min(comm_time, comp_time)
        both = step * (1.0 + TIE)
        got = dv
        if comm_time > both:
            got = min(comm_rate * step, max(arrived_by(now + step, times, arrived) - v, 0.0), dv)
        work = comp_rate * step
        if shared and comm_rate > 0.0:
            # Computation uses the time that the cores would wait for data.
            work += (splits[1] - comp_rate) * max(step - got / comm_rate, 0.0)
        later_rest = rest - min(work, rest)
        if comp_time <= both or later_rest <= TIE * rest:
            later_rest = 0.0
        later_i, later_dv = i, dv - got
        if comm_time <= both:
            later_i = i + 1
            later_dv = tasks[3 * later_i] if later_i < n else 0.0
        time = timed_left(
            later_i, later_dv, done[k + 1] - later_rest, now + step, prefetch, splits,
            tasks, normals, gates, gate_of, following, left, done, releases, ends, times, arrived,
            values, lengths, fastest, lens, nothing,
        )  # fmt: skip
        if present >= 0 and c != present:
            time += cost
        if time - now < best_time * (1.0 - TIE):
            best, best_time = c, time - now
    return best
