"""Curve files: what a fit writes is what a scenario reads; and its figure."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_traces import synthetic

from calibration.fit import fit_trace
from calibration.fit.curve_file import curve_document, write_curves
from calibration.fit.plots import fit_figure
from calibration.trace import write_trace
from kdsim import load_scenario
from kdsim.errors import PlotError, ScenarioError
from kdsim.scenario.load import read_curves


def test_the_curve_file_is_what_a_scenario_reads(tmp_path):
    write_trace(tmp_path / "t.csv", synthetic(noise=0.02).rows, {"host": {"cpu": "x"}})
    fit = fit_trace(tmp_path / "t.csv", bootstrap=30)
    write_curves(fit, tmp_path / "t.curves.yaml")
    document = read_curves(tmp_path / "t.curves.yaml")
    assert document["reference_cores"] == 8
    assert document["provenance"]["trace"] == "t.csv"
    assert document["provenance"]["trace_sha256"] == fit.trace.sha256
    (tmp_path / "s.yaml").write_text(
        "name: s\ndevice: {cores: 8, curves: t.curves.yaml}\n"
        "workload: {cycles: 2, comm: 1.0, forward: 1.0, backward: 1.0}\n"
    )
    plan = load_scenario(tmp_path / "s.yaml").plan()
    np.testing.assert_allclose(plan.comp_rates, fit.compute.rates, rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(plan.comm_rates, fit.communication.rates, rtol=1e-4)


def test_every_model_s_curve_file_is_read_back_by_a_scenario(tmp_path):
    write_trace(tmp_path / "t.csv", synthetic().rows, {})
    (tmp_path / "s.yaml").write_text(
        "name: s\ndevice: {cores: 8, curves: c.yaml}\n"
        "workload: {cycles: 2, comm: 1.0, forward: 1.0, backward: 1.0}\n"
    )
    for name in ("paper", "amdahl", "usl", "roofline", "table"):
        fit = fit_trace(
            tmp_path / "t.csv", compute_model=name, communication_model=name, bootstrap=0
        )
        write_curves(fit, tmp_path / "c.yaml")
        plan = load_scenario(tmp_path / "s.yaml").plan()
        np.testing.assert_allclose(plan.comp_rates, fit.compute.rates, rtol=1e-4, atol=1e-12)
        np.testing.assert_allclose(plan.comm_rates, fit.communication.rates, rtol=1e-4)


def test_a_curve_file_cannot_be_written_nowhere(tmp_path):
    fit = fit_trace(synthetic(), bootstrap=0)
    with pytest.raises(PlotError, match="cannot be written"):
        write_curves(fit, tmp_path / "no" / "c.yaml")


def test_a_document_holds_plain_values_only():
    def walk(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                assert type(key) in (str, int)
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)
        else:
            assert value is None or type(value) in (str, int, float, bool)

    walk(curve_document(fit_trace(synthetic(noise=0.02), bootstrap=20)))


def test_the_curve_file_carries_the_cores_that_were_measured(tmp_path):
    trace = synthetic(noise=0.02)
    # The split with 7 of 8 cores to communication was not measured: computation has 2 or more.
    rows = trace.rows[~((trace.rows["task"] == "compute") & (trace.rows["comm_cores"] == 7))]
    write_trace(tmp_path / "t.csv", rows, {})
    write_curves(fit_trace(tmp_path / "t.csv", bootstrap=0), tmp_path / "c.yaml")
    found = read_curves(tmp_path / "c.yaml")["measured_cores"]
    assert found == {"compute": [2, 8], "communication": [1, 8]}
    text = "name: s\ndevice: {cores: 8, curves: c.yaml%s}\n" + (
        "workload: {cycles: 2, comm: 1.0, forward: 1.0, backward: 1.0}\n"
    )
    (tmp_path / "s.yaml").write_text(text % "")
    with pytest.raises(ScenarioError, match="compute curve was measured on 2 to 8 cores only"):
        load_scenario(tmp_path / "s.yaml")
    (tmp_path / "s.yaml").write_text(text % ", extrapolate: true")
    marks = load_scenario(tmp_path / "s.yaml").marks()
    assert marks == ("extrapolated: compute measured on 2 to 8 cores only",)


def test_a_fit_can_be_drawn():
    figure = fit_figure(fit_trace(synthetic(noise=0.02), bootstrap=20))
    compute, communication, residuals = figure.axes
    assert "ms per batch" in compute.get_ylabel()
    assert "ms per MB" in communication.get_ylabel()
    assert "%" in residuals.get_ylabel()
