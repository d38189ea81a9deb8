"""The least makespan when data arrive in time: release times, a link, outages; exact.

Without time the fastest path is the taut string (``optimum``). Once a Comm task may not start
before its release, or data may not be processed before the link has delivered them, the clock
counts as well. For each amount V of communication at which anything can change, a gate, let T(w)
be the earliest instant at which V is done together with compute work w. T is convex, never
decreases, is piecewise linear, and all its slopes come from one finite set: 0, the slopes of the
rate region's facets, and one over the full compute rate. So it is kept as one length per slope,
and a step from gate to gate costs O(c_total): the whole optimum O(N * c_total).

What is not here: the taut string (``optimum``), the schedule on whole cores.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kdsim.model.curves import FloatArray
from kdsim.model.jit import COMPILE_FROM, compiled
from kdsim.model.numbers import Floats, WrittenFloats
from kdsim.model.plan import Plan
from kdsim.model.rate_region import RateRegion

#: Two amounts of data that differ by less than this share are equal: a task that ends where an
#: outage begins must not wait for the end of the outage because of rounding.
SAME_DATA = 1e-12
#: Numbers that `timed_pass` records of a cell.
CELL = 6


class Slopes(NamedTuple):
    """The time that a cell takes, as a function of the compute work done in it.

    With y data units in the cell and x compute work it is ``y/fastest`` at x = 0 and then rises
    by ``values[k]`` per compute unit over a length of ``y*lengths[k]``, k = 0, 1, ...

    Attributes
    ----------
    values : (k,) float array
        Seconds per compute unit, increasing; the first is 0, the last one over the full rate.
    lengths : (k,) float array
        Compute units per data unit; the last is infinite.
    fastest : float
        Data units per second on the best split for communication.
    """

    values: FloatArray
    lengths: FloatArray
    fastest: float


def slopes_of(region: RateRegion) -> Slopes:
    """Return the slopes of a rate region's gauge over compute work."""
    vr, vq = region.comm_rates[region.vertices], region.comp_rates[region.vertices]
    values = region.facets[::-1, 1].copy()
    if vr[0] == 0:
        # The lightest split has no communication at all: the facet beyond it is never reached.
        vr, vq, values = vr[1:], vq[1:], values[:-1]
    knots = (vq / vr)[::-1]  # (m,) from communication-heavy to communication-light
    values[0], values[-1] = 0.0, 1.0 / region.comp_rates[region.vertices[0]]
    lengths = np.append(np.diff(knots, prepend=0.0), np.inf)
    return Slopes(values, lengths, float(vr[-1]))


def raise_to(floor: float, t: float, lens: WrittenFloats, values: Floats) -> float:
    """Replace T by max(T, floor) in place; `t` is T at its left end, the new one is returned."""
    if t >= floor:
        return t
    for k in range(1, len(values)):
        if lens[k] > 0.0:
            rise = values[k] * lens[k]
            if t + rise > floor:
                part = min((floor - t) / values[k], lens[k])
                lens[0] += part
                lens[k] -= part
                break
            t += rise
            lens[0] += lens[k]
            lens[k] = 0.0
    return floor


def cut_left(rest: float, t: float, lens: WrittenFloats, values: Floats) -> float:
    """Cut `rest` off T's domain on the left, in place; return T at its new left end."""
    for k in range(len(values)):
        part = min(lens[k], rest)
        lens[k] -= part
        rest -= part
        t += values[k] * part
        if rest <= 0.0:
            break
    return t


def timed_pass(
    first: int, stop: int, left: float, v: float, w: float, t: float, high: float, floor: float,
    tasks: Floats, releases: Floats, prefetch: int, times: Floats, arrived: Floats,
    values: Floats, lengths: Floats, fastest: float, lens: WrittenFloats, cells: WrittenFloats,
    kept: WrittenFloats,
) -> tuple[float, float, int]:  # fmt: skip
    """Carry T from a state from gate to gate.

    Parameters
    ----------
    first, stop : int
        The running or next Comm task, and the first one that is not looked at.
    left : float
        Data left of the first.
    v, w, t : float
        Data processed, compute work done, seconds.
    high, floor : float
        Compute work at most done before the first Comm task ends, at least before it starts.
    tasks : (3N,) sequence of float
        Work of Comm, Forward and Backward of each cycle in turn.
    releases : (N,) sequence of float
        Earliest start of each Comm task, seconds.
    prefetch : int
        Logit batches that the device can hold, 0 for no limit.
    times, arrived : (K,) sequence of float
        Corners of the arrivals: data units that are there by an instant; empty without a link.
    values, lengths, fastest
        See `Slopes`.
    lens : (k,) sequence of float
        Written to: the lengths of T in the end.
    cells, kept : (6G,) and (G*k,) sequence of float
        Empty when the path is not wanted; else G must be N + K at least. Written per cell:
        its data, its ceiling, its earliest start, the arrival of its last data, the least
        compute work with which a path may enter it, and the data left of its Comm task behind
        it; the lengths of T where it is entered.

    Returns
    -------
    t, low, count
        T at the left end of its domain, that end, and the number of cells.
    """
    size, knots = len(values), len(times)
    last = size - 1
    record = len(cells) > 0
    for k in range(size):
        lens[k] = 0.0
    low, count = w, 0
    lens[last] = high - w
    ahead, beyond = 0, knots  # the first breakpoint beyond v
    while ahead < beyond:
        middle = (ahead + beyond) // 2
        if arrived[middle] <= v * (1.0 + SAME_DATA):
            ahead = middle + 1
        else:
            beyond = middle
    for m in range(first, stop):
        if m > first:
            # At the gate: computation may go on up to the next ceiling, at the full rate.
            climb = tasks[3 * m - 1] + tasks[3 * m + 1]
            lens[last] += climb
            high += climb
            left = tasks[3 * m]
            if 0 < prefetch <= m:
                floor += tasks[3 * (m - prefetch) + 1] + tasks[3 * (m - prefetch) + 2]
        begin = releases[m]
        t = raise_to(begin, t, lens, values)
        if floor > low:
            t = cut_left(floor - low, t, lens, values)
            low = floor
        end = v + left
        while True:
            arrive, data, whole = 0.0, left, True
            if knots > 0 and left > 0.0:
                while ahead < knots and arrived[ahead] <= v * (1.0 + SAME_DATA):
                    ahead += 1
                if ahead == knots:
                    arrive = times[knots - 1]
                elif ahead > 0:
                    begin = max(begin, times[ahead - 1])
                    t = raise_to(begin, t, lens, values)
                    whole = arrived[ahead] >= end * (1.0 - SAME_DATA)
                    a, b = arrived[ahead - 1], arrived[ahead]
                    share = 1.0
                    if whole:
                        share = max(min((end - a) / (b - a), 1.0), 0.0)
                    else:
                        data = min(b - v, left)
                    arrive = times[ahead - 1] + share * (times[ahead] - times[ahead - 1])
            if record:
                at = CELL * count
                cells[at] = data
                cells[at + 1] = high
                cells[at + 2] = begin
                cells[at + 3] = arrive
                cells[at + 4] = low
                cells[at + 5] = 0.0 if whole else left - data
                for k in range(size):
                    kept[count * size + k] = lens[k]
            count += 1
            # Through the cell: lengths of one slope add up; what lies above the ceiling goes.
            t += data / fastest
            room = high - low
            for k in range(last):
                lens[k] = min(lens[k] + data * lengths[k], room)
                room -= lens[k]
            lens[last] = room
            t = raise_to(arrive, t, lens, values)
            if whole:
                v = end
                break
            v = arrived[ahead]
            left = end - v
            begin = 0.0
    return t, low, count


def to_the_end(t: float, last_backward: float, lens: WrittenFloats, values: Floats) -> float:
    """Return the makespan where T is known at the end of all communication."""
    for k in range(len(values)):
        t += values[k] * lens[k]
    return t + last_backward * float(values[len(values) - 1])


def timed_heights(
    count: int,
    size: int,
    lengths: Floats,
    cells: WrittenFloats,
    kept: WrittenFloats,
    arrive: WrittenFloats,
    leave: WrittenFloats,
) -> None:
    """Walk back from the end: compute work done where the path enters and leaves each cell.

    `leave` is what has been done when the path leaves the gate before a cell, `arrive` what has
    been done at the gate behind it; both are (count,) and written to.
    """
    w = cells[CELL * count - CELL + 1]
    for g in range(count - 1, -1, -1):
        arrive[g] = w
        data, low = cells[CELL * g], cells[CELL * g + 4]
        rest, at = w - low, low
        for k in range(size):
            part = min(kept[g * size + k], rest)
            at += part
            rest -= part
            if k < size - 1:
                rest -= min(data * lengths[k], rest)
        leave[g] = at
        if g > 0:
            w = min(at, cells[CELL * g - CELL + 1])


def timed_clock(
    climbs: Floats,
    earliest: Floats,
    lengths: Floats,
    there: Floats,
    begin: WrittenFloats,
    end: WrittenFloats,
) -> None:
    """Write when each cell of a path begins and ends.

    A cell begins once the climb before it is done, at the `earliest` start at the soonest; it ends
    when its length has passed and its data are `there`. All are (G,) sequences of seconds.
    """
    clock = 0.0
    for g in range(len(begin)):
        begin[g] = max(clock + climbs[g], earliest[g])
        end[g] = clock = max(begin[g] + lengths[g], there[g])


class TimedPath(NamedTuple):
    """The fastest path cell by cell; a cell ends where a Comm task does or a link's rate changes.

    Attributes
    ----------
    makespan : float
        Seconds.
    data, rest : (G,) float array
        Communication work of each cell, and what is left of its Comm task behind it: 0 in a task's
        last cell.
    leave, arrive : (G,) float array
        Compute work done when the path leaves the gate before the cell, and at the gate behind it.
    begin, end : (G,) float array
        The instants, in seconds. Between the end of one cell and the beginning of the next the
        path climbs or waits.
    """

    makespan: float
    data: FloatArray
    rest: FloatArray
    leave: FloatArray
    arrive: FloatArray
    begin: FloatArray
    end: FloatArray


def releases_of(plan: Plan) -> FloatArray:
    """Return the instants at which the teacher has the logits of each cycle, (N,) seconds."""
    return plan.release * np.arange(1.0, plan.cycles + 1.0)


def arrivals_of(plan: Plan, total: float) -> tuple[FloatArray, FloatArray]:
    """Return the corners of what has arrived by a time; empty arrays without a link."""
    if plan.link is None or total == 0.0:
        return np.zeros(0), np.zeros(0)
    return plan.link.breakpoints(total)


def timed_makespan(plan: Plan) -> float:
    """Return the least makespan of a plan with release times or a link.

    Parameters
    ----------
    plan : Plan
        Without leading dimensions.
    """
    return _solve(plan, arrivals_of(plan, float(plan.comm.sum())), record=False)[0]


def timed_path(plan: Plan) -> TimedPath:
    """Return the least makespan of a plan with release times or a link, and the path to it."""
    arrivals = arrivals_of(plan, float(plan.comm.sum()))
    makespan, count, cells, kept = _solve(plan, arrivals, record=True)
    slopes = slopes_of(plan.region)
    size = slopes.values.size
    arrive, leave = np.zeros(count), np.zeros(count)
    walk = compiled(timed_heights) if count >= COMPILE_FROM else timed_heights
    walk(count, size, slopes.lengths, cells, kept, arrive, leave)
    data, _, earliest, there, _, rest = np.reshape(cells[: CELL * count], (count, CELL)).T
    full = 1.0 / plan.comp_rates[0]
    climbs = full * (leave - np.append(0.0, arrive[:-1]))
    lengths = plan.region.gauge(data, arrive - leave)
    begin, end = np.empty(count), np.empty(count)
    count_up = compiled(timed_clock) if count >= COMPILE_FROM else timed_clock
    count_up(climbs, earliest.copy(), lengths, there.copy(), begin, end)
    return TimedPath(makespan, data, rest, leave, arrive, begin, end)


def _solve(
    plan: Plan, arrivals: tuple[FloatArray, FloatArray], *, record: bool
) -> tuple[float, int, Any, Any]:
    """Run `timed_pass`, compiled where that pays; return its answer and what it recorded."""
    values, lengths, fastest = slopes_of(plan.region)
    room = plan.cycles + arrivals[0].size if record else 0
    lens, cells, kept = np.zeros(values.size), np.zeros(CELL * room), np.zeros(room * values.size)
    tasks, releases = tasks_of(plan), releases_of(plan)
    run = timed_pass
    fields: tuple[Any, ...] = (tasks, releases, *arrivals, values, lengths, lens, cells, kept)
    if max(plan.cycles, arrivals[0].size) >= COMPILE_FROM:
        run = compiled(timed_pass)
    else:
        # Views: their entries are plain numbers, faster one by one than an array's.
        fields = tuple(memoryview(x) for x in fields)
    tasks, releases, times, arrived, values, lengths, lens, cells, kept = fields
    t, _, count = run(
        0, plan.cycles, tasks[0], 0.0, 0.0, 0.0, tasks[1], 0.0,
        tasks, releases, plan.prefetch, times, arrived,
        values, lengths, fastest, lens, cells, kept,
    )  # fmt: skip
    makespan = to_the_end(t, tasks[len(tasks) - 1], lens, values)
    return float(makespan), int(count), np.asarray(cells), np.asarray(kept)


def tasks_of(plan: Plan) -> FloatArray:
    """Return the work of Comm, Forward and Backward of each cycle in turn, (3N,)."""
    return np.stack([plan.comm, plan.forward, plan.backward], axis=1).ravel()
