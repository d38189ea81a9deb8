"""kdsim: share the cores of an edge device between the receiver of logits and the training.

The public names, in the order of a session: load a scenario, simulate it, ask for the proven
optimum, compare policies, sweep a design, write a policy of your own. Each is loaded on first
use, so that ``import kdsim`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsim._lazy import attach
from kdsim._version import __version__

if TYPE_CHECKING:
    from kdsim.api import (
        check_policy,
        compare,
        learning_curves,
        minimal_makespan,
        simulate,
        simulate_many,
        sweep,
    )
    from kdsim.errors import KdsimError, PolicyError, ScenarioError, StoreError, TraceError
    from kdsim.model.bound.optimum import Optimum
    from kdsim.policies.base import Decision, Policy, State
    from kdsim.results.comparison import Comparison
    from kdsim.results.learning import LearningCurves
    from kdsim.results.run import Run
    from kdsim.scenario.changes import with_fields
    from kdsim.scenario.load import bundled_scenarios, load_scenario
    from kdsim.scenario.study import Scenario
    from kdsim.sweeps.ledger.store import Store

_HOMES = {
    "Scenario": "scenario.study",
    "with_fields": "scenario.changes",
    "load_scenario": "scenario.load",
    "bundled_scenarios": "scenario.load",
    "simulate": "api",
    "simulate_many": "api",
    "compare": "api",
    "sweep": "api",
    "Store": "sweeps.ledger.store",
    "Run": "results.run",
    "Comparison": "results.comparison",
    "learning_curves": "api",
    "LearningCurves": "results.learning",
    "minimal_makespan": "api",
    "Optimum": "model.bound.optimum",
    "Policy": "policies.base",
    "State": "policies.base",
    "Decision": "policies.base",
    "check_policy": "api",
    "KdsimError": "errors",
    "ScenarioError": "errors",
    "PolicyError": "errors",
    "StoreError": "errors",
    "TraceError": "errors",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the names are strings

__getattr__, __dir__ = attach(__name__, _HOMES)
