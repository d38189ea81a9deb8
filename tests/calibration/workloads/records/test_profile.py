import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.workloads.records.profile import COLUMNS, CycleCost, write_profile
from kdsim.scenario.files.faults import FaultyFileError
from kdsim.scenario.parts.profile import read_profile

CYCLES = [
    CycleCost(1, 1, 1280, 2048, 0.002, 0.003, 1, 2),
    CycleCost(2, 1, 0, 0, 0.0021, 0.0029, 1, 2, 0.75),
]


def written(tmp_path, cycles=CYCLES):
    path = tmp_path / "profiles" / "p.csv"
    write_profile(path, cycles, workload="aflkd digits", method="sslf", seed=3, notes={"x": "a\nb"})
    return path


def test_a_profile_reads_back_with_its_header(tmp_path):
    profile = read_profile(written(tmp_path))
    assert profile.header["workload"] == "aflkd digits"
    assert (profile.header["method"], profile.header["seed"]) == ("sslf", "3")
    assert "cores" in profile.header["host"]
    assert "torch" in profile.header["versions"]
    assert profile.header["x"] == "a b"
    assert profile.downlink_bytes.tolist() == [1280, 0]
    assert profile.uplink_bytes.tolist() == [2048, 0]
    assert profile.forward_s.tolist() == [0.002, 0.0021]
    assert profile.backward_s.tolist() == [0.003, 0.0029]
    assert profile.cores.tolist() == [1, 1]
    assert profile.frozen_layers.tolist() == [2, 2]
    assert (profile.marks.tolist(), profile.accuracies.tolist()) == ([2], [0.75])


def test_the_columns_are_those_a_scenario_reads():
    assert ",".join(COLUMNS) == (
        "cycle,epoch,downlink_bytes,uplink_bytes,forward_s,backward_s,cores,frozen_layers,accuracy"
    )


def test_bytes_that_nobody_counted_are_unknown_not_zero(tmp_path):
    cycles = [CycleCost(1, 1, 10, None, 1.0, 1.0, 1), CycleCost(2, 1, 10, 5, 1.0, 1.0, 1)]
    assert read_profile(written(tmp_path, cycles)).uplink_bytes is None


def test_a_profile_of_version_0_1_is_still_read(tmp_path):
    path = tmp_path / "old.csv"
    path.write_text(
        "# method: sslf\n"
        "cycle,epoch,comm_bytes,forward_s,backward_s,cores,frozen_layers,accuracy\n"
        "1,1,26368,0.5,1.0,1,3,\n2,1,0,0.5,1.0,1,3,0.9\n"
    )
    profile = read_profile(path)
    assert profile.downlink_bytes.tolist() == [26368, 0]
    assert profile.uplink_bytes is None
    assert profile.header == {"method": "sslf"}


@settings(max_examples=40, deadline=None)
@given(seconds=st.floats(0, 1e4), size=st.integers(0, 10**15), share=st.none() | st.floats(0, 1))
def test_any_cost_survives_to_six_digits(seconds, size, share, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "p.csv"
    cycle = CycleCost(1, 1, size, size // 2, seconds, seconds / 3, 4, 0, share)
    write_profile(path, [cycle], workload="w", method="m", seed=0)
    found = read_profile(path)
    assert (found.downlink_bytes, found.uplink_bytes) == ([size], [size // 2])
    assert found.forward_s == pytest.approx(np.array([seconds]), rel=1e-5)
    assert found.accuracies.tolist() == ([] if share is None else [pytest.approx(share, rel=1e-5)])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("uplink_bytes", "downlink_bytes", r"twice: downlink_bytes"),
        ("1280", "-1", r"downlink_bytes: must be a number from 0 to 1e\+15 \(got '-1'\)"),
        ("2048", "1.5", r"uplink_bytes: must be empty or a whole number \(got '1.5'\)"),
        ("0.003", "nan", "backward_s: must be a number"),
        ("0.003", "", "backward_s: must be a number"),
        ("0.75", "1.75", r"accuracy: must be empty or a number from 0 to 1 \(got '1.75'\)"),
        ("0.003,", "", "has 8 columns, the header has 9"),
    ],
)
def test_a_faulty_profile_is_an_error_with_its_line(tmp_path, old, new, message):
    path = written(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(FaultyFileError, match=message) as caught:
        read_profile(path)
    assert caught.value.faults[0].line in (7, 8, 9)


def test_an_absent_or_empty_profile_is_an_error(tmp_path):
    with pytest.raises(FaultyFileError, match=r"none\.csv"):
        read_profile(tmp_path / "none.csv")
    with pytest.raises(FaultyFileError, match="has no rows"):
        read_profile(written(tmp_path, []))
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(FaultyFileError, match="needs the columns downlink_bytes"):
        read_profile(tmp_path / "empty.csv")


def test_what_is_not_told_is_not_a_number(tmp_path):
    path = tmp_path / "bare.csv"
    path.write_text("downlink_bytes,forward_s,backward_s,cores\n1,2,3,4\n")
    profile = read_profile(path)
    assert profile.uplink_bytes is None
    assert profile.frozen_layers is None
    assert profile.accuracies.size == 0
    assert math.isfinite(profile.forward_s[0])
