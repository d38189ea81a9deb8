"""``starved: shared`` in the live loop: starved communication cores compute as well.

Over a slow link communication cores wait for data most of the time. A work-conserving scheduler
gives that time to computation. Here the student yields: its threads run on the communication cores
too, at a niceness at which a receiving worker takes its core back at once. The
threads of a training step wait for one another, so a core that receives for a share u of the time
slows the whole step: all cores together then compute at (1 - u) q(0), where the model's mixture of
splits reaches u q(c) + (1 - u) q(0). Where even that is less than the split alone would give,
nothing is lent. The two agree for small u, and their difference is part of what is measured.
"""

from __future__ import annotations

from calibration.bench.bench import Bench
from kdsim.model.plan import Plan

#: Chunks that may have arrived and not been counted as received while the cores still starve:
#: those that a worker is decoding or has in flight.
_IN_FLIGHT = 2
#: Chunks over which the link's present rate is taken.
_AHEAD = 4


def lends(plan: Plan) -> bool:
    """Whether starved communication cores compute."""
    return plan.link is not None and plan.link.starved == "shared"


class Lender:
    """Says when lending the communication cores pays.

    Parameters
    ----------
    plan : Plan
        With a link.
    bench : Bench
    """

    def __init__(self, plan: Plan, bench: Bench) -> None:
        self._plan, self._chunk_mb = plan, bench.teacher.chunk_mb

    def pays(self, comm_cores: int, received_mb: float, now_s: float) -> bool:
        """Whether `comm_cores` cores, having received so much by `now_s`, should compute as well.

        Parameters
        ----------
        comm_cores : int
        received_mb : float
            In all, since the run began.
        now_s : float
            Seconds since the run began.
        """
        plan, link = self._plan, self._plan.link
        if link is None or not 0 < comm_cores <= plan.c_total:
            return False
        chunk = self._chunk_mb
        arrives = link.arrival_time
        if arrives(received_mb + (_IN_FLIGHT * comm_cores + 1) * chunk) < now_s:
            return False  # more has arrived than is being received: the cores do not starve
        due_s = arrives(received_mb + _AHEAD * chunk) - max(arrives(received_mb), now_s)
        rate = _AHEAD * chunk / due_s if due_s > 0 else float("inf")
        busy = min(rate / float(plan.comm_rates[comm_cores]), 1.0)
        return (1.0 - busy) * float(plan.comp_rates[0]) > float(plan.comp_rates[comm_cores])
