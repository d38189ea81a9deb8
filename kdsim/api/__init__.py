"""The verbs of a session: each takes a scenario, or the name or path of one, which is loaded here.

Everything inside takes a `Scenario` or a `Plan`. Each verb loads its engine when it is called, so
that none pays for the others.
"""

from kdsim.api.runs import check_policy, minimal_makespan, simulate, simulate_many
from kdsim.api.studies import compare, learning_curves, sweep

__all__ = [
    "check_policy",
    "compare",
    "learning_curves",
    "minimal_makespan",
    "simulate",
    "simulate_many",
    "sweep",
]
