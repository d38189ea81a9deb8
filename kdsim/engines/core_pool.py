"""The core pool: at most one Comm and one Comp task, malleable, under a policy.

The pool says how fast things go; what must come before what is said by the processes of
``engine``. It keeps a single pending event, the next instant at which anything can change.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import simpy
from simpy.events import Event, EventPriority

from kdsim.engines.buffer import Buffer
from kdsim.errors import PolicyError
from kdsim.model.plan import Plan
from kdsim.model.tolerances import DONE
from kdsim.policies.base import Decision, Policy, State
from kdsim.policies.resolve import policy_name
from kdsim.results.recording import Recording, Stretches

#: Questions to a policy without a single completion between them.
MAX_QUESTIONS = 100_000
#: After every event of the same instant (SimPy's own priorities are 0 and 1).
_LAST = EventPriority(2)
_NEVER = math.inf


class _Wake(Event):
    """A call at a given time, behind everything else of that instant; used over and over."""

    def __init__(self, env: simpy.Environment, callback: Callable[[Event], None]) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None
        self._callback = callback

    def after(self, delay: float) -> None:
        """Call back after `delay` seconds."""
        self.callbacks = [self._callback]
        self.env.schedule(self, _LAST, delay)


class CorePool:
    """Cores shared by at most one Comm and one Comp task, both malleable.

    Parameters
    ----------
    env : simpy.Environment
    plan : Plan
        Planned work (what the policy sees) and rates.
    policy : Policy
        Asked in the contended case only.
    draws : callable
        The run's random draws.
    data : float
        Data units that the run receives: realised work. Counts only where the plan has a link.
    """

    def __init__(
        self,
        env: simpy.Environment,
        plan: Plan,
        policy: Policy,
        draws: Callable[[], float],
        data: float = 0.0,
    ) -> None:
        self._env = env
        self._plan = plan
        self._policy = policy
        self._draws = draws
        self._comm_rates: list[float] = plan.comm_rates.tolist()
        self._comp_rates: list[float] = plan.comp_rates.tolist()
        self._comm_times: list[float] = plan.comm_unit_times.tolist()
        self._comp_times: list[float] = plan.comp_unit_times.tolist()
        self._c_total = plan.c_total
        self._cost = plan.reallocation_cost
        self._comm: Event | None = None
        self._comm_work = self._comm_left = self._comm_scale = 0.0
        self._comm_ready = True
        self._ready_at = 0.0
        self._comp: Event | None = None
        self._comp_work = self._comp_left = self._comp_scale = 0.0
        self._settling = False
        self._settled = _Wake(env, self._settle)
        self._timer = _Wake(env, self._advance)
        self._cores = -1
        self._then: int | None = None
        self._step = self._comm_time = self._comp_time = 0.0
        self._stall = 0.0
        self._buffer = None if plan.link is None else Buffer(plan.link, data)
        self._hold: float | None = None
        self._comm_rate = self._comp_rate = self._arriving = 0.0
        self._drain = self._turn = math.inf
        self._receiving = self._starved = False
        self._questions = 0
        self.comm_done = 0
        self.comp_done = 0
        self.decisions = 0
        self.reallocations = 0
        self.stall_s = 0.0
        self.starved_s = 0.0
        self._log = Recording()

    # -- what the processes call -------------------------------------------------------------------

    def communicate(self, work: float, planned: float, ready_at: float, done: Event) -> Event:
        """Run a Comm task of realised `work` (data units) from `ready_at` on; `done` fires."""
        self._comm = done
        self._comm_work = self._comm_left = work
        self._comm_scale = planned / work if work > 0 else 0.0
        self._comm_ready = ready_at <= self._env.now
        self._ready_at = ready_at
        if work == 0 and self._comm_ready:
            self._end_comm()
        else:
            self._settle_soon()
        return done

    def compute(self, work: float, planned: float, done: Event) -> Event:
        """Run a Forward or Backward task of realised `work` (compute units); `done` fires."""
        self._comp = done
        self._comp_work = self._comp_left = work
        self._comp_scale = planned / work if work > 0 else 0.0
        if work == 0:
            self._end_comp()
        else:
            self._settle_soon()
        return done

    # -- one instant -------------------------------------------------------------------------------

    def _settle_soon(self) -> None:
        if not self._settling:
            self._settling = True
            self._settled.after(0.0)

    def _settle(self, _: Event) -> None:
        """Share the cores, once all that happens at this instant has happened."""
        self._settling = False
        if self._comm is None or not self._comm_ready:
            if self._comm is None and self._comp is None:
                return
            self._run_on(0, None, None)
        elif self._comp is None:
            self._run_on(self._c_total, None, None)
        else:
            cores, hold, then = self._ask()
            self._run_on(cores, hold, then)

    def _ask(self) -> Decision:
        comm_done, comp_done = self.comm_done, self.comp_done
        state = State(
            comm_done,
            (comp_done + 1) // 2,
            comp_done // 2,
            self._comm_left * self._comm_scale,
            self._comp_left * self._comp_scale,
            self._env.now,
            self._plan,
            self._draws,
            self._cores,
        )
        self.decisions += 1
        self._questions += 1
        if self._questions > MAX_QUESTIONS:
            raise _policy_error(
                self._policy, state, f"asked {MAX_QUESTIONS:,} times without any task completing"
            )
        try:
            answer = self._policy.decide(state)
        except (PolicyError, KeyboardInterrupt):
            raise
        except BaseException as error:
            reason = f"raised {type(error).__name__}: {error}"
            raise _policy_error(self._policy, state, reason) from error
        if type(answer) is Decision and answer.hold is None and answer.then is None:
            cores = answer.comm_cores
            if type(cores) is int and 0 <= cores <= self._c_total:
                return answer  # the common case, without the general checks below
        return check_decision(answer, self._policy, state)

    def _run_on(self, cores: int, hold: float | None, then: int | None) -> None:
        """Put the split into force until the next instant at which anything can change."""
        stall = 0.0
        if cores != self._cores:
            if self._cores >= 0:
                self.reallocations += 1
                stall = self._cost
                self.stall_s += stall
            self._cores = cores
        self._then = then
        comm_time = comp_time = _NEVER
        if self._comm is not None and self._comm_ready:
            comm_time = self._comm_left * self._comm_times[cores]
        if self._comp is not None:
            comp_time = self._comp_left * self._comp_times[cores]
        if self._buffer is not None:
            self._hold = hold
            comm_time, comp_time = self._meet_link(self._buffer, stall, comm_time, comp_time)
        # Written out: a call of min takes longer than the comparison.
        step = comm_time if comm_time < comp_time else comp_time
        if hold is not None and hold < step:
            step = hold
        if not self._comm_ready:
            step = min(step, max(self._ready_at - self._env.now - stall, 0.0))
        if self._buffer is not None:
            step = min(step, self._drain, self._turn)
        self._step, self._comm_time, self._comp_time = step, comm_time, comp_time
        self._stall = stall
        self._timer.after(stall + step)

    def _meet_link(
        self, buffer: Buffer, stall: float, comm_time: float, comp_time: float
    ) -> tuple[float, float]:
        """Return the sides' times to completion at the rates that the arrived data allow.

        Notes when the buffer will be empty and when the link's rate will change, both in seconds
        from the end of the stall on.
        """
        cores = self._cores
        comm_rate, comp_rate = self._comm_rates[cores], self._comp_rates[cores]
        begin = self._env.now + stall
        if stall > 0.0:
            buffer.fill(self._env.now, begin)
        self._drain = self._turn = math.inf
        self._starved = False
        self._receiving = comm_time < math.inf
        if self._receiving:
            arriving = self._arriving = buffer.rate
            self._turn = max(buffer.next_change - begin, 0.0)
            if arriving < comm_rate:
                if buffer.held > 0.0:
                    self._drain = buffer.held / (comm_rate - arriving)
                else:
                    self._starved = True
                    if buffer.shared:
                        share = arriving / comm_rate
                        comp_rate = share * comp_rate + (1.0 - share) * self._comp_rates[0]
                        if self._comp is not None:
                            comp_time = self._comp_left / comp_rate
                    comm_rate = arriving
                    comm_time = self._comm_left / arriving if arriving > 0.0 else math.inf
        self._comm_rate, self._comp_rate = comm_rate, comp_rate
        return comm_time, comp_time

    def _book_arrivals(self, buffer: Buffer, step: float) -> None:
        """Let the buffer change by what came and went in a step."""
        if not self._receiving:
            buffer.fill(self._env.now - step, self._env.now)
            return
        buffer.flow(self._arriving, self._comm_rate, step)
        if self._starved:
            self.starved_s += step
        if step == self._drain:
            buffer.hold(0.0)
        if step == self._turn:
            buffer.turn()

    def _advance(self, _: Event) -> None:
        """Book the work done since the last instant and let what is complete complete."""
        step, cores, now = self._step, self._cores, self._env.now
        comm_time, comp_time = self._comm_time, self._comp_time
        comm = self.comm_done if comm_time < _NEVER or self._starved else -1
        comp = self.comp_done if comp_time < _NEVER else -1
        self._log.append((now, step, cores, comm, comp, self._stall, self._starved))
        comm_rate, comp_rate = self._comm_rates[cores], self._comp_rates[cores]
        if self._buffer is not None:
            comm_rate, comp_rate = self._comm_rate, self._comp_rate
            self._book_arrivals(self._buffer, step)
        if comm_time < _NEVER:
            self._comm_left -= comm_rate * step
            if comm_time == step or self._comm_left <= DONE * self._comm_work:
                self._end_comm()
        elif not self._comm_ready and self._ready_at - now <= DONE * now:
            self._comm_ready = True
            self._settle_soon()
            if self._comm_work == 0:
                self._end_comm()
        if comp_time < _NEVER:
            self._comp_left -= comp_rate * step
            if comp_time == step or self._comp_left <= DONE * self._comp_work:
                self._end_comp()
        if self._settling:
            return  # something is complete
        if self._buffer is not None and (self._hold is None or step < self._hold):
            # Only the link or the buffer has changed: no reason to ask the policy again.
            hold = None if self._hold is None else self._hold - step
            self._run_on(cores, hold, self._then)
        elif self._then is None:
            self._settle_soon()
        else:
            self._run_on(self._then, None, None)

    def _end_comm(self) -> None:
        done, self._comm = self._comm, None
        self.comm_done += 1
        self._questions = 0
        done.succeed()  # type: ignore[union-attr]  # set as long as the task runs
        self._settle_soon()

    def _end_comp(self) -> None:
        done, self._comp = self._comp, None
        self.comp_done += 1
        self._questions = 0
        done.succeed()  # type: ignore[union-attr]  # set as long as the task runs
        self._settle_soon()

    @property
    def buffer_peak(self) -> float:
        """Most data units that ever waited on the device; 0 without a link."""
        return self._buffer.peak if self._buffer else 0.0

    @property
    def intervals(self) -> Stretches:
        """The run so far, stretch by stretch."""
        return self._log.stretches()


def check_decision(answer: Any, policy: Policy, state: State) -> Decision:
    """Return a policy's answer if it is legal in this state, else say what is wrong with it."""
    if not isinstance(answer, Decision):
        raise _policy_error(policy, state, f"answered {answer!r:.80}, not a Decision")
    hold, then, c_total = answer.hold, answer.then, state.plan.c_total
    for what, cores in (("comm_cores", answer.comm_cores), ("then", then)):
        if cores is None and what == "then":
            continue
        try:
            # A TypeError for what is no whole number is caught below.
            legal = 0 <= operator.index(cores) <= c_total  # type: ignore[arg-type]
        except TypeError:
            legal = False
        if not legal:
            raise _policy_error(
                policy,
                state,
                f"answered {what} = {cores!r:.40}; legal are whole numbers 0..{c_total}",
            )
    if hold is None:
        if then is not None:
            raise _policy_error(policy, state, f"answered then = {then} without hold")
        return answer
    try:
        seconds = math.nan if isinstance(hold, str) else float(hold)
    except (TypeError, ValueError):
        seconds = math.nan
    if seconds > 0 and then is not None and state.now + seconds == state.now:
        return Decision(then)  # too short for the clock to advance
    if not 0 < seconds < math.inf or state.now + seconds == state.now:
        raise _policy_error(
            policy,
            state,
            f"answered hold = {hold!r:.40}; legal are finite seconds that advance the clock",
        )
    return Decision(answer.comm_cores, seconds, then)


def describe_state(state: State) -> str:
    """Write the state that a policy was asked in, for a message."""
    return (
        f"i={state.comm_done}, j={state.forward_done}, k={state.backward_done}, "
        f"remaining comm {state.remaining_comm:g}, comp {state.remaining_comp:g}, "
        f"t={state.now:g} s, {state.plan.c_total} cores"
    )


def _policy_error(policy: Policy, state: State, reason: str) -> PolicyError:
    return PolicyError(f"policy {policy_name(policy)} {reason} (state: {describe_state(state)})")
