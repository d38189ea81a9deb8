from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paper_curves import communication_time
from scipy import stats
from scipy.optimize import minimize_scalar
from synthetic_traces import A1, A2, B1, B2, B3, synthetic

from calibration.fit import ExtrapolationWarning, fit_trace
from calibration.fit.estimate import (
    TABLE,
    Samples,
    bootstrap_rates,
    expanded_tail,
    fit_model,
    side_samples,
)
from calibration.fit.models import COMMUNICATION, COMPUTE, side_models
from calibration.fit.plots import fit_figure
from calibration.fit.selection import leave_one_out
from calibration.trace import Trace
from kdsim.errors import FitError
from kdsim.model import curves

# --- what is known is recovered -----------------------------------------------------------------


def test_the_paper_s_parameters_are_recovered_without_noise():
    fit = fit_trace(synthetic(), bootstrap=0)
    assert fit.compute.model == fit.communication.model == "paper"
    assert fit.parameters["compute"] == pytest.approx({"a1": A1, "a2": A2}, rel=1e-5)
    assert fit.parameters["communication"] == pytest.approx(
        {"b1": B1, "b2": B2, "b3": B3}, rel=1e-4
    )
    np.testing.assert_allclose(
        fit.communication.time(2.0, np.arange(1, 9)),
        communication_time(2.0, np.arange(1, 9), b1=B1, b2=B2, b3=B3),
        rtol=1e-6,
    )


def test_time_is_infinite_without_cores_and_zero_without_work():
    fit = fit_trace(synthetic(), bootstrap=0)
    assert math.isinf(fit.compute.time(1.0, 8))
    assert math.isinf(fit.communication.time(1.0, 0))
    assert fit.communication.time(0.0, 0) == 0.0


@pytest.mark.slow
def test_intervals_cover_the_truth_at_five_percent_noise_and_ten_percent_outliers():
    """A short form of benchmarks/recovery_study/traces.py, which has the real figure."""
    true_q = curves.paper_compute_rates(A1, A2, 8, 8)[:8]
    true_r = curves.paper_communication_rates(B1, B2, B3, 8)[1:]
    covered, asked = 0, 0
    for seed in range(5):
        trace = synthetic(trials=10, noise=0.05, outliers=0.10, seed=seed)
        fit = fit_trace(
            trace, compute_model="paper", communication_model="paper", bootstrap=60, seed=seed
        )
        for curve, truth, cut in (
            (fit.compute, true_q, slice(0, 8)),
            (fit.communication, true_r, slice(1, 9)),
        ):
            inside = (curve.low[cut] <= truth) & (truth <= curve.high[cut])
            covered += int(inside.sum())
            asked += inside.size
            assert (curve.draws[:, cut] > 0).all()
    # 80 correlated answers around 95 %; the bound is loose enough never to fail by chance.
    assert covered / asked >= 0.85


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    total=st.integers(4, 12),
    noise=st.sampled_from([0.0, 0.05, 0.3]),
    a2_share=st.floats(0.0, 0.99),
    b1=st.floats(0.0, 2.0),
    b2=st.floats(0.0, 2.0),
)
@example(seed=762, total=5, noise=0.3, a2_share=0.0, b1=1.65625, b2=1.3125)
def test_no_fit_ever_has_a_negative_rate_or_a_pole_in_range(seed, total, noise, a2_share, b1, b2):
    a2 = a2_share / (total - 1)
    trace = synthetic(total, 3, noise=noise, seed=seed, a2=a2, b=(b1 + 0.01, b2, 2.0))
    for side, samples in side_samples(trace).items():
        clean = samples.without_outliers()
        for model in [*side_models(side, total).values(), None]:
            _, rates = fit_model(clean, model, total)
            assert np.isfinite(rates).all()
            assert (np.delete(rates, total if side == COMPUTE else 0) > 0).all()


@given(
    total=st.integers(2, 64),
    v=st.tuples(*[st.floats(-60.0, 60.0)] * 3),
)
def test_no_step_of_the_optimiser_leaves_the_legal_curves(total, v):
    for side in (COMPUTE, COMMUNICATION):
        model = side_models(side, total)["paper"]
        rates = model.rates(model.parameters(np.array(v)), total)
        assert np.isfinite(rates).all()


@pytest.mark.parametrize("side", [COMPUTE, COMMUNICATION])
@pytest.mark.parametrize("name", ["amdahl", "usl", "roofline"])
def test_every_model_recovers_its_own_curve(side, name):
    truth = {
        "amdahl": {"rate1": 3.0, "serial": 0.2},
        "usl": {"rate1": 3.0, "sigma": 0.1, "kappa": 0.01},
        "roofline": {"rate1": 3.0, "limit": 12.0, "sharpness": 3.0},
    }[name]
    rates = curves.own_core_rates(name, truth, 8, side=side)
    cores = np.flatnonzero(rates)
    samples = Samples(
        side, np.repeat(cores, 3), np.repeat(-np.log(rates[cores]), 3),
        np.full(3 * len(cores), "alone"), (1.0, 1.0),
    )  # fmt: skip
    _, fitted = fit_model(samples, side_models(side, 8)[name], 8)
    np.testing.assert_allclose(fitted, rates, rtol=1e-3)


# --- robustness -----------------------------------------------------------------------------------


def test_gross_outliers_do_not_move_a_fit():
    calm = fit_trace(synthetic(noise=0.01, trials=12, seed=3), bootstrap=0)
    trace = synthetic(noise=0.01, trials=12, seed=3)
    trace.rows.loc[::11, "seconds"] *= 20
    wild = fit_trace(trace, bootstrap=0)
    np.testing.assert_allclose(wild.compute.rates[:-1], calm.compute.rates[:-1], rtol=0.01)
    np.testing.assert_allclose(
        wild.communication.rates[1:], calm.communication.rates[1:], rtol=0.01
    )
    assert any("left out" in verdict for verdict in wild.verdicts)


def samples_of(log_time, trials, side=COMPUTE):
    """Samples of equally many trials on each communication core count, from 0 on."""
    count = len(log_time)
    cores = np.repeat(np.arange(count // trials), trials)
    return Samples(side, cores, np.asarray(log_time), np.full(count, "alone"), (1.0, 1.0))


def test_half_of_a_core_count_s_trials_always_stay():
    # One core count in two clusters, the others without spread: a pooled yardstick alone would
    # throw every trial of it away.
    log_time = np.concatenate([np.zeros(20), [1.0] * 5 + [1.5] * 5])
    kept = samples_of(log_time, 10).without_outliers()
    assert (kept.cores == 2).sum() >= 5


def test_a_disturbed_trial_of_three_hardly_moves_a_model():
    # Too few trials for one of them to be called an outlier: the loss alone holds it off.
    model = side_models(COMPUTE, 8)["amdahl"]
    rates = model.rates({"rate1": 10.0, "serial": 0.1}, 8)[:8]
    log_time = -np.log(np.repeat(rates, 3))
    log_time[1] += np.log(3.0)
    _, found = fit_model(samples_of(log_time, 3), model, 8)
    np.testing.assert_allclose(found[:8], rates, rtol=0.01)


def test_a_table_s_rate_minimises_the_soft_loss_of_its_trials():
    log_time = np.array([0.0, 0.01, 0.02, 0.04, 0.5])
    _, rates = fit_model(samples_of(log_time, 5), None, 1)
    expected = minimize_scalar(
        lambda centre: np.sum(np.sqrt(1.0 + ((log_time - centre) / 0.05) ** 2)),
        bounds=(0.0, 0.5), options={"xatol": 1e-10},
    )  # fmt: skip
    assert -np.log(rates[0]) == pytest.approx(expected.x, abs=1e-6)


def test_a_gross_outlier_widens_no_interval():
    log_time = np.zeros(12)
    log_time[5] = 3.0
    draws = bootstrap_rates(samples_of(log_time, 12), None, 1, 40, np.random.default_rng(0))
    np.testing.assert_allclose(draws.rates[:, 0], 1.0, rtol=1e-9)


@pytest.mark.parametrize("trials", [2, 3, 8, 30])
def test_percentiles_of_few_trials_reach_as_far_as_students_t(trials):
    # The resampled mean of n normal values is narrower than their mean by sqrt((n - 1) / n).
    reach = stats.norm.ppf(expanded_tail(0.95, trials, trials - 1)) * math.sqrt(1 - 1 / trials)
    assert reach == pytest.approx(stats.t.ppf(0.025, trials - 1), rel=1e-6)


def test_disturbed_and_noisy_measurements_are_not_fitted():
    trace = synthetic()
    trace.rows.loc[trace.rows["comm_cores"] == 3, ["seconds", "status"]] = [99.0, "noisy"]
    trace.rows.loc[trace.rows["comm_cores"] == 4, ["seconds", "status"]] = [99.0, "foreign"]
    fit = fit_trace(trace, bootstrap=0)
    assert fit.parameters["compute"] == pytest.approx({"a1": A1, "a2": A2}, rel=1e-4)
    assert 3 not in fit.compute.measured
    assert any("marked noisy" in verdict for verdict in fit.verdicts)


def test_contended_points_count_where_both_sides_run():
    trace = synthetic(4)
    slower = trace.rows[trace.rows["comm_cores"].between(1, 3)].copy()
    slower["seconds"] *= 1.5
    slower["condition"] = "contended"
    trace = Trace(pd.concat([trace.rows, slower], ignore_index=True), trace.header)
    both = fit_trace(trace, compute_model=TABLE, communication_model=TABLE, bootstrap=0)
    alone = fit_trace(
        trace, compute_model=TABLE, communication_model=TABLE, condition="alone", bootstrap=0
    )
    ratio = both.compute.rates[:4] / alone.compute.rates[:4]
    np.testing.assert_allclose(ratio, [1, 1 / 1.5, 1 / 1.5, 1 / 1.5], rtol=1e-6)
    assert any("+50.0 % time when the other side runs too" in v for v in both.verdicts)


# --- honesty --------------------------------------------------------------------------------------


def test_on_two_cores_g_is_a_table_and_the_fit_says_why():
    fit = fit_trace(synthetic(2, a2=0.3), bootstrap=20)
    assert fit.communication.model == TABLE
    said = " ".join(fit.verdicts)
    assert "3 parameters and no unique fit to 2 core count(s)" in said
    assert "no degree of freedom" in said
    table = fit.model_table.set_index(["side", "model"])
    assert "no unique fit" in table.loc[("communication", "paper"), "verdict"]
    assert math.isnan(table.loc[("communication", "paper"), "aicc"])


def test_a_model_with_too_few_core_counts_is_refused_on_request():
    with pytest.raises(FitError, match="3 parameters, but only 2 core count"):
        fit_trace(synthetic(2, a2=0.3), communication_model="paper", bootstrap=0)


def test_a_side_without_its_full_cores_is_refused():
    with pytest.raises(FitError, match="communication: no usable measurement at c = 8"):
        fit_trace(synthetic(comm_cores=range(1, 8)), bootstrap=0)


def test_a_trace_without_a_side_is_refused():
    trace = synthetic()
    only = Trace(trace.rows[trace.rows["task"] == "compute"], trace.header)
    with pytest.raises(FitError, match="no usable communication measurement"):
        fit_trace(only)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"compute_model": "magic"}, "unknown model 'magic'"),
        ({"condition": "idle"}, "condition must be"),
        ({"trials": [99]}, "no usable compute measurement"),
    ],
)
def test_nonsense_is_refused(arguments, said):
    with pytest.raises(FitError, match=said):
        fit_trace(synthetic(), **arguments)


def test_extrapolation_warns_and_interpolation_on_measured_counts_does_not():
    fit = fit_trace(synthetic(comm_cores=[1, 2, 4, 6, 8]), bootstrap=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit.communication.time(4.0, [1, 2, 8])
    with pytest.warns(ExtrapolationWarning, match=r"no measurement at \[3\]"):
        fit.communication.time(4.0, 3)
    with pytest.warns(ExtrapolationWarning, match="far beyond what was measured"):
        fit.communication.time(4e6, 1)
    with pytest.raises(FitError, match=r"whole numbers in 0\.\.8"):
        fit.compute.time(1.0, 9)
    with pytest.raises(FitError, match="work must be"):
        fit.compute.time(-1.0, 1)


def test_when_the_paper_s_form_is_wrong_another_is_chosen_and_said():
    trace = synthetic(noise=0.004, trials=12)
    comm = trace.rows["task"] == "comm"
    cores = trace.rows.loc[comm, "comm_cores"].to_numpy()
    roofline = np.minimum(cores, 3.2)  # a link that saturates at 3.2 cores
    noise = np.exp(0.004 * np.random.default_rng(0).normal(size=len(cores)))
    trace.rows.loc[comm, "seconds"] = 4.0 / roofline * noise
    fit = fit_trace(trace, bootstrap=100)
    assert fit.communication.model != "paper"
    assert any("lowest AICc" in verdict for verdict in fit.verdicts)
    error = fit.communication.rates[1:] / np.minimum(np.arange(1, 9), 3.2) - 1
    assert np.abs(error).max() < 0.02


def test_models_are_ranked_by_aicc_and_by_held_out_core_counts():
    fit = fit_trace(synthetic(noise=0.01, trials=10, seed=1), bootstrap=0)
    table = fit.model_table.set_index(["side", "model"])
    assert set(fit.model_table["model"]) == {"paper", *curves.MODELS, "table"}
    assert table.loc[("compute", "paper"), "held_out_error"] < 0.02
    assert (
        table.loc[("compute", "paper"), "delta_aicc"]
        < table.loc[("compute", "amdahl"), "delta_aicc"]
    )


def test_the_same_seed_gives_the_same_intervals():
    trace = synthetic(noise=0.05)
    first, second = (fit_trace(trace, bootstrap=30, seed=5) for _ in range(2))
    assert first.ci == second.ci


def test_samples_of_other_trials_are_left_alone():
    trace = synthetic(trials=6)
    samples = side_samples(trace, trials=[0, 1])
    assert len(samples["compute"].cores) == 2 * 8


def test_noisy_points_can_be_taken_and_drawn_on_request():
    trace = synthetic(noise=0.02)
    trace.rows.loc[trace.rows["comm_cores"] == 8, "status"] = "noisy"
    with pytest.raises(FitError, match="include-noisy"):
        fit_trace(trace, bootstrap=0)
    fit = fit_trace(trace, include_noisy=True, bootstrap=10)
    assert 8 in fit.communication.measured
    assert len(fit_figure(fit).axes) == 3


def test_one_trial_a_core_count_has_no_interval_rather_than_a_certain_one():
    fit = fit_trace(synthetic(4, trials=1, noise=0.05), bootstrap=20)
    assert any("shows no spread" in said for said in fit.verdicts)
    for curve in (fit.compute, fit.communication):
        assert np.isnan(curve.low[curve.rates > 0]).all()
    assert all(math.isnan(end) for ci in fit.ci.values() for ends in ci.values() for end in ends)
    assert fit_figure(fit).axes


@pytest.mark.parametrize(("trials", "said"), [(2, "50%"), (3, "75%"), (4, "88%"), (5, None)])
def test_a_table_of_few_trials_says_how_little_its_intervals_hold(trials, said):
    fit = fit_trace(synthetic(2, a2=0.3, trials=trials, noise=0.05), bootstrap=20)
    found = [v for v in fit.verdicts if v.startswith("communication: a core count with")]
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_a_form_that_falls_is_fitted_to_the_times_as_they_are():
    # Surplus cores stay idle in the simulator; a fit that did the same would see a plateau.
    model = side_models("compute", 8)["usl"]
    true = {"rate1": 10.0, "sigma": 0.05, "kappa": 0.05}
    rates = model.rates(true, 8)
    assert rates[0] < rates[3]  # eight compute cores are slower than five
    counts = np.repeat(np.arange(8), 5)
    samples = Samples(
        "compute", counts, -np.log(rates[counts]), np.full(counts.size, "alone"), (1.0, 1.0)
    )
    found, again = fit_model(samples, model, 8)
    assert found == pytest.approx(true, rel=1e-3)
    np.testing.assert_allclose(again[:8], rates[:8], rtol=1e-4)


def test_each_core_count_is_predicted_from_the_others():
    model = side_models("compute", 8)["amdahl"]
    rates = model.rates({"rate1": 10.0, "serial": 0.1}, 8)
    counts = np.repeat(np.arange(8), 3)
    samples = Samples(
        "compute", counts, -np.log(rates[counts]), np.full(counts.size, "alone"), (1.0, 1.0)
    )
    errors = leave_one_out(samples, model, 8)
    assert sorted(errors) == list(range(8))
    assert max(map(abs, errors.values())) < 1e-3
    paper = leave_one_out(samples, side_models("compute", 8)["paper"], 8)
    assert paper[0] < -0.1  # affine in the cores: far too fast on all eight
    table = leave_one_out(samples, None, 8)
    assert np.isnan([table[0], table[7]]).all()  # a table ends where its points end
    assert max(abs(table[c]) for c in range(1, 7)) < 0.1
