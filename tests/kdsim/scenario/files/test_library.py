"""Devices of the library in scenarios and on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from front_door import call

import kdsim
from kdsim.errors import ScenarioError
from kdsim.plots.labels import setting
from kdsim.scenario.changes import with_fields
from kdsim.scenario.files.library import library_device, library_names
from kdsim.scenario.json_schema import scenario_schema
from kdsim.scenario.study import Scenario
from kdsim.scenario.validate import scenario_from_data

WORK = {"cycles": 3, "comm": 1.0, "forward": 1.0, "backward": 1.0}
OWN = {"b1": 5.0, "b2": 0.0, "b3": 1.0}


def study(device, **more):
    return Scenario.model_validate({"name": "s", "device": device, "workload": WORK, **more})


def complete():
    """Devices that were measured on one core, and so have every side of a scenario."""
    return [name for name in library_names() if "communication" in library_device(name)]


def test_there_are_enough_devices():
    assert len(library_names()) >= 50
    several = [n for n in library_names() if len(points(n)["own_cores"]) >= 3]
    assert len(several) >= 10
    assert len(complete()) >= 45


def points(name):
    return library_device(name)["provenance"]["points"]


@pytest.mark.parametrize("name", complete())
def test_every_complete_device_makes_a_scenario_with_its_measured_rates(name):
    scenario = study({"library": name})
    own = scenario.plan().comp_rates[::-1][points(name)["own_cores"]]
    # Where the form falls, the surplus cores stay idle: the best rate so far.
    np.testing.assert_allclose(own, np.maximum.accumulate(points(name)["rate"]), rtol=0.08)
    assert (own >= np.array(points(name)["rate"]) * (1 - 1e-4)).all()
    assert [mark.partition(":")[0] for mark in scenario.marks()] == [
        "inference proxy", "communication proxy",
    ]  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(library_names()) - set(complete())))
def test_a_device_without_a_communication_curve_asks_for_one(name):
    with pytest.raises(ValueError, match=f"no communication curve of {name}"):
        study({"library": name})
    scenario = study({"library": name, "communication": OWN, "extrapolate": True})
    assert any(mark.startswith("inference proxy") for mark in scenario.marks())


def test_the_users_own_communication_replaces_the_stand_in():
    scenario = study({"library": "raspberry-pi-5", "communication": OWN})
    np.testing.assert_allclose(scenario.plan().comm_rates, [0, 5, 10, 15, 20])
    assert [m.partition(":")[0] for m in scenario.marks()] == ["inference proxy"]


def test_cores_are_those_measured_unless_said_and_may_be_swept():
    assert study({"library": "jetson-agx-orin"}).device.cores == 12
    scenario = study({"library": "jetson-agx-orin", "cores": 4}, sweep={"device.cores": [1, 2, 8]})
    result = kdsim.compare(scenario, ["optimal"])
    times = [sample.makespans[0] for sample in result.samples]
    assert times[0] > times[1] > times[2]
    assert len(result.marks) == 2


def test_the_library_can_be_swept():
    boards = ["raspberry-pi-4", "raspberry-pi-5"]
    scenario = study({"library": boards[0]}, sweep={"device.library": boards})
    slow, fast = kdsim.compare(scenario, ["optimal"]).samples
    assert slow.point == {"device.library": "raspberry-pi-4"}
    assert slow.makespans[0] > fast.makespans[0]
    assert "4 cores" not in setting(scenario, ["device.library"])  # the boards' own differ
    assert setting(scenario).startswith("raspberry-pi-4 · 4 cores")


def test_devices_and_their_cores_can_be_swept_in_step():
    sweep = {"device.library": ["raspberry-pi-5", "jetson-agx-orin"], "device.cores": [4, 12]}
    scenario = study({"library": "raspberry-pi-5"}, sweep=sweep, design={"method": "zip"})
    assert len(scenario_from_data(scenario.model_dump(exclude={"files"})).sweep) == 2
    slow, fast = kdsim.compare(scenario, ["optimal"]).samples
    assert slow.makespans[0] > fast.makespans[0]
    grid = study({"library": "raspberry-pi-5"}, sweep=sweep)
    with pytest.raises(
        ScenarioError, match=r"at device\.library = raspberry-pi-5, device\.cores = 12"
    ):
        kdsim.compare(grid, ["optimal"])


def test_a_change_puts_the_whole_device_in_place():
    scenario = kdsim.load_scenario("paper-1to1")
    changed = with_fields(scenario, {"device.cores": 2, "device.library": "raspberry-pi-5"})
    alone = study({"library": "raspberry-pi-5", "cores": 2})
    np.testing.assert_array_equal(changed.plan().comp_rates, alone.plan().comp_rates)
    np.testing.assert_array_equal(changed.plan().comm_rates, alone.plan().comm_rates)
    assert changed.workload == scenario.workload


def test_an_unknown_device_is_refused_with_a_hint():
    answer = call("compare", "paper-1to1", "--set", "device.library=raspberry-5")
    assert answer.code == 2
    assert "did you mean 'raspberry-pi-5'?" in answer.err
    with pytest.raises(ScenarioError, match="`kdsim devices` lists"):
        library_device("../paper-1to1")


def test_a_library_device_cannot_stand_beside_curves(tmp_path):
    (tmp_path / "s.yaml").write_text(
        "name: s\ndevice:\n  library: raspberry-pi-5\n  compute: {a1: 1.0, a2: 0.1}\n"
        "workload: {cycles: 3, comm: 1.0, forward: 1.0, backward: 1.0}\n"
    )
    answer = call("check", str(tmp_path / "s.yaml"))
    assert answer.code == 2
    assert "s.yaml:3:12: device.library: cannot stand beside compute" in answer.err


def test_the_change_drops_what_was_swept_of_the_old_device():
    answer = call(
        "compare", "paper-1to1", "--set", "device.library=raspberry-pi-5", "-p", "optimal", "--json"
    )
    (row,) = json.loads(answer.out)["rows"]
    assert "device.cores" not in row


def test_the_schema_knows_the_ways_to_name_a_device():
    device = scenario_schema()["$defs"]["Device"]
    assert [sorted(way["required"]) for way in device["anyOf"]] == [
        ["communication", "compute", "cores"], ["cores", "curves"], ["library"],
    ]  # fmt: skip
    assert device["required"] == []


def test_the_list_and_its_search():
    every = json.loads(call("devices", "--json").out)["devices"]
    assert [row["name"] for row in every] == library_names()
    found = json.loads(call("devices", "--search", "cortex-a76 pi", "--json").out)["devices"]
    assert "raspberry-pi-5" in [row["name"] for row in found]
    assert len(found) < 8
    table = call("devices", "--search", "jetson").out
    assert "jetson-agx-orin" in table
    assert "raspberry" not in table
    assert "Inference proxy" in " ".join(table.split())


def test_a_device_is_shown_with_source_licence_and_what_it_is_not(tmp_path):
    answer = call("devices", "show", "kunpeng-920-3211k", "-o", str(tmp_path / "k.svg"))
    for words in ("BSD-3-Clause", "Tencent/ncnn", "lines ", "it is not", "left idle", "24 float32"):
        assert words in answer.out, words
    assert "inference proxy" in (tmp_path / "k.svg").read_text()
    data = json.loads(call("devices", "show", "kunpeng-920-3211k", "--json").out)
    assert data["name"] == "kunpeng-920-3211k"
    assert data["provenance"]["points"]["own_cores"] == [1, 2, 4, 8, 16, 24]


def test_a_device_that_is_not_there_cannot_be_shown():
    answer = call("devices", "show", "jetson")
    assert answer.code == 2
    assert "did you mean" in answer.err or "kdsim devices" in answer.err


def test_draws_stay_with_the_side_that_the_library_gives():
    both = study({"library": "jetson-agx-orin"}).device
    assert (both.drawn(0).communication_rates(12)[1:] != both.communication_rates(12)[1:]).all()
    mine = study({"library": "jetson-agx-orin", "communication": OWN}).device
    np.testing.assert_array_equal(
        mine.drawn(0).communication_rates(12), mine.communication_rates(12)
    )
    assert (mine.drawn(0).compute_rates(12)[:-1] != mine.compute_rates(12)[:-1]).any()
