"""Feature- and relation-based knowledge."""

import math

import pytest
import torch
from torch.nn import functional

from calibration.workloads.edge_kd.knowledge import FeatureProjection, feature_loss, relation_loss
from kdsim.errors import WorkloadError


def features(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_projection_of_maps_is_a_convolution_of_one_pixel():
    projection = FeatureProjection(3, 5, generator=torch.Generator().manual_seed(0)).double()
    maps = features(1, 2, 3, 4, 4)
    expected = functional.conv2d(maps, projection.weight[:, :, None, None])
    torch.testing.assert_close(projection(maps), expected)


def test_feature_loss_vanishes_on_equal_features_and_trains_the_projection():
    projection = FeatureProjection(3, 5, generator=torch.Generator().manual_seed(0)).double()
    student = features(2, 6, 3)
    assert feature_loss(student, projection(student).detach(), projection).item() == 0.0
    loss = feature_loss(student, features(3, 6, 5), projection)
    loss.backward()
    assert projection.weight.grad.abs().sum() > 0


def test_teacher_maps_are_pooled_to_the_students_size():
    teacher = features(4, 2, 3, 8, 8)
    pooled = functional.avg_pool2d(teacher, 2)
    assert feature_loss(pooled, teacher).item() == pytest.approx(0.0, abs=1e-20)


def test_relations_ignore_shift_rotation_and_scale():
    student = features(5, 8, 4)
    q, _ = torch.linalg.qr(features(6, 4, 4))
    moved = 3.0 * student @ q + 7.0
    assert relation_loss(student, moved).item() == pytest.approx(0.0, abs=1e-20)
    assert relation_loss(student, features(7, 8, 9)).item() > 1e-3


def test_relative_distances_follow_the_definition():
    student, teacher = features(8, 3, 2), features(9, 3, 2)

    def relative(x):
        pairs = [math.dist(x[i].tolist(), x[j].tolist()) for i, j in ((0, 1), (0, 2), (1, 2))]
        return [d / (sum(pairs) / 3) for d in pairs]

    gaps = [abs(a - b) for a, b in zip(relative(student), relative(teacher), strict=True)]
    huber = sum(g * g / 2 if g < 1 else g - 0.5 for g in gaps) / 3
    assert relation_loss(student, teacher, angle_weight=0).item() == pytest.approx(huber)


def test_coinciding_samples_keep_a_finite_gradient():
    student = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    relation_loss(student, features(10, 4, 3)).backward()
    assert student.grad.isfinite().all()


def test_relations_pass_gradcheck():
    student = features(11, 4, 3).requires_grad_()
    teacher = features(12, 4, 5)
    assert torch.autograd.gradcheck(lambda s: relation_loss(s, teacher), (student,))


def test_unusable_features_are_told_in_words():
    with pytest.raises(WorkloadError, match="FeatureProjection"):
        feature_loss(features(13, 2, 3), features(14, 2, 4))
    with pytest.raises(WorkloadError, match="at least 2"):
        relation_loss(features(15, 1, 3), features(16, 1, 3))
