"""Reading bandwidth traces: two formats, and one clear fault for each thing that is wrong."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdsim.scenario.files.bandwidth import read_bandwidth
from kdsim.scenario.files.faults import FaultyFileError


def read(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_text(text)
    return read_bandwidth(path)


def fault(tmp_path, text, name="t.csv"):
    with pytest.raises(FaultyFileError) as error:
        read(tmp_path, text, name)
    (only,) = error.value.faults
    assert only.where == str(tmp_path / name)
    return only


def test_csv_holds_times_and_rates(tmp_path):
    trace = read(tmp_path, "# by me\nrate,note,time_s\n2.0,a,10\n2.0,b,11\n0,c,13\n")
    assert trace.times == [0.0, 3.0]  # from the first row on; equal neighbours are one
    assert trace.rates == [2.0, 0.0]
    assert trace.period == 5.0


def test_json_holds_durations_in_ms_and_rates_in_kbit(tmp_path):
    entries = [
        {"duration_ms": 1500, "bandwidth_kbps": 8000, "latency_ms": 100},
        {"duration_ms": 500, "bandwidth_kbps": 0, "latency_ms": 100},
    ]
    trace = read(tmp_path, json.dumps(entries, indent=1), "t.json")
    assert trace.times == [0.0, 1.5]
    assert trace.rates == [1.0, 0.0]  # 8,000 kbit per second are 1 MB per second
    assert trace.period == 2.0


ROW = '{"duration_ms": 1000, "bandwidth_kbps": 800}'
CSV_FAULTS = [
    ("", 1, "", "is empty"),
    ("# only words\n", 1, "", "is empty"),
    ("time_s,rate\n", 1, "", "is empty"),
    ("time,rate\n0,1\n", 1, "", "missing: time_s"),
    ("time_s,rate\n0,1\n2,1\n1,1\n", 4, "time_s", "later than in the row before, 2 (got 1)"),
    ("time_s,rate\n0,1\n0,1\n", 3, "time_s", "later"),
    ("time_s,rate\n0,1\n1,-2\n", 3, "rate", "from 0 to 1e+15 (got '-2')"),
    ("time_s,rate\n0,nan\n", 2, "rate", "got 'nan'"),
    ("time_s,rate\n0,inf\n", 2, "rate", "got 'inf'"),
    ("time_s,rate\n0,fast\n", 2, "rate", "got 'fast'"),
    ("time_s,rate\n-1,1\n", 2, "time_s", "got '-1'"),
    ("time_s,rate\n0,1,2\n", 2, "", "3 columns, the header has 2"),
    ("\n\ntime_s,rate\n0,0\n1,0\n", 4, "rate", "all rates are 0"),
]
JSON_FAULTS = [
    ("", 1, "", "is empty"),
    ("[]", 1, "", "is empty"),
    ("{}", 1, "", "is a list of entries"),
    ("[\n 3\n]", 2, "", "each entry needs duration_ms and bandwidth_kbps"),
    (f'[\n{ROW},\n{{"duration_ms": 5}}]', 3, "", "each entry needs"),
    (f'[{ROW},\n{{"duration_ms": -5, "bandwidth_kbps": 1}}]', 2, "duration_ms", "from 0"),
    (
        f'[{ROW},\n{{"duration_ms": 0, "bandwidth_kbps": 1}}]',
        2,
        "duration_ms",
        "greater than 0",
    ),
    (f'[{ROW},\n{{"duration_ms": 5, "bandwidth_kbps": NaN}}]', 2, "bandwidth_kbps", "nan"),
    (f'[{ROW},\n{{"duration_ms": 5, "bandwidth_kbps": -1}}]', 2, "bandwidth_kbps", "-1"),
    (f'[{ROW},\n{{"duration_ms": true, "bandwidth_kbps": 1}}]', 2, "duration_ms", "true"),
    ('[{"duration_ms": 5, "bandwidth_kbps": 0}]', 1, "rate", "all rates are 0"),
    (f"[{ROW}\n{ROW}]", 1, "", "',' or ']' expected"),
    (f"[{ROW},\n", 2, "", "is not JSON"),
    (f"[{ROW}] more", 1, "", "text follows the list"),
    ("[" * 5000, 1, "", "is not JSON: nested too deeply"),
    ('[{"duration_ms": ' + "9" * 5000 + "}]", 1, "", "is not JSON"),
]


@pytest.mark.parametrize(
    ("name", "text", "line", "field", "said"),
    [*(("t.csv", *case) for case in CSV_FAULTS), *(("t.json", *case) for case in JSON_FAULTS)],
)
def test_what_is_wrong_is_one_fault_with_its_line(name, text, line, field, said, tmp_path):
    found = fault(tmp_path, text, name)
    assert (found.line, found.field) == (line, field)
    assert said in found.reason


def test_a_missing_file_is_a_fault(tmp_path):
    with pytest.raises(FaultyFileError, match=r"none\.csv: no such file"):
        read_bandwidth(tmp_path / "none.csv")


def test_at_most_twenty_faults_are_named(tmp_path):
    with pytest.raises(FaultyFileError) as error:
        read(tmp_path, "time_s,rate\n" + "x,y\n" * 100)
    assert len(error.value.faults) == 20


@given(st.text(alphabet='[]{},:"time_sra\n0123.-eNdubkp# ', max_size=60), st.booleans())
def test_any_text_is_a_trace_or_a_fault(tmp_path_factory, text, as_json):
    path = tmp_path_factory.mktemp("trace") / ("t.json" if as_json else "t.csv")
    path.write_text(text)
    try:
        trace = read_bandwidth(path)
    except FaultyFileError as error:
        assert all(fault.reason for fault in error.faults)  # noqa: PT017
    else:
        assert len(trace.times) == len(trace.rates) >= 1
        assert trace.period > trace.times[-1]
