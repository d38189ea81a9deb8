"""ResNet-18 for small images."""

import pytest
import torch

from calibration.workloads.training.loops import state_digest
from calibration.workloads.training.networks import parameter_count
from calibration.workloads.training.residual import build_client_network
from kdsim.errors import WorkloadError


def test_resnet_18_has_the_published_number_of_weights_for_cifar():
    assert parameter_count(build_client_network("resnet-18", (3, 32, 32), 10, seed=0)) == 11_173_962


def test_it_answers_for_any_small_image_and_exposes_features_and_head():
    network = build_client_network("resnet-18", (1, 9, 7), 5, seed=0).eval()
    images = torch.randn(2, 1, 9, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(images)
        assert torch.equal(logits, network.head(network.features(images)))
    assert logits.shape == (2, 5)


def test_weights_follow_from_the_seed_and_leave_the_global_state_alone():
    before = torch.random.get_rng_state()
    first, again, other = (
        state_digest(build_client_network("resnet-18", (1, 8, 8), 4, seed=s)) for s in (1, 1, 2)
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert first == again != other


def test_an_unknown_network_is_told_in_words():
    with pytest.raises(WorkloadError, match=r"resnet-18-large; got 'vgg'"):
        build_client_network("vgg", (1, 8, 8), 4, seed=0)
