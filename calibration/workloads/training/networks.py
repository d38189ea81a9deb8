"""The networks of the real workloads: a VGG-like cloud network, its edge prefixes, a small CNN.

Each network has ``.features`` (a flat ``nn.Sequential``) and ``.head`` (an ``nn.Sequential`` that
begins with Flatten). The edge networks are prefixes of the cloud's features, layer by layer at
the same index, so that weights are shared by position. A *layer*, as the literature on freezing
counts it, is one convolution with the BatchNorm, ReLU and pooling that follow it.

What is not here: freezing (``freezing``), training (``training``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdsim.errors import WorkloadError

#: Blocks of 3x3 convolutions, each entry (number of convolutions, kernels).
_BLOCKS: dict[str, tuple[tuple[int, int], ...]] = {
    "cloud": ((3, 32), (2, 48), (5, 80), (5, 128)),
    "edge-1": ((3, 32),),
    "edge-2": ((3, 32), (2, 48)),
    "edge-3": ((3, 32), (2, 48), (5, 80)),
    "small-cnn": ((1, 16), (1, 32)),
}

#: Width of the hidden fully connected layer and the dropout before the last one.
_HEADS: dict[str, tuple[int, float]] = {
    "cloud": (1024, 0.5),
    "edge-1": (1024, 0.5),
    "edge-2": (1024, 0.5),
    "edge-3": (1024, 0.5),
    "small-cnn": (64, 0.0),
}

NETWORKS: tuple[str, ...] = tuple(_BLOCKS)


class ConvNet(nn.Module):
    """A convolutional network in two parts.

    Attributes
    ----------
    name : str
        Key of the architecture, e.g. ``"edge-1"``.
    input_shape : (int, int, int)
        Channels, height and width of one image.
    classes : int
        Width of the logits.
    features : nn.Sequential
        Convolutions, BatchNorms, ReLUs and poolings, flat.
    head : nn.Sequential
        Flatten, then the fully connected layers.
    """

    def __init__(self, name: str, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.name = name
        self.input_shape = input_shape
        self.classes = classes
        self.features: nn.Sequential
        self.head: nn.Sequential
        self.features, shape = _features(_BLOCKS[name], input_shape)
        self.head = _head(*_HEADS[name], shape[0] * shape[1] * shape[2], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits.

        Parameters
        ----------
        images : (batch, channels, height, width) float tensor
            Normalised images.

        Returns
        -------
        (batch, classes) float tensor
        """
        logits: Tensor = self.head(self.features(images))
        return logits  # (batch, classes)


def build_network(
    name: str, input_shape: tuple[int, int, int], classes: int, *, seed: int = 0
) -> ConvNet:
    """Build a network with fresh weights.

    The weights are a function of the arguments alone: torch's own random state is neither read
    nor moved.

    Parameters
    ----------
    input_shape : (int, int, int)
        Channels, height and width of one image. Each block ends with a 2x2 max-pool; along a
        side that is already one pixel wide the pool keeps that pixel, so that any input size
        works (8x8 digits reach 1x1 after three blocks, and the fourth pool of the cloud network
        becomes the identity).
    classes : int
        Number of classes, 2 or more.

    Returns
    -------
    ConvNet
        In training mode.

    Raises
    ------
    WorkloadError
        If the name is unknown, a side is not positive, or there are fewer than 2 classes.

    Examples
    --------
    >>> net = build_network("edge-1", (1, 28, 28), 10)
    >>> net.head[1].in_features  # 32 maps of 14 x 14
    6272
    """
    if name not in _BLOCKS:
        raise WorkloadError(f"network must be one of {', '.join(NETWORKS)}; got {name!r}")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise WorkloadError(
            f"input_shape must be (channels, height, width), all positive; got {input_shape}"
        )
    if classes < 2:
        raise WorkloadError(f"classes must be 2 or more, got {classes}")
    # torch's layers draw their weights from the global generator: seed it for that time.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels, height, width = input_shape
        return ConvNet(name, (channels, height, width), classes)


def to_channels_last(network: nn.Module) -> None:
    """Lay the weights out with the channels last: a quarter faster for convolutions on a CPU."""
    # torch's stubs lack this overload of Module.to.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def layer_ends(features: nn.Sequential) -> list[int]:
    """Return, for each convolutional layer, the index in `features` just after it.

    ``features[:layer_ends(features)[n - 1]]`` is the prefix of the first n layers, with the
    BatchNorm, ReLU and pooling that belong to the last of them.
    """
    starts = [i for i, module in enumerate(features) if isinstance(module, nn.Conv2d)]
    return [*starts[1:], len(features)]


def layer_count(network: ConvNet) -> int:
    """Return m, the number of convolutional layers (3, 5 and 10 for edge-1, -2 and -3)."""
    return len(layer_ends(network.features))


def parameter_count(network: nn.Module) -> int:
    """Return the number of parameters (weights, biases, BatchNorm scales and shifts)."""
    return sum(parameter.numel() for parameter in network.parameters())


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What one layer with weights costs for one image.

    Attributes
    ----------
    name : str
        Its path in the network, e.g. ``"features.3"``.
    parameters : int
        Weights and biases of the layer.
    flops : int
        Floating-point operations of the forward pass, 2 a multiply-add.
    output_shape : tuple of int
        Without the batch dimension.
    """

    name: str
    parameters: int
    flops: int
    output_shape: tuple[int, ...]


def layer_costs(network: nn.Module, input_shape: tuple[int, int, int]) -> list[LayerCost]:
    """Count each convolution and fully connected layer for one image.

    Counted are multiplications and additions of convolutions and matrix products (2 a
    multiply-add, padding included); BatchNorm, activations, pooling and bias additions count
    nothing, as is the custom. The network is run once on a zero image of the *meta* device, so
    that neither its weights, its BatchNorm statistics nor any random state move.

    Parameters
    ----------
    network : nn.Module
        Any network of Conv2d and Linear layers.
    input_shape : (int, int, int)
        Channels, height and width of one image.

    Returns
    -------
    list of LayerCost
        In the order of execution.
    """
    costs: list[LayerCost] = []

    def hook(name: str, layer: nn.Conv2d | nn.Linear) -> Callable[..., None]:
        def count(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            macs_per_output = layer.weight[0].numel()
            own = sum(p.numel() for p in layer.parameters(recurse=False))
            flops = 2 * macs_per_output * output[0].numel()
            costs.append(LayerCost(name, own, flops, tuple(output.shape[1:])))

        return count

    counted = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    handles = [module.register_forward_hook(hook(name, module)) for name, module in counted]
    training = network.training
    meta = {
        name: tensor.to("meta")
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]
    }
    try:
        network.eval()
        with torch.no_grad():
            image = torch.zeros(1, *input_shape, device="meta")
            torch.func.functional_call(network, meta, (image,))
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return costs


def flop_count(network: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Return the forward FLOPs of one image; see :func:`layer_costs` for what is counted."""
    return sum(cost.flops for cost in layer_costs(network, input_shape))


def _features(
    blocks: tuple[tuple[int, int], ...], input_shape: tuple[int, int, int]
) -> tuple[nn.Sequential, tuple[int, int, int]]:
    channels, height, width = input_shape
    modules: list[nn.Module] = []
    for convolutions, kernels in blocks:
        for _ in range(convolutions):
            # No bias: the BatchNorm behind it would take it out again.
            modules.append(nn.Conv2d(channels, kernels, 3, padding=1, bias=False))
            modules += [nn.BatchNorm2d(kernels), nn.ReLU()]
            channels = kernels
        window = (min(height, 2), min(width, 2))
        # An identity, not nothing: positions stay those of the cloud network.
        modules.append(nn.Identity() if window == (1, 1) else nn.MaxPool2d(window))
        height, width = height // window[0], width // window[1]
    return nn.Sequential(*modules), (channels, height, width)


def _head(hidden: int, dropout: float, inputs: int, classes: int) -> nn.Sequential:
    modules: list[nn.Module] = [nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU()]
    if dropout:
        modules.append(nn.Dropout(dropout))
    return nn.Sequential(*modules, nn.Linear(hidden, classes))
