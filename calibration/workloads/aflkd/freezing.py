"""Freeze the first layers of a network, exactly, and spare the work that freezing makes needless.

Frozen means: the weights and the BatchNorm buffers of the layer do not change by a single bit. A
weight decay, a stale momentum or a BatchNorm left in training mode would all move them, so freezing
sets ``requires_grad`` to False, drops the gradient *and* the optimizer's state, and keeps the
layer in eval mode. Weights come from the cloud as copies; no storage is shared with the teacher.

What is not here: how many layers to freeze (``temperature``), training loops (``training``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calibration.workloads.training.networks import ConvNet, layer_count, layer_ends
from calibration.workloads.training.placement import device_of
from kdsim.errors import WorkloadError


def frozen_prefix(network: ConvNet, layers: int) -> nn.Sequential:
    """Return the modules of the first `layers` layers, sharing the network's weights.

    Raises
    ------
    WorkloadError
        If the network has fewer layers.
    """
    return nn.Sequential(*list(network.features)[: _cut(network, layers)])


def trainable_tail(network: ConvNet, layers: int) -> nn.Sequential:
    """Return what follows the first `layers` layers, head included, sharing the weights."""
    return nn.Sequential(*list(network.features)[_cut(network, layers) :], *network.head)


def share_layers(teacher: ConvNet, student: ConvNet, layers: range) -> None:
    """Copy layers of the teacher, weights and BatchNorm buffers, into the student.

    Parameters
    ----------
    teacher, student : ConvNet
        The student's features are a prefix of the teacher's.
    layers : range
        Which layers, counted from 0.

    Raises
    ------
    WorkloadError
        If the layers of the two networks do not match.
    """
    ends = [0, *layer_ends(student.features)]
    for layer in layers:
        for index in range(ends[layer], ends[layer + 1]):
            source = teacher.features[index].state_dict()
            target = student.features[index].state_dict()
            if {k: v.shape for k, v in source.items()} != {k: v.shape for k, v in target.items()}:
                raise WorkloadError(
                    f"layer {layer + 1} of {student.name} does not match that of {teacher.name}: "
                    "an edge network must be a prefix of the cloud network"
                )
            student.features[index].load_state_dict(source)  # copies values, never storage


def freeze_layers(
    network: ConvNet, layers: int, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Freeze the first `layers` layers, unfreeze all others, and set the training mode.

    Parameters
    ----------
    network : ConvNet
        Changed in place: the frozen prefix is left in eval mode, the rest in training mode. To be
        called again after any ``network.train()``.
    layers : int
        How many, 0 to m.
    optimizer : Optimizer, optional
        Its state (momentum) of frozen weights is dropped, so that a layer that thaws later starts
        from rest instead of from a velocity of long ago.

    Raises
    ------
    WorkloadError
        If `layers` is outside 0 to m.
    """
    network.train()
    frozen = frozen_prefix(network, layers)
    kept = {id(parameter) for parameter in frozen.parameters()}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) not in kept)
    for parameter in frozen.parameters():
        parameter.grad = None
        if optimizer is not None:
            optimizer.state.pop(parameter, None)
    frozen.eval()


def prefix_features(
    network: ConvNet, images: Tensor, layers: int, *, batch_size: int, limit_mb: float
) -> Tensor | None:
    """Run the frozen prefix once over fixed data.

    Parameters
    ----------
    network : ConvNet
        Its prefix must be frozen (eval mode).
    images : (n, channels, height, width) float tensor
        The data, on any device; not augmented, or the result would be stale.
    layers : int
        Depth of the prefix, 1 to m.
    batch_size : int
        Images in one forward pass; that of training, so that the same kernels run.
    limit_mb : float
        The most memory that the features may take, in MB (10**6 bytes).

    Returns
    -------
    (n, maps, height, width) float tensor or None
        The inputs of the first layer that trains; None if they would exceed `limit_mb`.
    """
    prefix, device = frozen_prefix(network, layers), device_of(network)
    with torch.no_grad():
        first = prefix(images[:1].to(device))  # (1, maps, height, width)
        if first[0].numel() * first.element_size() * len(images) > limit_mb * 1e6:
            return None
        return torch.cat([prefix(part.to(device)) for part in images.split(batch_size)])


def _cut(network: ConvNet, layers: int) -> int:
    m = layer_count(network)
    if not 0 <= layers <= m:
        raise WorkloadError(f"{network.name} can freeze 0 to {m} layers, got {layers}")
    return layer_ends(network.features)[layers - 1] if layers else 0
