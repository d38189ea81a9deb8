"""Four faults of a published implementation, reproduced, and their absence here.

The split below is written out by hand for two parts and 3x3 convolutions followed by ReLU; each
fault is one deviation from it.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from split_networks import relative_error
from torch import Tensor, nn

from calibration.workloads.split_inference import plan, run_in_process, trace

HEIGHT, DEPTH = 12, 3


def _net(seed: int = 0) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(DEPTH):
        layers += [nn.Conv2d(3 if i == 0 else 4, 4, 3, padding=1), nn.ReLU()]
    net = nn.Sequential(*layers).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return net


def _image(seed: int) -> Tensor:
    return torch.randn(1, 3, HEIGHT, 8, generator=torch.Generator().manual_seed(seed))


class ByHand:
    """Two devices, each with half of the rows, and a store through which they pass halos."""

    def __init__(self, net: nn.Sequential, fault: str = "") -> None:
        other = _net(seed=9) if fault == "own weights" else net
        self.devices = (net, other)
        self.fault = fault
        self.store: dict[tuple[int, int], Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        halves = list(x.split(HEIGHT // 2, dim=2))
        raw = halves
        for i in range(DEPTH):
            self._publish(i, raw if self.fault == "before the ReLU" else halves)
            raw = [self._convolve(i, device, halves[device]) for device in (0, 1)]
            halves = [F.relu(block) for block in raw]
        if self.fault != "store never cleared":
            self.store.clear()
        return torch.cat(halves, dim=2)

    def _publish(self, layer: int, blocks: list[Tensor]) -> None:
        wrong = self.fault == "a wrong row"
        for device, block in enumerate(blocks):
            # The row at the cut: the last of the first device, the first of the second.
            at_cut = (device == 0) != wrong
            rows = block[:, :, -1:] if at_cut else block[:, :, :1]
            if (layer, device) not in self.store or self.fault != "store never cleared":
                self.store[layer, device] = rows

    def _convolve(self, layer: int, device: int, block: Tensor) -> Tensor:
        conv = self.devices[device][2 * layer]
        halo = self.store[layer, 1 - device]
        edge = torch.zeros_like(halo)
        rows = [edge, block, halo] if device == 0 else [halo, block, edge]
        return F.conv2d(torch.cat(rows, dim=2), conv.weight, conv.bias, padding=(0, 1))


def _second_of_two_images(split: ByHand) -> Tensor:
    split(_image(1))
    return split(_image(2))


def test_the_split_by_hand_without_a_fault_is_exact() -> None:
    net = _net()
    with torch.inference_mode():
        assert relative_error(_second_of_two_images(ByHand(net)), net(_image(2))) <= 1e-6


@pytest.mark.parametrize(
    "fault", ["before the ReLU", "a wrong row", "own weights", "store never cleared"]
)
def test_each_fault_spoils_the_result_and_this_split_has_none_of_them(fault: str) -> None:
    net = _net()
    with torch.inference_mode():
        want = net(_image(2))
        assert relative_error(_second_of_two_images(ByHand(net, fault)), want) > 1e-2
        split = plan(trace(net, (3, HEIGHT, 8)), 2)
        run_in_process(split, _image(1))
        assert relative_error(run_in_process(split, _image(2))[0], want) <= 1e-6
