"""The built-in policies.

The decisions themselves are the plain functions of ``kdsim.model.rules``; the classes here wrap
them for the engine. What a policy sees and answers is in ``base``.

The engine asks a policy only in the contended case. When Comm has ended or is blocked all cores
go to computation, when computation is blocked all go to communication (eq. 13).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kdsim.errors import UnknownPolicyError
from kdsim.model.optimum import corridor, path_heights, taut_string
from kdsim.model.plan import Plan
from kdsim.model.rules import greedy_cores, random_cores, split_direction, string_slope
from kdsim.policies.base import Decision, Policy, State


class Random(Policy):
    """`random`: a uniform core count, drawn anew at each decision."""

    name = "random"

    def start(self, plan: Plan) -> None:
        """Make the answers once: there are few, and they are given often."""
        self._c_total = plan.c_total
        self._answers = [Decision(c) for c in range(plan.c_total + 1)]

    def decide(self, state: State) -> Decision:
        """Draw once."""
        return self._answers[random_cores(state.rng_draw(), self._c_total)]


class Static(Policy):
    """`static:c`, and with c = c_total or 0 the two priorities."""

    def __init__(self, name: str, comm_cores: int | None) -> None:
        self.name = name
        self._comm_cores = comm_cores
        self._answer = Decision(comm_cores or 0)

    def start(self, plan: Plan) -> None:
        """Take all cores where no count was given; refuse more than there are."""
        wanted = plan.c_total if self._comm_cores is None else self._comm_cores
        if wanted > plan.c_total:
            raise UnknownPolicyError(
                f"policy {self.name} asks for {wanted} communication cores, "
                f"the device has {plan.c_total}"
            )
        self._answer = Decision(wanted)

    @property
    def comm_cores(self) -> int:
        """The core count that is always answered."""
        return self._answer.comm_cores

    def decide(self, state: State) -> Decision:
        """Answer always the same."""
        return self._answer


class Greedy(Policy):
    """`greedy` and `greedy-full`: Algorithm 1 on remaining or, read literally, on full work."""

    def __init__(self, name: str, *, full: bool) -> None:
        self.name = name
        self._full = full

    def start(self, plan: Plan) -> None:
        """Take the unit times as lists: plain floats are faster one by one."""
        self._unit_times = (plan.comm_unit_times.tolist(), plan.comp_unit_times.tolist())
        self._answers = [Decision(c) for c in range(plan.c_total + 1)]

    def decide(self, state: State) -> Decision:
        """Minimise the later of the two completion times."""
        comm, comp = state.remaining_comm, state.remaining_comp
        if self._full:
            plan, k = state.plan, state.backward_done
            comm = float(plan.comm[state.comm_done])
            comp = float((plan.backward if state.forward_done > k else plan.forward)[k])
        return self._answers[greedy_cores(comm, comp, *self._unit_times)]


@dataclass(frozen=True, eq=False)
class StringGuide:
    """What the optimal policy prepares before a run; shared with the compiled engine.

    Attributes
    ----------
    heights : (N,) float array
        Compute work done when Comm_i ends on the planned optimum.
    gate_of : (N,) int array
        The gate at which each Comm task ends.
    V, upper, lower : (n,) float array
        The gates of the corridor.
    following : (n,) int array
        Next gate on the ceiling's minorant, see `string_slope`; empty unless `replan`.
    done : (2N + 1,) float array
        Compute work of the first k tasks, Forward and Backward in turn.
    cores : (m,) int array
        Core counts at the rate region's vertices; `vr`, `vq` are the rates there.
    replan : bool
        Whether the state can leave the planned path (noise, release, link, reallocation cost), so
        that the string is pulled anew at each decision.
    """

    heights: Any
    gate_of: Any
    V: Any
    upper: Any
    lower: Any
    following: Any
    done: Any
    cores: Any
    vr: Any
    vq: Any
    replan: bool
    bounded: bool


def string_guide(plan: Plan, *, replan: bool) -> StringGuide:
    """Prepare the optimal policy for a plan."""
    gates = corridor(plan)
    tasks = np.column_stack([plan.forward, plan.backward]).ravel()
    vertices = plan.region.vertices
    return StringGuide(
        heights=path_heights(taut_string(gates), gates.Q),
        gate_of=np.searchsorted(gates.V, gates.Q),
        V=gates.V,
        upper=gates.upper,
        lower=gates.lower,
        following=_following(gates.V, gates.upper) if replan else np.zeros(0, np.int64),
        done=np.concatenate([[0.0], np.cumsum(tasks)]),
        cores=vertices,
        vr=plan.comm_rates[vertices],
        vq=plan.comp_rates[vertices],
        replan=replan,
        bounded=plan.prefetch > 0,
    )


def _following(V: Any, upper: Any) -> Any:
    """For each gate the next vertex of the minorant of the ceiling from it on."""
    q, u = V.tolist(), upper.tolist()
    following = [-1] * len(q)
    for m in range(len(q) - 2, -1, -1):
        k = m + 1
        while following[k] >= 0:
            after = following[k]
            if (u[k] - u[m]) * (q[after] - q[m]) < (u[after] - u[m]) * (q[k] - q[m]):
                break
            k = after
        following[m] = k
    return np.array(following, dtype=np.int64)


class Optimal(Policy):
    """`optimal`: follow the taut string, provably the fastest without noise."""

    name = "optimal"

    def __init__(self, *, replan: bool = False) -> None:
        self._replan = replan

    def start(self, plan: Plan) -> None:
        """Pull the string."""
        guide = string_guide(plan, replan=self._replan or _leaves_the_path(plan))
        # Views, not lists: entries are plain numbers as well, and a list takes five times as much.
        self._heights = memoryview(guide.heights)
        self._gates = (memoryview(guide.V), memoryview(guide.upper), memoryview(guide.lower))
        self._gate_of = memoryview(guide.gate_of)
        self._following = memoryview(guide.following)
        self._done = memoryview(guide.done)
        self._cores = guide.cores.tolist()
        self._rates = (guide.vr.tolist(), guide.vq.tolist())
        self._guide = guide

    def decide(self, state: State) -> Decision:
        """Aim at the point where the string leaves the present cell."""
        i, dv = state.comm_done, state.remaining_comm
        w = self._done[state.forward_done + state.backward_done + 1] - state.remaining_comp
        if self._guide.replan:
            gate = self._gate_of[i]
            v = self._gates[0][gate] - dv
            slope = string_slope(v, w, gate, *self._gates, self._following, self._guide.bounded)
            dw = slope * dv
        else:
            dw = self._heights[i] - w
        heavy, heavy_s, light, light_s = split_direction(dv, dw, *self._rates)
        if light_s == 0.0:
            return Decision(self._cores[heavy])
        if heavy_s == 0.0:
            return Decision(self._cores[light])
        return Decision(self._cores[heavy], heavy_s, self._cores[light])


def _leaves_the_path(plan: Plan) -> bool:
    return plan.release > 0 or plan.reallocation_cost > 0 or plan.link is not None
