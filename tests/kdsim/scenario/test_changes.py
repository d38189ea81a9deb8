"""Changing fields of a scenario, and what may be swept."""

import numpy as np
import pytest
from scenario_of import plain

from kdsim.errors import ScenarioError
from kdsim.scenario.changes import parse_ratio, sweepable_fields, with_fields
from kdsim.scenario.points import points


def test_with_fields_changes_what_it_names_and_nothing_else():
    scenario = plain()
    changed = with_fields(scenario, {"device.cores": 2, "extensions.noise": 0.1})
    assert changed.device.cores == 2
    assert changed.extensions.noise == 0.1
    assert changed.workload == scenario.workload
    assert scenario.device.cores == 4
    # The curve keeps the core count at which it was fitted.
    assert changed.device.reference_cores == 4


def test_with_fields_without_changes_is_the_scenario_itself():
    scenario = plain()
    assert with_fields(scenario, {}) is scenario


def test_a_changed_scenario_has_no_sweep():
    scenario = plain(sweep={"device.cores": [1, 2]})
    assert with_fields(scenario, {"seed": 7}).sweep == {}


def test_a_ratio_multiplies_the_work_of_the_scenario():
    work = with_fields(plain(), {"workload.ratio": "2:0.5"}).workload
    assert (work.forward, work.backward, work.comm) == (2.0, 1.0, [0.5, 1.0, 1.5])
    work = with_fields(plain(), {"workload.ratio": 3}).workload
    assert (work.forward, work.backward, work.comm) == (3.0, 1.5, [1.0, 2.0, 3.0])


def test_one_to_one_is_the_scenario_as_it_stands():
    work = {"cycles": 5, "comm": 12.0, "forward": 3.0, "backward": 3.0}
    scenario = plain(workload=work)
    assert with_fields(scenario, {"workload.ratio": "1:1"}).digest() == scenario.digest()


def test_a_ratio_multiplies_amounts_that_are_changed_beside_it_in_either_order():
    changes = {"workload.ratio": "1:2", "workload.comm": 5.0}
    for order in (changes, dict(reversed(changes.items()))):
        assert with_fields(plain(), order).workload.comm == 10.0


def test_a_ratio_may_be_swept_beside_an_amount():
    scenario = plain(sweep={"workload.ratio": ["1:1", "1:2"], "workload.comm": [3.0, 5.0]})
    amounts = [point.legal().workload.comm for point in points(scenario)]
    assert amounts == [3.0, 5.0, 6.0, 10.0]


@pytest.mark.parametrize(
    "value",
    ["", "2", "2:", ":1", "1:2:3", "a:b", "-1:1", "1e3:1", "nan:1", "1\n2:1", True, None, -1.0,
     float("nan"), float("inf"), [1]],
)  # fmt: skip
def test_what_is_no_ratio_is_refused(value):
    with pytest.raises(ScenarioError, match=r"workload\.ratio"):
        parse_ratio(value)
    with pytest.raises(ScenarioError):
        with_fields(plain(), {"workload.ratio": value})


@pytest.mark.parametrize(
    ("path", "hint"),
    [("device.core", "did you mean 'device.cores'"), ("noise", "known: "), ("name", "known: "),
     ("device", "did you mean"), ("policies", "known"), ("workload.forwrd", "'workload.forward'"),
     ("device.communication.b1", "device.communication.rate1")],
)  # fmt: skip
def test_an_unknown_field_is_refused_with_a_hint(path, hint):
    with pytest.raises(ScenarioError, match="no numeric field") as caught:
        with_fields(plain(), {path: 1})
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [("device.cores", 0), ("device.cores", 2.5), ("device.cores", "4"), ("device.cores", True),
     ("device.cores", None), ("device.compute.a2", 0.5), ("workload.comm", -1.0),
     ("workload.cycles", 4), ("extensions.noise", float("nan")), ("seed", -1)],
)  # fmt: skip
def test_an_illegal_value_is_refused(path, value):
    with pytest.raises(ScenarioError):
        with_fields(plain(), {path: value})


def test_whole_floats_and_numpy_numbers_count_as_whole_numbers():
    assert with_fields(plain(), {"device.cores": 2.0}).device.cores == 2
    assert with_fields(plain(), {"device.cores": np.int64(2)}).device.cores == 2
    assert with_fields(plain(), {"extensions.noise": np.float64(0.5)}).extensions.noise == 0.5


def test_every_sweepable_field_can_be_set_to_what_it_is():
    scenario = plain()
    facts = scenario.model_dump()
    for path in sweepable_fields(scenario):
        if path == "workload.ratio":
            continue
        value = facts
        for part in path.split("."):
            value = value[part]
        assert with_fields(scenario, {path: value}).digest() == scenario.digest(), path


def test_sweepable_fields_follow_the_model_of_the_curve():
    fields = sweepable_fields(plain())
    assert "device.communication.sigma" in fields
    assert "device.communication.b1" not in fields
    assert "device.compute.a1" in fields
    assert "device.communication.model" not in fields
    assert "workload.ratio" in fields
