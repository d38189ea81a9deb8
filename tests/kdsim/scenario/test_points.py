"""Sweeps: grids, lists in step, space-filling samples."""

import numpy as np
import pytest
from broken_scenarios import BASE
from front_door import call, python

from kdsim.errors import ScenarioError
from kdsim.scenario.load import load_scenario
from kdsim.scenario.points import points
from kdsim.scenario.validate import scenario_from_data


def scenario(sweep, design=None, **more):
    data = {
        "name": "swept",
        "device": {
            "cores": 4,
            "compute": {"model": "amdahl", "rate1": 1.0, "serial": 0.1},
            "communication": {"b1": 0.5, "b2": 0.2, "b3": 2.0},
        },
        "workload": {"cycles": 3, "comm": 1.0, "forward": 1.0, "backward": 1.0},
        "sweep": sweep,
        "design": design or {},
        **more,
    }
    return scenario_from_data(data)


def test_without_a_sweep_there_is_one_point():
    study = scenario({})
    (point,) = points(study)
    assert point.values == {}
    assert point.legal() is study


def test_a_grid_is_in_the_order_of_the_file_the_last_field_fastest():
    study = scenario({"workload.comm": [2, 1], "device.cores": [3, 1]})
    values = [tuple(point.values.values()) for point in points(study)]
    assert values == [(2, 3), (2, 1), (1, 3), (1, 1)]
    assert [p.legal().device.cores for p in points(study)] == [3, 1, 3, 1]
    assert [p.legal().workload.comm for p in points(study)] == [2.0, 2.0, 1.0, 1.0]


def test_zip_goes_in_step():
    study = scenario({"device.cores": [1, 2], "seed": [7, 8]}, {"method": "zip"})
    assert [p.values for p in points(study)] == [
        {"device.cores": 1, "seed": 7},
        {"device.cores": 2, "seed": 8},
    ]


SAMPLED = {
    "device.cores": {"low": 2, "high": 9},
    "workload.comm": {"low": 0.1, "high": 10.0, "scale": "log"},
    "extensions.noise": {"low": 0.0, "high": 0.5},
}


@pytest.mark.parametrize("method", ["latin-hypercube", "sobol"])
def test_a_sample_stays_within_its_ranges_and_rounds_counts(method):
    study = scenario(SAMPLED, {"method": method, "samples": 33})
    drawn = points(study)
    assert len(drawn) == 33
    for point in drawn:
        cores, comm, noise = point.values.values()
        assert isinstance(cores, int)
        assert 2 <= cores <= 9
        assert 0.1 <= comm <= 10.0
        assert 0.0 <= noise <= 0.5
        assert point.legal().device.cores == cores
        assert point.legal().workload.comm == comm


@pytest.mark.parametrize("method", ["latin-hypercube", "sobol"])
def test_a_sample_depends_on_the_seed_and_on_nothing_else(method):
    design = {"method": method, "samples": 8}
    first = [p.values for p in points(scenario(SAMPLED, design, seed=1))]
    again = [p.values for p in points(scenario(SAMPLED, design, seed=1, replications=5))]
    other = [p.values for p in points(scenario(SAMPLED, design, seed=2))]
    assert first == again
    assert first != other


def test_a_latin_hypercube_has_one_sample_in_each_stratum():
    study = scenario(
        {"workload.comm": {"low": 0.0, "high": 20.0}}, {"method": "latin-hypercube", "samples": 20}
    )
    drawn = sorted(p.values["workload.comm"] for p in points(study))
    np.testing.assert_array_equal(np.floor(drawn), np.arange(20))


def test_a_log_range_is_uniform_in_the_logarithm():
    study = scenario(
        {"workload.comm": {"low": 0.01, "high": 100.0, "scale": "log"}},
        {"method": "latin-hypercube", "samples": 40},
    )
    logs = np.sort([np.log10(p.values["workload.comm"]) for p in points(study)])
    np.testing.assert_array_equal(np.floor((logs + 2.0) * 10), np.arange(40))


def test_a_sample_is_the_same_in_every_process(tmp_path):
    text = BASE + (
        "sweep: {workload.comm: {low: 1, high: 2}, seed: {low: 0, high: 1000}}\n"
        "design: {method: sobol, samples: 5}\n"
    )
    (tmp_path / "a.yaml").write_text(text)
    code = (
        "import kdsim; from kdsim.scenario.points import points\n"
        "print([p.values for p in points(kdsim.load_scenario('a.yaml'))])"
    )
    here = [p.values for p in points(load_scenario(tmp_path / "a.yaml"))]
    assert python(code, cwd=tmp_path).out.strip() == str(here)


def test_a_combination_that_is_not_legal_is_a_point_with_its_reason(tmp_path):
    # Each value is legal beside the file's own values; the last two together reach the pole.
    (tmp_path / "a.yaml").write_text(
        BASE + "sweep: {device.compute.a2: [0.1, 0.3], device.reference_cores: [4, 6]}\n"
    )
    study = load_scenario(tmp_path / "a.yaml")
    drawn = points(study)
    assert [p.scenario is None for p in drawn] == [False, False, False, True]
    with pytest.raises(ScenarioError, match=r"at device\.compute\.a2 = 0\.3, device\.ref.* = 6: "):
        drawn[3].legal()
    answer = call("check", tmp_path / "a.yaml")
    assert answer.code == 0  # a sweep records such a point and goes on
    assert "4 points, 1 of them not legal, the first at device.compute.a2 = 0.3" in answer.out
    answer = call("compare", tmp_path / "a.yaml")
    assert answer.code == 2
    assert "at device.compute.a2 = 0.3" in answer.err


def test_a_sample_of_a_million_points_is_not_refused_for_its_size():
    study = scenario(
        {"workload.comm": {"low": 1.0, "high": 2.0}}, {"method": "sobol", "samples": 1_000_000}
    )
    assert study.design.samples == 1_000_000
    with pytest.raises(ScenarioError, match="at most 1000000"):
        scenario(
            {"workload.comm": {"low": 1.0, "high": 2.0}}, {"method": "sobol", "samples": 1_000_001}
        )


def test_a_huge_grid_is_counted_and_not_built(tmp_path):
    values = ", ".join(str(v) for v in range(1, 1001))
    sweep = f"sweep:\n  workload.comm: [{values}]\n  workload.forward: [{values}]\n"
    (tmp_path / "a.yaml").write_text(BASE + sweep)
    assert "1,000,000 points" in call("check", tmp_path / "a.yaml").out
