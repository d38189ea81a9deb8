"""Distillation beyond soft predictions: knowledge in features and in relations between samples.

What is *not* here: dissimilarities of predictions (``losses``).

References
----------
W. Park et al., "Relational Knowledge Distillation", CVPR 2019 (distances and angles);
A. Romero et al., "FitNets", ICLR 2015 (projected features).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdsim.errors import WorkloadError

#: Squared lengths below this count as this: the root keeps a finite gradient where samples meet.
_TINY = 1e-12


class FeatureProjection(nn.Module):
    """A learned linear map from the student's features to the teacher's number of channels.

    Works on maps ``(batch, channels, height, width)`` as a 1x1 convolution and on vectors
    ``(batch, channels)`` alike.

    Parameters
    ----------
    student_channels, teacher_channels : int
        Channels in and out.
    generator : torch.Generator, optional
        Source of the initial weights (scaled by ``1 / sqrt(student_channels)``).
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        weight = torch.randn(teacher_channels, student_channels, generator=generator)
        self.weight = nn.Parameter(weight / math.sqrt(student_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Project the channel axis (axis 1)."""
        return torch.einsum("oc,nc...->no...", self.weight, features)


def feature_loss(
    student_features: Tensor, teacher_features: Tensor, projection: nn.Module | None = None
) -> Tensor:
    """Give the mean squared error between intermediate features: feature-based knowledge.

    Parameters
    ----------
    student_features : (batch, channels, ...) Tensor
        A student's intermediate map or vector.
    teacher_features : (batch, teacher channels, ...) Tensor
        The teacher's; a map of another height and width is averaged down or up to the student's.
    projection : nn.Module, optional
        Brings the student's channels to the teacher's; see :class:`FeatureProjection`.

    Returns
    -------
    () Tensor

    Raises
    ------
    WorkloadError
        If the shapes still differ after projection and pooling.
    """
    projected = student_features if projection is None else projection(student_features)
    if projected.dim() == 4 and teacher_features.dim() == 4:
        rows, columns = projected.shape[-2:]
        teacher_features = functional.adaptive_avg_pool2d(teacher_features, (rows, columns))
    if projected.shape != teacher_features.shape:
        raise WorkloadError(
            f"features of shape {tuple(projected.shape)} cannot be compared with the teacher's "
            f"{tuple(teacher_features.shape)}; give a FeatureProjection to match the channels"
        )
    return functional.mse_loss(projected, teacher_features)


def relation_loss(
    student_features: Tensor,
    teacher_features: Tensor,
    *,
    distance_weight: float = 1.0,
    angle_weight: float = 2.0,
) -> Tensor:
    """Compare how samples of a batch lie to one another: relation-based knowledge.

    Distances of all pairs, each model's divided by their mean, and the angles of all triples are
    compared by a Huber loss; the two models' features may differ in width.

    Parameters
    ----------
    student_features : (batch, ...) Tensor
        Flattened from axis 1 on; at least 2 samples (3 for angles).
    teacher_features : (batch, ...) Tensor
        The teacher's on the same samples.
    distance_weight, angle_weight : float
        Weights of the two terms.

    Returns
    -------
    () Tensor

    Raises
    ------
    WorkloadError
        If the batch sizes differ or are too small.
    """
    student, teacher = student_features.flatten(1), teacher_features.flatten(1)
    if len(student) != len(teacher) or len(student) < 2:
        raise WorkloadError(
            "relations need two batches of one size of at least 2, "
            f"got {len(student)} and {len(teacher)} samples"
        )
    loss = student.new_zeros(())
    if distance_weight:
        distances = functional.smooth_l1_loss(
            _relative_distances(student), _relative_distances(teacher)
        )
        loss = loss + distance_weight * distances
    if angle_weight:
        angles = functional.smooth_l1_loss(_angle_cosines(student), _angle_cosines(teacher))
        loss = loss + angle_weight * angles
    return loss


def _relative_distances(features: Tensor) -> Tensor:
    """Return the pairwise distances over their mean, (pairs,)."""
    rows, columns = torch.triu_indices(len(features), len(features), offset=1).unbind()
    distances = (features[rows] - features[columns]).square().sum(dim=1).clamp_min(_TINY).sqrt()
    return distances / distances.mean()


def _angle_cosines(features: Tensor) -> Tensor:
    """Return the cosine of the angle at j between i and k, (batch, batch, batch) as [j, i, k]."""
    edges = features.unsqueeze(0) - features.unsqueeze(1)  # (batch, batch, width): x_i - x_j
    lengths = edges.square().sum(dim=2, keepdim=True).clamp_min(_TINY).sqrt()
    unit = edges / lengths
    return unit @ unit.transpose(1, 2)
