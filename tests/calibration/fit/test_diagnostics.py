"""What a trace says besides its curves."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from synthetic_traces import synthetic

from calibration.fit.diagnostics import extras, measurement_notes
from calibration.trace import Trace


def windows(*, gap, lost, condition_of_splits="alone", trials=3):
    """Trace of one side's 10 ms tasks with `gap` seconds between them and `lost` a change."""
    base = synthetic(4).rows.iloc[0].to_dict() | {
        "task": "comm", "unit": "MB", "phase": "", "work": 1.0, "seconds": 0.01,
    }  # fmt: skip
    rows = []
    for trial in range(trials):
        slow = 1.0 + 0.1 * trial  # the machine's pace, the same for a whole trial
        for cores in (2, 3):
            rows += [
                base | {"trial": trial, "comm_cores": cores, "condition": condition_of_splits,
                        "repeat": i, "seconds": 0.01 * slow, "t_start": i * (0.01 + gap) * slow}
                for i in range(50)
            ]  # fmt: skip
        alone = (50 * 0.01 + 49 * gap) * slow
        rows.append(
            base | {"trial": trial, "comm_cores": 2, "condition": "switching", "work": 50.0,
                    "seconds": alone + 16 * lost, "changes": 16}
        )  # fmt: skip
    return Trace(pd.DataFrame(rows), {})


def test_the_cost_of_a_change_is_what_a_window_loses_beyond_the_gaps_between_its_tasks():
    cost = extras(windows(gap=0.002, lost=0.003))["reallocation_cost_s"]["communication"]
    assert cost["mean"] == pytest.approx(0.003, rel=1e-9)
    assert cost["low"] == pytest.approx(0.003, rel=1e-9)  # each trial against its own pace
    assert cost["n"] == 3


def test_without_start_times_no_change_is_costed():
    trace = windows(gap=0.002, lost=0.003)
    trace.rows["t_start"] = math.nan
    assert "reallocation_cost_s" not in extras(trace)


def test_a_change_is_never_costed_against_contended_tasks():
    trace = windows(gap=0.0, lost=0.003, condition_of_splits="contended")
    assert "reallocation_cost_s" not in extras(trace)


def test_windows_of_unequal_size_are_no_sign_of_nonlinear_time():
    rows = synthetic(4, trials=2).rows
    rows.loc[rows["trial"] == 1, ["work", "seconds"]] *= [2.0, 2.5]
    rows["phase"] = ""
    assert any("not quite linear" in said for said in measurement_notes(Trace(rows, {})))
    windowed = Trace(rows, {"settings": {"virtual_cores": 4}})
    assert not any("not quite linear" in said for said in measurement_notes(windowed))
