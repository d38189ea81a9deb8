"""Where tensors are: the CPU or an accelerator, and the memory layout that is fastest there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from calibration.workloads.training.networks import to_channels_last
from kdsim.errors import WorkloadError


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``"auto"`` is an accelerator where there is one.

    On an accelerator float32 is float32: the shortened products (TF32) that torch takes for
    convolutions by default are turned off for the process, and so are algorithms of cuDNN whose
    result may differ from run to run.

    Parameters
    ----------
    name : {"auto", "cpu", "cuda"}

    Raises
    ------
    WorkloadError
        If the name is unknown, or ``"cuda"`` is asked for where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise WorkloadError(f"device must be auto, cpu or cuda; got {name!r}")
    there = name != "cpu" and torch.cuda.is_available()
    if name == "cuda" and not there:
        raise WorkloadError("device cuda is asked for, but torch finds no such accelerator here")
    if not there:
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda")


def device_of(network: nn.Module) -> torch.device:
    """Return where a network's weights are; the CPU if it has none."""
    first = next(network.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def move_network(network: nn.Module, device: torch.device) -> None:
    """Move a network's weights to a device, in the memory layout that is fastest there."""
    network.to(device)
    if device.type == "cpu":
        to_channels_last(network)


def move_images(images: Tensor, device: torch.device) -> Tensor:
    """Return images on a device, in the memory layout that is fastest there."""
    if device.type == "cpu":
        return images.to(device).contiguous(memory_format=torch.channels_last)
    return images.to(device)


def on_device(order: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
    """Move an epoch's batches of indices to a device, all at once."""
    if device.type == "cpu":
        return order
    return torch.split(torch.cat(list(order)).to(device), [len(rows) for rows in order])
