from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from split_networks import (
    RandomNet,
    Spec,
    image,
    network_specs,
    relative_error,
    vgg,
)
from torch import nn

from calibration.workloads.split_inference import PlanError, plan, run_in_process, trace
from calibration.workloads.split_inference.planning.graph import evaluation_view
from calibration.workloads.split_inference.planning.kernels import IN_PLACE, whole_trunk
from calibration.workloads.split_inference.planning.layers import Rows, Window
from calibration.workloads.split_inference.planning.program import Program, compile_part
from calibration.workloads.split_inference.workers.in_process import Mailbox

SLOW = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=500, **SLOW)
@given(
    spec=network_specs(),
    shares=st.lists(st.floats(0.2, 3.0), min_size=2, max_size=7),
    mode=st.sampled_from(["layerwise", "overlap", "fused"]),
    last=st.booleans(),
    batch=st.sampled_from([1, 1, 2]),
)
@pytest.mark.slow
def test_any_network_split_in_any_way_gives_what_the_whole_network_gives(
    spec: Spec, shares: list[float], mode: str, last: bool, batch: int
) -> None:
    layout = torch.channels_last if last else torch.contiguous_format
    net, x = RandomNet(spec).to(memory_format=layout), image(spec, batch)
    graph = trace(net, (spec.channels, spec.height, spec.width))
    # The smallest map limits how many parts there can be.
    parts = min(len(shares), *(shape.height for shape in graph.shapes))
    assume(parts >= 2)
    split = plan(graph, parts, mode=mode, shares=shares[:parts])
    mailbox = Mailbox()
    with torch.inference_mode():
        want = net(x.contiguous(memory_format=layout))
    got = graph.head(*run_in_process(split, x, mailbox=mailbox))
    assert relative_error(got, want) <= 1e-6
    assert mailbox.values == split.halo_values * batch


@settings(max_examples=60, **SLOW)
@given(spec=network_specs(), parts=st.integers(2, 7), mode=st.sampled_from(["overlap", "fused"]))
def test_every_row_is_owned_once_and_a_program_survives_json(
    spec: Spec, parts: int, mode: str
) -> None:
    graph = trace(RandomNet(spec), (spec.channels, spec.height, spec.width))
    parts = min(parts, *(shape.height for shape in graph.shapes))
    split = plan(graph, parts, mode=mode)
    for t, shape in enumerate(graph.shapes):
        rows = [r for p in range(parts) for r in range(*split.owned[t][p])]
        assert rows == list(range(shape.height))
    program = compile_part(split, parts - 1)
    assert Program.from_json(program.to_json()) == program


@given(
    k=st.integers(1, 7),
    s=st.integers(1, 3),
    p=st.integers(0, 3),
    d=st.integers(1, 2),
    a=st.integers(0, 20),
    n=st.integers(1, 20),
)
def test_a_window_needs_exactly_the_rows_that_its_outputs_touch(
    k: int, s: int, p: int, d: int, a: int, n: int
) -> None:
    touched = {o * s - p + d * i for o in range(a, a + n) for i in range(k)}
    assert Window(k, s, p, d).needs(Rows(a, a + n)) == Rows(min(touched), max(touched) + 1)


@pytest.mark.parametrize("last", [True, False], ids=["channels last", "contiguous"])
@pytest.mark.parametrize("blocks", [1, 2, 3, 4], ids=["edge-1", "edge-2", "edge-3", "cloud"])
def test_the_papers_networks_are_bitwise_in_layerwise_mode(last: bool, blocks: int) -> None:
    layout = torch.channels_last if last else torch.contiguous_format
    net = vgg(*[(3, 32), (2, 48), (5, 80), (5, 128)][:blocks]).to(memory_format=layout)
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=layout)
    with torch.inference_mode():
        want = net(x)
    got = run_in_process(plan(trace(net, x.shape), 2), x)[0]
    assert torch.equal(got, want)


def test_halo_bytes_of_a_vgg_are_one_row_in_each_direction_for_each_inner_convolution() -> None:
    graph = trace(vgg((3, 32), (2, 48), (5, 80)), (3, 224, 224))
    # Channels of the convolution's input times the width, two directions a cut.
    inputs = [(32, 224)] * 2 + [(32, 112), (48, 112), (48, 56)] + [(80, 56)] * 4
    for parts in (2, 3, 4):
        want = sum(c * w for c, w in inputs) * 2 * (parts - 1)
        assert plan(graph, parts).halo_values == want


def test_pooling_with_k_equal_s_and_pointwise_layers_need_no_rows_from_the_neighbour() -> None:
    graph = trace(vgg((1, 4), (1, 4)), (3, 37, 20))
    convolutions = {t for layer in graph.layers if layer.kind == "conv" for t in layer.inputs}
    split = plan(graph, 3, shares=[1.0, 2.0, 1.5])
    assert {message.tensor for message in split.messages} <= convolutions


def test_fused_blocks_send_one_wider_halo_and_nothing_in_between() -> None:
    graph = trace(vgg((3, 8), (2, 8)), (3, 32, 16))
    split = plan(graph, 2, mode="fused")
    assert {message.tensor for message in split.messages} == {10}  # what the first pool gives
    assert {message.rows.count for message in split.messages} == {2}  # two convolutions follow


def test_each_block_may_have_its_own_mode() -> None:
    net = vgg((2, 8), (2, 8))
    x = torch.randn(1, 3, 32, 16, generator=torch.Generator().manual_seed(1))
    split = plan(trace(net, x.shape), 3, mode=["fused", "overlap"])
    with torch.inference_mode():
        assert relative_error(run_in_process(split, x)[0], net(x)) <= 1e-6


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("last", [True, False], ids=["channels last", "contiguous"])
@pytest.mark.parametrize("name", sorted(IN_PLACE))
def test_activations_that_overwrite_their_input_change_nothing_else(
    name: str, last: bool, batch: int
) -> None:
    function = {
        "relu": nn.ReLU(),
        "relu6": nn.ReLU6(),
        "leaky_relu": nn.LeakyReLU(0.2),
        "elu": nn.ELU(0.7),
        "silu": nn.SiLU(),
        "hardswish": nn.Hardswish(),
        "hardsigmoid": nn.Hardsigmoid(),
        "hardtanh": nn.Hardtanh(-0.3, 0.4),
        "sigmoid": nn.Sigmoid(),
        "tanh": nn.Tanh(),
    }[name]
    layout = torch.channels_last if last else torch.contiguous_format
    torch.manual_seed(0)
    # Before a convolution, before a pooling, and on the images themselves.
    net = nn.Sequential(
        function, nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), function,
        nn.Conv2d(8, 8, 3, padding=1), function, nn.MaxPool2d(2),
    ).eval().to(memory_format=layout)  # fmt: skip
    x = torch.randn(batch, 3, 24, 20).contiguous(memory_format=layout)
    before = x.clone()
    graph = trace(net, (3, 24, 20))
    with torch.inference_mode():
        want = net(x)
        whole = whole_trunk(graph.layers, x, graph.weights, graph.sinks)[0]
    (got,) = run_in_process(plan(graph, 3), x)
    assert relative_error(got, want) <= 1e-6
    assert torch.equal(whole, want)
    assert torch.equal(x, before)


def test_an_inplace_relu_changes_what_later_readers_of_its_input_see() -> None:
    class Aliased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            z = self.relu(y)
            return y + z

    torch.manual_seed(0)
    net = Aliased().eval()
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        assert torch.equal(run_in_process(plan(trace(net, x.shape), 2), x)[0], net(x))


def test_tracing_leaves_the_network_in_training_mode_but_plans_evaluation() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Dropout(0.9), nn.Flatten(), nn.Dropout(0.9)
    ).train()
    x = torch.ones(1, 3, 8, 8)
    graph = trace(net, x.shape)
    got = graph.head(*run_in_process(plan(graph, 2), x))
    assert all(module.training for module in net.modules())
    with torch.inference_mode():
        assert torch.equal(got, evaluation_view(net)(x))


class _Circular(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"))


class _CatRows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return torch.cat([y, y], dim=2)


class _Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("net", "named"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), "layer 1 (GroupNorm)"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Upsample(scale_factor=2)), "layer 1 (Upsample)"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 2)), "1 (ConvTranspose2d)"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmax(dim=2)), "layer 1 (Softmax)"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), "layer 0 (BatchNorm2d)"),
        (_Circular(), "layer 0 (Conv2d)"),
        (_CatRows(), "layer cat (cat)"),
        (_Branches(), "_Branches cannot be traced"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), "no layer that can be split"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(4), nn.Conv2d(4, 4, 3)),
            "layer 2 (Conv2d) works on a feature map after 1 (AdaptiveAvgPool2d)",
        ),
        (nn.Sequential(nn.Conv2d(5, 4, 3)), "layer 0 does not fit its input (3, 8, 8)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_split_is_refused_by_name(net: nn.Module, named: str) -> None:
    with pytest.raises(PlanError) as caught:
        plan(trace(net, (3, 8, 8)), 2)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"parts": 8}, "parts must be 1 to 7, got 8"),
        ({"parts": 0}, "parts must be 1 to 7, got 0"),
        ({"parts": 2, "shares": [1.0]}, "2 parts need 2 shares, got 1"),
        ({"parts": 2, "shares": [1.0, float("nan")]}, "shares must be positive"),
        ({"parts": 2, "shares": [1.0, -1.0]}, "shares must be positive"),
        ({"parts": 2, "mode": "fast"}, "mode must be one of layerwise, overlap, fused"),
        ({"parts": 2, "mode": ["fused"]}, "2 blocks, but 1 modes"),
        ({"parts": 5}, "7 has a feature map of 4 rows: 5 parts"),
    ],
)
def test_an_impossible_plan_is_refused_with_the_reason(
    arguments: dict[str, object], said: str
) -> None:
    graph = trace(vgg((1, 4), (1, 4)), (3, 17, 16))
    with pytest.raises(PlanError) as caught:
        plan(graph, **arguments)  # type: ignore[arg-type]
    assert said in str(caught.value)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_halo_of_one_row_arrives_in_the_order_in_which_it_left(layout):
    """One row of one image can be contiguous in both orders; the layout has to decide."""
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.MaxPool2d(2, stride=1)).eval()
    net = net.to(memory_format=layout)
    x = torch.randn(1, 1, 9, 8, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=layout)
    graph = trace(net, (1, 9, 8))
    with torch.inference_mode():
        whole = net(x)
        split = graph.head(*run_in_process(plan(graph, parts=2), x))
    torch.testing.assert_close(split, whole, rtol=1e-6, atol=1e-6)
