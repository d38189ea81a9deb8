import pytest
import torch
from torch.nn import functional

from calibration.workloads.aflkd.freezing import (
    freeze_layers,
    frozen_prefix,
    prefix_features,
    share_layers,
    trainable_tail,
)
from calibration.workloads.training.loops import state_digest
from calibration.workloads.training.networks import build_network
from kdsim.errors import WorkloadError

SHAPE = (1, 8, 8)


def pair(edge="edge-1"):
    return build_network("cloud", SHAPE, 3, seed=1), build_network(edge, SHAPE, 3, seed=2)


def steps(network, optimizer, count=3):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        images = torch.randn(8, *SHAPE, generator=generator)
        optimizer.zero_grad()
        functional.cross_entropy(network(images), torch.arange(8) % 3).backward()
        optimizer.step()


def sgd(network):
    # Momentum and weight decay: both would move a weight that is only left without a gradient
    # of zero.
    return torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)


def test_frozen_layers_and_their_batchnorm_stay_bitwise_unchanged():
    _, student = pair()
    optimizer = sgd(student)
    steps(student, optimizer)  # so that there is momentum to be stale
    freeze_layers(student, 2, optimizer)
    frozen, rest = state_digest(frozen_prefix(student, 2)), state_digest(trainable_tail(student, 2))
    steps(student, optimizer)
    assert state_digest(frozen_prefix(student, 2)) == frozen
    assert state_digest(trainable_tail(student, 2)) != rest


def test_frozen_stays_frozen_through_thaw_and_refreeze_with_momentum():
    _, student = pair()
    optimizer = sgd(student)
    for layers in (2, 0, 3, 1, 3):
        freeze_layers(student, layers, optimizer)
        before = state_digest(frozen_prefix(student, layers)) if layers else None
        steps(student, optimizer)
        if layers:
            assert state_digest(frozen_prefix(student, layers)) == before


def test_a_layer_that_thaws_starts_from_rest():
    _, student = pair()
    optimizer = sgd(student)
    steps(student, optimizer)
    weight = student.features[0].weight
    assert weight in optimizer.state
    freeze_layers(student, 1, optimizer)
    assert weight.grad is None
    assert weight not in optimizer.state
    freeze_layers(student, 0, optimizer)
    assert weight.requires_grad
    assert student.features[1].training


def test_a_shared_layer_is_a_copy_and_the_teacher_stays_as_it_is():
    teacher, student = pair("edge-2")
    digest = state_digest(teacher)
    share_layers(teacher, student, range(5))
    optimizer = sgd(student)
    assert torch.equal(teacher.features[0].weight, student.features[0].weight)
    storages = {p.data_ptr() for p in teacher.parameters()}
    assert not storages & {p.data_ptr() for p in student.parameters()}
    freeze_layers(student, 0, optimizer)
    steps(student, optimizer)
    assert state_digest(teacher) == digest
    assert not torch.equal(teacher.features[0].weight, student.features[0].weight)


def test_only_the_layers_asked_for_are_copied():
    teacher, student = pair()
    before = student.features[0].weight.clone()
    share_layers(teacher, student, range(1, 3))
    assert torch.equal(student.features[0].weight, before)
    assert torch.equal(student.features[3].weight, teacher.features[3].weight)
    assert torch.equal(student.features[7].running_var, teacher.features[7].running_var)


def test_the_backward_pass_stops_at_the_frozen_prefix():
    _, student = pair()
    freeze_layers(student, 2)
    features = frozen_prefix(student, 2)(torch.randn(4, *SHAPE))
    assert features.grad_fn is None
    steps(student, sgd(student), 1)
    assert all(p.grad is None for p in frozen_prefix(student, 2).parameters())
    assert all(p.grad is not None for p in trainable_tail(student, 2).parameters())


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_prefix_then_tail_is_the_network(layers):
    _, student = pair()
    student.eval()
    images = torch.randn(4, *SHAPE)
    split = trainable_tail(student, layers)(frozen_prefix(student, layers)(images))
    assert torch.equal(split, student(images))


def test_features_beyond_the_memory_limit_are_not_kept():
    _, student = pair()
    freeze_layers(student, 1)
    images = torch.randn(5, *SHAPE)
    features = prefix_features(student, images, 1, batch_size=2, limit_mb=1.0)
    assert features.shape == (5, 32, 8, 8)
    assert prefix_features(student, images, 1, batch_size=2, limit_mb=0.01) is None


def test_impossible_depths_and_strangers_are_refused():
    teacher, student = pair()
    with pytest.raises(WorkloadError, match="edge-1 can freeze 0 to 3 layers, got 4"):
        freeze_layers(student, 4)
    stranger = build_network("small-cnn", SHAPE, 3)
    with pytest.raises(WorkloadError, match="layer 1 of small-cnn does not match"):
        share_layers(teacher, stranger, range(1))
