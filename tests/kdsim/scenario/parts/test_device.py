"""Devices: the curve of each side, its models, what is legal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kdsim.scenario.parts.device import Device

PAPER = {"b1": 0.5, "b2": 0.2, "b3": 2.0}


def device(cores=4, compute=None, communication=None, **more):
    return Device.model_validate(
        {
            "cores": cores,
            "compute": compute or {"a1": 1.0, "a2": 0.2},
            "communication": communication or PAPER,
            **more,
        }
    )


def why_not(**parts):
    with pytest.raises(ValidationError) as caught:
        device(**parts)
    return "\n".join(item["msg"] for item in caught.value.errors())


def test_the_papers_curves_give_the_papers_rates():
    rates = device(communication={"b1": 1.0, "b2": 0.5, "b3": 2.0})
    np.testing.assert_allclose(rates.compute_rates(4), [1.0, 0.8, 0.6, 0.4, 0.0])
    expected = [0.0, *(c + 0.5 * np.log(2.0 * c) for c in range(1, 5))]
    np.testing.assert_allclose(rates.communication_rates(4), expected)


def test_compute_is_scaled_from_the_cores_it_was_fitted_on():
    perfect = device(cores=8, compute={"a1": 1.0, "a2": 0.25}, reference_cores=4)
    # With perfect scaling the rate is a function of the compute cores alone.
    np.testing.assert_allclose(perfect.compute_rates(8), np.arange(8, -1, -1) / 4)


def test_the_reference_is_the_device_itself_by_default():
    assert device(cores=4).reference_cores == 4
    assert device(cores=4, reference_cores=None).reference_cores == 4


@pytest.mark.parametrize("cores", [1, 2, 1024])
def test_any_number_of_cores_has_rates(cores):
    some = device(cores=cores, compute={"model": "amdahl", "rate1": 2.0, "serial": 0.1})
    compute, communication = some.compute_rates(cores), some.communication_rates(cores)
    assert compute.shape == communication.shape == (cores + 1,)
    assert compute[-1] == 0.0
    assert communication[0] == 0.0
    assert (compute[:-1] > 0).all()
    assert (communication[1:] > 0).all()


@pytest.mark.parametrize(
    "curve",
    [
        {"model": "amdahl", "rate1": 2.0, "serial": 0.1},
        {"model": "usl", "rate1": 2.0, "sigma": 0.1, "kappa": 0.05},
        {"model": "roofline", "rate1": 2.0, "limit": 5.0},
        {"model": "table", "cores": [1, 3], "rates": [2.0, 4.0]},
    ],
)
def test_a_model_is_the_same_function_of_a_sides_own_cores(curve):
    both = device(cores=6, compute=curve, communication=curve, extrapolate=True)
    np.testing.assert_allclose(both.compute_rates(6)[::-1], both.communication_rates(6))
    assert both.communication_rates(6)[1] == pytest.approx(2.0, rel=0.01)


def test_a_table_is_met_at_its_own_cores():
    table = {"model": "table", "cores": [1, 2, 4], "rates": [1.0, 1.8, 2.5]}
    both = device(cores=6, compute=table, communication=table, extrapolate=True)
    rates = both.communication_rates(6)
    np.testing.assert_allclose(rates[[1, 2, 4, 5, 6]], [1.0, 1.8, 2.5, 2.5, 2.5])
    assert 1.8 < rates[3] < 2.5


@given(st.integers(1, 64), st.floats(0.0, 0.2))
def test_a_pole_is_refused_and_its_core_count_named(cores, a2):
    curve = {"a1": 1.0, "a2": a2}
    if 1.0 - a2 * (cores - 1) > 1e-9:
        assert (device(cores=cores, compute=curve).compute_rates(cores)[:-1] > 0).all()
    elif 1.0 - a2 * (cores - 1) < -1e-9:
        first = next(c for c in range(cores) if 1.0 - a2 * c <= 0)
        assert f"at c = {first} communication cores of {cores}" in why_not(
            cores=cores, compute=curve
        )


def test_scaling_may_bring_a_pole_within_reach():
    curve = {"a1": 1.0, "a2": 0.2}
    assert "(a2 scaled to 8 cores: 0.1)" not in why_not(cores=6, compute=curve)
    message = why_not(cores=4, reference_cores=8, compute=curve)
    assert "at c = 3 communication cores of 4 (a2 scaled to 4 cores: 0.4)" in message


@pytest.mark.parametrize(
    "parts",
    [
        {"compute": {"a1": 1e308, "a2": 0.0}},
        {"compute": {"a1": 1e-320, "a2": 0.0}},
        {"compute": {"model": "amdahl", "rate1": 1e300, "serial": 0.0}},
        {"compute": {"model": "usl", "rate1": 1e-300, "sigma": 0.0, "kappa": 0.0}},
        {"compute": {"model": "roofline", "rate1": 1e300, "limit": 1e300, "sharpness": 64.0}},
        {"communication": {"b1": 1e300, "b2": 0.0, "b3": 1.0}},
        {"communication": {"b1": 1e-300, "b2": 0.0, "b3": 1.0}},
        {"communication": {"model": "table", "cores": [1], "rates": [1e20]}},
    ],
)
def test_rates_beyond_all_measure_are_refused(parts):
    message = why_not(**parts)
    assert "rate" in message


@pytest.mark.parametrize("cores", [0, -1, 1025, 2.0, "4", True, None])
def test_the_core_count_is_a_whole_number_within_reason(cores):
    assert why_not(cores=cores)


def test_both_faulty_curves_are_told():
    message = why_not(
        compute={"a1": 1.0, "a2": 0.9}, communication={"b1": -1.0, "b2": 0.0, "b3": 1.0}
    )
    assert "1 - a2*c must stay positive" in message
    assert "b1*c + b2*ln(b3*c) must be positive" in message
