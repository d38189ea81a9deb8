"""The JSON Schema of scenario files, against an implementation of the standard."""

import json

import pytest
from broken_scenarios import BASE
from front_door import spawn
from jsonschema import Draft202012Validator

from kdsim.errors import ScenarioError
from kdsim.scenario.files.yaml_document import parse_yaml
from kdsim.scenario.json_schema import scenario_schema
from kdsim.scenario.load import bundled_scenarios, find_scenario, load_scenario


def errors_in(value):
    schema = scenario_schema()
    Draft202012Validator.check_schema(schema)
    return [error.message for error in Draft202012Validator(schema).iter_errors(value)]


def read(text):
    return parse_yaml(text, "x").data


@pytest.mark.parametrize("name", bundled_scenarios())
def test_the_schema_accepts_the_bundled_scenarios(name):
    data = read(find_scenario(name)[0].read_text())
    assert errors_in(data) == []


def test_the_schema_accepts_files_with_curves_profiles_and_ranges():
    text = (
        "name: a\ndevice: {cores: 2, curves: fit.yaml}\nworkload: {profile: p.csv}\n"
        "sweep: {device.cores: {low: 1, high: 4}}\ndesign: {method: sobol, samples: 8}\n"
    )
    assert errors_in(read(text)) == []


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
    (tmp_path / "a.yaml").write_text(text)
    assert errors_in(read(text))
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
