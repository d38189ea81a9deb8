"""A device that became slower since its trace is seen, said, and taken out of the prediction."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from made_up_runs import CHUNK_MB, SETTINGS, run_as_predicted
from synthetic_traces import synthetic

from calibration.bench.bench import BenchSettings
from calibration.bench.start import Teacher
from calibration.fit import fit_trace
from calibration.trace import Trace
from calibration.validation import drift, validate
from calibration.validation.drift import Drift, Recheck, curves_between, drifts
from calibration.validation.predict import predict

SLOWER = 1.25


@pytest.fixture(scope="module")
def fitted():
    return fit_trace(synthetic(4, noise=0.01), bootstrap=0)


def slowed(factor=SLOWER, trials=8, **options):
    """Return the trace's points again, all of them slower."""
    rows = synthetic(4, trials, noise=0.01, seed=7, **options).rows
    return rows.assign(seconds=rows["seconds"] * factor)


def test_what_became_slower_is_said_task_by_task(fitted):
    rows = slowed()
    rows.loc[rows["task"] == "comm", "seconds"] /= SLOWER  # receiving is as fast as it was
    compute, comm = drifts(fitted.trace, rows)
    assert (compute.task, comm.task, compute.rounds) == ("compute", "comm", 8)
    assert compute.low <= compute.change <= compute.high
    assert compute.change == pytest.approx(SLOWER - 1, abs=0.02)
    assert compute.is_beyond(0.03)
    assert comm.change == pytest.approx(0.0, abs=0.02)
    assert not comm.is_beyond(0.03)
    assert re.match(r"computing took 2\d\.\d% longer than in the trace", compute.sentence)
    assert "less long" in replace(compute, change=-0.2).sentence
    assert "8 rounds" in compute.sentence


def test_a_few_rounds_show_their_range_and_disturbed_ones_do_not_count(fitted):
    rows = slowed(trials=3)
    rows.loc[rows["trial"] == 2, "status"] = "foreign"
    for one in drifts(fitted.trace, rows):
        assert one.rounds == 2
        assert one.low <= one.change <= one.high
        assert "range" in one.sentence
    assert drifts(fitted.trace, pd.DataFrame()) == ()


@pytest.mark.parametrize(
    ("low", "high", "beyond"),
    [(0.04, 0.2, True), (-0.2, -0.04, True), (0.02, 0.2, False), (-0.01, 0.01, False)],
)
def test_a_drift_counts_once_its_whole_interval_is_beyond(low, high, beyond):
    assert Drift("comm", (low + high) / 2, low, high, 6).is_beyond(0.03) is beyond


def test_curves_of_the_same_minutes_follow_the_device(fitted):
    compute, communication = curves_between(fitted, slowed())
    assert compute.model == fitted.compute.model
    assert compute.rates[:-1] * SLOWER == pytest.approx(fitted.compute.rates[:-1], rel=0.03)
    assert communication.rates[1:] * SLOWER == pytest.approx(
        fitted.communication.rates[1:], rel=0.05
    )


@pytest.mark.parametrize("rows", [pd.DataFrame(), slowed(trials=2), slowed(comm_cores={1, 2})])
def test_too_few_points_make_no_curve(fitted, rows):
    assert curves_between(fitted, rows) is None


def test_a_slower_device_is_no_verdict_on_the_model_and_its_own_curves_predict_it(fitted):
    predictions = predict(fitted, SETTINGS, CHUNK_MB)
    runs = run_as_predicted(fitted, SETTINGS, factor=SLOWER)
    unaware = validate.judge(fitted, CHUNK_MB, SETTINGS, predictions, runs)
    assert unaware.verdict.word == "does not hold"
    assert "error_between" not in unaware.table
    result = validate.judge(fitted, CHUNK_MB, SETTINGS, predictions, runs, between=slowed())
    assert result.verdict.word == "too disturbed to say"
    assert "measure the trace again" in result.verdict.reason
    assert result.table["error"].to_numpy() == pytest.approx(1 / SLOWER - 1)
    assert result.table["error_between"].abs().max() < 0.03
    assert result.summary["between"]["worst_absolute_error"] < 0.03
    assert (result.table["error_between_low"] <= result.table["error_between_high"]).all()


def test_a_cell_without_a_clean_run_has_no_figure_between(fitted):
    predictions = predict(fitted, SETTINGS, CHUNK_MB)
    runs = run_as_predicted(fitted, SETTINGS, taken=0.2)
    result = validate.judge(fitted, CHUNK_MB, SETTINGS, predictions, runs, between=slowed())
    assert result.table["error_between"].isna().all()


class Clock:
    """A clock that a point's measurement moves on by three seconds."""

    def __init__(self):
        self.now = 0.0
        self.points = []

    def __call__(self):
        return self.now

    def trial(self, bench, teacher, point, settings, trial, zero, header, *, attempts):
        assert attempts == 1  # a busy machine must not spend its time here
        assert settings.patience_s <= 1.0
        self.now += 3.0
        self.points.append((trial, point.label))
        kept = {"condition": point.condition, "trial": trial, "status": "ok", "work": 4.0,
                "seconds": 1.0, "repeat": 0, "phase": ""}  # fmt: skip
        return [
            {**kept, "task": side, "comm_cores": point.recorded_cores(side, 4)}
            for side in point.sides
        ]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(drift, "guarded_trial", clock.trial)
    return clock


def visitor(fitted, clock, **options):
    bench, teacher = BenchSettings(cores=(0, 1, 2, 3)), Teacher(("127.0.0.1", 1), {"columns": 100,
                                                                "chunk_rows": 640})  # fmt: skip
    return Recheck(fitted, bench, teacher, clock=clock, **options)


def test_points_are_measured_in_turns_with_the_runs_and_take_a_fifth_of_the_time(fitted, clock):
    kept = []
    recheck = visitor(fitted, clock, on_rows=kept.append)
    spent = 0.0
    for _ in range(400):  # runs of two seconds
        before = clock.now
        recheck.visit()
        spent += clock.now - before
        clock.now += 2.0
    rounds = len({trial for trial, _ in clock.points})
    assert rounds == len(kept) > 6
    assert spent / clock.now == pytest.approx(0.2, abs=0.03)
    # Every round has the points that the curves were fitted to, and no others.
    conditions = {label.split(" ", 3)[-1] for _, label in clock.points}
    assert not any("switching" in label or "shared" in label for label in conditions)
    per_round = [sorted(x for t, x in clock.points if t == k) for k in range(rounds)]
    assert all(labels == per_round[0] for labels in per_round)
    assert set(recheck.rows["device"]) == {"synthetic"}


def test_a_later_call_goes_on_counting_and_a_last_round_is_always_made(fitted, clock):
    first = visitor(fitted, clock)
    first.visit()  # runs come first: a short budget must not end before one is made
    assert first.rows.empty
    first.visit(last=True)
    second = visitor(fitted, clock, earlier=first.rows)
    clock.now += 30.0
    second.visit()
    assert sorted(second.rows["trial"].unique()) == [0, 1]
    second.visit()  # too early
    assert sorted(second.rows["trial"].unique()) == [0, 1]
    second.visit(last=True)
    assert sorted(second.rows["trial"].unique()) == [0, 1, 2]
    second.visit(last=True)  # nothing has run since
    assert sorted(second.rows["trial"].unique()) == [0, 1, 2]


def test_without_a_run_nothing_is_measured_at_the_end(fitted, clock):
    recheck = visitor(fitted, clock)
    recheck.visit(last=True)
    assert not clock.points


def test_moments_count_from_the_trace_s_beginning(monkeypatch):
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(drift.time, "time", lambda: begun.timestamp() + 90.0)
    rows = synthetic(2, 1).rows
    assert drift.since_trace(Trace(rows, {"host": {"date": "2026-01-01T00:00:00Z"}})) == 90.0
    assert drift.since_trace(Trace(rows, {})) == begun.timestamp() + 90.0


def test_runs_that_take_long_leave_points_evenly_spread(fitted, clock):
    recheck = visitor(fitted, clock)
    moments = []
    for _ in range(60):
        seen = len(clock.points)
        recheck.visit()
        if len(clock.points) > seen:
            moments.append(clock.now)
        clock.now += 10.0
    assert np.ptp(np.diff(moments)) <= 10.0
