from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.trace import (
    check_place,
    measurements,
    noisy_points,
    read_trace,
    trial_times,
    write_trace,
)
from calibration.trace import text as text_files
from kdsim.errors import TraceError

HEADER = "# kdsim-trace: 1\n"
NAMES = "device,task,total_cores,comm_cores,work,unit,repeat,seconds,t_start\n"
GOOD = "pi,compute,4,1,2,batch,0,0.5,0.0\n"


def write(tmp_path, text):
    path = tmp_path / "trace.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_minimal_trace_is_read_with_defaults(tmp_path):
    path = write(tmp_path, HEADER + '# host: {"cpu": "A72"}\n' + NAMES + GOOD)
    trace = read_trace(path)
    assert trace.device == "pi"
    assert trace.total_cores == 4
    assert trace.header == {"host": {"cpu": "A72"}}
    assert trace.rows.loc[0, "status"] == "ok"
    assert trace.rows.loc[0, "condition"] == "alone"
    assert len(trace.sha256) == 64


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "no column names"),
        (NAMES.replace(",", ";") + GOOD, "must be separated by commas"),
        ("# kdsim-trace: 9\n" + NAMES + GOOD, "version 9"),
        (HEADER + "# host {}\n" + NAMES + GOOD, ":2: header: must be '# key: <JSON value>'"),
        (HEADER + "# host: {oops\n" + NAMES + GOOD, ":2: header: host: must be a JSON value"),
        (HEADER, "no column names"),
        (HEADER + NAMES, "no data row"),
        (HEADER + NAMES.replace("seconds", "second") + GOOD, "did you mean 'seconds'"),
        (HEADER + NAMES.replace("t_start", "unit") + GOOD, "unit: duplicate column"),
        (HEADER + NAMES.replace(",repeat", "") + GOOD, "repeat: missing column"),
        (HEADER + NAMES + "pi,compute,4,1\n", ":3: must have 9 fields (got 4)"),
        (HEADER + NAMES + GOOD.replace("compute", "fly"), ":3: task: must be one of"),
        (HEADER + NAMES + GOOD.replace(",4,", ",0,"), "total_cores: must be at least 1"),
        (HEADER + NAMES + GOOD.replace(",4,1,", ",4,4,"), "comm_cores: must lie in 0..3"),
        (HEADER + NAMES + GOOD.replace("batch", "MB"), "unit: must be 'batch'"),
        (HEADER + NAMES + GOOD.replace(",2,b", ",-2,b"), "work: must be positive (got '-2')"),
        (HEADER + NAMES + GOOD.replace("0.5", "nan"), "seconds: must be finite"),
        (HEADER + NAMES + GOOD.replace("0.5", "0"), "seconds: must be positive"),
        (HEADER + NAMES + GOOD.replace("0.5", "1e999"), "seconds: must lie in 1e-10..1e+08"),
        (HEADER + NAMES + GOOD.replace("0.5", "1e-300"), "seconds: must lie in"),
        (HEADER + NAMES + GOOD.replace(",2,b", ",2e300,b"), "work: must lie in"),
        (HEADER + NAMES + GOOD.replace(",4,1", ",1025,1"), "total_cores: must be at most 1024"),
        (HEADER + NAMES + GOOD.replace(",0,0.5", ",1_0,0.5"), "repeat: must be a whole number"),
        (HEADER + NAMES + GOOD.replace(",0,0.5", "," + "9" * 5000 + ",0.5"), "at most 1000000000"),
        (HEADER + NAMES + GOOD.replace("0.5", "0x1p3"), "seconds: must be a number"),
        (HEADER + NAMES + GOOD.replace("pi", "p\x1bi"), "device: must be printable text"),
        (HEADER + "# host: " + "[" * 20_000 + "\n" + NAMES + GOOD, ":2: header: host: must be"),
        (HEADER + "# n: " + "9" * 5000 + "\n" + NAMES + GOOD, "a number too long"),
        (HEADER + '# n: "\\ud83d"\n' + NAMES + GOOD, ":2: header: n: must be a JSON value"),
        (HEADER + NAMES + GOOD + GOOD.replace("pi", "jetson"), "one device"),
        (HEADER + NAMES + GOOD + GOOD.replace(",4,", ",8,"), "total_cores: a trace describes"),
        (HEADER + NAMES + GOOD.replace(",0,0.5", ",-1,0.5"), "repeat: must be at least 0"),
        (b"\xff\xfe\x00binary", "not UTF-16"),
        (HEADER + NAMES + GOOD.replace("pi", "p\0i"), "NUL"),
        (HEADER + NAMES + "x" * 200_000 + GOOD, "not CSV"),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_its_place(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_all_faults_of_a_file_come_at_once(tmp_path):
    broken = GOOD.replace("0.5", "nan") + "\n" + GOOD + GOOD.replace("batch", "MB")
    with pytest.raises(TraceError) as caught:
        read_trace(write(tmp_path, HEADER + NAMES + broken))
    message = str(caught.value)
    assert "trace.csv:3: seconds" in message
    assert "trace.csv:6: unit" in message


def test_a_flood_of_faults_is_cut_short(tmp_path):
    with pytest.raises(TraceError, match="and 75 more faults"):
        read_trace(write(tmp_path, HEADER + NAMES + "x\n" * 100))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_trace_saved_by_another_program_is_read(tmp_path, encoding):
    plain = write(tmp_path, HEADER + NAMES + GOOD)
    other = tmp_path / "other.csv"
    other.write_text(plain.read_text(encoding="utf-8"), encoding=encoding)
    pd.testing.assert_frame_equal(read_trace(other).rows, read_trace(plain).rows)


def test_a_folder_or_nothing_is_no_trace(tmp_path):
    with pytest.raises(TraceError, match="got a directory"):
        read_trace(tmp_path)
    with pytest.raises(TraceError, match="No such file"):
        read_trace(tmp_path / "absent.csv")


def test_an_unwritable_place_is_an_error_that_names_it(tmp_path):
    rows = pd.DataFrame([dict(zip(NAMES.strip().split(","), GOOD.strip().split(","), strict=True))])
    with pytest.raises(TraceError, match="cannot be written"):
        write_trace(tmp_path / "no" / "such" / "trace.csv", rows)


def test_a_trace_never_takes_the_place_of_what_is_no_file(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", Path(os.devnull)):
        with pytest.raises(TraceError, match="cannot be written: something is there"):
            check_place(path)
    with pytest.raises(TraceError, match="there is no folder"):
        check_place(tmp_path / "no" / "t.csv")
    rows = rows_of([(1, 1.0, 1.0)])
    write_trace(os.devnull, rows)
    assert Path(os.devnull).is_char_device()


def test_checking_a_place_leaves_it_alone(tmp_path):
    path = tmp_path / "t.csv"
    check_place(path)
    assert not list(tmp_path.iterdir())
    path.write_text("mine")
    check_place(path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["mine"]


def test_an_endless_file_is_refused(monkeypatch):
    monkeypatch.setattr(text_files, "MAX_BYTES", 1000)
    with pytest.raises(TraceError, match="/dev/zero: a device trace has at most"):
        read_trace("/dev/zero")


@pytest.mark.parametrize("line", ["host: []", "host: null", "settings: 3", "cores: 5"])
def test_a_header_value_of_another_kind_is_a_fault(tmp_path, line):
    with pytest.raises(TraceError, match=rf"header: {line.split(':')[0]}: must be a JSON"):
        read_trace(write(tmp_path, f"{HEADER}# {line}\n{NAMES}{GOOD}"))


def rows_of(values):
    return pd.DataFrame(
        [
            {
                "device": "pi", "task": "comm", "total_cores": 4, "comm_cores": c, "work": w,
                "unit": "MB", "repeat": i, "seconds": s, "t_start": 1e3 * i, "condition": "alone",
                "trial": i % 3, "status": "ok", "phase": "",
            }
            for i, (c, w, s) in enumerate(values)
        ]
    )  # fmt: skip


# Rates alike within a factor of two: what else a trace's rows contradict is for test_meaning.
values = st.tuples(st.integers(1, 4), st.floats(0.1, 1e3), st.floats(0.7, 1.3)).map(
    lambda drawn: (drawn[0], drawn[1], drawn[1] * drawn[2])
)


@settings(max_examples=30, deadline=None)
@given(st.lists(values, min_size=1, max_size=20))
def test_what_is_written_is_read_back(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("trace") / "t.csv"
    rows = rows_of(values)
    write_trace(path, rows, {"host": {"cpu": "ä # ,"}, "list": [1, 2]})
    trace = read_trace(path)
    assert trace.header == {"host": {"cpu": "ä # ,"}, "list": [1, 2]}
    for name in rows.columns:
        if rows[name].dtype == float:
            np.testing.assert_allclose(trace.rows[name], rows[name], rtol=1e-8)
        else:
            assert trace.rows[name].tolist() == rows[name].tolist()


def test_rows_without_a_phase_are_measurements_of_their_own_and_a_trial_is_their_median():
    rows = rows_of([(1, 2.0, 4.0)] * 3)
    rows["trial"] = 0
    rows["seconds"] = [4.0, 6.0, 100.0]
    assert trial_times(rows)["seconds_per_work"].tolist() == [3.0]
    rows["task"], rows["repeat"] = "compute", 0
    assert trial_times(rows)["seconds_per_work"].tolist() == [3.0]


def test_two_amounts_of_work_under_one_repeat_are_two_measurements():
    rows = rows_of([(1, 2.0, 2.0), (1, 4.0, 4.0)])
    rows["trial"], rows["repeat"] = 0, 0
    assert trial_times(rows)["seconds_per_work"].tolist() == [1.0]


def test_only_the_forward_and_backward_rows_of_one_step_add_up():
    rows = rows_of([(1, 2.0, s) for s in (1.0, 3.0, 2.0, 4.0)])
    rows["trial"], rows["repeat"] = 0, [0, 0, 1, 1]
    rows["phase"] = ["forward", "backward"] * 2
    assert trial_times(rows)["seconds_per_work"].tolist() == [2.5]
    rows["work"], rows["repeat"] = [2.0, 2.0, 4.0, 4.0], 0
    assert measurements(rows)["seconds"].tolist() == [4.0, 6.0]


def test_without_a_trial_column_each_repeat_is_a_trial(tmp_path):
    body = "".join(GOOD.replace(",0,0.5", f",{i},0.5{i}") for i in range(6))
    trace = read_trace(write(tmp_path, NAMES + body))
    assert trace.header == {}
    assert trace.rows["trial"].tolist() == list(range(6))


def test_the_header_and_the_start_times_are_optional(tmp_path):
    body = "\ufeff# my own notes\n\n" + (NAMES + GOOD).replace(",t_start", "").replace(",0.0", "")
    trace = read_trace(write(tmp_path, body.replace("\n", "\r\n")))
    assert trace.header == {}
    assert np.isnan(trace.rows.loc[0, "t_start"])


def test_a_point_is_noisy_when_its_trials_disagree_and_one_odd_trial_is_not_enough():
    rows = rows_of([(1, 1.0, 1.0)] * 9)
    rows["trial"] = range(9)
    rows.loc[0, "seconds"] = 3.0
    assert noisy_points(rows, 0.05) == set()
    rows["seconds"] = np.linspace(1.0, 2.0, 9)
    assert noisy_points(rows, 0.05) == {("alone", "comm", 1)}


def test_reading_and_fitting_need_no_torch():
    code = (
        "import sys, calibration.trace, calibration.fit, calibration.fit.curve_file;"
        "import calibration.fit.plots;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
