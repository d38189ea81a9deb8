"""Scenarios as objects: what one is, its digest, its faults."""

import json

import numpy as np
import pytest
from broken_scenarios import BASE
from front_door import call, python
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario_of import plain

from kdsim.policies.names import is_policy_name
from kdsim.scenario.changes import with_fields
from kdsim.scenario.files.faults import FaultyFileError
from kdsim.scenario.load import load_scenario
from kdsim.scenario.validate import scenario_from_data

# --- what a scenario is ---------------------------------------------------------------------------


def test_a_scenario_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        plain().seed = 3


def test_the_plan_holds_the_numbers():
    plan = plain(link={"rate": 1.5}, extensions={"prefetch": 2}).plan()
    np.testing.assert_array_equal(plan.comm, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(plan.backward, [0.5, 0.5, 0.5])
    assert plan.link.rates.tolist() == [1.5]
    assert plan.comm_rates[0] == 0.0
    assert plan.comp_rates[-1] == 0.0
    assert plan.prefetch == 2


def test_numpy_arrays_are_lists():
    work = {"cycles": 2, "comm": np.array([1, 2]), "forward": np.float64(1), "backward": (1, 2)}
    assert plain(workload=work).workload.comm == [1.0, 2.0]


@pytest.mark.parametrize(
    ("name", "legal"),
    [("greedy", True), ("static:3", True), ("static:0", True), ("a.b:C", True), ("static:x", False),
     ("static:", False), ("static:-1", False), ("static:3.0", False), ("a:b:c", False),
     ("a b:C", False), (":C", False), ("a:", False), ("", False), ("Greedy", False),
     ("static:\u0663", False)],
)  # fmt: skip
def test_policy_names(name, legal):
    assert is_policy_name(name) is legal


@pytest.mark.parametrize(
    ("sweep", "ok"),
    [({}, True), ({"device.cores": [4, 8]}, True), ({"device.cores": [4, 2]}, False)],
)
def test_a_static_policy_must_fit_every_device_of_the_file(sweep, ok, tmp_path):
    text = BASE.replace("[greedy, optimal]", "['static:3']")
    (tmp_path / "a.yaml").write_text(text + f"sweep: {json.dumps(sweep)}\n")
    answer = call("check", tmp_path / "a.yaml")
    assert (answer.code == 0) is ok
    if not ok:
        assert "static:3 asks for more cores than the device has (2)" in answer.err


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "1:1", "static:2", "a.b:C", "random", "1.0", "table", "sobol", "\n"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["cores", "model", "low", "high", "a1", "b1"]), inner)
    ),
    max_leaves=5,
)


def places(value, place=()):
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        yield from places(inner, (*place, key))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_anything_in_any_place_is_a_legal_scenario_or_a_fault(data):
    facts = plain(sweep={"device.cores": [1, 2]}).model_dump(mode="json")
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(list(places(facts))))
        target = facts
        for parent in parents:
            target = target[parent]
        target[last] = data.draw(anything)
    faults, scenario = (), None
    try:
        scenario = scenario_from_data(facts)
    except FaultyFileError as error:
        faults = error.faults
    assert all(fault.reason for fault in faults)
    if scenario is None:
        assert faults
    else:
        assert scenario.plan().comm.size == scenario.workload.cycles
        assert len(scenario.digest()) == 64


# --- digests --------------------------------------------------------------------------------------


def test_a_digest_is_the_same_in_every_process():
    code = "print(__import__('kdsim').load_scenario('paper-1to1').digest())"
    assert python(code).out.strip() == load_scenario("paper-1to1").digest()


def test_a_digest_is_sensitive_to_what_determines_a_run():
    scenario = plain()
    changes = {
        "seed": 1, "device.cores": 3, "device.reference_cores": 5, "device.compute.a1": 1.1,
        "device.compute.a2": 0.1, "device.communication.kappa": 0.01, "workload.comm": 1.0,
        "workload.forward": 1.0000000001, "workload.backward": 0.0, "extensions.prefetch": 1,
        "extensions.noise": 0.1, "link.rate": 1.0, "extensions.release": 0.1,
        "extensions.reallocation_cost": 0.1,
    }  # fmt: skip
    digests = [scenario.digest()]
    digests += [with_fields(scenario, {path: value}).digest() for path, value in changes.items()]
    assert len(set(digests)) == len(digests)


def test_a_digest_is_blind_to_names_and_to_who_is_compared():
    changed = plain(name="other", description="x", policies=["greedy"], replications=3)
    assert changed.digest() == plain().digest()
    assert plain(sweep={"seed": [1, 2]}).digest() == plain().digest()


def test_faults_of_a_sweep_are_listed_beside_those_of_the_parts_it_changes():
    data = {
        "name": "x",
        "device": {"cores": 4, "comput": 3},
        "workload": {"cycles": 3, "comm": 1.0, "forward": 1.0},
        "sweep": {"device.core": [1], "workload.comn": [1], "device.cores": [0, 2],
                  "device.compute.a2": [7.0]},
    }  # fmt: skip
    with pytest.raises(FaultyFileError) as caught:
        scenario_from_data(data)
    found = {fault.field for fault in caught.value.faults}
    assert {"device.comput", "workload.backward", "sweep.device.core", "sweep.workload.comn",
            "sweep.device.cores[0]"} <= found  # fmt: skip
    # Which limits a curve's field has follows from its model, and that is not known here.
    assert "sweep.device.compute.a2[0]" not in found
