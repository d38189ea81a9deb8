"""The work that one replication of a plan meets: its planned work times the noise."""

from __future__ import annotations

import numpy as np

from kdsim.model.plan import Plan
from kdsim.model.random_streams import noise_factors


def realised(plan: Plan, cv: float, seed: int, replication: int) -> Plan:
    """Return the plan with the work that one replication really meets; `plan` itself if no noise.

    Task j of a replication (Comm_1..N, Forward_1..N, Backward_1..N in this order) has the same
    factor under every policy.
    """
    if cv == 0:
        return plan
    factors = noise_factors(seed, replication, 3 * plan.cycles, cv)[0]
    comm, forward, backward = np.split(factors, 3)
    return plan.with_work(plan.comm * comm, plan.forward * forward, plan.backward * backward)
