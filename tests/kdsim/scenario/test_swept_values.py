"""--sweep FIELD=VALUES: what it reads, and what it makes of a scenario."""

from __future__ import annotations

import json

import pytest
from front_door import call
from hypothesis import given
from hypothesis import strategies as st

from kdsim.errors import ScenarioError
from kdsim.scenario.load import load_scenario
from kdsim.scenario.points import points
from kdsim.scenario.swept_values import parse_sweep, with_sweep
from kdsim.scenario.validate import scenario_from_data


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("device.cores=2,4,8", [2, 4, 8]),
        ("device.cores= 2, 4 ,2", [2, 4]),
        ("workload.comm=0.5,1e-3,7", [0.5, 1e-3, 7]),
        ("workload.ratio=1:1,2:1,1.5", ["1:1", "2:1", 1.5]),
        ("extensions.prefetch=none,2", [None, 2]),
        ("workload.comm=lin:0:1:5", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("workload.comm=log:0.1:100:4", [0.1, 1.0, 10.0, 100.0]),
        ("device.cores=log:1:16:5", [1, 2, 4, 8, 16]),
        ("device.cores=lin:1:3:9", [1, 2, 3]),
        ("device.library=pi5,orin-nano", ["pi5", "orin-nano"]),
    ],
)
def test_values_of_a_field(text, values):
    field, found = parse_sweep(text)
    assert field == text.partition("=")[0]
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("device.cores", "--sweep takes FIELD=VALUES"),
        ("=2,3", "--sweep takes FIELD=VALUES"),
        ("device.cores=", "device.cores: --sweep takes numbers or ratios"),
        ("device.cores=2,,3", "device.cores: --sweep takes numbers or ratios"),
        ("workload.comm=1,two", r"got 'two'"),
        ("workload.comm=inf", r"got 'inf'"),
        ("workload.comm=log:1:2", r"a range is log:LOW:HIGH:COUNT"),
        ("workload.comm=log:0:2:3", r"needs 0 < LOW < HIGH"),
        ("workload.comm=lin:2:2:3", r"needs LOW < HIGH"),
        ("workload.comm=lin:1:2:1", r"needs 2 to 1,000,000 values"),
        ("workload.comm=lin:1:2:9999999", r"needs 2 to 1,000,000 values"),
        ("workload.comm=lin:1:2:3.5", r"a range is lin:LOW:HIGH:COUNT"),
    ],
)
def test_what_says_no_values_is_refused(text, reason):
    with pytest.raises(ScenarioError, match=reason):
        parse_sweep(text)


@given(
    st.floats(1e-300, 1e300), st.floats(1e-300, 1e300), st.integers(2, 50),
    st.sampled_from(["lin", "log"]),
)  # fmt: skip
def test_a_range_keeps_its_ends_and_never_leaves_them(a, b, count, kind):
    low, high = min(a, b), max(a, b)
    if low * (1 + 1e-4) >= high:
        return
    _, values = parse_sweep(f"workload.comm={kind}:{low!r}:{high!r}:{count}")
    assert (values[0], values[-1]) == (low, high)
    assert all(low * (1 - 1e-5) <= value <= high * (1 + 1e-5) for value in values)
    assert len(values) == count or high / low < 1.1


def test_a_swept_field_replaces_or_joins_those_of_the_scenario():
    scenario = load_scenario("paper-1to1")
    assert list(scenario.sweep) == ["device.cores"]
    changed = with_sweep(scenario, ["workload.comm=1,2", "device.cores=3"])
    assert changed.sweep == {"device.cores": [3], "workload.comm": [1, 2]}
    assert [point.values for point in points(changed)] == [
        {"device.cores": 3, "workload.comm": 1}, {"device.cores": 3, "workload.comm": 2},
    ]  # fmt: skip
    assert with_sweep(scenario, []) is scenario


def test_a_ratio_multiplies_amounts_that_are_swept_beside_it():
    scenario = with_sweep(
        load_scenario("paper-1to1"), ["device.cores=4", "workload.comm=1,3", "workload.ratio=1:2"]
    )
    works = [point.legal().workload for point in points(scenario)]
    assert [work.comm for work in works] == [2.0, 6.0]


def test_values_beside_sampled_ranges_are_refused():
    data = load_scenario("paper-1to1").model_dump()
    data["sweep"] = {"extensions.noise": {"low": 0.0, "high": 0.5}}
    data["design"] = {"method": "sobol", "samples": 4}
    scenario = scenario_from_data(data)
    with pytest.raises(ScenarioError, match=r"beside the ranges of extensions\.noise"):
        with_sweep(scenario, ["device.cores=2,3"])
    replaced = with_sweep(scenario, ["extensions.noise=0,0.1"])
    assert replaced.design.method == "grid"


def test_compare_and_sweep_take_the_same_points():
    line = ("paper-1to1", "--sweep", "device.cores=2,4", "-p", "greedy", "--json")
    compared, swept = (json.loads(call(name, *line).out)["rows"] for name in ("compare", "sweep"))
    assert [row["device.cores"] for row in compared] == [2, 4]
    assert [row["mean"] for row in swept] == [row["mean"] for row in compared]


@pytest.mark.parametrize(
    "line",
    [
        ("--sweep", "device.corse=2"),
        ("--sweep", "device.cores=2", "--sweep", "device.cores=3"),
        ("--sweep", "device.cores=2", "--set", "device.cores=3"),
        ("--sweep", "workload.ratio=a:b"),
        ("--sweep", "device.cores=0"),
    ],
)
def test_bad_values_on_the_command_line_are_one_line(line):
    for command in ("compare", "sweep"):
        answer = call(command, "paper-1to1", *line)
        assert (answer.code, answer.out) == (2, "")
        assert len(answer.err.splitlines()) == 1
        assert line[1].partition("=")[0] in answer.err
