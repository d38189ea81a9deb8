"""A small study to sweep, and a module of user policies that misbehave on three cores."""

from __future__ import annotations

import pandas as pd

from kdsim.scenario.study import Scenario
from kdsim.scenario.validate import scenario_from_data

DEVICE = {
    "cores": 4,
    "compute": {"a1": 1.0, "a2": 0.25},
    "communication": {"b1": 0.3, "b2": 0.1, "b3": 2.0},
}
POLICIES = """
import os
import signal
import threading

from kdsim import Decision, Policy

class Half(Policy):
    name = "half"
    def decide(self, state):
        if state.total_cores == 3:
            self.on_three()
        return Decision(state.total_cores // 2)
    def on_three(self):
        pass

class FailsOnThree(Half):
    name = "fails-on-three"
    def on_three(self):
        raise ValueError("three is too many")

class Exits(Half):
    name = "exits"
    def on_three(self):
        os._exit(7)

class Killed(Half):
    name = "killed"
    def on_three(self):
        os.kill(os.getpid(), signal.SIGKILL)

class Hangs(Half):
    name = "hangs"
    def on_three(self):
        threading.Event().wait()

class Unmakeable(Half):
    name = "unmakeable"
    def __init__(self):
        raise RuntimeError("not today")
"""


def small(**changes: object) -> Scenario:
    """Return a scenario of three core counts; `changes` replace its parts."""
    data = {
        "name": "small",
        "device": DEVICE,
        "workload": {"cycles": 4, "comm": 1.0, "forward": 1.0, "backward": 0.5},
        "policies": ["random", "greedy", "optimal"],
        "replications": 6,
        "sweep": {"device.cores": [2, 3, 4]},
        **changes,
    }
    return scenario_from_data(data)


def assert_only_three_cores_failed(table: pd.DataFrame, policy: str, error: str) -> None:
    """Check that one policy failed, on three cores, and nothing else."""
    failed = table[table["status"] == "failed"]
    assert failed[["device.cores", "policy"]].to_numpy().tolist() == [[3, policy]]
    assert error in failed["error"].iloc[0]
