"""What a training step costs at each number of frozen layers: measured here and now.

A run visits only the depths its temperature leads to; a simulator that asks "what if n were 2"
needs all of them. Times do not depend on what the images show, so that synthetic ones serve.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from calibration.workloads.aflkd.freezing import freeze_layers, frozen_prefix, trainable_tail
from calibration.workloads.records.profile import CycleCost
from calibration.workloads.training.loops import train_epoch
from calibration.workloads.training.networks import build_network, layer_count, to_channels_last
from kdsim.errors import WorkloadError


def depth_costs(
    name: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    batch_size: int = 32,
    steps: int = 5,
) -> list[CycleCost]:
    """Time training steps of a network with 0 to m frozen layers.

    Parameters
    ----------
    name : str
        A network of ``networks.build_network``.
    input_shape : (int, int, int)
        Channels, height and width of one image.
    batch_size : int
        Images per step, 2 or more.
    steps : int
        Steps timed at each depth, after one that warms up.

    Returns
    -------
    list of CycleCost
        `steps` cycles for each n, in order of n; ``epoch`` is n + 1. The frozen prefix is
        computed beforehand, as the training does with fixed data. The bytes are those of
        one batch: a byte per pixel up, float32 logits and a label byte down.

    Raises
    ------
    WorkloadError
        If a count is too small, or the network is unknown.
    """
    if batch_size < 2 or steps < 1:
        raise WorkloadError(
            f"need batch_size of 2 or more and steps of 1 or more, got {batch_size} and {steps}"
        )
    network = build_network(name, input_shape, classes)
    to_channels_last(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(batch_size, *input_shape, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(batch_size) % classes
    rows = torch.arange(batch_size)
    channels, height, width = input_shape
    sent = batch_size * channels * height * width
    received = batch_size * (4 * classes + 1)

    def objective(logits: Tensor, rows: Tensor, _: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels[rows])

    cycles: list[CycleCost] = []
    with torch.random.fork_rng(devices=[]):  # dropout draws from the global state
        for n in range(layer_count(network) + 1):
            freeze_layers(network, n, optimizer)
            with torch.no_grad():
                inputs = frozen_prefix(network, n)(images)
            forward = trainable_tail(network, n)
            measure = train_epoch(
                forward, inputs, labels, objective, [optimizer], [rows] * (steps + 1)
            )
            for step in range(1, steps + 1):
                cycles.append(
                    CycleCost(
                        cycle=len(cycles) + 1,
                        epoch=n + 1,
                        downlink_bytes=received,
                        uplink_bytes=sent,
                        forward_s=measure.forward_s[step],
                        backward_s=measure.backward_s[step],
                        cores=torch.get_num_threads(),
                        frozen_layers=n,
                    )
                )
    return cycles
