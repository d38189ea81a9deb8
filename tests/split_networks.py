"""Random networks for the split tests: drawn by Hypothesis, built by torch, traceable by fx."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor, nn


class Spec(NamedTuple):
    """A network as drawn: its input and a list of layers."""

    channels: int
    height: int
    width: int
    layers: list[dict[str, Any]]
    seed: int


@st.composite
def network_specs(draw: st.DrawFn, max_layers: int = 6) -> Spec:
    """Draw convolutions of every kind, pooling with k != s, residual sums and concatenations."""
    layers: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, max_layers))):
        kind = draw(st.sampled_from(["conv", "conv", "conv", "max", "avg", "residual", "concat"]))
        k = draw(st.sampled_from([3, 3, 5, 7])) if kind == "conv" else draw(st.integers(2, 3))
        layers.append(
            {
                "kind": kind,
                "k": k,
                "s": draw(st.integers(1, 2)) if kind == "conv" else draw(st.integers(1, 3)),
                "p": draw(st.integers(0, k // 2)),
                "d": draw(st.integers(1, 2)) if k == 3 else 1,
                "groups": draw(st.sampled_from([1, 1, 2, 4])),
                "same": kind == "conv" and draw(st.integers(0, 9)) == 0,
                "ceil": draw(st.booleans()),
                "count": draw(st.booleans()),
                "after": draw(st.sampled_from(["none", "relu", "bn-relu", "silu", "relu-inplace"])),
            }
        )
    return Spec(
        channels=draw(st.integers(1, 3)),
        height=draw(st.integers(9, 45)),
        width=draw(st.integers(9, 13)),
        layers=layers,
        seed=draw(st.integers(0, 2**31 - 1)),
    )


class RandomNet(nn.Module):
    """The network of a spec; layers that no longer fit the shrinking map are left out."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        self.kinds: list[str] = []
        x, c = torch.empty(1, spec.channels, spec.height, spec.width, device="meta"), 8
        stem = nn.Conv2d(spec.channels, c, 3, padding=1)
        self._take("one", stem, x)
        for layer in spec.layers:
            shape = self._shape(spec)
            for kind, module in self._drawn(layer, c):
                if self._fits(kind, module, shape):
                    self._take(kind, module, shape)
                    shape = self._shape(spec)
        generator = torch.Generator().manual_seed(spec.seed)
        self._fill(generator)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        for kind, module in zip(self.kinds, self.parts, strict=True):
            if kind == "residual":
                x = module(x) + x
            elif kind == "concat":
                x = torch.cat([module[0](x), module[1](x)], dim=1)
            else:
                x = module(x)
        return x

    def _shape(self, spec: Spec) -> Tensor:
        x = torch.empty(1, spec.channels, spec.height, spec.width, device="meta")
        return self.to("meta").forward(x)

    def _fits(self, kind: str, module: nn.Module, x: Tensor) -> bool:
        try:
            y = module.to("meta")(x) if kind != "concat" else x
        except RuntimeError:
            return False
        return y.shape[-2] >= 2 and y.shape[-1] >= 1

    def _take(self, kind: str, module: nn.Module, x: Tensor) -> None:
        self.kinds.append(kind)
        self.parts.append(module)

    def _drawn(self, o: dict[str, Any], c: int) -> list[tuple[str, nn.Module]]:
        after = {
            "none": [],
            "relu": [nn.ReLU()],
            "relu-inplace": [nn.ReLU(inplace=True)],
            "bn-relu": [nn.BatchNorm2d(c), nn.ReLU()],
            "silu": [nn.SiLU()],
        }[o["after"]]
        tail = [("one", module) for module in after]
        if o["kind"] == "conv":
            return [("one", self._conv(o, c)), *tail]
        if o["kind"] == "max":
            pad = min(o["p"], o["k"] // 2)
            return [("one", nn.MaxPool2d(o["k"], o["s"], pad, o["d"], ceil_mode=o["ceil"])), *tail]
        if o["kind"] == "avg":
            pad = min(o["p"], o["k"] // 2)
            pool = nn.AvgPool2d(o["k"], o["s"], pad, o["ceil"], o["count"])
            return [("one", pool), *tail]
        inner = nn.Conv2d(c, c, 3, padding=o["d"], dilation=o["d"], groups=o["groups"])
        if o["kind"] == "residual":
            return [("residual", nn.Sequential(inner, nn.BatchNorm2d(c))), *tail]
        half = [nn.Conv2d(c, c // 2, 1), nn.Conv2d(c, c // 2, 5, padding=2)]
        return [("concat", nn.ModuleList(half)), *tail]

    def _conv(self, o: dict[str, Any], c: int) -> nn.Module:
        if o["same"]:
            return nn.Conv2d(c, c, o["k"], padding="same", groups=o["groups"])
        return nn.Conv2d(c, c, o["k"], o["s"], o["p"], o["d"], groups=o["groups"])

    def _fill(self, generator: torch.Generator) -> None:
        self.to_empty(device="cpu")
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    fan = module.weight[0].numel()
                    module.weight.normal_(0, fan**-0.5, generator=generator)
                    module.bias.normal_(0, 0.1, generator=generator)
                elif isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_(0, 0.1, generator=generator)
                    module.running_var.uniform_(0.5, 1.5, generator=generator)
                    module.weight.uniform_(0.5, 1.5, generator=generator)
                    module.bias.normal_(0, 0.1, generator=generator)


def image(spec: Spec, batch: int = 1) -> Tensor:
    """Return an input for the network of a spec."""
    generator = torch.Generator().manual_seed(spec.seed + 1)
    return torch.randn(batch, spec.channels, spec.height, spec.width, generator=generator)


def relative_error(got: Tensor, want: Tensor) -> float:
    """Return the largest difference over the largest value."""
    if got.shape != want.shape:
        return float("inf")
    return float((got - want).abs().max() / want.abs().max().clamp_min(1e-30))


def vgg(*blocks: tuple[int, int], channels: int = 3, seed: int = 0) -> nn.Sequential:
    """Return blocks of (count, channels) 3x3 convolutions, BatchNorm, ReLU, then max-pooling."""
    layers: list[nn.Module] = []
    for count, width in blocks:
        for _ in range(count):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            channels = width
        layers.append(nn.MaxPool2d(2))
    net = nn.Sequential(*layers).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                fan = module.weight[0].numel()
                module.weight.normal_(0, (2 / fan) ** 0.5, generator=generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    return net
