"""What a policy sees, what it answers, and the protocol that it follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from kdsim.model.plan import Plan


@dataclass(slots=True)
class State:
    """What a policy sees when it is asked.

    Attributes
    ----------
    comm_done, forward_done, backward_done : int
        Completed Comm, Forward and Backward tasks (i, j, k of the paper).
    remaining_comm, remaining_comp : float
        Planned work left of the running Comm and of the running Forward or Backward. Under noise
        this is the planned work times the fraction not yet done: a policy cannot see the noise.
    now : float
        Simulated seconds.
    plan : Plan
        The planned workload and the rates.
    rng_draw : callable
        Returns the next uniform draw on [0, 1) of this replication; the only legal randomness.
    comm_cores : int
        Communication cores of the split in force, -1 before the first.
    """

    comm_done: int
    forward_done: int
    backward_done: int
    remaining_comm: float
    remaining_comp: float
    now: float
    plan: Plan
    rng_draw: Callable[[], float]
    comm_cores: int = -1

    @property
    def total_cores(self) -> int:
        """Cores of the device, c_total."""
        return self.plan.c_total

    @property
    def comm_rates(self) -> Any:
        """r(0..c_total), data units per second by communication cores."""
        return self.plan.comm_rates

    @property
    def comp_rates(self) -> Any:
        """q(0..c_total), compute work per second by communication cores."""
        return self.plan.comp_rates


class Decision(NamedTuple):
    """A policy's answer.

    Attributes
    ----------
    comm_cores : int
        Cores for communication, 0..c_total; computation gets the others.
    hold : float, optional
        Seconds of work after which the answer changes; without it, it stands until the next
        completion.
    then : int, optional
        Communication cores from the end of `hold` to the next completion. Without it the policy
        is asked again when `hold` is over.
    """

    comm_cores: int
    hold: float | None = None
    then: int | None = None


class Policy(Protocol):
    """A rule that shares the cores; subclass it and give it a name.

    One instance serves one run. `start` is called once before it, `decide` in every contended
    state.

    Examples
    --------
    >>> class Half(Policy):
    ...     name = "half"
    ...     def decide(self, state):
    ...         return Decision(state.total_cores // 2)
    """

    name: str

    def start(self, plan: Plan) -> None:
        """Look at the planned work before a run; nothing by default."""

    def decide(self, state: State) -> Decision:
        """Answer one contended state."""
        ...


#: A policy as a caller names it: by its name, by its class, or an instance for a single run.
PolicyLike = str | Policy | type[Policy]
