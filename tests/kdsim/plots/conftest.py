"""Studies that several figures are drawn of."""

import pytest
from drawn_study import study

import kdsim
from kdsim.results.comparison import Comparison
from kdsim.scenario.changes import with_fields


@pytest.fixture(scope="module")
def scenario():
    return with_fields(kdsim.load_scenario("paper-1to1"), {"device.cores": 4, "workload.cycles": 6})


@pytest.fixture
def swept(scenario):
    eight, six = study([{"device.cores": 8}]), study([{"device.cores": 6}], scale=2.0)
    return Comparison(scenario, eight + six)


@pytest.fixture
def grid(scenario):
    points = [{"device.cores": c, "workload.ratio": r} for r in ("1:1", "2:1") for c in (6, 8, 10)]
    return Comparison(scenario, study(points))
