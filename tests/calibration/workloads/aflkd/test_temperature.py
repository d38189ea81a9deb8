import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibration.workloads.aflkd.student import frozen_layers
from calibration.workloads.aflkd.temperature import Temperature, TemperatureConfig
from calibration.workloads.losses import distillation_loss
from kdsim.errors import WorkloadError


def exact_eq_17(t, m):
    """Equation 17 in rational arithmetic, T in hundredths."""
    share = (Fraction(t, 100) - 1) / 9
    return math.floor(m * (1 - share) + Fraction(1, 2))


@pytest.mark.parametrize("m", [3, 5, 10])
def test_eq_17_over_the_whole_range(m):
    for t in range(100, 1001):
        assert frozen_layers(t / 100, m) == exact_eq_17(t, m), t
    assert frozen_layers(1.0, m) == m
    assert frozen_layers(10.0, m) == 0  # where the paper's text says 1


@given(m=st.integers(1, 50), a=st.floats(1, 10), b=st.floats(1, 10), t_min=st.floats(0.1, 1.0))
def test_hotter_never_freezes_more(m, a, b, t_min):
    cold, hot = sorted((a, b))
    assert m >= frozen_layers(cold, m, t_min) >= frozen_layers(hot, m, t_min) >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.5, 3), r"must lie in \[1, 10\]"),
        ((float("nan"), 3), "must lie in"),
        ((2.0, 0), "m must be 1 or more"),
        ((2.0, 3, 5.0, 4.0), "need 0 < t_min < t_max"),
    ],
)
def test_eq_17_outside_its_range_is_an_error(arguments, message):
    with pytest.raises(WorkloadError, match=message):
        frozen_layers(*arguments)


def settle(policy, start, steps=400):
    """Let T move against a fixed student and a confident teacher."""
    teacher = torch.eye(8, 10) * 9
    student = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    temperature = Temperature(
        TemperatureConfig(policy=policy, initial=start, learning_rate=0.05), seed=0
    )
    (optimizer,) = temperature.optimizers()
    for _ in range(steps):
        loss = distillation_loss(student, teacher, "kl", temperature=temperature.tensor())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return temperature


def test_the_loss_rises_and_then_falls_in_t():
    teacher = torch.eye(8, 10) * 9
    student = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    at = [float(distillation_loss(student, teacher, "kl", temperature=t)) for t in (1.0, 3.0, 10.0)]
    assert at[0] < at[1] > at[2]


def test_descend_runs_to_the_bound_on_its_side():
    cold, hot = settle("descend", 2.0), settle("descend", 8.0)
    assert cold.value < 1.1
    assert hot.value > 9.9
    assert (frozen_layers(cold.value, 3), frozen_layers(hot.value, 3)) == (3, 0)


def test_reverse_settles_at_one_interior_temperature():
    cold, hot = settle("reverse", 2.0), settle("reverse", 8.0)
    assert cold.value == pytest.approx(hot.value, rel=1e-3)
    assert 2.0 < cold.value < 8.0


def test_schedule_moves_in_equal_steps_and_starts_anew_with_each_training():
    temperature = Temperature(TemperatureConfig(policy="schedule"), seed=0)
    course = []
    for epoch in range(4):
        temperature.begin_epoch(epoch, 4)
        course.append(temperature.value)
    assert course == [1.0, 4.0, 7.0, 10.0]
    temperature.begin_epoch(0, 1)
    assert temperature.value == 1.0
    assert temperature.optimizers() == []


def test_fixed_stays_and_needs_no_gradient():
    temperature = Temperature(TemperatureConfig(policy="fixed", initial=4.0), seed=0)
    temperature.begin_epoch(3, 4)
    assert temperature.value == 4.0
    assert not temperature.tensor().requires_grad


def test_the_start_is_random_in_its_range_and_the_seed_decides():
    starts = [Temperature(TemperatureConfig(), seed=s).value for s in range(30)]
    assert starts == [Temperature(TemperatureConfig(), seed=s).value for s in range(30)]
    assert min(starts) < 3
    assert max(starts) > 8
    # The policies share it, so that their runs are pairs.
    assert Temperature(TemperatureConfig(policy="descend"), seed=3).value == starts[3]


@pytest.mark.parametrize("start", [1.0, 10.0])
def test_a_start_at_a_bound_can_still_move(start):
    temperature = Temperature(TemperatureConfig(initial=start), seed=0)
    temperature.tensor().backward()
    (group,) = temperature.optimizers()[0].param_groups
    assert float(group["params"][0].grad) > 0
    assert temperature.value == pytest.approx(start, abs=0.01)


def test_state_goes_on_where_it_was():
    one = settle("reverse", 2.0, steps=20)
    other = Temperature(TemperatureConfig(initial=7.0, learning_rate=0.05), seed=0)
    other.load_state_dict(one.state_dict())
    for temperature in (one, other):
        (optimizer,) = temperature.optimizers()
        optimizer.zero_grad()
        temperature.tensor().square().backward()
        optimizer.step()
    assert one.value == other.value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "ascend"}, "reverse, descend, fixed, schedule; got 'ascend'"),
        ({"initial": 11.0}, "initial temperature"),
        ({"final": 0.5}, "final temperature"),
        ({"t_min": 0.0}, "t_min"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("inf")}, "finite learning_rate"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(WorkloadError, match=message):
        TemperatureConfig(**options)


# --- eq. 5 as printed ----------------------------------------------------------------------------


def steps(config, gradients):
    temperature = Temperature(config, seed=0)
    (optimizer,) = temperature.optimizers()
    course = []
    for gradient in gradients:
        optimizer.zero_grad()
        (temperature.tensor() * gradient).backward()
        optimizer.step()
        course.append(temperature.value)
    return course


def test_clamped_and_with_unit_steps_t_moves_by_its_gradient_and_stays_in_its_range():
    printed = TemperatureConfig("descend", 4.0, form="clamped", learning_rate=1.0, momentum=0.0)
    assert steps(printed, [0.5, -2.0, 20.0, -1.0, -50.0]) == [3.5, 5.5, 1.0, 2.0, 10.0]


def test_without_the_clamp_t_would_leave_its_range():
    config = TemperatureConfig("reverse", 9.5, form="clamped", learning_rate=1.0, momentum=0.0)
    assert steps(config, [3.0, 3.0]) == [10.0, 10.0]


def test_a_clamped_temperature_goes_on_from_its_state():
    config = TemperatureConfig("descend", 4.0, form="clamped")
    whole = Temperature(config, seed=0)
    half = Temperature(config, seed=0)
    for k in range(6):
        if k == 3:
            state, half = half.state_dict(), Temperature(config, seed=1)
            half.load_state_dict(state)
        for temperature in (whole, half):
            (optimizer,) = temperature.optimizers()
            optimizer.zero_grad()
            (temperature.tensor() ** 2).backward()
            optimizer.step()
    assert half.value == whole.value != 4.0


def test_an_unknown_form_is_refused():
    with pytest.raises(WorkloadError, match="form must be one of sigmoid, clamped; got 'round'"):
        TemperatureConfig(form="round")
