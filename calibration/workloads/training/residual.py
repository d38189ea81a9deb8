"""ResNet-18, the network of the decentralised study's paper, for small images and for large ones.

For images of 32 pixels the stem is one 3x3 convolution without pooling, as is usual; for those of
64 and more it is that of the original, a 7x7 convolution and a max-pool that each halve the sides.
Weights are random; those of a network trained before come from a file (``weights``).

What is *not* here: the plain convolutional networks (``networks``).

References
----------
K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from calibration.workloads.checks import check_choice
from calibration.workloads.training.networks import NETWORKS, ConvNet, build_network

RESNET_18 = "resnet-18"
RESNET_18_LARGE = "resnet-18-large"

#: Everything that a client's model may be.
CLIENT_NETWORKS: tuple[str, ...] = (*NETWORKS, RESNET_18, RESNET_18_LARGE)

_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # (channels, stride of the first block)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of (batch, outputs, height / stride, width / stride)."""
        inner = functional.relu(self.first_norm(self.first(maps)))
        return functional.relu(self.second_norm(self.second(inner)) + self.shortcut(maps))


class ResNet18(nn.Module):
    """ResNet-18 with the attributes of :class:`calibration.workloads.training.networks.ConvNet`.

    Attributes
    ----------
    stem : int
        Modules of ``features`` before the first block.
    """

    def __init__(self, name: str, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.name, self.input_shape, self.classes = name, input_shape, classes
        large = name == RESNET_18_LARGE
        side, stride, padding = (7, 2, 3) if large else (3, 1, 1)
        stem: list[nn.Module] = [
            nn.Conv2d(input_shape[0], 64, side, stride=stride, padding=padding, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        ]
        if large:
            stem.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.stem = len(stem)
        blocks, inputs = [], 64
        for outputs, stride in _STAGES:
            blocks += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
            inputs = outputs
        self.features = nn.Sequential(*stem, *blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (batch, classes)."""
        logits: Tensor = self.head(self.features(images))
        return logits


#: What a client of a decentralised run may train.
ClientNetwork: TypeAlias = ConvNet | ResNet18


def build_client_network(
    name: str, input_shape: tuple[int, int, int], classes: int, *, seed: int
) -> ClientNetwork:
    """Build a client's model with fresh weights that depend on the arguments alone.

    Parameters
    ----------
    name : str
        One of :data:`CLIENT_NETWORKS`.
    input_shape : (int, int, int)
        Channels, height and width of one image.

    Raises
    ------
    WorkloadError
        If the name is unknown.
    """
    check_choice("network", name, CLIENT_NETWORKS)
    if name in NETWORKS:
        return build_network(name, input_shape, classes, seed=seed)
    # torch's layers draw their weights from the global generator: seed it for that time.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet18(name, input_shape, classes)
