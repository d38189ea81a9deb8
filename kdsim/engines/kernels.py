"""The compiled loops of the batch engine; importing this module imports numba.

One loop plays what the SimPy processes of ``engine`` do, operation by operation; the decisions
are the very functions of ``rules``, compiled.
"""

from __future__ import annotations

import math

import numpy as np

from kdsim.model import rules
from kdsim.model.bound.optimum import string_bends
from kdsim.model.jit import compiled, inlined
from kdsim.model.lookahead import look_ahead, state_rule, timed_rule
from kdsim.model.random_streams import uniform
from kdsim.model.tolerances import DONE

#: Kinds of policy, as the loop knows them.
RANDOM, STATIC, GREEDY, GREEDY_FULL, STATE_BASED, LOOK_AHEAD, OPTIMAL, IN_TIME, STATE_IN_TIME = (
    range(9)
)

# The names under which the loops call the rules: their compiled forms.
random_cores = compiled(rules.random_cores)
greedy_cores = compiled(rules.greedy_cores)
aim = compiled(rules.aim)
aim_in_time = compiled(rules.aim_in_time)
state_based_cores = compiled(state_rule.state_based_cores)
look_ahead_cores = compiled(look_ahead.look_ahead_cores)
state_in_time_cores = compiled(timed_rule.state_in_time_cores)
uniform_draw = compiled(uniform)
taut_string_bends = compiled(string_bends)


@compiled
def _filled(held, at, last, begin, end, times, rates):
    """Return what the buffer holds after a time without processing, and the link's stretch."""
    while at < last and times[at + 1] <= end:
        held += rates[at] * (times[at + 1] - begin)
        begin = times[at + 1]
        at += 1
    return held + rates[at] * (end - begin), at


@inlined
def _planned_cores(kind, i, k, dv, left, split, now, optimum, planned, clocked, outlooks):
    """Ask a rule that plans; return cores, hold and cores after it as ``rules.aim`` does.

    `dv` and `left` are the planned work left of the two running tasks.
    """
    if kind == OPTIMAL:
        way = optimum
        dw = way.heights[i] - (way.done[k + 1] - left)
        return aim(dv, dw, now, way.cores, way.vr, way.vq)
    if kind == IN_TIME:
        way = optimum
        return aim_in_time(
            dv, way.done[k + 1] - left, now, way.last[i] + 1, way.last[i + 1],
            way.rest, way.heights, way.ends, way.cores, way.vr, way.vq, way.normals,
        )  # fmt: skip
    (
        cost, prefetch, splits, tasks, cores, normals, shortfall,
        gates, gate_of, following, ahead, done,
    ) = planned  # fmt: skip
    (
        releases, comm_ends, times, arrived, shared, values, lengths, fastest, lens, nothing,
    ) = clocked  # fmt: skip
    if kind == STATE_IN_TIME:
        c = state_in_time_cores(
            i, k, dv, left, split, now,
            cost, prefetch, splits, tasks, cores, normals, shortfall,
            gates, gate_of, following, ahead, done,
            releases, comm_ends, times, arrived, shared,
            values, lengths, fastest, lens, nothing,
        )  # fmt: skip
    elif kind == LOOK_AHEAD:
        c = look_ahead_cores(
            i, k, dv, left, split, now, outlooks,
            cost, prefetch, splits, tasks, cores, normals, shortfall,
            gates, gate_of, following, ahead, done,
            releases, comm_ends, times, arrived, shared,
        )  # fmt: skip
    else:
        c = state_based_cores(
            i, k, dv, left, split,
            cost, prefetch, splits, tasks, cores, normals, shortfall,
            gates, gate_of, following, ahead, done,
        )  # fmt: skip
    return c, math.inf, -1


# One long function: its parts share a dozen numbers, which a function of their own would have to
# take and to return. Without a link `link` is None: numba then compiles a loop that has no trace of
# one. One argument, and rates that are read where they are used, because more of either slow that
# loop by a tenth.
@compiled
def _one_run(
    kind, fixed, key,
    comm, forward, backward, plan_comm, plan_forward, plan_backward,
    comm_rates, comp_rates, comm_times, comp_times, prefetch, release, cost,
    link, row, optimum, planned, clocked, outlooks,
):  # fmt: skip
    """Play one run; return its makespan. The order of operations is the SimPy engine's."""
    n, c_total = comm.size, comm_rates.size - 1
    now, split, draw = 0.0, -1, np.uint64(0)
    i = k = 0  # Comm tasks done; Forward and Backward tasks done
    comm_on, comp_on, ready, ready_at = False, False, True, 0.0
    comm_left = comp_left = comm_work = comp_work = comm_scale = comp_scale = 0.0
    held, at = 0.0, 0  # data that wait on the device; the link's stretch
    if link is not None:
        link_times, link_rates, last, shared = link[0], link[1], link[2][row], link[3]
    while True:
        # What may start, starts; empty tasks end at once.
        moved = True
        while moved:
            moved = False
            if not comm_on and i < n and (prefetch == 0 or i < prefetch or k // 2 > i - prefetch):
                comm_on = True
                comm_work = comm_left = comm[i]
                comm_scale = plan_comm[i] / comm_work if comm_work > 0 else 0.0
                ready_at = release * (i + 1)
                ready = ready_at <= now
                if comm_work == 0 and ready:
                    comm_on, moved, i = False, True, i + 1
            if not comp_on and k < 2 * n and (k % 2 == 0 or i > k // 2):
                comp_on = True
                m = k // 2
                comp_work = forward[m] if k % 2 == 0 else backward[m]
                work = plan_forward[m] if k % 2 == 0 else plan_backward[m]
                comp_left = comp_work
                comp_scale = work / comp_work if comp_work > 0 else 0.0
                if comp_work == 0:
                    comp_on, moved, k = False, True, k + 1
        # Share the cores.
        hold, then = math.inf, -1
        if not comm_on or not ready:
            if not comm_on and not comp_on:
                return now
            c = 0
        elif not comp_on:
            c = c_total
        elif kind == STATIC:
            c = fixed
        elif kind == RANDOM:
            c = random_cores(uniform_draw(key, draw), c_total)
            draw += np.uint64(1)
        elif kind == GREEDY:
            c = greedy_cores(comm_left * comm_scale, comp_left * comp_scale, comm_times, comp_times)
        elif kind == GREEDY_FULL:
            m = k // 2
            full = plan_forward[m] if k % 2 == 0 else plan_backward[m]
            c = greedy_cores(plan_comm[i], full, comm_times, comp_times)
        else:
            c, hold, then = _planned_cores(
                kind, i, k, comm_left * comm_scale, comp_left * comp_scale, split, now,
                optimum, planned, clocked, outlooks,
            )  # fmt: skip
        # Run on until something completes; a mix changes over once in between.
        while True:
            stall = 0.0
            if c != split:
                if split >= 0:
                    stall = cost
                split = c
            comm_time = comp_time = math.inf
            if comm_on and ready:
                comm_time = comm_left * comm_times[c]
            if comp_on:
                comp_time = comp_left * comp_times[c]
            if link is not None:
                comm_rate, comp_rate = comm_rates[c], comp_rates[c]
                receiving = comm_time < math.inf
                drain = turn = math.inf
                arriving = 0.0
                if stall > 0.0:
                    held, at = _filled(held, at, last, now, now + stall, link_times, link_rates)
                if receiving:
                    arriving = link_rates[at]
                    if at < last:
                        turn = max(link_times[at + 1] - (now + stall), 0.0)
                    if arriving < comm_rate and held > 0.0:
                        drain = held / (comm_rate - arriving)
                    elif arriving < comm_rate:
                        if shared:
                            share = arriving / comm_rate
                            comp_rate = share * comp_rate + (1.0 - share) * comp_rates[0]
                            if comp_on:
                                comp_time = comp_left / comp_rate
                        comm_rate = arriving
                        comm_time = comm_left / arriving if arriving > 0.0 else math.inf
            step = min(comm_time, comp_time, hold)
            if not ready:
                step = min(step, max(ready_at - now - stall, 0.0))
            if link is not None:
                step = min(step, drain, turn)
            now += stall + step
            if link is not None:
                if not receiving:
                    held, at = _filled(held, at, last, now - step, now, link_times, link_rates)
                else:
                    held += (arriving - comm_rate) * step
                    if step == drain:
                        held = 0.0
                    if step == turn:
                        at += 1
            completed = False
            if comm_time < math.inf:
                if link is not None:
                    comm_left -= comm_rate * step
                else:
                    comm_left -= comm_rates[c] * step
                if comm_time == step or comm_left <= DONE * comm_work:
                    comm_on, completed, i = False, True, i + 1
            elif not ready and ready_at - now <= DONE * now:
                ready = completed = True
                if comm_work == 0:
                    comm_on, i = False, i + 1
            if comp_time < math.inf:
                if link is not None:
                    comp_left -= comp_rate * step
                else:
                    comp_left -= comp_rates[c] * step
                if comp_time == step or comp_left <= DONE * comp_work:
                    comp_on, completed, k = False, True, k + 1
            if completed:
                break
            if link is not None and step < hold:
                hold -= step  # only the link or the buffer has changed
                continue
            if then < 0:
                break
            c, hold, then = then, math.inf, -1


@compiled
def many_runs(
    kind, fixed, keys, comm, forward, backward, plan_comm, plan_forward, plan_backward,
    comm_rates, comp_rates, comm_times, comp_times, prefetch, release, cost,
    link, optimum, planned, clocked, outlooks, out,
):  # fmt: skip
    """Play replication after replication; one row of work serves all when there is no noise."""
    noisy = comm.shape[0] > 1
    for run in range(out.size):
        row = run if noisy else 0
        out[run] = _one_run(
            kind, fixed, keys[run], comm[row], forward[row], backward[row],
            plan_comm, plan_forward, plan_backward, comm_rates, comp_rates, comm_times, comp_times,
            prefetch, release, cost, link, row,
            optimum, planned, clocked, outlooks,
        )  # fmt: skip


@compiled
def many_lengths(V, upper, lower, start, total, facets, up, lo, bends, out):
    """Measure the taut string of each replication; `up`, `lo` and `bends` are scratch."""
    for run in range(out.size):
        count = taut_string_bends(V[run], upper[run], lower[run], start[run], up, lo, bends)
        v = w = length = 0.0
        for b in range(-1, count + 1):
            if b < 0:
                to_v, to_w = 0.0, start[run]
            elif b < count:
                gate = bends[b] // 2
                to_v = V[run, gate]
                to_w = lower[run, gate] if bends[b] % 2 == 1 else upper[run, gate]
            else:
                to_v, to_w = v, total[run]
            longest = 0.0
            for f in range(facets.shape[0]):
                longest = max(longest, facets[f, 0] * (to_v - v) + facets[f, 1] * (to_w - w))
            length += longest
            v, w = to_v, to_w
        out[run] = length
