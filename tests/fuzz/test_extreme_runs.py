"""Random devices and workloads over many decades: the engines agree, nothing beats the bound."""

from __future__ import annotations

import random

import pytest
from budget import rounds

from kdsim.engines import batch
from kdsim.errors import KdsimError
from kdsim.policies.names import POLICY_NAMES
from kdsim.scenario.validate import scenario_from_data

#: Rounding may take a makespan this share below the bound, not more.
_ROUNDING = 1e-9
_RUNS = 2


def decades(choose: random.Random, low: float, high: float) -> float:
    return 10 ** choose.uniform(low, high)


def amounts(choose: random.Random, cycles: int) -> float | list[float]:
    """Return one amount for all cycles, or one each, some of them zero."""
    if choose.random() < 0.4:
        return decades(choose, -5, 5)
    spread = choose.choice([0.5, 4.0])
    return [
        0.0 if choose.random() < 0.1 else decades(choose, -spread, spread) for _ in range(cycles)
    ]


def device(choose: random.Random) -> dict:
    cores = choose.choice([1, 2, 3, 4, 8, 16, 64])
    compute = choose.choice(["paper", "amdahl", "usl"])
    communication = choose.choice(["paper", "roofline", "power"])
    rate = decades(choose, -4, 4)
    forms = {
        "paper": {"a1": 1 / rate, "a2": choose.choice([0.0, 0.5, 0.999]) / cores},
        "amdahl": {"model": "amdahl", "rate1": rate, "serial": choose.random()},
        "usl": {"model": "usl", "rate1": rate, "sigma": choose.random(), "kappa": 0.01},
    }
    own = decades(choose, -4, 4)
    links = {
        "paper": {"b1": 0.3 * own, "b2": choose.choice([0.0, 0.2, 5.0]) * own, "b3": 2.0},
        "roofline": {
            "model": "roofline", "rate1": own, "limit": own * decades(choose, -1, 2),
            "sharpness": choose.choice([0.5, 4, 64]),
        },
        "power": {"model": "power", "rate1": own, "exponent": choose.random()},
    }  # fmt: skip
    return {"cores": cores, "compute": forms[compute], "communication": links[communication]}


def study(choose: random.Random) -> dict:
    """Return a scenario whose parts differ by up to ten decades."""
    cycles = choose.choice([1, 2, 3, 5, 12])
    extensions = {
        "prefetch": choose.choice([None, None, 1, 2, 3]),
        "noise": choose.choice([0.0, 0.0, 0.3, 2.0]),
        "release": choose.choice([0.0, 0.0, decades(choose, -4, 4)]),
        "reallocation_cost": choose.choice([0.0, 0.0, decades(choose, -6, 1)]),
    }
    work = {name: amounts(choose, cycles) for name in ("comm", "forward", "backward")}
    data = {
        "name": "extreme",
        "device": device(choose),
        "workload": {"cycles": cycles, **work},
        "extensions": extensions,
        "seed": choose.randrange(2**40),
    }
    if choose.random() < 0.3:
        starved = choose.choice(["idle", "shared"])
        data["link"] = {"rate": decades(choose, -4, 4), "starved": starved}
    return data


@pytest.mark.parametrize("seeds", rounds(40, 20_000))
def test_the_engines_agree_and_no_policy_beats_the_bound(monkeypatch, seeds):
    played = 0
    for seed in seeds:
        choose = random.Random(seed)
        try:
            scenario = scenario_from_data(study(choose))
        except KdsimError:
            continue  # e.g. nothing to do in any cycle
        played += 1
        policy = choose.choice(POLICY_NAMES)
        first = choose.randrange(1000)
        times, bounds = batch._by_simpy(scenario, policy, first, first + _RUNS)
        monkeypatch.setattr(batch, "_WORTH_COMPILING", 0)
        compiled, compiled_bounds = batch.makespans(scenario, policy, first, first + _RUNS)
        assert compiled == pytest.approx(times, rel=1e-9), f"seed {seed}, {policy}"
        assert compiled_bounds == pytest.approx(bounds, rel=1e-9), f"seed {seed}, {policy}"
        assert (times / bounds - 1 >= -_ROUNDING).all(), f"seed {seed}, {policy}"
    assert played > 0.9 * len(seeds)
