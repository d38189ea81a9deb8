"""Distillation losses against independent references, identities and extreme inputs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, softmax
from scipy.stats import entropy
from torch.nn import functional

from calibration.workloads.losses import (
    CURVATURE_FACTOR,
    MEASURES,
    decentralized_loss,
    dissimilarity,
    distillation_loss,
    mean_log_prediction,
    multiway_sed,
)
from kdsim.errors import WorkloadError


def logits(seed, *shape, spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*shape, generator=generator, dtype=torch.float64)


def by_definition(measure, student, teacher, temperature):
    """Each measure from probabilities, as the literature defines it; (samples,)."""
    p = softmax(student.numpy() / temperature, axis=-1)
    q = softmax(teacher.numpy() / temperature, axis=-1)
    m = (p + q) / 2

    def complexity(x):
        return np.exp(entropy(x, axis=-1))

    return {
        "ce": lambda: -(q * np.log(p)).sum(axis=-1),
        "kl": lambda: rel_entr(q, p).sum(axis=-1),
        "js": lambda: jensenshannon(p, q, axis=-1) ** 2,
        "sed": lambda: complexity(m) / np.sqrt(complexity(p) * complexity(q)) - 1,
        "td": lambda: 1 - (2 * p * q / (p + q)).sum(axis=-1),
    }[measure]()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_each_measure_equals_its_definition(measure, temperature):
    student, teacher = logits(1, 64, 10), logits(2, 64, 10)
    ours = dissimilarity(student, teacher, measure, temperature=temperature)
    np.testing.assert_allclose(
        ours.numpy(), by_definition(measure, student, teacher, temperature), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_kl_and_ce_equal_torch(temperature):
    student, teacher = logits(3, 32, 397), logits(4, 32, 397)
    log_p = functional.log_softmax(student / temperature, dim=1)
    q = functional.softmax(teacher / temperature, dim=1)
    kl = temperature**2 * functional.kl_div(log_p, q, reduction="batchmean")
    ce = temperature**2 * functional.cross_entropy(student / temperature, q)
    ours = [distillation_loss(student, teacher, m, temperature=temperature) for m in ("kl", "ce")]
    torch.testing.assert_close(torch.stack(ours), torch.stack([kl, ce]), rtol=0, atol=1e-12)


@given(
    st.lists(
        st.tuples(st.floats(-40, 40), st.floats(-40, 40)),
        min_size=2,
        max_size=12,
    )
)
@settings(max_examples=200, deadline=None)
def test_identities_and_bounds_hold_for_any_logits(pairs):
    student, teacher = torch.tensor(pairs, dtype=torch.float64).T.contiguous()
    value = {m: float(dissimilarity(student, teacher, m)) for m in MEASURES}
    tiny = 1e-12
    assert value["sed"] == pytest.approx(math.expm1(value["js"]), abs=tiny)
    assert value["td"] / 2 <= value["js"] + tiny
    assert value["js"] <= math.log(2) * value["td"] + tiny
    assert -tiny <= value["js"] <= math.log(2) + tiny
    assert -tiny <= value["sed"] <= 1 + tiny
    assert -tiny <= value["td"] <= 1 + tiny
    assert value["kl"] >= -tiny


@pytest.mark.parametrize("measure", ["js", "sed", "td"])
def test_symmetric_measures_do_not_care_who_teaches(measure):
    a, b = logits(5, 16, 7), logits(6, 16, 7)
    torch.testing.assert_close(
        distillation_loss(a, b, measure), distillation_loss(b, a, measure), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("measure", MEASURES)
def test_gradients_of_logits_and_temperature_pass_gradcheck(measure):
    student, teacher = logits(7, 3, 5), logits(8, 3, 5)
    student[0] = 6 * student[0]  # differences of log-probabilities beyond the switch of forms
    temperature = torch.tensor(2.5, dtype=torch.float64)
    for tensor in (student, teacher, temperature):
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s, t, temp: distillation_loss(s, t, measure, temperature=temp),
        (student, teacher, temperature),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("scale", ["none", "curvature"])
def test_extreme_logits_give_finite_losses_and_gradients(measure, dtype, scale):
    extreme = torch.tensor(
        [[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [1e4, 1e4, -1e4], [0.0, 0.0, 0.0]], dtype=dtype
    )
    one_hot = 1e4 * torch.eye(4, 3, dtype=dtype)
    for teacher in (extreme, extreme.flip(0), one_hot, torch.zeros_like(extreme)):
        student = extreme.clone().requires_grad_()
        temperature = torch.tensor(1.0, dtype=dtype, requires_grad=True)
        loss = distillation_loss(student, teacher, measure, temperature=temperature, scale=scale)
        loss.backward()
        assert loss.isfinite()
        assert student.grad.isfinite().all()
        assert temperature.grad.isfinite()


@pytest.mark.parametrize("measure", MEASURES)
def test_equal_predictions_are_a_minimum_with_zero_gradient(measure):
    student = logits(9, 8, 6).requires_grad_()
    loss = distillation_loss(student, student.detach().clone(), measure)
    loss.backward()
    if measure != "ce":
        assert loss.item() == pytest.approx(0.0, abs=1e-14)
    assert student.grad.abs().max() < 1e-14


@pytest.mark.parametrize("measure", MEASURES)
def test_duplicating_the_batch_changes_nothing(measure):
    student, teacher = logits(10, 9, 11), logits(11, 9, 11)
    twice = distillation_loss(student.repeat(2, 1), teacher.repeat(2, 1), measure)
    torch.testing.assert_close(
        distillation_loss(student, teacher, measure), twice, rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("measure", ["kl", "ce"])
def test_at_high_temperature_distillation_matches_logits(measure):
    """With T^2 the gradient tends to (z_s - z_t) / N, without it to that over T^2."""
    samples, classes, temperature = 4, 10, 1e4
    student, teacher = logits(12, samples, classes), logits(13, samples, classes)
    student = (student - student.mean(dim=1, keepdim=True)).requires_grad_()
    teacher = teacher - teacher.mean(dim=1, keepdim=True)
    matching = (student.detach() - teacher) / classes / samples  # the loss is a batch mean

    loss = distillation_loss(student, teacher, measure, temperature=temperature)
    (scaled,) = torch.autograd.grad(loss, student)
    torch.testing.assert_close(scaled, matching, rtol=1e-2, atol=1e-6)

    plain = dissimilarity(student, teacher, measure, temperature=temperature).mean()
    (unscaled,) = torch.autograd.grad(plain, student)
    torch.testing.assert_close(unscaled * temperature**2, matching, rtol=1e-2, atol=1e-6)


def test_ce_and_kl_have_the_same_gradient_under_a_fixed_teacher():
    student, teacher = logits(14, 5, 8).requires_grad_(), logits(15, 5, 8)
    gradients = [
        torch.autograd.grad(distillation_loss(student, teacher, m, temperature=2.0), student)[0]
        for m in ("ce", "kl")
    ]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-15)


def test_curvature_scale_makes_all_measures_equal_near_agreement():
    teacher = logits(16, 64, 10)
    student = teacher + 1e-3 * logits(17, 64, 10)
    at_teacher = distillation_loss(teacher, teacher, "ce", scale="curvature")
    excess = {
        m: distillation_loss(student, teacher, m, scale="curvature").item()
        - (at_teacher.item() if m == "ce" else 0.0)
        for m in MEASURES
    }
    for measure in MEASURES:
        assert excess[measure] == pytest.approx(excess["kl"], rel=0.01)


def test_native_scales_near_agreement_are_those_of_chi_square():
    teacher = logits(18, 64, 10)
    student = teacher + 1e-3 * logits(19, 64, 10)
    p, q = functional.softmax(student, 1), functional.softmax(teacher, 1)
    chi_square = ((p - q) ** 2 / q).sum(dim=1).mean().item()
    for measure in ("kl", "js", "sed", "td"):
        share = distillation_loss(student, teacher, measure).item() / chi_square
        assert share == pytest.approx(0.5 / CURVATURE_FACTOR[measure], rel=0.01)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("remotes", [2, 4])
def test_the_sum_is_the_average_times_the_remotes_when_these_agree(measure, remotes):
    student, remote = logits(20, 16, 10), logits(21, 16, 10)
    crowd = [remote.clone() for _ in range(remotes)]
    total = decentralized_loss(student, crowd, measure, case="sum", temperature=2.0)
    single = decentralized_loss(student, crowd, measure, case="average", temperature=2.0)
    torch.testing.assert_close(total, remotes * single, rtol=1e-12, atol=0)


def test_the_average_is_of_probabilities_unless_logits_are_asked_for():
    student, remotes = logits(22, 6, 5), [logits(23, 6, 5), logits(24, 6, 5)]
    q = torch.stack([functional.softmax(r / 3, 1) for r in remotes]).mean(0)
    expected = 9 * functional.kl_div(
        functional.log_softmax(student / 3, 1), q, reduction="batchmean"
    )
    ours = decentralized_loss(student, remotes, "kl", case="average", temperature=3.0)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    by_logits = decentralized_loss(
        student, remotes, "kl", case="average", temperature=3.0, averaging="logits"
    )
    mean = (remotes[0] + remotes[1]) / 2
    torch.testing.assert_close(
        by_logits, distillation_loss(student, mean, "kl", temperature=3.0), rtol=0, atol=1e-14
    )
    assert abs(by_logits - ours) > 1e-3


def test_a_mean_of_predictions_does_not_underflow():
    sure = torch.tensor([[1e4, 0.0, -1e4]])
    mean = mean_log_prediction([sure, -sure])
    assert mean.isfinite().all()
    torch.testing.assert_close(mean.exp(), torch.tensor([[0.5, 0.0, 0.5]]))


def test_two_way_sed_is_sed_and_more_ways_follow_the_definition():
    a, b, c = logits(25, 7, 6), logits(26, 7, 6), logits(27, 7, 6)
    torch.testing.assert_close(
        multiway_sed([a, b]), distillation_loss(a, b, "sed"), rtol=0, atol=1e-14
    )
    p = softmax(torch.stack([a, b, c]).numpy(), axis=-1)
    complexity = np.exp(entropy(p, axis=-1))  # (models, samples)
    mean = np.exp(entropy(p.mean(axis=0), axis=-1))
    expected = ((mean / np.prod(complexity, axis=0) ** (1 / 3) - 1) / 2).mean()
    assert multiway_sed([a, b, c]).item() == pytest.approx(expected, abs=1e-13)


def test_multiway_sed_reaches_one_for_disjoint_certainties_and_stays_finite():
    certain = [1e4 * torch.eye(4)[k : k + 1].clone().requires_grad_() for k in range(3)]
    loss = multiway_sed(certain)
    assert loss.item() == pytest.approx(1.0)
    for gradient in torch.autograd.grad(loss, certain):
        assert gradient.isfinite().all()


def test_half_precision_is_computed_in_single():
    student, teacher = logits(28, 4, 10).bfloat16(), logits(29, 4, 10).bfloat16()
    exact = distillation_loss(student.float(), teacher.float(), "js")
    torch.testing.assert_close(distillation_loss(student, teacher, "js"), exact)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda z: distillation_loss(z, z, "l2"), "unknown measure 'l2'"),
        (lambda z: distillation_loss(z, z[:, :3], "kl"), "agree in shape"),
        (lambda z: distillation_loss(z, z, "kl", temperature=0.0), "temperature must be positive"),
        (lambda z: distillation_loss(z, z, "js", scale="unit"), "scale must be"),
        (lambda z: distillation_loss(z[:, :1], z[:, :1], "js"), "2 classes"),
        (lambda z: decentralized_loss(z, [], "js"), "at least one remote"),
        (lambda z: decentralized_loss(z, [z], "js", case="median"), "case must be"),
        (lambda z: decentralized_loss(z, [z], "js", case="average", averaging="x"), "averaging"),
        (lambda z: decentralized_loss(z, [z, z[:2]], "js", case="average"), "agree in shape"),
        (lambda z: multiway_sed([z]), "at least 2 models"),
    ],
)
def test_bad_input_is_told_in_words(call, told):
    with pytest.raises(WorkloadError, match=told):
        call(logits(30, 4, 5))
