"""Traces that mean something else than they say, each made from a trace that is right.

Every mistake here left each row legal, and once gave curves that were wrong by the factor named.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
import pandas as pd
import pytest
from synthetic_traces import synthetic

from calibration.fit import fit_trace
from calibration.trace import read_trace, write_trace
from kdsim.errors import TraceError


@pytest.fixture(scope="module")
def good():
    """Trace with forward and backward rows, start times, trials and two sizes of work."""
    rows = synthetic(4, trials=6, noise=0.02, seed=1).rows
    compute = rows[rows["task"] == "compute"]
    forward = compute.assign(phase="forward", seconds=0.4 * compute["seconds"])
    backward = compute.assign(phase="backward", seconds=0.6 * compute["seconds"])
    rows = pd.concat([rows[rows["task"] == "comm"], forward, backward])
    sizes = [rows.assign(work=4.0 * n, seconds=n * rows["seconds"], repeat=i)
             for i, n in enumerate((1, 2, 1.5, 3))]  # fmt: skip
    order = ["task", "comm_cores", "trial", "repeat"]
    rows = pd.concat(sizes).sort_values(order, kind="stable").reset_index(drop=True)
    return rows.assign(t_start=np.cumsum(rows["seconds"].shift(fill_value=0)) * 1.02)


def read(tmp_path, rows, header=None):
    write_trace(tmp_path / "t.csv", rows, header or {})
    return read_trace(tmp_path / "t.csv")


def test_a_trace_that_is_right_raises_no_question(tmp_path, good):
    assert read(tmp_path, good, {"host": {"cores": 4}}).questions == ()


@pytest.mark.parametrize("name", ["epyc-2core", "epyc-2core-8virtual"])
def test_the_traces_that_ship_raise_no_question(name):
    assert read_trace(str(resources.files("calibration.traces") / f"{name}.csv")).questions == ()


def test_without_the_trial_column_the_rates_stay_what_they_were(tmp_path, good):
    """The column left out once made a curve seven times too slow."""
    one_size = good[good["repeat"] == 0].assign(repeat=good["trial"])
    whole, bare = (
        fit_trace(read(tmp_path, rows), bootstrap=0)
        for rows in (one_size, one_size.drop(columns=["trial", "condition", "status"]))
    )
    for side in ("compute", "communication"):
        before, after = getattr(whole, side).rates, getattr(bare, side).rates
        np.testing.assert_allclose(after, before, rtol=1e-12)


def _some_ms(rows):
    return rows.assign(seconds=rows["seconds"] * np.where(rows["trial"] % 2, 1000.0, 1.0))


def _other_machine(rows):
    return pd.concat([rows, rows.assign(seconds=4 * rows["seconds"], trial=rows["trial"] + 6)])


FAULTS = {
    "every row twice": (lambda r: pd.concat([r, r]), "the same measurement as on line"),
    "every row twice, without starts": (
        lambda r: pd.concat([r, r]).drop(columns="t_start"), "the same measurement as on line"),
    "only forward": (lambda r: r[r["phase"] != "backward"], "only forward rows"),
    "only backward": (lambda r: r[r["phase"] != "forward"], "only backward rows"),
    "one backward row lost": (
        lambda r: r.drop(r.index[np.flatnonzero(r["phase"] == "backward")[3]])
        , "without its backward row"),
    "two machines, numbered alike": (
        lambda r: pd.concat([r, r.assign(seconds=4 * r["seconds"], t_start=r["t_start"] + 1e3)]),
        "of one step"),
    "half of the trials in ms": (
        lambda r: _some_ms(r).drop(columns="t_start"), "a factor of"),
    "seconds in ms": (lambda r: r.assign(seconds=1e3 * r["seconds"]), "other units in seconds"),
    "MB in bytes": (
        lambda r: r.assign(work=r["work"] * np.where(r["task"] == "comm", 1e6, 1.0),
                           t_start=np.nan)[r["phase"] == ""], "MB per second"),
    "seconds in ns": (
        lambda r: r.assign(seconds=1e9 * r["seconds"], t_start=np.nan), "seconds: "),
    "sides swapped": (
        lambda r: r.assign(task=r["task"].map({"comm": "compute", "compute": "comm"}),
                           unit=r["unit"].map({"MB": "batch", "batch": "MB"})),
        "comm_cores: must lie in"),
    "a phase on communication": (
        lambda r: r.assign(phase=r["phase"].where(r["task"] == "compute", "forward")),
        "must be empty for task 'comm'"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_trace_that_contradicts_itself_is_refused_with_the_line(tmp_path, good, name):
    change, said = FAULTS[name]
    with pytest.raises(TraceError, match=rf"t\.csv:\d+: .*{said}"):
        read(tmp_path, change(good.reset_index(drop=True)))


def test_more_cores_than_the_host_has_are_refused_unless_they_are_virtual(tmp_path, good):
    with pytest.raises(TraceError, match=r"the header's host has 2 cores \(got 4\)"):
        read(tmp_path, good, {"host": {"cores": 2}})
    read(tmp_path, good, {"host": {"cores": 2}, "settings": {"virtual_cores": 4}})


QUESTIONS = {
    "30 s per batch": (
        lambda r: r.assign(seconds=r["seconds"] * np.where(r["task"] == "compute", 1500.0, 1.0),
                           t_start=np.nan), "s per batch in the median"),
    "seconds in ms, without starts": (
        lambda r: r.assign(seconds=r["seconds"] * np.where(r["task"] == "compute", 600.0, 1.0),
                           t_start=np.nan), "s per batch in the median"),
    "own cores of the compute side": (
        lambda r: r.assign(comm_cores=r["comm_cores"].where(r["task"] == "comm",
                                                             3 - r["comm_cores"])),
        "are the sides swapped"),
    "two machines": (_other_machine, "times per unit of work are of two kinds"),
    "two machines of nearly equal speed": (
        lambda r: pd.concat([r, r.assign(seconds=2 * r["seconds"], trial=r["trial"] + 6)]),
        "two devices, in one trace"),
    "backward rows dropped, phase blank": (
        lambda r: r[r["phase"] != "backward"].assign(phase=""), "is a pass .backward. missing"),
    "repeat all 0, no trial": (
        lambda r: r[r["phase"] == ""].assign(repeat=0).drop(columns="trial"),
        "all rows of a point are one trial"),
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_is_unlikely_to_be_meant_is_asked_with_the_line(tmp_path, good, name):
    change, said = QUESTIONS[name]
    questions = read(tmp_path, change(good)).questions
    assert any(said in question.replace("(", ".").replace(")", ".") for question in questions)
    assert all("t.csv:" in question for question in questions)


def test_questions_stand_first_among_a_fit_s_verdicts(tmp_path, good):
    change, _ = QUESTIONS["own cores of the compute side"]
    fit = fit_trace(read(tmp_path, change(good)), bootstrap=0)
    assert "are the sides swapped?" in fit.verdicts[0]


def test_equal_times_of_a_coarse_clock_are_no_duplicates(tmp_path):
    rows = synthetic(4, trials=6, noise=0.02).rows.drop(columns=["t_start", "trial"])
    rows["seconds"] = rows["seconds"].round(3)
    rows["repeat"] = np.arange(len(rows))
    assert read(tmp_path, rows.drop(columns="phase")).questions == ()


def test_disturbed_rows_may_repeat_a_trial_s_number(tmp_path, good):
    again = good[good["trial"] == 0].assign(status="foreign", seconds=3 * good["seconds"])
    read(tmp_path, pd.concat([again, good]))
