"""The cloud's teacher: trained once on its own data, then used for prediction only.

A finished teacher is its checkpoint: training it again from the same checkpoint returns at once.
The teacher answers in eval mode without gradients; nothing here or in its users changes it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.workloads.data.datasets import Dataset
from calibration.workloads.training.loops import EpochMeasure, TrainingConfig, fit
from calibration.workloads.training.networks import ConvNet, build_network
from calibration.workloads.training.seeds import derive_seed


def train_teacher(
    dataset: Dataset,
    indices: NDArray[np.int64],
    config: TrainingConfig,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    device: torch.device | None = None,
    on_epoch: Callable[[int, EpochMeasure], None] | None = None,
) -> ConvNet:
    """Train the cloud network on its part of the training data, or finish or load its checkpoint.

    Parameters
    ----------
    indices : (k,) int64 array
        The teacher's part (``Split.teacher``): never a test image, never a student's.
    config : TrainingConfig
        Epochs, batch size and so on.
    seed : int
        Of the weights, the order and the dropout.
    checkpoint : path, optional
        Written after each epoch; resumed from when it exists.
    device : torch.device, optional
        Where it trains and stays; the CPU by default.
    on_epoch : callable, optional
        Called with the epoch (from 1) and what it measured.

    Returns
    -------
    ConvNet
        In eval mode, its weights not requiring gradients.

    Raises
    ------
    WorkloadError
        As ``training.fit``.
    """
    network = build_network(
        "cloud", dataset.input_shape, dataset.classes, seed=derive_seed(seed, "teacher")
    ).to(device or torch.device("cpu"))
    identity = {"network": "cloud", "data": dataset.name, "digest": dataset.digest}
    fit(
        network,
        dataset.images("train", indices),
        dataset.labels("train", indices),
        config,
        seed=seed,
        checkpoint=checkpoint,
        identity=identity,
        on_epoch=on_epoch,
    )
    return network.eval().requires_grad_(False)
