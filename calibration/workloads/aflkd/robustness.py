"""Imperfect teachers and labels: how to disturb them in an experiment, and two remedies.

The remedies: distil more from images of which the teacher is sure (:func:`confidence_weights`),
and distil less from a teacher that contradicts held-out labels (:func:`safeguarded_weight`).
Neither looks at test data.
"""

from __future__ import annotations

import torch
from torch import Tensor

from calibration.workloads.training.loops import accuracy
from kdsim.errors import WorkloadError


def confidence_weights(teacher_logits: Tensor) -> Tensor:
    """Weigh each image by how far the teacher's top probability is above chance.

    Parameters
    ----------
    teacher_logits : (n, classes) tensor
        At temperature 1.

    Returns
    -------
    (n,) tensor
        Not negative and of mean 1, so that the weight of the distillation as a whole stays.
    """
    top = teacher_logits.softmax(1).amax(1)  # (n,)
    above = (top - 1 / teacher_logits.shape[1]).clamp(min=0)
    return above / above.mean() if float(above.sum()) > 0 else torch.ones_like(above)


def safeguarded_weight(weight: float, teacher_logits: Tensor, labels: Tensor) -> float:
    """Lower the distillation weight where the teacher disagrees with held-out labels.

    Parameters
    ----------
    weight : float
        lambda, for a teacher that is always right.
    teacher_logits : (k, classes) tensor
        Its answers to the held-out images.
    labels : (k,) int64 tensor
        Their labels.

    Returns
    -------
    float
        ``weight`` times the agreement above chance, ``(a - 1/classes) / (1 - 1/classes)``: 0 for
        a teacher that guesses.
    """
    chance = 1 / teacher_logits.shape[1]
    return weight * max(0.0, (accuracy(teacher_logits, labels) - chance) / (1 - chance))


def flip_labels(
    labels: Tensor, share: float, classes: int, *, generator: torch.Generator
) -> Tensor:
    """Give a random share of the images a wrong label, each other class equally likely.

    Parameters
    ----------
    labels : (n,) int64 tensor
    share : float
        Between 0 and 1; ``round(share * n)`` labels change.

    Returns
    -------
    (n,) int64 tensor
        A new tensor.
    """
    check_share("label noise", share)
    flipped = labels.clone()
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    shift = torch.randint(1, classes, (len(chosen),), generator=generator)
    flipped[chosen] = (labels[chosen] + shift) % classes
    return flipped


def corrupt_logits(logits: Tensor, share: float, *, generator: torch.Generator) -> Tensor:
    """Make the teacher confidently wrong on a random share of the images.

    Their logits are moved on by one class, so that the confidence stays and the answer is that of
    the neighbouring class.

    Parameters
    ----------
    logits : (n, classes) tensor
    share : float
        Between 0 and 1.

    Returns
    -------
    (n, classes) tensor
        A new tensor.
    """
    check_share("teacher noise", share)
    corrupted = logits.clone()
    chosen = torch.randperm(len(logits), generator=generator)[: round(share * len(logits))]
    corrupted[chosen] = logits[chosen].roll(1, dims=1)
    return corrupted


def check_share(name: str, share: float) -> None:
    """Raise WorkloadError unless a share lies in 0 to 1."""
    if not 0 <= share <= 1:
        raise WorkloadError(f"{name} must lie in 0 to 1, got {share!r}")
