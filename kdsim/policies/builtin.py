"""The built-in policies.

The decisions themselves are the plain functions of ``kdsim.model.rules`` and ``state_rule``; the
classes here wrap them for the engine. What a policy sees and answers is in ``base``.

The engine asks a policy only in the contended case. When Comm has ended or is blocked all cores
go to computation, when computation is blocked all go to communication (eq. 13).
"""

from __future__ import annotations

import math
from typing import Any

from kdsim.errors import UnknownPolicyError
from kdsim.model.bound.optimum import is_timed
from kdsim.model.lookahead.guide import (
    NO_CLOCK,
    Heights,
    as_views,
    clocked_of,
    heights_of,
    planned_of,
)
from kdsim.model.lookahead.look_ahead import look_ahead_cores
from kdsim.model.lookahead.outlooks import outlooks_of
from kdsim.model.lookahead.state_rule import state_based_cores
from kdsim.model.lookahead.timed_rule import state_in_time_cores
from kdsim.model.plan import Plan
from kdsim.model.rules import aim, aim_in_time, greedy_cores, random_cores
from kdsim.policies.base import Decision, Policy, State


class Random(Policy):
    """`random`: a uniform core count, drawn anew at each decision."""

    name = "random"

    def start(self, plan: Plan) -> None:
        """Make the possible answers once: they are few and returned often."""
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
        """Return the same answer in every state."""
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


class StateBased(Policy):
    """`state-based`: eq. 15 with the exact time left; looking ahead under costs and noise.

    Parameters
    ----------
    noise : float
        Coefficient of variation of the work around the plan.
    """

    name = "state-based"

    def __init__(self, *, noise: float = 0.0) -> None:
        self._noise = noise

    def start(self, plan: Plan) -> None:
        """Prepare the corridor's corners and the time left at each."""
        self._planned = as_views(planned_of(plan))
        self._timed = is_timed(plan)
        self._clocked = as_views(clocked_of(plan) if self._timed else NO_CLOCK)
        self._outlooks: Any = None
        if looks_ahead(plan, self._noise):
            self._outlooks = as_views((outlooks_of(self._noise),))[0]
        self._answers = [Decision(c) for c in range(plan.c_total + 1)]

    def decide(self, state: State) -> Decision:
        """Take the split from which all is done first."""
        k = state.forward_done + state.backward_done
        comm, comp = state.remaining_comm, state.remaining_comp
        asked = (state.comm_done, k, comm, comp, state.comm_cores)
        if self._outlooks is not None:
            arrivals = self._clocked[:5]
            cores = look_ahead_cores(*asked, state.now, self._outlooks, *self._planned, *arrivals)
        elif self._timed:
            cores = state_in_time_cores(*asked, state.now, *self._planned, *self._clocked)
        else:
            cores = state_based_cores(*asked, *self._planned)
        return self._answers[cores]


def looks_ahead(plan: Plan, noise: float) -> bool:
    """Whether a rule that plans has to reckon with costs, or with work other than planned."""
    return noise > 0 or plan.reallocation_cost > 0


class Optimal(Policy):
    """`optimal`: follow the taut string, provably the fastest; under costs and noise look ahead.

    No schedule is known to be the fastest there. The policy is then the `state-based` one.

    Parameters
    ----------
    noise : float
        Coefficient of variation of the work around the plan.
    """

    name = "optimal"

    def __init__(self, *, noise: float = 0.0) -> None:
        self._noise = noise

    def start(self, plan: Plan) -> None:
        """Compute the taut string, or prepare to look ahead."""
        self._ahead: StateBased | None = None
        if looks_ahead(plan, self._noise):
            self._ahead = StateBased(noise=self._noise)
            self._ahead.start(plan)
            return
        self._way = Heights._make(as_views(heights_of(plan)))

    def decide(self, state: State) -> Decision:
        """Aim at the point where the path leaves the present cell, and when it does."""
        if self._ahead:
            return self._ahead.decide(state)
        way, i, dv = self._way, state.comm_done, state.remaining_comm
        w = way.done[state.forward_done + state.backward_done + 1] - state.remaining_comp
        if len(way.ends):
            cells = (way.last[i] + 1, way.last[i + 1], way.rest, way.heights, way.ends)
            mix = (way.cores, way.vr, way.vq, way.normals)
            cores, hold, then = aim_in_time(dv, w, state.now, *cells, *mix)
        else:
            dw = way.heights[i] - w
            cores, hold, then = aim(dv, dw, state.now, way.cores, way.vr, way.vq)
        if hold == math.inf:
            return Decision(cores)
        return Decision(cores, hold, None if then < 0 else then)
