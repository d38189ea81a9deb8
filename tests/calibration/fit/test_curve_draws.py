from __future__ import annotations

import re

import numpy as np
import pytest
from synthetic_traces import synthetic

from calibration.fit import fit_trace
from calibration.fit.curve_file import curve_document, write_curves
from kdsim import load_scenario
from kdsim.errors import FitError, ScenarioError
from kdsim.scenario.changes import with_fields
from kdsim.scenario.files.faults import FaultyFileError
from kdsim.scenario.load import read_curves

SCENARIO = (
    "name: s\ndevice: {cores: 4, curves: c.yaml}\n"
    "workload: {cycles: 2, comm: 1.0, forward: 1.0, backward: 1.0}\n"
)


@pytest.fixture(scope="module")
def fit():
    return fit_trace(synthetic(4, trials=6, noise=0.05, a2=0.2), bootstrap=60)


@pytest.fixture
def scenario(fit, tmp_path):
    write_curves(fit, tmp_path / "c.yaml")
    (tmp_path / "s.yaml").write_text(SCENARIO)
    return load_scenario(tmp_path / "s.yaml")


def test_a_curve_file_keeps_the_draws_of_its_fit_as_they_belong_together(fit, scenario):
    device = scenario.device
    assert device.draws.count == 60
    for k in (0, 17, 59):
        drawn = device.drawn(k)
        for side in ("compute", "communication"):
            curve = getattr(fit, side)
            if curve.model != "table":
                for name, values in curve.parameter_draws.items():
                    assert getattr(getattr(drawn, side), name) == pytest.approx(values[k], rel=1e-6)
        np.testing.assert_allclose(drawn.compute_rates(4), fit.compute.draws[k], rtol=1e-5)
        np.testing.assert_allclose(
            drawn.communication_rates(4), fit.communication.draws[k], rtol=1e-5
        )


def test_tables_keep_a_draw_per_core_count(tmp_path):
    made = fit_trace(
        synthetic(4, trials=6, noise=0.05), compute_model="table", communication_model="table",
        bootstrap=20,
    )  # fmt: skip
    write_curves(made, tmp_path / "c.yaml")
    (tmp_path / "s.yaml").write_text(SCENARIO)
    device = load_scenario(tmp_path / "s.yaml").device
    np.testing.assert_allclose(device.drawn(7).compute_rates(4), made.compute.draws[7], rtol=1e-5)


def test_draws_change_no_result_and_no_digest(scenario):
    without = scenario.model_copy(
        update={"device": scenario.device.model_copy(update={"draws": None})}
    )
    assert without.digest() == scenario.digest()
    np.testing.assert_array_equal(without.plan().comp_rates, scenario.plan().comp_rates)


def test_draws_stay_when_cores_change_and_go_when_the_curve_does(scenario):
    assert with_fields(scenario, {"device.cores": 3}).device.drawn(0).cores == 3
    changed = with_fields(scenario, {"device.compute.a1": 0.5}).device
    with pytest.raises(ScenarioError, match="have no bootstrap draws"):
        changed.drawn(0)


def test_a_draw_that_is_not_there_is_an_error(scenario):
    with pytest.raises(ScenarioError, match="have 60 draws; no draw 60"):
        scenario.device.drawn(60)
    with pytest.raises(ScenarioError, match="have no bootstrap draws"):
        load_scenario("paper-1to1").device.drawn(0)


def test_a_file_without_draws_is_read_as_before(fit, tmp_path):
    write_curves(fit, tmp_path / "c.yaml")
    text = (tmp_path / "c.yaml").read_text()
    (tmp_path / "c.yaml").write_text(re.sub(r"(?m)^draws:\n(  .*\n)+", "", text))
    assert "draws" not in read_curves(tmp_path / "c.yaml")
    (tmp_path / "s.yaml").write_text(SCENARIO)
    assert load_scenario(tmp_path / "s.yaml").device.draws is None


def test_a_fit_without_resampling_has_no_draws():
    assert "draws" not in curve_document(fit_trace(synthetic(4), bootstrap=0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.replace("count: 60", "count: 59"), "must have 59 numbers .got 60."),
        (lambda t: t.replace("count: 60", "count: 0"), "must be at least 1"),
        (lambda t: re.sub(r"(a1:\s+)\S+", r"\1nan", t, count=1), "must be finite numbers"),
        (lambda t: re.sub(r"(a1:\s+)\S+", r"\1x", t, count=1), "must be finite numbers"),
    ],
)
def test_damaged_draws_are_refused_with_their_line(fit, tmp_path, change, said):
    path = tmp_path / "c.yaml"
    write_curves(fit, path)
    text = path.read_text()
    start = text.index("\ndraws:")
    path.write_text(text[:start] + change(text[start:]))
    assert path.read_text() != text
    with pytest.raises(FaultyFileError, match=said) as caught:
        read_curves(path)
    assert re.search(r"c\.yaml:\d+:\d+: draws", str(caught.value))


def test_curves_that_no_scenario_could_read_are_not_written(tmp_path):
    trace = synthetic(4)
    trace.rows["seconds"] *= 1e17
    with pytest.raises(FitError, match="not legal in a scenario"):
        write_curves(fit_trace(trace, bootstrap=0), tmp_path / "c.yaml")
    assert not (tmp_path / "c.yaml").exists()
