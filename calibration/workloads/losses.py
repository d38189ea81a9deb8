"""Distillation losses between soft predictions: five dissimilarity measures and their sums.

Everything is computed from logits by way of log-softmax, in forms whose value and gradient stay
finite for any finite logits (one-hot predictions, identical predictions, logits of +-1e4). A loss
is a batch mean, so that terms of one objective share a reduction.

With ``p = softmax(student / T)``, ``q = softmax(teacher / T)``, ``m = (p + q) / 2``,
``H`` the entropy in nats and ``C = exp(H)``:

==========  ===================================================  ==========
measure     definition                                           range
==========  ===================================================  ==========
``"ce"``    ``-sum q ln p``                                      [H(q), inf)
``"kl"``    ``sum q ln(q / p)``                                  [0, inf)
``"js"``    ``H(m) - (H(p) + H(q)) / 2``                         [0, ln 2]
``"sed"``   ``C(m) / sqrt(C(p) C(q)) - 1 = expm1(JS)``           [0, 1]
``"td"``    ``1 - sum 2 p q / (p + q)``                          [0, 1]
==========  ===================================================  ==========

What is *not* here: knowledge in features and relations (``knowledge``), who teaches whom
(``exchange``), and training loops.

References
----------
R. Connor et al., "Correlations of Cross-Entropy Loss in Machine Learning", Entropy 26(6), 2024
(SED, TD, JS); G. Hinton et al., "Distilling the Knowledge in a Neural Network", 2015 (T^2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from kdsim.errors import WorkloadError

Scale = Literal["none", "curvature"]
Case = Literal["sum", "average"]

#: The measures in the order in which tables list them.
MEASURES: tuple[str, ...] = ("ce", "kl", "js", "sed", "td")

#: Under a fixed teacher CE is KL and the teacher's entropy: one gradient, so one method.
SAME_GRADIENT: dict[str, str] = {"ce": "kl"}

#: Near p = q the measures are 1/2, 1/2, 1/8, 1/8, 1/4 of chi-square (CE up to the constant H(q)).
#: These factors bring all of them to KL's curvature, so that one alpha means one strength.
CURVATURE_FACTOR: dict[str, float] = {"ce": 1.0, "kl": 1.0, "js": 4.0, "sed": 4.0, "td": 2.0}

#: Where |ln p - ln q| is below this, Jensen-Shannon's kernel is taken in the form for close p, q.
_NEAR = 2.0


def dissimilarity(
    student_logits: Tensor,
    teacher_logits: Tensor,
    measure: str,
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """Compare the soft predictions of student and teacher, sample by sample.

    Parameters
    ----------
    student_logits, teacher_logits : (..., classes) Tensor
        Unnormalised log-probabilities of equal shape. Gradients reach both; detach the teacher's
        where it is not to learn.
    measure : str
        One of :data:`MEASURES`; for the asymmetric ones the teacher is the reference, as in
        ``KL(teacher || student)``.
    temperature : float or scalar Tensor
        Divides both logits; positive. A tensor may require a gradient.

    Returns
    -------
    (...) Tensor
        One dissimilarity in nats for each sample, without the factor ``T^2``.

    Raises
    ------
    WorkloadError
        For an unknown measure, unequal shapes, fewer than two classes, no samples, or a
        temperature that is not positive.
    """
    log_p, log_q = _log_predictions(student_logits, teacher_logits, temperature)
    return _compare(log_p, log_q, measure)


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    measure: str,
    *,
    temperature: float | Tensor = 1.0,
    scale: Scale = "none",
) -> Tensor:
    """Give the distillation loss of a batch: ``T^2`` times its mean dissimilarity.

    Parameters
    ----------
    student_logits, teacher_logits, measure, temperature
        As for :func:`dissimilarity`. The factor ``T^2`` keeps the gradient's size independent of
        the temperature: for large T and logits of zero mean it is
        ``(student - teacher) / (batch * classes)`` under ``"kl"`` and ``"ce"``.
    scale : {"none", "curvature"}
        ``"curvature"`` multiplies by :data:`CURVATURE_FACTOR`, so that all measures agree to
        second order near ``p = q``; ``"none"`` leaves their native sizes.

    Returns
    -------
    () Tensor

    Raises
    ------
    WorkloadError
        As for :func:`dissimilarity`, or for an unknown scale.

    Examples
    --------
    >>> student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> round(float(distillation_loss(student, teacher, "td")), 4)
    0.58
    """
    value = dissimilarity(student_logits, teacher_logits, measure, temperature=temperature)
    return temperature**2 * _scale_factor(measure, scale) * value.mean()


def decentralized_loss(
    student_logits: Tensor,
    remote_logits: Sequence[Tensor],
    measure: str,
    *,
    case: Case = "sum",
    temperature: float | Tensor = 1.0,
    scale: Scale = "none",
    averaging: Literal["probabilities", "logits"] = "probabilities",
) -> Tensor:
    """Compare one client with its remote clients: the distillation loss of a decentralised round.

    Parameters
    ----------
    student_logits : (batch, classes) Tensor
        The client's own logits.
    remote_logits : sequence of (batch, classes) Tensor
        The logits of the remote clients on the same samples; at least one.
    measure, temperature, scale
        As for :func:`distillation_loss`.
    case : {"sum", "average"}
        ``"sum"`` adds up the losses against each remote client (case 1); ``"average"`` takes one
        loss against the mean of their predictions (case 2).
    averaging : {"probabilities", "logits"}
        What case 2 averages. The mean of probabilities is the mixture that the method defines;
        the mean of logits, a normalised geometric mean, is what its public code computes.

    Returns
    -------
    () Tensor

    Raises
    ------
    WorkloadError
        As for :func:`distillation_loss`, without remote clients, or for an unknown case.
    """
    if not remote_logits:
        raise WorkloadError("a decentralised loss needs at least one remote client, got none")
    if case == "sum":
        losses = [
            distillation_loss(student_logits, remote, measure, temperature=temperature, scale=scale)
            for remote in remote_logits
        ]
        return torch.stack(losses).sum()
    if case != "average":
        raise WorkloadError(f"case must be 'sum' or 'average', got {case!r}")
    if averaging == "logits":
        teacher = torch.stack(list(remote_logits)).mean(dim=0)  # (batch, classes)
        return distillation_loss(
            student_logits, teacher, measure, temperature=temperature, scale=scale
        )
    if averaging != "probabilities":
        raise WorkloadError(f"averaging must be 'probabilities' or 'logits', got {averaging!r}")
    for remote in remote_logits:
        _check_logits(student_logits, remote)
    log_q = mean_log_prediction(remote_logits, temperature=temperature)
    value = _compare(_log_softmax(student_logits, temperature), log_q, measure)
    return temperature**2 * _scale_factor(measure, scale) * value.mean()


def mean_log_prediction(logits: Sequence[Tensor], *, temperature: float | Tensor = 1.0) -> Tensor:
    """Return the logarithm of the mean of several soft predictions, computed without underflow.

    Parameters
    ----------
    logits : sequence of (batch, classes) Tensor
        One entry for each model.
    temperature : float or scalar Tensor
        Divides the logits.

    Returns
    -------
    (batch, classes) Tensor
        Normalised log-probabilities.
    """
    _check_temperature(temperature)
    logs = torch.stack([_log_softmax(z, temperature) for z in logits])  # (models, batch, classes)
    return torch.logsumexp(logs, dim=0) - math.log(len(logits))


def multiway_sed(
    logits: Sequence[Tensor], *, temperature: float | Tensor = 1.0, scale: Scale = "none"
) -> Tensor:
    """Give the structural entropic distance among n models at once, as a distillation loss.

    ``(C(mean) / (prod C_i)^(1/n) - 1) / (n - 1)``, in [0, 1]; for two models it is SED.

    Parameters
    ----------
    logits : sequence of (batch, classes) Tensor
        At least two models' logits on the same samples; gradients reach all.
    temperature, scale
        As for :func:`distillation_loss`.

    Returns
    -------
    () Tensor
        ``T^2`` times the batch mean.

    Raises
    ------
    WorkloadError
        With fewer than two models, or for logits as in :func:`dissimilarity`.
    """
    models = len(logits)
    if models < 2:
        raise WorkloadError(f"multi-way SED compares at least 2 models, got {models}")
    _check_temperature(temperature)
    for other in logits[1:]:
        _check_logits(logits[0], other)
    logs = torch.stack([_log_softmax(z, temperature) for z in logits])  # (models, ..., classes)
    spread = _applied(_JensenShannonOfMany, logs)
    value = torch.expm1(spread).mean() / (models - 1)
    return temperature**2 * _scale_factor("sed", scale) * value


def _applied(function: type[torch.autograd.Function], *logs: Tensor) -> Tensor:
    value: Tensor = function.apply(*logs)
    return value


def _compare(log_p: Tensor, log_q: Tensor, measure: str) -> Tensor:
    """Compare normalised log-probabilities (..., classes), sample by sample."""
    if measure == "ce":
        return -(log_q.exp() * log_p).sum(dim=-1)
    if measure == "kl":
        return (log_q.exp() * (log_q - log_p)).sum(dim=-1)
    if measure == "td":
        return _applied(_Triangular, log_p, log_q)
    if measure == "js":
        return _applied(_JensenShannon, log_p, log_q)
    if measure == "sed":
        return torch.expm1(_applied(_JensenShannon, log_p, log_q))
    raise WorkloadError(f"unknown measure {measure!r}; known are {', '.join(MEASURES)}")


# The gradients of JS and TD by log p are short closed forms. They are taken down in the forward
# pass: recorded by autograd instead, the dozen steps of each measure took up to ten times as long,
# and branches that `where` does not choose would turn infinite gradients into NaN.


class _JensenShannon(torch.autograd.Function):
    """JS of normalised log-probabilities, sample by sample, (..., classes) -> (...)."""

    @staticmethod
    def forward(ctx: Any, log_p: Tensor, log_q: Tensor) -> Tensor:
        p, q, d = log_p.exp(), log_q.exp(), log_p - log_q
        size = d.abs()
        t = torch.tanh(size / 2)  # p, q = m (1 +- t)
        log_1pt = torch.log1p(t)  # ln(max(p, q) / m), in [0, ln 2]
        # ((1+t) ln(1+t) + (1-t) ln(1-t)) / 2: the first form keeps its digits where p and q are
        # close, the second where 1 - t has none left.
        near = (torch.log1p(-t.square()) + t * size) / 2
        far = log_1pt - size * torch.sigmoid(-size)
        kernel = torch.where(size < _NEAR, near, far)
        by_p = p * (log_1pt + d.clamp(max=0)) / 2 if ctx.needs_input_grad[0] else None
        by_q = q * (log_1pt - d.clamp(min=0)) / 2 if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(by_p, by_q)
        return ((p + q) * kernel).sum(dim=-1) / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return _times_saved(ctx, gradient)


class _Triangular(torch.autograd.Function):
    """TD of normalised log-probabilities, sample by sample, (..., classes) -> (...)."""

    @staticmethod
    def forward(ctx: Any, log_p: Tensor, log_q: Tensor) -> Tensor:
        p, q = log_p.exp(), log_q.exp()
        t = torch.tanh((log_p - log_q) / 2)  # (p - q) / (p + q)
        by_p = p * t * (2 - t) / 2 if ctx.needs_input_grad[0] else None
        by_q = -q * t * (2 + t) / 2 if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(by_p, by_q)
        return ((p + q) * t.square()).sum(dim=-1) / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return _times_saved(ctx, gradient)


class _JensenShannonOfMany(torch.autograd.Function):
    """Generalised JS of n models' log-probabilities, (models, ..., classes) -> (...)."""

    @staticmethod
    def forward(ctx: Any, logs: Tensor) -> Tensor:
        models = len(logs)
        log_mean = torch.logsumexp(logs, dim=0) - math.log(models)
        excess = logs - log_mean  # at most ln(models), so its exponential cannot overflow
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(logs.exp() * excess / models)
        # mean of KL(p_i || mean), with sum(p_i - mean) = 0 subtracted: no term can be negative.
        terms = excess * excess.exp() - torch.expm1(excess)
        return (log_mean.exp() * terms.mean(dim=0)).sum(dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        by_logs: Tensor
        (by_logs,) = ctx.saved_tensors
        return gradient.unsqueeze(-1) * by_logs


def _times_saved(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Apply the chain rule to the partial derivatives that the forward pass took down."""
    by_p, by_q = ctx.saved_tensors
    outer = gradient.unsqueeze(-1)
    return (None if by_p is None else outer * by_p, None if by_q is None else outer * by_q)


def _log_predictions(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor
) -> tuple[Tensor, Tensor]:
    _check_temperature(temperature)
    _check_logits(student_logits, teacher_logits)
    return _log_softmax(student_logits, temperature), _log_softmax(teacher_logits, temperature)


def _log_softmax(logits: Tensor, temperature: float | Tensor) -> Tensor:
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()  # half precision has too few digits for differences of logs
    return functional.log_softmax(logits / temperature, dim=-1)


def _scale_factor(measure: str, scale: str) -> float:
    if scale == "none":
        return 1.0
    if scale == "curvature":
        return CURVATURE_FACTOR[measure]
    raise WorkloadError(f"scale must be 'none' or 'curvature', got {scale!r}")


def _check_temperature(temperature: float | Tensor) -> None:
    if isinstance(temperature, Tensor) and temperature.device.type != "cpu":
        return  # reading it back would make the accelerator wait; a bad one makes the loss NaN
    value = temperature.detach().item() if isinstance(temperature, Tensor) else temperature
    if not (value > 0 and math.isfinite(value)):
        raise WorkloadError(f"the temperature must be positive and finite, got {value!r}")


def _check_logits(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise WorkloadError(
            f"student and teacher logits must agree in shape, got {tuple(student.shape)} "
            f"and {tuple(teacher.shape)}"
        )
    if student.dim() == 0 or student.shape[-1] < 2 or student.numel() == 0:
        raise WorkloadError(
            "logits must be (samples, classes) with at least 1 sample and 2 classes, "
            f"got shape {tuple(student.shape)}"
        )
