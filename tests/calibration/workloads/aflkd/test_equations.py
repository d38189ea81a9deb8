"""Equations 7 to 17 of the AFLKD paper against autograd; the figures of docs/aflkd-equations.md."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.workloads.aflkd.temperature import frozen_layers
from calibration.workloads.losses import distillation_loss
from calibration.workloads.training.networks import build_network, layer_count, parameter_count

PAGE = (Path(__file__).parents[4] / "docs" / "aflkd-equations.md").read_text(encoding="utf-8")
PAGE = " ".join(PAGE.split())  # a sentence may go on in the next line

CASES, CLASSES = 1200, 10


def cases():
    """Random teachers of every confidence, students from unrelated to nearly equal to them."""
    generator = torch.Generator().manual_seed(0)

    def uniform(low, high):
        return low + (high - low) * torch.rand(CASES, 1, generator=generator, dtype=torch.float64)

    def normal():
        return torch.randn(CASES, CLASSES, generator=generator, dtype=torch.float64)

    teacher = uniform(1, 6) * normal()
    student = uniform(0, 1.2) * teacher + uniform(0.2, 3) * normal()
    return teacher, student, uniform(1, 10)


def kl(teacher, student, t):
    """KL(teacher || student) at temperature t, (cases,)."""
    log_p, log_q = (teacher / t).log_softmax(-1), (student / t).log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def by_autograd(value, t):
    t = t.clone().requires_grad_()
    value(t).sum().backward()
    return t.grad[:, 0]


def moments(weights, a, b):
    """Covariance of a and b over the classes, weighted, (cases,)."""
    mean_a, mean_b = (weights * a).sum(-1), (weights * b).sum(-1)
    return (weights * a * b).sum(-1) - mean_a * mean_b


def exact_gradient(teacher, student, t):
    """The page's formula for the derivative of T^2 KL by T."""
    p, q = (teacher / t).softmax(-1), (student / t).softmax(-1)
    spread = moments(p, teacher, teacher) - moments(p, teacher, student)
    shift = (p * student).sum(-1) - (q * student).sum(-1)
    return 2 * t[:, 0] * kl(teacher, student, t) - spread / t[:, 0] + shift


def equation_12(teacher, student, t):
    """(Var - Cov) / T^3 over the classes, as printed."""
    even = torch.full_like(teacher, 1 / CLASSES)
    spread = moments(even, teacher, teacher) - moments(even, teacher, student)
    return spread / t[:, 0] ** 3


def percent(share):
    return f"{100 * float(share.double().mean()):.0f} %"


# --- eqs. 7 to 10 --------------------------------------------------------------------------------


def test_eqs_8_and_9_hold_to_first_order_and_fail_for_confident_teachers():
    teacher, _, _ = cases()
    cold, hot = torch.tensor(1.0), torch.tensor(1000.0)

    def error(t):
        linear = (1 + teacher / t) / (1 + teacher / t).sum(-1, keepdim=True)
        return (linear - (teacher / t).softmax(-1)).abs().amax(-1)

    # Second order: ten times the temperature, a hundredth of the error.
    ratio = (error(hot) / error(10 * hot)).median()
    assert float(ratio) == pytest.approx(100, rel=0.02)
    negative = ((1 + teacher / cold) / (1 + teacher / cold).sum(-1, keepdim=True)).amin(-1) < 0
    assert f"at T = 1 it gives a negative probability in {percent(negative)} of the cases" in PAGE


def test_eq_10_is_the_loss_that_is_trained():
    teacher, student, t = cases()
    ours = distillation_loss(student[:1], teacher[:1], "kl", temperature=float(t[0]))
    assert float(ours) == pytest.approx(float(t[0] ** 2 * kl(teacher, student, t)[0]), rel=1e-10)


# --- eqs. 11 to 13: the gradient -----------------------------------------------------------------


@given(seed=st.integers(0, 2**31), t=st.floats(0.5, 20), classes=st.integers(2, 30))
@settings(max_examples=60, deadline=None)
def test_the_corrected_gradient_is_that_of_autograd(seed, t, classes):
    generator = torch.Generator().manual_seed(seed)
    teacher, student = 4 * torch.randn(2, 1, classes, generator=generator, dtype=torch.float64)
    at = torch.tensor([[t]], dtype=torch.float64)
    automatic = by_autograd(lambda x: x[:, 0] ** 2 * kl(teacher, student, x), at)
    torch.testing.assert_close(exact_gradient(teacher, student, at), automatic)


def test_the_leading_term_at_high_temperature_has_third_moments_not_variances():
    teacher, student, _ = cases()
    t = torch.full((CASES, 1), 1e4, dtype=torch.float64)
    u, v = (x - x.mean(-1, keepdim=True) for x in (teacher, student))
    third = (v**3).mean(-1) / 6 + (u**3).mean(-1) / 3 - (u * u * v).mean(-1) / 2
    automatic = by_autograd(lambda x: x[:, 0] ** 2 * kl(teacher, student, x), t)
    torch.testing.assert_close(-third, automatic * 1e8, rtol=0.01, atol=0.1)
    assert float(third.abs().median()) > 1


def test_without_t_squared_the_gradient_is_the_variance_of_the_difference():
    teacher, student, _ = cases()
    t = torch.full((CASES, 1), 1e4, dtype=torch.float64)
    even = torch.full_like(teacher, 1 / CLASSES)
    variance = moments(even, teacher - student, teacher - student)
    automatic = by_autograd(lambda x: kl(teacher, student, x), t)
    torch.testing.assert_close(-variance / 1e12, automatic, rtol=0.05, atol=0)


def test_how_often_eq_12_has_the_sign_of_the_gradient():
    teacher, student, t = cases()
    printed = equation_12(teacher, student, t) > 0
    squared = by_autograd(lambda x: x[:, 0] ** 2 * kl(teacher, student, x), t) > 0
    plain = by_autograd(lambda x: kl(teacher, student, x), t) > 0
    assert f"agrees in {percent(printed == squared)} of 1,200 random cases" in PAGE
    assert f"is positive in {percent(squared)} of them" in PAGE
    rates = [x.double().mean() for x in (printed, squared)]
    unrelated = rates[0] * rates[1] + (1 - rates[0]) * (1 - rates[1])
    assert percent(printed) == percent(squared)
    assert f"two unrelated signs with these rates would agree in {100 * unrelated:.0f} %" in PAGE
    assert f"without the factor T² it agrees in {percent(printed == plain)}" in PAGE


def stationary_points():
    """Return (case, T) where the derivative changes its sign within [1, 10], and to which."""
    teacher, student, _ = cases()
    grid = torch.linspace(1, 10, 400, dtype=torch.float64)
    values = torch.stack(
        [exact_gradient(teacher, student, t.expand(CASES, 1)) for t in grid], 1
    )  # (cases, grid)
    falls = (values[:, :-1] > 0) & (values[:, 1:] <= 0)
    rises = (values[:, :-1] < 0) & (values[:, 1:] >= 0)
    return grid, falls, rises


def test_stationary_points_are_maxima_and_eq_13_does_not_describe_them():
    teacher, student, _ = cases()
    grid, falls, rises = stationary_points()
    case, place = falls.nonzero(as_tuple=True)
    inside = len(torch.cat([case, rises.nonzero()[:, 0]]).unique())
    assert f"{inside} of the 1,200 cases have a stationary point within [1, 10]" in PAGE
    share = falls.sum() / (falls.sum() + rises.sum())
    assert f"{100 * float(share):.0f} % of these points are maxima" in PAGE
    even = torch.full_like(teacher, 1 / CLASSES)
    p = (teacher[case] / grid[place][:, None]).softmax(-1)
    for weights, name in ((even[case], "classes weighted alike"), (p, "classes weighted by p")):
        ratio = moments(weights, teacher[case], student[case]) / moments(
            weights, teacher[case], teacher[case]
        )
        low, middle, high = (float(x) for x in ratio.quantile(torch.tensor([0.1, 0.5, 0.9]).to(p)))
        assert f"{middle:.2f} ({low:.2f} to {high:.2f}), {name}" in PAGE


# --- eqs. 14 to 17 -------------------------------------------------------------------------------


def test_eq_14_the_trainable_weights_hardly_depend_on_n():
    for net in ("edge-1", "edge-2", "edge-3"):
        network = build_network(net, (1, 28, 28), 10)
        m, whole = layer_count(network), parameter_count(network)
        head = parameter_count(network.head)
        line = f"| {net} | {m} | {whole:,} | {head:,} | {100 * head / whole:.1f} % |"
        assert line in PAGE


def test_eq_16_contradicts_eq_17_at_t_min():
    assert [frozen_layers(1.0, m) for m in (3, 5, 10)] == [3, 5, 10]  # m - n = 0, T = 1
    assert [frozen_layers(10.0, m) for m in (3, 5, 10)] == [0, 0, 0]  # the text says 1
