"""f, g, rates and the rate region, against closed forms and independent references."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from linear_programs import least_cost
from paper_curves import communication_time, compute_time
from strategies import paper_rates, table_rates

from kdsim.errors import ScenarioError
from kdsim.model import curves
from kdsim.model.rate_region import rate_region

all_rates = st.one_of(paper_rates(), table_rates())


@given(st.integers(1, 16), st.integers(1, 16), st.floats(0.01, 10), st.floats(0, 0.05))
def test_rates_are_the_inverse_of_the_times(c_total, reference, a1, a2):
    q = curves.paper_compute_rates(a1, a2, c_total, reference)
    s1, s2 = curves.scale_compute(a1, a2, reference, c_total)
    c = np.arange(c_total)
    assert q[:-1] == pytest.approx(1.0 / compute_time(1.0, c, a1=s1, a2=s2))
    assert q[-1] == 0.0


def test_communication_rates_are_the_inverse_of_g_where_g_falls_with_cores():
    c = np.arange(1, 9)
    r = curves.paper_communication_rates(0.05, 0.3, 2.0, 8)
    assert r[1:] == pytest.approx(1.0 / communication_time(1.0, c, b1=0.05, b2=0.3, b3=2.0))


def test_cores_that_would_slow_communication_down_stay_idle():
    r = curves.paper_communication_rates(-0.1, 1.0, 10.0, 30)
    literal = 1.0 / communication_time(1.0, np.arange(1, 31), b1=-0.1, b2=1.0, b3=10.0)
    assert r[1:] == pytest.approx(np.maximum.accumulate(literal))
    assert r[30] == r[10] > literal[29]


def test_no_cores_means_no_rate_whatever_the_formula_says():
    assert curves.paper_compute_rates(1.0, 0.0, 4, 4)[-1] == 0.0
    assert curves.paper_communication_rates(1.0, 1.0, 3.0, 4)[0] == 0.0


@given(st.integers(2, 12), st.integers(2, 12))
def test_perfect_scaling_makes_the_rate_a_function_of_the_compute_cores(c_ref, c_total):
    q = curves.paper_compute_rates(1.0, 1.0 / c_ref, c_total, c_ref)
    assert q == pytest.approx((c_total - np.arange(c_total + 1)) / c_ref)


def test_a_pole_is_refused_with_the_parameter_and_the_core_count():
    with pytest.raises(ScenarioError, match=r"compute\.a2: .*c = 4 communication cores of 8"):
        curves.paper_compute_rates(1.0, 0.25, 8, 8)


def test_a_rate_that_is_not_positive_is_refused_with_the_core_count():
    with pytest.raises(ScenarioError, match=r"communication: .*at c = 1 "):
        curves.paper_communication_rates(0.1, 1.0, 0.5, 4)


@pytest.mark.parametrize(("a1", "a2"), [(0.0, 0.1), (-1.0, 0.1), (1.0, -0.1)])
def test_parameters_out_of_range_are_refused(a1, a2):
    with pytest.raises(ScenarioError, match=r"compute\.a"):
        curves.paper_compute_rates(a1, a2, 4, 4)


def test_models_of_own_cores_count_cores_from_the_other_side_for_compute():
    q = curves.own_core_rates("amdahl", {"rate1": 2.0, "serial": 0.0}, 4, side="compute")
    assert q == pytest.approx([8.0, 6.0, 4.0, 2.0, 0.0])
    r = curves.own_core_rates("amdahl", {"rate1": 2.0, "serial": 1.0}, 3, side="communication")
    assert r == pytest.approx([0.0, 2.0, 2.0, 2.0])


def test_a_side_leaves_cores_idle_that_would_slow_it_down():
    retrograde = {"rate1": 1.0, "sigma": 0.1, "kappa": 0.1}
    r = curves.own_core_rates("usl", retrograde, 16, side="communication")
    assert (np.diff(r) >= 0).all()


def test_a_roofline_bends_to_its_limit():
    r = curves.own_core_rates(
        "roofline", {"rate1": 1.0, "limit": 3.0, "sharpness": 32.0}, 8, side="communication"
    )
    assert r[1] == pytest.approx(1.0, rel=1e-6)
    assert r[8] == pytest.approx(3.0, rel=1e-6)


def test_a_table_returns_its_knots_and_stays_monotone_between_them():
    cores, rates = [1, 2, 4, 8], [1.0, 1.9, 3.0, 3.5]
    p = np.arange(1.0, 13.0)
    table = curves.table_rates(cores, rates, p)
    assert table[[0, 1, 3, 7]] == pytest.approx(rates)
    assert (np.diff(table) >= 0).all()
    assert table[-1] == 3.5


@given(all_rates, st.floats(0, 10), st.floats(0, 10))
def test_the_gauge_is_the_least_time_of_a_mix_of_whole_core_counts(rates, dv, dw):
    r, q = rates
    region = rate_region(r, q)
    # Independent reference: minimise the time over all mixes by linear programming.
    least = least_cost(np.ones(r.size), -np.vstack([r, q]), [-dv, -dw], [(0.0, None)] * r.size)
    assume(least is not None)
    assert float(region.gauge(dv, dw)) == pytest.approx(least, rel=1e-9, abs=1e-9)


@given(all_rates, *[st.floats(0, 10)] * 4, st.floats(0.01, 10))
def test_the_gauge_is_convex_homogeneous_and_monotone(rates, a, b, c, d, k):
    rho = rate_region(*rates).gauge
    whole = float(rho(a + c, b + d))
    assert whole <= float(rho(a, b)) + float(rho(c, d)) + 1e-9 * (1 + whole)
    assert float(rho(k * a, k * b)) == pytest.approx(k * float(rho(a, b)), rel=1e-12, abs=1e-12)
    assert float(rho(a, b)) <= whole * (1 + 1e-12)


@given(all_rates)
def test_vertices_run_from_communication_light_to_heavy(rates):
    r, q = rates
    region = rate_region(r, q)
    assert (np.diff(r[region.vertices]) > 0).all()
    assert (np.diff(q[region.vertices]) < 0).all()
    assert r[region.vertices[-1]] == r.max()
    assert q[region.vertices[0]] == q.max()
    on_the_border = region.gauge(r[region.vertices], q[region.vertices])
    assert on_the_border == pytest.approx(np.ones(region.vertices.size))


@pytest.mark.parametrize("unit", [0.1, 0.3, 1.7, 1e-9])
def test_perfect_scaling_has_one_facet_between_its_ends_despite_rounding(unit):
    # Cores of 16 in one line: what they leave of a straight line is rounding.
    c = np.arange(17)
    region = rate_region(unit * c, 3 * unit * (16 - c))
    assert region.vertices.tolist() == [0, 16]
    assert len(region.facets) == 3


@pytest.mark.parametrize(
    ("rate1", "limit", "expected"),
    [
        (1.0, 1e-6, [1e-6] * 4),
        (1e-300, 1e5, [1e-300, 2e-300, 3e-300, 4e-300]),
        (1e200, 1e10, [1e10] * 4),
        (1e308, 1e10, [1e10] * 4),
    ],
)
def test_a_roofline_of_far_apart_rates_is_the_smaller_one(rate1, limit, expected):
    parameters = {"rate1": rate1, "limit": limit, "sharpness": 64.0}
    rates = curves.own_core_rates("roofline", parameters, 4, side="communication")
    np.testing.assert_allclose(rates[1:], expected, rtol=1e-12)


# --- forms of a side's own cores ----------------------------------------------------------------


def test_log_overhead_is_perfect_without_overhead_and_falls_with_much():
    p = np.arange(1.0, 9.0)
    rate = curves.MODELS["log-overhead"].rate
    np.testing.assert_allclose(rate(p, {"rate1": 3.0, "overhead": 0.0}), 3.0 * p)
    # d/dp (1/p + d ln p) = 0 at p = 1/d: the best count.
    assert int(np.argmax(rate(p, {"rate1": 3.0, "overhead": 0.25}))) == 3
    assert rate(np.array([1.0]), {"rate1": 3.0, "overhead": 0.9}) == pytest.approx(3.0)


def test_a_damped_power_law_without_damping_is_a_power_law():
    p = np.arange(1.0, 65.0)
    plain = curves.MODELS["power"].rate(p, {"rate1": 2.0, "exponent": 0.7})
    damped = curves.MODELS["damped-power"].rate
    np.testing.assert_allclose(damped(p, {"rate1": 2.0, "exponent": 0.7, "damping": 0.0}), plain)
    # d/dp (e ln p - d (p - 1)) = 0 at p = e/d: the best count.
    best = damped(p, {"rate1": 2.0, "exponent": 0.8, "damping": 0.1})
    assert int(p[np.argmax(best)]) == 8


@pytest.mark.parametrize("side", ["compute", "communication"])
def test_surplus_cores_stay_idle_in_the_simulator_and_work_in_a_fit(side):
    v = {"rate1": 2.0, "exponent": 0.8, "damping": 0.1}
    used = curves.own_core_rates("damped-power", v, 20, side=side, surplus="used")
    idle = curves.own_core_rates("damped-power", v, 20, side=side)
    np.testing.assert_array_equal(curves.as_simulated(used, side), idle)
    own_used, own_idle = (r[::-1] if side == "compute" else r for r in (used, idle))
    np.testing.assert_array_equal(own_idle[:9], own_used[:9])  # up to the best count, 8
    assert (own_idle[9:] == own_used[8]).all()
    assert (np.diff(own_used[8:]) < 0).all()


@given(st.integers(1, 32), st.integers(1, 32), st.floats(0.01, 100.0), st.floats(0.0, 0.99))
def test_a_fitted_paper_curve_is_one_function_of_the_compute_cores(reference, cores, a1, share):
    a2 = share / max(reference - 1, 1)
    rates = curves.fitted_compute_rates(a1, a2, cores, reference)
    whole = curves.paper_compute_rates(a1, a2, reference, reference)
    assert rates[-1] == 0.0
    assert rates.size == cores + 1
    for p in range(1, cores + 1):
        assert rates[cores - p] == pytest.approx((1 - a2 * (reference - p)) / a1)
        if p <= reference:
            assert rates[cores - p] == whole[reference - p]


def test_the_usl_is_gunthers_formula():
    law = {"rate1": 2.0, "sigma": 0.1, "kappa": 0.05}
    rates = curves.own_core_rates("usl", law, 3, side="communication")
    expected = [2.0 * p / (1 + 0.1 * (p - 1) + 0.05 * p * (p - 1)) for p in (1, 2, 3)]
    assert rates[1:] == pytest.approx(expected, rel=1e-12)
