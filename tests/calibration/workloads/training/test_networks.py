import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from calibration.workloads.training.networks import (
    NETWORKS,
    build_network,
    flop_count,
    layer_costs,
    layer_count,
    layer_ends,
    parameter_count,
)
from kdsim.errors import WorkloadError


def test_edge_networks_have_3_5_and_10_layers_and_the_cloud_15():
    counts = [
        layer_count(build_network(n, (1, 28, 28), 10)) for n in ("edge-1", "edge-2", "edge-3")
    ]
    assert counts == [3, 5, 10]
    cloud = build_network("cloud", (3, 32, 32), 10)
    widths = [m.out_channels for m in cloud.features if isinstance(m, nn.Conv2d)]
    assert widths == [32] * 3 + [48] * 2 + [80] * 5 + [128] * 5


@pytest.mark.parametrize("edge", ["edge-1", "edge-2", "edge-3"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_an_edge_network_is_a_prefix_of_the_cloud_network(edge, shape):
    cloud, small = build_network("cloud", shape, 10), build_network(edge, shape, 10)
    for position, module in enumerate(small.features):
        assert str(module) == str(cloud.features[position])


@given(
    name=st.sampled_from(NETWORKS),
    channels=st.integers(1, 4),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    classes=st.integers(2, 12),
)
@settings(max_examples=30, deadline=None)
def test_any_input_size_and_class_count_works(name, channels, height, width, classes):
    network = build_network(name, (channels, height, width), classes).eval()
    images = torch.zeros(2, channels, height, width)
    with torch.no_grad():
        assert network(images).shape == (2, classes)


@pytest.mark.parametrize("name", NETWORKS)
def test_flops_agree_with_torchs_own_counter(name):
    shape = (3, 20, 27)
    network = build_network(name, shape, 7).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, *shape))
    assert flop_count(network, shape) == counter.get_total_flops()


def test_parameters_of_edge_1_by_hand():
    network = build_network("edge-1", (1, 28, 28), 10)
    convolutions = 9 * 32 + 2 * 9 * 32 * 32
    norms = 3 * 2 * 32
    head = (32 * 14 * 14 + 1) * 1024 + (1024 + 1) * 10
    assert parameter_count(network) == convolutions + norms + head


def test_counting_leaves_network_and_random_state_alone():
    network = build_network("edge-1", (1, 8, 8), 10)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = torch.random.get_rng_state()
    costs = layer_costs(network, (1, 8, 8))
    assert [c.name for c in costs] == ["features.0", "features.3", "features.6", "head.1", "head.4"]
    assert network.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert not network.features[0]._forward_hooks


def test_weights_are_a_function_of_the_seed_alone():
    torch.random.manual_seed(5)
    state = torch.random.get_rng_state()
    first = build_network("small-cnn", (1, 8, 8), 10, seed=3)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(10)
    second = build_network("small-cnn", (1, 8, 8), 10, seed=3)
    other = build_network("small-cnn", (1, 8, 8), 10, seed=4)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    assert not torch.equal(first.features[0].weight, other.features[0].weight)


def test_layer_ends_take_the_pooling_with_them():
    network = build_network("edge-2", (1, 28, 28), 10)
    assert layer_ends(network.features) == [3, 6, 10, 13, 17]
    assert isinstance(network.features[9], nn.MaxPool2d)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "message"),
    [
        ("edge-4", (1, 8, 8), 10, "must be one of cloud"),
        ("edge-1", (1, 0, 8), 10, "all positive"),
        ("edge-1", (1, 8), 10, "channels, height, width"),
        ("edge-1", (1, 8, 8), 1, "2 or more, got 1"),
    ],
)
def test_bad_arguments_are_named(name, shape, classes, message):
    with pytest.raises(WorkloadError, match=message):
        build_network(name, shape, classes)
