"""Scenarios as objects: changing fields, what may be swept, digests, the JSON Schema."""

import itertools
import json

import numpy as np
import pytest
from broken_scenarios import BASE
from front_door import call, python, spawn
from hypothesis import given, settings
from hypothesis import strategies as st

import kdsim
from kdsim.errors import ScenarioError
from kdsim.policies.names import is_policy_name
from kdsim.scenario.changes import parse_ratio, sweepable_fields, with_fields
from kdsim.scenario.files.faults import FaultyFileError
from kdsim.scenario.json_schema import scenario_schema
from kdsim.scenario.load import bundled_scenarios, load_scenario
from kdsim.scenario.points import points
from kdsim.scenario.study import Scenario
from kdsim.scenario.validate import scenario_from_data


def plain(**changes):
    data = {
        "name": "plain",
        "device": {
            "cores": 4,
            "compute": {"a1": 1.0, "a2": 0.2},
            "communication": {"model": "usl", "rate1": 1.0, "sigma": 0.1, "kappa": 0.0},
        },
        "workload": {"cycles": 3, "comm": [1.0, 2.0, 3.0], "forward": 1.0, "backward": 0.5},
        **changes,
    }
    return scenario_from_data(data)


# --- changing fields ------------------------------------------------------------------------------


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


# --- the JSON Schema ------------------------------------------------------------------------------


def errors_in(schema, value, root, place="$"):
    """Check the parts of JSON Schema that the scenario's schema uses."""
    if "$ref" in schema:
        named = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        yield from errors_in(named, value, root, place)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            options = [list(errors_in(option, value, root, place)) for option in schema[word]]
            if all(options):
                yield from min(options, key=len)
    kinds = {
        "object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
        "null": type(None), "boolean": bool,
    }  # fmt: skip
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(
            isinstance(value, kinds[n]) and (n == "boolean" or not isinstance(value, bool))
            for n in names
        ):
            yield f"{place}: {value!r} is not {schema['type']}"
            return
    if "const" in schema and value != schema["const"]:
        yield f"{place}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: {value!r} is not in {schema['enum']}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            yield f"{place}: {value!r} is out of range"
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            yield f"{place}: {value!r} is too small"
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"{place}: too short"
        for i, item in enumerate(value):
            yield from errors_in(schema.get("items", {}), item, root, f"{place}[{i}]")
    if isinstance(value, dict):
        for name in schema.get("required", []):
            if name not in value:
                yield f"{place}: lacks {name}"
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        for name, item in value.items():
            if name in known:
                yield from errors_in(known[name], item, root, f"{place}.{name}")
            elif more is False:
                yield f"{place}: does not know {name}"
            elif isinstance(more, dict):
                yield from errors_in(more, item, root, f"{place}.{name}")


def read(text):
    from kdsim.scenario.files.yaml_document import parse_yaml

    return parse_yaml(text, "x").data


@pytest.mark.parametrize("name", bundled_scenarios())
def test_the_schema_accepts_the_bundled_scenarios(name):
    from kdsim.scenario.load import find_scenario

    schema = scenario_schema()
    data = read(find_scenario(name)[0].read_text())
    assert list(errors_in(schema, data, schema)) == []


def test_the_schema_accepts_files_with_curves_profiles_and_ranges():
    schema = scenario_schema()
    text = (
        "name: a\ndevice: {cores: 2, curves: fit.yaml}\nworkload: {profile: p.csv}\n"
        "sweep: {device.cores: {low: 1, high: 4}}\ndesign: {method: sobol, samples: 8}\n"
    )
    assert list(errors_in(schema, read(text), schema)) == []


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace("cores: 4", "cores: 0"),
        BASE.replace("seed", "sed"),
        BASE.replace("cycles: 3", "cycles: 3.5"),
        BASE.replace("  comm: 1.0\n", ""),
        BASE.replace("  communication: {b1: 0.5, b2: 0.2, b3: 2.0}\n", ""),
        BASE.replace("comm: 1.0", "comm: []"),
        BASE + "design: {method: gird}\n",
        BASE + "sweep: {seed: []}\n",
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(text, tmp_path):
    schema = scenario_schema()
    (tmp_path / "a.yaml").write_text(text)
    assert list(errors_in(schema, read(text), schema))
    with pytest.raises(ScenarioError):
        load_scenario(tmp_path / "a.yaml")


def test_every_field_of_the_schema_is_described():
    schema = scenario_schema()
    for model in [schema, *schema["$defs"].values()]:
        for name, field in model.get("properties", {}).items():
            assert field.get("description") or "const" in field, f"{model['title']}.{name}"


def test_the_schema_is_printed_alike_in_every_process():
    first, second = (spawn("check", "--schema", PYTHONHASHSEED=str(n)) for n in (1, 2))
    assert first.code == 0
    assert first.out == second.out
    assert json.loads(first.out) == scenario_schema()


def test_the_public_names_are_there():
    for name in itertools.chain(kdsim.__all__, dir(kdsim)):
        assert hasattr(kdsim, name)
    with pytest.raises(AttributeError, match="no attribute 'simulator'"):
        kdsim.simulator  # noqa: B018
    assert kdsim.Scenario is Scenario


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
