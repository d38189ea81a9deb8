"""kdsim: share the cores of an edge device between the receiver of logits and the training.

The public names, in the order of a session: load a scenario, simulate it, ask for the proven
optimum, compare policies, sweep a design, write a policy of your own. Each is loaded on first
use, so that ``import kdsim`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kdsim._version import __version__

if TYPE_CHECKING:
    from kdsim.batch import simulate_many
    from kdsim.checking import check_policy
    from kdsim.comparison import compare
    from kdsim.engine import simulate
    from kdsim.errors import KdsimError, PolicyError, ScenarioError, StoreError, TraceError
    from kdsim.learning import learning_curves
    from kdsim.learning_results import LearningCurves
    from kdsim.loading import bundled_scenarios, load_scenario
    from kdsim.optimum import Optimum, minimal_makespan
    from kdsim.policies import Decision, Policy, State
    from kdsim.results import Comparison, Run
    from kdsim.scenario import Scenario, with_fields
    from kdsim.store import Store
    from kdsim.sweeps import sweep

_HOMES = {
    "Scenario": "scenario",
    "with_fields": "scenario",
    "load_scenario": "loading",
    "bundled_scenarios": "loading",
    "simulate": "engine",
    "simulate_many": "batch",
    "compare": "comparison",
    "sweep": "sweeps",
    "Store": "store",
    "Run": "results",
    "Comparison": "results",
    "learning_curves": "learning",
    "LearningCurves": "learning_results",
    "minimal_makespan": "optimum",
    "Optimum": "optimum",
    "Policy": "policies",
    "State": "policies",
    "Decision": "policies",
    "check_policy": "checking",
    "KdsimError": "errors",
    "ScenarioError": "errors",
    "PolicyError": "errors",
    "StoreError": "errors",
    "TraceError": "errors",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the names are strings


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'kdsim' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"kdsim.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
