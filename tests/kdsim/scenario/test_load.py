"""Bundled scenarios, curve files and cost profiles."""

import json

import numpy as np
import pytest
from broken_scenarios import BASE
from front_door import call, spawn

from kdsim.errors import ScenarioError
from kdsim.scenario.changes import with_fields
from kdsim.scenario.files.faults import FaultyFileError
from kdsim.scenario.load import bundled_scenarios, load_scenario, read_curves
from kdsim.scenario.parts.profile import read_profile

CURVES = """\
kdsim_curves: 1
reference_cores: 4
compute: {a1: 2.0, a2: 0.2}
communication: {model: amdahl, rate1: 3.0, serial: 0.1}
provenance: {host: somewhere}
"""
WITH_CURVES = """\
name: fitted
device:
  cores: 2
  curves: fit.yaml
workload: {cycles: 2, comm: 1.0, forward: 1.0, backward: 1.0}
"""
PROFILE = """\
# workload: edge-kd
cycle,epoch,downlink_bytes,forward_s,backward_s,cores,frozen_layers,accuracy
1,1,2000000,0.5,1.0,1,0,
2,1,1000000,0.25,0.5,2,0,0.9
"""
WITH_PROFILE = """\
name: recorded
device:
  cores: 2
  compute: {model: table, cores: [1, 2], rates: [3.0, 5.0]}
  communication: {b1: 1.0, b2: 0.0, b3: 1.0}
workload:
  profile: cost.csv
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faults_of(path):
    with pytest.raises(FaultyFileError) as caught:
        load_scenario(path)
    return [(fault.where, fault.line, fault.field) for fault in caught.value.faults]


# --- bundled --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", bundled_scenarios())
def test_every_bundled_scenario_is_legal(name):
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.description


def test_bundled_scenarios_are_found_from_any_folder(tmp_path):
    answer = spawn("check", "paper-1to1", "paper-2to1", cwd=tmp_path)
    assert answer.code == 0
    assert "paper-2to1: ok (8 cores, 50 cycles, 7 policies, 4 points)" in answer.out


def test_a_misspelt_bundled_name_gets_a_hint():
    answer = call("check", "paper1to1")
    assert answer.code == 2
    assert "did you mean 'paper-1to1'?" in answer.err
    answer = call("check", "zzz")
    assert "scenarios that ship: " in answer.err


def test_a_file_of_that_name_goes_before_the_bundled_one(folder):
    (folder / "paper-1to1").write_text(BASE)
    assert load_scenario("paper-1to1").name == "broken"


def test_a_folder_of_that_name_does_not_hide_it(folder):
    (folder / "paper-1to1").mkdir()
    assert load_scenario("paper-1to1").name == "paper-1to1"


def test_a_scenario_is_returned_as_it_is():
    scenario = load_scenario("paper-1to1")
    assert load_scenario(scenario) is scenario


# --- curve files ----------------------------------------------------------------------------------


def test_curves_come_from_a_file_beside_the_scenario(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "fit.yaml").write_text(CURVES)
    (elsewhere / "a.yaml").write_text(WITH_CURVES)
    device = load_scenario(elsewhere / "a.yaml").device
    assert device.reference_cores == 4
    # What was fitted is the rate on 2 and on 1 compute cores (c = 2 and 3 of 4): it stays.
    np.testing.assert_allclose(device.compute_rates(2), [0.6 / 2, 0.4 / 2, 0.0])
    np.testing.assert_allclose(device.communication_rates(2)[1], 3.0)


def test_read_curves_gives_plain_data(folder):
    (folder / "fit.yaml").write_text(CURVES)
    assert read_curves(folder / "fit.yaml")["provenance"] == {"host": "somewhere"}


@pytest.mark.parametrize(
    ("old", "new", "line", "word"),
    [
        ("kdsim_curves: 1\n", "", 1, "not a curve file"),
        ("kdsim_curves: 1", "kdsim_curves: 2", 1, "reads version 1 (got 2)"),
        ("kdsim_curves: 1", "kdsim_curves: one", 1, "reads version 1 (got 'one')"),
        ("reference_cores: 4\n", "", 1, "reference_cores: required field is missing"),
        ("a2: 0.2", "a2: 0.5", 3, "compute.a2"),
        ("a1: 2.0", "a1: .nan", 3, "compute.a1: must be finite"),
        ("a1: 2.0", "a1: -2.0", 3, "compute.a1: must be greater than 0"),
        ("amdahl", "amdal", 4, "did you mean 'amdahl'"),
        ("rate1: 3.0, ", "", 4, "communication.rate1: required field is missing"),
        ("provenance", "reference_cores", 5, "duplicate key"),
        ("{host: somewhere}", "{", 6, "not YAML"),
        (CURVES, "- 1\n", 1, "not a curve file"),
        (CURVES, "", 1, "is empty"),
    ],
)
def test_a_curve_file_that_is_not_legal_is_told_with_its_line(old, new, line, word, folder):
    (folder / "fit.yaml").write_text(CURVES.replace(old, new))
    (folder / "a.yaml").write_text(WITH_CURVES + "sed: 1\n")
    answer = call("check", "a.yaml")
    assert answer.code == 2
    assert f"fit.yaml:{line}:" in answer.err
    assert word in answer.err
    assert "a.yaml:4:11: device.curves: cannot be used (got 'fit.yaml')" in answer.err
    # One unusable file does not hide the scenario's own faults.
    assert "a.yaml:6:1: sed: unknown field - did you mean 'seed'?" in answer.err


# --- cost profiles --------------------------------------------------------------------------------


def test_a_profile_becomes_work(folder):
    (folder / "cost.csv").write_text(PROFILE)
    (folder / "a.yaml").write_text(WITH_PROFILE)
    work = load_scenario("a.yaml").workload
    assert work.cycles == 2
    np.testing.assert_allclose(work.amounts("comm"), [2.0, 1.0])  # MB
    # Seconds times the rate of the cores that the row was recorded on.
    np.testing.assert_allclose(work.amounts("forward"), [0.5 * 3.0, 0.25 * 5.0])
    np.testing.assert_allclose(work.amounts("backward"), [1.0 * 3.0, 0.5 * 5.0])


def test_a_profile_of_another_host_takes_its_rate(folder):
    (folder / "cost.csv").write_text(PROFILE.replace("0.5,1.0,1,", "0.5,1.0,64,"))
    (folder / "a.yaml").write_text(WITH_PROFILE + "  profile_rate: 10.0\n")
    np.testing.assert_allclose(load_scenario("a.yaml").workload.amounts("forward"), [5.0, 2.5])


@pytest.mark.parametrize("rate", ["0", "-1", ".nan", ".inf", "true", "fast"])
def test_an_illegal_profile_rate_is_one_fault(rate, folder):
    (folder / "cost.csv").write_text(PROFILE)
    (folder / "a.yaml").write_text(WITH_PROFILE + f"  profile_rate: {rate}\n")
    assert faults_of("a.yaml") == [("a.yaml", 8, "workload.profile_rate")]


@pytest.mark.parametrize(
    ("old", "new", "line", "word"),
    [
        (PROFILE, "", 1, "needs the columns"),
        (PROFILE, "# only a comment\n", 1, "needs the columns"),
        ("forward_s", "fwd_s", 2, "missing: forward_s"),
        ("downlink_bytes,forward_s", "a,b", 2, "missing: downlink_bytes, forward_s"),
        ("cycle,epoch", "cores,epoch", 2, "twice: cores"),
        (PROFILE[PROFILE.index("1,1,2000000") :], "", 2, "has no rows"),
        ("0.25", "quick", 4, "forward_s: must be a number from 0 to 1e+15 (got 'quick')"),
        ("0.25", "", 4, "forward_s: must be a number"),
        ("0.25", "nan", 4, "forward_s: must be a number"),
        ("0.25", "inf", 4, "forward_s: must be a number"),
        ("0.25", "-1", 4, "forward_s: must be a number"),
        ("0.5,1.0,1,", "0.5,1.0,0,", 3, "cores: must be a whole number of at least 1 (got '0')"),
        ("0.5,1.0,1,", "0.5,1.0,1.5,", 3, "cores: must be a whole number"),
        ("0.5,1.0,1,", "0.5,1.0,3,", 3, "recorded on 3 compute cores, the curves know 2"),
        ("2,1,1000000", "2,1000000", 4, "has 7 columns, the header has 8"),
        ("2,1,1000000", "2,1,1,1000000", 4, "has 9 columns, the header has 8"),
        ("0.25", '"0.25', 4, "forward_s: must be a number"),
        ("0.25", "7" * 200_000, 4, "forward_s: must be a number"),
        ("0.25", "\0", 4, "NUL"),
    ],
)  # fmt: skip
def test_a_profile_that_is_not_legal_is_told_with_its_line(old, new, line, word, folder):
    (folder / "cost.csv").write_text(PROFILE.replace(old, new))
    (folder / "a.yaml").write_text(WITH_PROFILE)
    answer = call("check", "a.yaml")
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert f"cost.csv:{line}:" in answer.err
    assert word in answer.err
    assert "a.yaml:7:12: workload.profile: cannot be used (got 'cost.csv')" in answer.err


def test_a_profile_of_no_work_at_all_is_refused(folder):
    (folder / "cost.csv").write_text("comm_bytes,forward_s,backward_s,cores\n0,0,0,1\n")
    (folder / "a.yaml").write_text(WITH_PROFILE)
    assert "no work" in call("check", "a.yaml").err


def test_bad_rows_are_told_up_to_twenty(folder):
    rows = "x,1,1,1\n" * 100
    (folder / "cost.csv").write_text("comm_bytes,forward_s,backward_s,cores\n" + rows)
    with pytest.raises(FaultyFileError) as caught:
        read_profile(folder / "cost.csv")
    assert [fault.line for fault in caught.value.faults] == list(range(2, 22))


def test_a_directory_is_no_profile(folder):
    (folder / "cost.csv").mkdir()
    (folder / "a.yaml").write_text(WITH_PROFILE)
    assert "cost.csv: is a directory" in call("check", "a.yaml").err


def test_the_bundled_names_are_listed_for_machines():
    answer = call("check", *bundled_scenarios(), "--json")
    found = json.loads(answer.out)
    assert found["ok"] is True
    assert [item["scenario"] for item in found["findings"]] == bundled_scenarios()


def test_load_scenario_raises_one_kind_of_error(folder):
    with pytest.raises(ScenarioError):
        load_scenario("nowhere.yaml")
    with pytest.raises(ValueError, match="no such file"):
        load_scenario(folder / "nowhere.yaml")


def test_changes_keep_the_hashes_of_the_files_that_a_scenario_still_names():
    both = load_scenario("measured-4g")
    trace, fitted = both.link.trace, both.device.curves
    assert set(both.files) == {trace, fitted}
    elsewhere = with_fields(both, {"device.library": "raspberry-pi-5"})
    assert dict(elsewhere.files) == {trace: both.files[trace]}
    steady = with_fields(both, {"link.rate": 3.0})
    assert dict(steady.files) == {fitted: both.files[fitted]}
    assert dict(with_fields(both, {"workload.cycles": 2}).files) == dict(both.files)
