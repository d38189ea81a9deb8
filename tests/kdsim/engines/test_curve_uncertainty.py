"""Draws of the curves: intervals that can be computed by hand, and the same as run after run."""

import json

import numpy as np
import pandas as pd
import pytest
from front_door import call
from hypothesis import given, settings
from hypothesis import strategies as st

import kdsim
from kdsim.errors import ScenarioError
from kdsim.results.curve_uncertainty import CURVE_COLUMNS
from kdsim.scenario.drawn import drawn_scenario
from kdsim.scenario.parts.curve_draws import drawn_text

POLICIES = ["comm-priority", "greedy", "static:1", "optimal"]
A1, B1 = 0.4, 1.5


def scaled(compute, communication, *, cores=3, **changes):
    """Make a scenario whose draws multiply the times of both sides by these factors."""
    data = {
        "name": "drawn",
        "device": {
            "cores": cores,
            "compute": {"a1": A1, "a2": 0.213},
            "communication": {"b1": B1, "b2": 0.0, "b3": 1.0},
            "draws": {
                "count": len(compute),
                "compute": {"a1": drawn_text(A1 * f for f in compute)},
                "communication": {"b1": drawn_text(B1 / f for f in communication)},
            },
        },
        # Uneven numbers: Algorithm 1 decides a tie by the last digit, which a draw does not keep.
        "workload": {"cycles": 5, "comm": 2.03, "forward": 1.07, "backward": 0.51},
        "replications": 10,
        **changes,
    }
    return kdsim.Scenario.model_validate(data)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.2, 5.0), min_size=2, max_size=20))
def test_a_device_slower_by_a_factor_is_slower_by_it_under_every_policy(factors):
    made = kdsim.compare(scaled(factors, factors), POLICIES, curve_draws=len(factors))
    low, median, high = np.quantile(factors, [0.025, 0.5, 0.975])
    for row, drawn in zip(made.rows, made.curve_intervals, strict=True):
        assert drawn["policy"] == row["policy"]
        # Draws are kept with seven digits.
        assert drawn["low"] == pytest.approx(low * row["mean"], rel=1e-5)
        assert drawn["median"] == pytest.approx(median * row["mean"], rel=1e-5)
        assert drawn["high"] == pytest.approx(high * row["mean"], rel=1e-5)
        assert drawn["gap_low"] == pytest.approx(row["gap_mean"], abs=1e-5)
        assert drawn["gap_high"] == pytest.approx(row["gap_mean"], abs=1e-5)


def test_what_two_policies_share_cancels_in_their_difference():
    factors = [0.5, 1.0, 2.0]
    made = kdsim.compare(scaled(factors, factors), ["comm-priority", "optimal"], curve_draws=3)
    (pair,) = made.faster
    lost = made.rows[0]["mean"] - made.rows[1]["mean"]
    assert lost > 0.01
    ends = np.quantile([factor * lost for factor in factors], [0.025, 0.975])
    assert [pair["difference_low"], pair["difference_high"]] == pytest.approx(ends, rel=1e-5)
    assert pair["faster"] == 0.0
    assert made.curves.points[0].faster("optimal", "comm-priority") == 1.0


def test_a_tie_counts_half():
    made = kdsim.compare(scaled([1, 2], [1, 2]), ["optimal", "state-based"], curve_draws=2)
    (pair,) = made.faster
    assert (pair["faster"], pair["ties"]) == (0.5, 1.0)
    assert (pair["difference_low"], pair["difference_high"]) == (0.0, 0.0)


def test_each_policy_meets_every_draw_as_single_runs_in_simpy_do():
    rng = np.random.default_rng(4)
    scenario = scaled(*np.exp(0.5 * rng.normal(size=(2, 6))))
    made = kdsim.compare(scenario, POLICIES, curve_draws=6)
    runs = np.array(
        [[kdsim.simulate(drawn_scenario(scenario, k), p).makespan for p in POLICIES]
         for k in range(6)]
    )  # fmt: skip
    np.testing.assert_allclose(made.curves.points[0].makespans, runs, rtol=1e-9)
    for row in made.faster:
        mine, other = (runs[:, POLICIES.index(row[name])] for name in ("policy", "other"))
        ties = np.isclose(mine, other, rtol=1e-9)
        assert row["faster"] == pytest.approx(np.mean(np.where(ties, 0.5, mine < other)))


def test_replications_and_noise_do_not_enter_the_draws():
    scenario = scaled([1.0] * 4, [1.0] * 4, extensions={"noise": 0.3})
    made = kdsim.compare(scenario, ["greedy", "random"], curve_draws=4)
    for row, drawn in zip(made.rows, made.curve_intervals, strict=True):
        assert row["ci_high"] > row["ci_low"]
        assert drawn["low"] == drawn["high"] == pytest.approx(row["mean"])


def test_only_the_first_draws_asked_for_count_and_every_point_of_a_sweep_has_its_own():
    scenario = scaled([1.0, 2.0, 50.0], [1.0, 2.0, 50.0], sweep={"workload.comm": [1.0, 4.0]})
    made = kdsim.compare(scenario, ["optimal"], curve_draws=2)
    assert [row["workload.comm"] for row in made.curve_intervals] == [1.0, 4.0]
    for row, drawn in zip(made.rows, made.curve_intervals, strict=True):
        assert drawn["high"] < 2.01 * row["mean"]
    assert list(made.frame["curve_high"]) == [row["high"] for row in made.curve_intervals]


def test_one_side_without_draws_stays_as_it_is_and_is_named():
    scenario = scaled([1.0, 2.0], [1.0, 2.0])
    draws = scenario.device.draws.model_copy(update={"communication": None})
    device = scenario.device.model_copy(update={"draws": draws})
    made = kdsim.compare(scenario.model_copy(update={"device": device}), curve_draws=2)
    assert made.curves.sides == ("compute",)
    assert "the communication curve has no draws" in made.curves.note


@pytest.mark.parametrize(
    ("draws", "words"),
    [(4, "have 3 bootstrap draws, fewer than the 4"), (1, "at least 2"), (2.5, "whole number")],
)
def test_draws_that_there_are_not_are_refused(draws, words):
    with pytest.raises(ScenarioError, match=words):
        kdsim.compare(scaled([1, 2, 3], [1, 2, 3]), curve_draws=draws)


def test_a_curve_changed_by_a_sweep_has_no_draws():
    scenario = scaled([1.0, 2.0], [1.0, 2.0], sweep={"device.compute.a1": [0.4, 0.5]})
    with pytest.raises(ScenarioError, match="no bootstrap draws"):
        kdsim.compare(scenario, curve_draws=2)


def test_the_command_prints_tables_of_their_own_and_the_same_in_json(tmp_path):
    arguments = ["compare", "measured", "--set", "workload.cycles=4", "--set", "workload.comm=136",
                 "-p", "greedy", "-p", "comm-priority", "--curve-draws", 20]  # fmt: skip
    result = call(*arguments, "-o", tmp_path / "f.png")
    assert result.code == 0, result.err
    assert "uncertainty of the curves" in result.out
    assert "20 bootstrap draws of the curves, the same for all policies" in result.out
    data = json.loads(call(*arguments, "--json").out)["curve_draws"]
    assert (data["draws"], data["sides"]) == (20, ["compute", "communication"])
    assert [row["policy"] for row in data["intervals"]] == ["greedy", "comm-priority"]
    (pair,) = data["faster"]
    assert pair["faster"] == 1.0
    assert pair["difference_high"] < 0


def test_constants_typed_into_a_scenario_have_no_draws():
    result = call("compare", "paper-1to1", "--curve-draws", 20)
    assert result.code == 2
    assert "no bootstrap draws" in result.err
    assert "Traceback" not in result.err


def test_a_sweep_draws_the_same_as_a_comparison(tmp_path):
    arguments = ["measured", "--sweep", "workload.comm=68,136", "-p", "greedy",
                 "-p", "comp-priority", "--curve-draws", 10]  # fmt: skip
    swept = call("sweep", *arguments, "--json")
    assert swept.code == 0, swept.err
    compared = json.loads(call("compare", *arguments, "--json").out)
    assert json.loads(swept.out)["curve_draws"] == compared["curve_draws"]
    shown = call("sweep", *arguments, "-s", tmp_path / "s.sqlite", "-o", tmp_path / "f.png")
    assert "uncertainty of the curves" in shown.out
    assert (tmp_path / "f.png").stat().st_size > 10_000


def test_a_sweep_in_python_has_the_same_intervals_in_its_table_as_a_comparison():
    names, base = ["greedy", "comp-priority"], kdsim.load_scenario("measured")
    made = kdsim.sweep(base, policies=names, curve_draws=10)
    compared = kdsim.compare(base, names, curve_draws=10).frame
    for column in CURVE_COLUMNS:
        assert made[column].tolist() == compared[column].tolist()
    with pytest.raises(ScenarioError, match="no bootstrap draws"):
        kdsim.sweep("paper-1to1", policies=names, curve_draws=10)


@pytest.mark.parametrize("command", ["compare", "sweep"])
def test_every_table_and_page_has_the_intervals_over_draws(tmp_path, command):
    files = [tmp_path / f"t.{kind}" for kind in ("csv", "parquet", "md", "tex", "html")]
    outputs = [argument for file in files for argument in ("-o", file)]
    result = call(command, "measured", "--set", "workload.comm=136", "-p", "greedy",
                  "-p", "comp-priority", "--curve-draws", 10, *outputs)  # fmt: skip
    assert result.code == 0, result.err
    base = kdsim.with_fields(kdsim.load_scenario("measured"), {"workload.comm": 136})
    made = kdsim.compare(base, ["greedy", "comp-priority"], curve_draws=10)
    for table in (pd.read_csv(files[0]), pd.read_parquet(files[1])):
        assert table["curve_low"].tolist() == [row["low"] for row in made.curve_intervals]
        assert table["curve_draws"].tolist() == [10, 10]
    low, high = made.curve_intervals[1]["low"], made.curve_intervals[1]["high"]
    for text in (files[2].read_text(), files[3].read_text()):
        assert f"{low:.4g} to {high:.4g}" in text
        assert "10 bootstrap draws of the curves, the same for all policies" in text
    page = files[4].read_text()
    assert "How sure, given the fitted curves" in page
    assert f"{made.faster[0]['difference']:,.3f}" in page
    assert "95 % of 10 draws of the curves" in page  # the band's entry in the figures' legends
