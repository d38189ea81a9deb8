"""What the rules that plan do where changes of the split cost time, or work is noisy.

The time left from a state has no closed form there. The rule plays candidates on instead, each a
simple rule of its own (`choice_of`): every constant split, both readings of Algorithm 1, and
eq. 15 with the cost of each change. A candidate is played with all that the plan knows, the cost,
bounded prefetch, releases and the link included, up to the end or for `HORIZON` contended states,
and then counted on along the taut string. The first split of the best one is taken, and decided
anew at the next completion. Without noise no candidate that is played to the end is better than
what comes of it.

Everything is Python that numba accepts, see ``rules``; for the flat sequences see ``state_rule``.
"""

from __future__ import annotations

import math

from kdsim.model.jit import inlined
from kdsim.model.lookahead.outlooks import PERIOD
from kdsim.model.lookahead.state_rule import TIE, measured, state_based_cores
from kdsim.model.numbers import Floats, Ints
from kdsim.model.rules import greedy_cores

#: Contended states that are played at most: 12 cycles or more. On random devices under a cost, of
#: other seeds than those of benchmarks/robustness.py's record, 48 and 200 gained less on average.
HORIZON = 24
#: Contended states between two tests of whether a candidate can still be the best.
CHECK_EVERY = 3
#: Candidates besides the core counts of constant splits: eq. 15, and Algorithm 1 on full work and
#: on what remains.
BY_STATE, BY_FULL_WORK, BY_REST = -1, -2, -3


@inlined
def choice_of(
    kind: int, comm_times: Floats, comp_times: Floats,
    i: int, k: int, dv: float, rest: float, present: int,
    cost: float, prefetch: int, splits: Floats, tasks: Floats, cores: Ints, normals: Floats,
    shortfall: Floats,
    gates: Floats, gate_of: Ints, following: Ints, left: Floats, done: Floats,
) -> int:  # fmt: skip
    """Return the split that a candidate takes in a state.

    Parameters
    ----------
    kind : int
        Core count of a constant split, `BY_STATE`, `BY_FULL_WORK` or `BY_REST`.
    comm_times, comp_times
        See ``rules.greedy_cores``.
    i, k, dv, rest, present, ...
        As for ``state_rule.state_based_cores``.
    """
    if kind >= 0:
        return kind
    if kind == BY_STATE:
        return state_based_cores(
            i, k, dv, rest, present, cost, prefetch, splits, tasks, cores, normals, shortfall,
            gates, gate_of, following, left, done,
        )  # fmt: skip
    if kind == BY_FULL_WORK:
        dv, rest = tasks[3 * i], tasks[3 * (k // 2) + 1 + k % 2]
    return greedy_cores(dv, rest, comm_times, comp_times)


@inlined
def stretch_of(now: float, times: Floats) -> int:
    """Return the last corner of the arrivals that is not after `now`; -1 without a link."""
    low, high = 0, len(times)
    while low < high:
        middle = (low + high) // 2
        if times[middle] <= now:
            low = middle + 1
        else:
            high = middle
    return low - 1


@inlined
def paced(
    now: float, v: float, comm_rate: float, comp_rate: float, full_rate: float,
    at: int, times: Floats, arrived: Floats, shared: bool,
) -> tuple[float, float, float, bool]:  # fmt: skip
    """Return both rates at the pace of the link, how long they hold, and whether cores starve.

    Parameters
    ----------
    now, v : float
        Seconds; data processed.
    comm_rate, comp_rate, full_rate : float
        Rates of the split, and of computation on all cores.
    at : int
        See `stretch_of`; not the last corner, behind which all data are there.
    times, arrived, shared
        See `guide.Clocked`.
    """
    until = times[at + 1] - now
    arriving = (arrived[at + 1] - arrived[at]) / (times[at + 1] - times[at])
    if arriving >= comm_rate:
        return comm_rate, comp_rate, until, False
    held = arrived[at] + arriving * (now - times[at]) - v
    if held > TIE * arrived[len(arrived) - 1]:
        return comm_rate, comp_rate, min(until, held / (comm_rate - arriving)), False
    if shared:
        share = arriving / comm_rate
        comp_rate = share * comp_rate + (1.0 - share) * full_rate
    return arriving, comp_rate, until, True


@inlined
def started(
    i: int, k: int, dv: float, rest: float, comm_on: bool, comp_on: bool, ready_at: float,
    prefetch: int, tasks: Floats, releases: Floats, now: float,
) -> tuple[int, int, float, float, bool, bool, float]:  # fmt: skip
    """Start what may start; empty tasks end at once.

    Parameters and results are the state of `played_on`; `ready_at` is the instant from which the
    teacher has the data of the running Comm task.
    """
    n, moved = len(tasks) // 3, True
    while moved:
        moved = False
        if not comm_on and i < n and (prefetch == 0 or i < prefetch or k // 2 > i - prefetch):
            dv, comm_on = tasks[3 * i], True
            if len(releases) > 0:
                ready_at = releases[i]
        if comm_on and dv == 0.0 and ready_at <= now:
            comm_on, moved, i = False, True, i + 1
        if not comp_on and k < 2 * n and (k % 2 == 0 or i > k // 2):
            rest = tasks[3 * (k // 2) + 1 + k % 2]
            comp_on = rest > 0.0
            if not comp_on:
                moved, k = True, k + 1
    return i, k, dv, rest, comm_on, comp_on, ready_at


@inlined
def played_on(
    kind: int, waits: bool, limit: float, outlook: int, outlooks: Floats,
    price_v: float, price_w: float, comm_times: Floats, comp_times: Floats,
    i: int, k: int, dv: float, rest: float, present: int, begin: float,
    cost: float, prefetch: int, splits: Floats, tasks: Floats, cores: Ints, normals: Floats,
    shortfall: Floats,
    gates: Floats, gate_of: Ints, following: Ints, left: Floats, done: Floats,
    releases: Floats, ends: Floats, times: Floats, arrived: Floats, shared: bool,
) -> float:  # fmt: skip
    """Play a candidate on from a state; return the seconds to the end.

    Parameters
    ----------
    kind : int
        See `choice_of`.
    waits : bool
        Whether the present split stays up to the next completion.
    limit : float
        What has to be undercut: the play stops, with the seconds reached, once it cannot be.
    outlook, outlooks
        Number of the outlook to play on, and all of them, see ``outlooks``.
    price_v, price_w : float
        Seconds that a unit of communication and of compute work is worth. What an outlook adds to
        the work done is taken off at this price: it is luck, which every candidate meets, but
        one before the horizon and another behind it.
    comm_times, comp_times
        See ``rules.greedy_cores``.
    i, k, dv, rest, present, ...
        As for ``state_rule.state_based_cores``; `begin` is the clock in seconds, the last five are
        from `guide.Clocked`.
    """
    c_total, first = len(splits) // 4 - 1, 3 * PERIOD * outlook
    now, luck, asked, ready_at = begin, 0.0, 0, 0.0
    at, last = stretch_of(begin, times), len(times) - 1
    comm_on = comp_on = True
    while True:
        i, k, dv, rest, comm_on, comp_on, ready_at = started(
            i, k, dv, rest, comm_on, comp_on, ready_at, prefetch, tasks, releases, now
        )
        ready = ready_at - now <= TIE * now
        if not comm_on or not ready:
            if not comm_on and not comp_on:
                return now - luck - begin
            c = 0
        elif not comp_on:
            c = c_total
        else:
            if asked > 0 and (asked % CHECK_EVERY == 0 or asked == HORIZON):
                w = done[k + 1] - rest
                _, seconds = measured(
                    gate_of[i], dv, w, prefetch > 0, normals, gates, following, left
                )
                seconds += now - luck - begin
                if asked == HORIZON or seconds >= limit:
                    return seconds
            asked += 1
            c = present
            if not waits or asked > 1:
                c = choice_of(
                    kind, comm_times, comp_times, i, k, dv, rest, present, cost, prefetch, splits,
                    tasks, cores, normals, shortfall, gates, gate_of, following, left, done,
                )  # fmt: skip
        if c != present:
            if present >= 0:
                now += cost
            present = c
        comm_factor = outlooks[first + i % PERIOD]
        comp_factor = outlooks[first + PERIOD * (1 + k % 2) + k // 2 % PERIOD]
        completed = False
        while not completed:
            # In planned work: an outlook changes how fast it goes, not what the link carries.
            comm_rate, comp_rate = splits[4 * c] / comm_factor, splits[4 * c + 1] / comp_factor
            step, starved = math.inf, False
            comm_time = comp_time = math.inf
            if comm_on and ready:
                while at < last and times[at + 1] <= now:
                    at += 1
                if at < last and comm_rate > 0.0:
                    comm_rate, comp_rate, step, starved = paced(
                        now, ends[i] - dv, comm_rate, comp_rate, splits[1] / comp_factor,
                        at, times, arrived, shared,
                    )  # fmt: skip
                if comm_rate > 0.0:
                    comm_time = dv / comm_rate
            elif comm_on:
                step = max(ready_at - now, 0.0)
                completed = True
            if comp_on and comp_rate > 0.0:
                comp_time = rest / comp_rate
            step = min(step, comm_time, comp_time)
            now += step
            if comm_on and ready:
                dv -= comm_rate * step
                if not starved:
                    luck += price_v * comm_rate * (comm_factor - 1.0) * step
                if comm_time <= step or dv <= TIE * tasks[3 * i]:
                    comm_on, i, completed = False, i + 1, True
            if comp_on:
                rest -= comp_rate * step
                luck += price_w * comp_rate * (comp_factor - 1.0) * step
                if comp_time <= step or rest <= TIE * tasks[3 * (k // 2) + 1 + k % 2]:
                    comp_on, k, completed = False, k + 1, True


def look_ahead_cores(
    i: int, k: int, dv: float, rest: float, present: int, now: float, outlooks: Floats,
    cost: float, prefetch: int, splits: Floats, tasks: Floats, cores: Ints, normals: Floats,
    shortfall: Floats,
    gates: Floats, gate_of: Ints, following: Ints, left: Floats, done: Floats,
    releases: Floats, ends: Floats, times: Floats, arrived: Floats, shared: bool,
) -> int:  # fmt: skip
    """Return the first split of the candidate that does best from here on.

    Played are the constant splits, the one with the most communication cores first, so that ties
    leave a reserve of data against noise, then the rules of `choice_of`; last, the best of them
    from the next completion on, the present split kept up to there.

    Parameters
    ----------
    i, k, dv, rest, present
        As for ``state_rule.state_based_cores``.
    now : float
        Seconds.
    outlooks
        See ``outlooks``.
    cost, ..., done
        See `guide.Planned`; the others `guide.Clocked`.
    """
    size, futures = len(splits) // 4, len(outlooks) // (3 * PERIOD)
    if not (dv > 0.0 and rest > 0.0):
        return 0 if rest > 0.0 else size - 1  # a rest below the least number is no work
    facet, least = measured(
        gate_of[i], dv, done[k + 1] - rest, prefetch > 0, normals, gates, following, left
    )
    comm_times, comp_times = splits[2::4], splits[3::4]
    price_v, price_w = normals[2 * facet], normals[2 * facet + 1]
    best, best_time, waits = 0, math.inf, False
    for turn in range(size - BY_REST + 1):
        kind = size - 1 - turn
        if kind < BY_REST:
            if present < 0 or best == present:
                break
            kind, waits = best, True
        time = 0.0
        for outlook in range(futures):
            # The other outlooks take about what the plan takes at least.
            limit = best_time - time - (futures - 1 - outlook) * least
            time += played_on(
                kind, waits, limit, outlook, outlooks, price_v, price_w, comm_times, comp_times,
                i, k, dv, rest, present, now,
                cost, prefetch, splits, tasks, cores, normals, shortfall,
                gates, gate_of, following, left, done, releases, ends, times, arrived, shared,
            )  # fmt: skip
            if outlook < futures - 1 and time + (futures - 1 - outlook) * least >= best_time:
                time = math.inf
                break
        if time < best_time * (1.0 - TIE):
            best, best_time = kind, time
            if waits:
                return present
    return choice_of(
        best, comm_times, comp_times, i, k, dv, rest, present, cost, prefetch, splits, tasks,
        cores, normals, shortfall, gates, gate_of, following, left, done,
    )  # fmt: skip
