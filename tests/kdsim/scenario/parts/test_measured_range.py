"""Curves end where their measurements end: an error, or a mark on everything that goes beyond."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pytest
from front_door import call

import kdsim
from kdsim import plots
from kdsim.errors import PlotError, ScenarioError
from kdsim.report import write_report
from kdsim.scenario.changes import with_fields
from kdsim.scenario.parts.device import Device
from kdsim.scenario.study import Scenario
from kdsim.sweeps.ledger.store import Store

WORK = {"cycles": 3, "comm": 1.0, "forward": 1.0, "backward": 1.0}
PAPER = {"b1": 1.0, "b2": 0.0, "b3": 1.0}
MARK = "extrapolated: compute and communication measured on 1 to 2 cores only"


def beyond(**changes):
    """The measured device on more cores than it has."""
    asked = {"device.cores": 4, "device.extrapolate": True, **changes}
    return with_fields(kdsim.load_scenario("measured"), asked)


def test_a_curve_beyond_its_measured_cores_is_refused_with_the_range(capsys):
    answer = call("compare", "measured", "--set", "device.cores=16")
    assert answer.code == 2
    assert "device.cores" in answer.err
    assert (
        "the compute curve was measured on 1 to 2 cores only, and 1 to 16 are needed" in answer.err
    )
    assert "--set device.extrapolate=true" in answer.err
    assert "Traceback" not in answer.err


def test_the_permission_is_true_or_false():
    answer = call("check", "measured")
    assert answer.code == 0
    answer = call("optimum", "measured", "--set", "device.extrapolate=yes")
    assert answer.code == 2
    assert "device.extrapolate: must be true or false (got 'yes')" in answer.err


@pytest.mark.parametrize("command", ["run", "optimum", "curves"])
def test_every_command_refuses_it(command, tmp_path):
    more = ["-o", str(tmp_path / "f.png")] if command == "curves" else []
    answer = call(command, "measured", "--set", "device.cores=3", *more)
    assert answer.code == 2
    assert "measured on 1 to 2 cores only" in answer.err


def test_a_sweep_over_more_cores_than_were_measured_is_refused(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\ndevice: {library: raspberry-pi-5}\nsweep: {device.cores: [2, 4, 8]}\n"
        "workload: {cycles: 3, comm: 1.0, forward: 1.0, backward: 1.0}\n"
    )
    with pytest.raises(ScenarioError, match="measured on 1 to 4 cores only, and 1 to 8 are needed"):
        kdsim.load_scenario(path)


def test_a_table_ends_where_its_cores_end():
    table = {"model": "table", "cores": [1, 2], "rates": [1.0, 1.8]}
    device = {"cores": 2, "compute": table, "communication": PAPER}
    assert Device.model_validate(device).marks() == ()
    with pytest.raises(ValueError, match="compute curve was measured on 1 to 2 cores only"):
        Device.model_validate({**device, "cores": 3})
    longer = Device.model_validate({**device, "cores": 3, "extrapolate": True})
    assert longer.marks() == ("extrapolated: compute measured on 1 to 2 cores only",)
    late = {**device, "compute": {"model": "table", "cores": [2, 4], "rates": [1.0, 1.8]}}
    with pytest.raises(ValueError, match="measured on 2 to 4 cores only, and 1 to 2 are needed"):
        Device.model_validate(late)


def test_a_range_upside_down_is_refused():
    device = {"cores": 2, "compute": {"a1": 1.0, "a2": 0.1}, "communication": PAPER}
    with pytest.raises(ValueError, match="least must not exceed the largest"):
        Device.model_validate({**device, "measured_cores": {"compute": [4, 1]}})


def test_typed_constants_have_no_measured_range():
    paper = with_fields(kdsim.load_scenario("paper-1to1"), {"device.cores": 24})
    assert paper.marks() == ()
    assert paper.device.measured_ranges() == {}


def test_a_measured_curve_is_one_function_of_the_compute_cores():
    scenario = kdsim.load_scenario("measured")
    two = scenario.plan().comp_rates
    one = with_fields(scenario, {"device.cores": 1}).plan().comp_rates
    assert one[0] == two[1]  # what one core did while the other received
    four = beyond().plan().comp_rates
    np.testing.assert_allclose(four[2:], two)
    assert four[0] > four[1] > four[2]


def test_every_output_carries_the_mark(tmp_path):
    scenario = beyond(**{"workload.cycles": 3})
    result = kdsim.compare(scenario, ["optimal", "greedy"])
    assert result.marks == (MARK,)
    assert all(row["marks"] == MARK for row in result.rows)
    assert result.to_dict()["marks"] == [MARK]
    assert {row["marks"] for row in result.differences("optimal")} == {MARK}
    run = kdsim.simulate(scenario, "optimal")
    assert run.to_dict()["marks"] == [MARK]
    assert set(run.timeline["marks"]) == {MARK}
    for drawn in (
        result.plot(), run.plot(), plots.curves(scenario, core_counts=[2, 4]),
        plots.regret_distribution(result.samples),
    ):  # fmt: skip
        assert MARK in words_of(drawn)
    page = write_report(result, tmp_path / "p.html").read_text()
    assert f"<strong>{MARK}</strong>" in page


def words_of(drawn):
    svg = plots.render(drawn, "svg").decode()
    return " ".join(re.findall(r"<!-- (.*?) -->", svg))


def test_figures_of_a_sweep_carry_the_mark():
    scenario = kdsim.load_scenario("measured")
    scenario = scenario.model_copy(
        update={
            "device": scenario.device.model_copy(update={"extrapolate": True}),
            "sweep": {"device.cores": [2, 4], "workload.comm": [68.0, 136.0]},
        }
    )
    result = kdsim.compare(scenario, ["optimal"])
    assert [s.marks for s in result.samples] == [(), (), (MARK,), (MARK,)]
    part = result.frame[result.frame["workload.comm"] == 68.0]
    assert MARK in words_of(plots.sweep_lines(part, "device.cores"))
    drawn = plots.gap_heatmap(result.frame, "device.cores", "workload.comm", "optimal")
    assert MARK in words_of(drawn)
    within = result.frame[result.frame["device.cores"] == 2]
    assert MARK not in words_of(plots.sweep_lines(within, "workload.comm"))


def test_the_command_line_shows_the_mark(tmp_path):
    asked = ["--set", "device.cores=4", "--set", "device.extrapolate=true"]
    table = call("compare", "measured", *asked, "-p", "optimal")
    assert MARK in " ".join(table.out.split())
    for command, more in (("compare", ["-p", "optimal"]), ("run", []), ("optimum", [])):
        found = call(command, "measured", *asked, *more, "--json")
        assert json.loads(found.out)["marks"] == [MARK], command
    assert MARK in call("optimum", "measured", *asked).out
    trace = tmp_path / "t.json"
    lines = tmp_path / "t.csv"
    call("run", "measured", *asked, "--trace-out", str(trace), "--timeline-out", str(lines))
    assert json.loads(trace.read_text())["otherData"]["marks"] == [MARK]
    assert MARK in lines.read_text()


def test_a_store_exports_the_mark(tmp_path):
    scenario = beyond(**{"workload.cycles": 3})
    with Store.open(tmp_path / "s.sqlite", "w") as store:
        kdsim.sweep(scenario, store=store, policies=["optimal"])
        assert set(store.frame()["marks"]) == {MARK}
        assert set(store.frame(expand=True)["marks"]) == {MARK}
        assert store.comparison().marks == (MARK,)
    found = call("export", str(tmp_path / "s.sqlite"))
    rows = list(csv.DictReader(io.StringIO(found.out)))
    assert {row["marks"] for row in rows} == {MARK}


def test_within_what_was_measured_there_is_no_mark():
    allowed = with_fields(kdsim.load_scenario("measured"), {"device.extrapolate": True})
    assert allowed.marks() == ()
    assert allowed.digest() == kdsim.load_scenario("measured").digest()
    assert "marks" not in kdsim.simulate(allowed, "greedy").timeline


def test_curves_are_not_drawn_beyond_what_was_measured():
    scenario = kdsim.load_scenario("measured")
    drawn = plots.curves(scenario)  # of the usual core counts only those that were measured
    assert [line.get_label() for line in drawn[0].get_lines()] == ["2"]
    with pytest.raises(PlotError, match="measured on 1 to 2 cores only"):
        plots.curves(scenario, core_counts=[8])


def test_the_range_survives_a_store_and_its_json():
    scenario = beyond()
    again = Scenario.model_validate_json(scenario.model_dump_json())
    assert again.marks() == scenario.marks() == (MARK,)
    assert again.digest() == scenario.digest()
