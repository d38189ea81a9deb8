"""The verdict, on measurements made up so that the right answer is known."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from calibration.machine.disturbance import Taken
from calibration.machine.sampling import Precision
from calibration.validation.judge import Prediction, summarise, tabulate, verdict
from calibration.validation.measure import Measured

PRECISION = Precision()


def prediction(seconds):
    return Prediction(SimpleNamespace(makespan=seconds), 0.99 * seconds, 1.01 * seconds)


def runs_of(condition, policy, predicted, measured, *, n=6, taken=0.0, jitter=0.002):
    """Runs of a cell, spread evenly by `jitter` around what was measured."""
    spread = 1 + jitter * np.linspace(-1, 1, n)
    return [
        Measured(
            condition,
            SimpleNamespace(policy=policy, makespan=float(measured * s)),
            Taken(taken, 0.0, 1.0),
            predicted,
            0.0,
        )
        for s in spread
    ]


def judged(cells, **options):
    """Judge ``{(condition, policy): (predicted, measured)}``; returns (table, summary, verdict)."""
    predictions = {cell: prediction(p) for cell, (p, _) in cells.items()}
    runs = [r for cell, (p, m) in cells.items() for r in runs_of(*cell, p, m, **options)]
    table = tabulate(predictions, runs, PRECISION)
    summary = summarise(table, runs, PRECISION)
    return table, summary, verdict(table, summary, PRECISION)


GOOD = {
    ("a", "greedy"): (1.0, 1.01),
    ("a", "optimal"): (0.9, 0.91),
    ("b", "greedy"): (2.0, 1.98),
    ("b", "optimal"): (1.8, 1.83),
}


def test_predictions_that_hold_are_said_to_hold():
    table, summary, said = judged(GOOD)
    assert said.word == "holds"
    assert summary["pairs_in_order"] == summary["pairs_separated"] == summary["pairs"] == 2
    assert table["settled"].all()


def test_errors_are_signed_and_their_intervals_hold_them():
    table, _, _ = judged({("a", "greedy"): (1.0, 1.25)})
    row = table.iloc[0]
    assert row["error"] == pytest.approx(-0.2, abs=1e-5)
    assert row["error_low"] < row["error"] < row["error_high"]
    assert row["measured_low"] < row["measured"] < row["measured_high"]


def test_large_errors_do_not_hold():
    _, _, said = judged({**GOOD, ("b", "greedy"): (2.0, 2.4)})
    assert said.word == "does not hold"
    assert "95th percentile" in said.reason


def test_a_pair_in_the_other_order_does_not_hold():
    _, summary, said = judged({("a", "greedy"): (1.0, 0.97), ("a", "optimal"): (0.96, 0.99)})
    assert (summary["pairs_separated"], summary["pairs_in_order"]) == (1, 0)
    assert summary["kendall_tau"]["a"] == -1.0
    assert said.word == "does not hold"
    assert "other order" in said.reason


@pytest.mark.parametrize("options", [{"n": 5}, {"taken": 0.3}, {"jitter": 0.2}])
def test_what_is_not_known_precisely_is_not_judged(options):
    table, _, said = judged(GOOD, **options)
    assert said.word == "too disturbed to say"
    assert not table["settled"].any()


def test_disturbed_runs_do_not_count_and_are_counted():
    cells = dict(GOOD)
    predictions = {cell: prediction(p) for cell, (p, _) in cells.items()}
    runs = [r for cell, (p, m) in cells.items() for r in runs_of(*cell, p, m)]
    spoilt = runs_of("a", "greedy", 1.0, 3.0, n=4, taken=0.4)
    table = tabulate(predictions, [*runs, *spoilt], PRECISION)
    assert table["disturbed"].tolist() == [4, 0, 0, 0]
    assert table["error"].abs().max() < 0.03
    assert verdict(table, summarise(table, runs, PRECISION), PRECISION).word == "holds"


def test_one_bad_run_among_good_ones_moves_no_median():
    """What the guard overlooks widens the interval; it does not pass for a measurement."""
    bad = runs_of("a", "greedy", 1.0, 1.5, n=1)
    runs = [*runs_of("a", "greedy", 1.0, 1.0, n=6), *bad]
    table = tabulate({("a", "greedy"): prediction(1.0)}, runs, PRECISION)
    assert abs(table["error"].iloc[0]) < 0.002
    assert not table["settled"].iloc[0]


def test_a_clear_miss_is_said_even_if_other_cells_are_open():
    cells = {("a", p): (1.0, 1.5) for p in ("greedy", "optimal", "random")}
    predictions = {cell: prediction(p) for cell, (p, _) in cells.items()}
    runs = [r for cell, (p, m) in cells.items() for r in runs_of(*cell, p, m)]
    predictions["a", "static:1"] = prediction(1.0)
    table = tabulate(predictions, runs, PRECISION)
    assert math.isnan(table["measured"].iloc[-1])
    said = verdict(table, summarise(table, runs, PRECISION), PRECISION)
    assert said.word == "does not hold"


# --- rankings: distinct predictions only ------------------------------------------------------


def test_policies_predicted_alike_make_no_pair():
    cells = {
        ("a", "greedy"): (1.0, 1.0),
        ("a", "optimal"): (1.0, 1.001),
        ("a", "static:1"): (1.0 + 1e-6, 0.999),
        ("a", "comm-priority"): (1.2, 1.2),
        ("a", "comp-priority"): (1.2, 1.201),
    }
    _, summary, _ = judged(cells)
    assert summary["distinct_predictions"] == {"a": 2}
    assert summary["pairs"] == summary["pairs_separated"] == summary["pairs_in_order"] == 1
    assert summary["kendall_tau"] == {"a": 1.0}


def test_one_prediction_has_no_ranking():
    _, summary, said = judged({("a", "greedy"): (1.0, 1.0), ("a", "optimal"): (1.0, 1.0)})
    assert math.isnan(summary["kendall_tau"]["a"])
    assert summary["pairs"] == 0
    assert said.word == "holds"


def test_what_is_predicted_alike_and_measured_apart_is_reported():
    _, summary, _ = judged({("a", "greedy"): (1.0, 1.0), ("a", "optimal"): (1.0, 1.04)})
    assert summary["alike_but_apart"] == 1


def test_pairs_whose_measured_intervals_overlap_say_nothing():
    _, summary, said = judged(
        {("a", "greedy"): (1.0, 1.0), ("a", "optimal"): (1.01, 0.999)}, jitter=0.02
    )
    assert (summary["pairs"], summary["pairs_separated"]) == (1, 0)
    assert said.word == "holds"
