"""Comparisons: which engine plays them."""

import pytest

import kdsim
from kdsim.engines import batch


def test_the_engine_is_chosen_for_the_comparison_as_a_whole(monkeypatch):
    # 24 samples of 2,500 cycles each: none is worth the compiled engine, together they are.
    scenario = kdsim.with_fields(kdsim.load_scenario("paper-1to1"), {"extensions.noise": 0.1})
    scenario = scenario.model_copy(update={"sweep": {"device.cores": [6, 8, 10, 12]}})
    loaded = []
    monkeypatch.setattr(batch, "load", lambda *given: loaded.append(given))
    monkeypatch.setattr(batch, "is_loaded", lambda: bool(loaded))
    monkeypatch.setattr(batch, "_by_simpy", lambda *_: pytest.fail("played run by run"))
    kdsim.compare(scenario, replications=50)
    assert loaded


def test_a_small_comparison_does_not_load_the_compiled_engine(monkeypatch):
    monkeypatch.setattr(batch, "load", lambda *_: pytest.fail("loaded for 200 cycles"))
    monkeypatch.setattr(batch, "is_loaded", lambda: False)
    assert len(kdsim.compare("paper-1to1", ["greedy"], replications=1).rows) == 4
