import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.workloads.records.profile import COLUMNS, CycleCost, read_profile, write_profile
from kdsim.errors import DataError

CYCLES = [
    CycleCost(1, 1, 3328, 0.002, 0.003, 1, 2),
    CycleCost(2, 1, 0, 0.0021, 0.0029, 1, 2, 0.75),
]


def written(tmp_path, cycles=CYCLES):
    path = tmp_path / "profiles" / "p.csv"
    write_profile(path, cycles, workload="aflkd digits", method="sslf", seed=3, notes={"x": "a\nb"})
    return path


def test_a_profile_reads_back_with_its_header(tmp_path):
    profile = read_profile(written(tmp_path))
    assert list(profile.cycles) == CYCLES
    assert profile.header["workload"] == "aflkd digits"
    assert (profile.header["method"], profile.header["seed"]) == ("sslf", "3")
    assert "cores" in profile.header["host"]
    assert "torch" in profile.header["versions"]
    assert profile.header["x"] == "a b"


def test_the_columns_are_those_a_scenario_reads():
    assert ",".join(COLUMNS) == (
        "cycle,epoch,comm_bytes,forward_s,backward_s,cores,frozen_layers,accuracy"
    )


@given(seconds=st.floats(0, 1e4), size=st.integers(0, 2**60), share=st.none() | st.floats(0, 1))
def test_any_cost_survives_to_six_digits(seconds, size, share, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "p.csv"
    cycle = CycleCost(1, 1, size, seconds, seconds / 3, 4, 0, share)
    write_profile(path, [cycle], workload="w", method="m", seed=0)
    (found,) = read_profile(path).cycles
    assert found.comm_bytes == size
    assert found.forward_s == pytest.approx(seconds, rel=1e-5)
    assert found.accuracy == (None if share is None else pytest.approx(share, rel=1e-5))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cycle,epoch", "cycle,era", r":7: the columns must be cycle,epoch"),
        ("3328", "-1", r":8: comm_bytes must be a whole number of at least 0, got '-1'"),
        ("3328", "1.5", "comm_bytes must be a whole number, got '1.5'"),
        ("0.003", "nan", "backward_s must be a finite number of at least 0, got 'nan'"),
        ("0.003", "", "backward_s must be a finite number, got ''"),
        ("0.75", "1.75", "accuracy must lie in 0 to 1"),
        ("0.003,", "", "expected 8 values, got 7"),
    ],
)
def test_a_faulty_profile_is_an_error_with_its_line(tmp_path, old, new, message):
    path = written(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        read_profile(path)


def test_an_absent_or_empty_profile_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_profile(tmp_path / "none.csv")
    with pytest.raises(DataError, match="has no cycle"):
        read_profile(written(tmp_path, []))
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="got nothing"):
        read_profile(tmp_path / "empty.csv")
