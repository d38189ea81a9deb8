"""Random changes of training images that leave their labels true."""

from __future__ import annotations

import torch
from torch import Tensor


def augment(images: Tensor, *, generator: torch.Generator, pad: int = 2) -> Tensor:
    """Flip each image left-right with probability 1/2 and shift it by up to `pad` pixels.

    Parameters
    ----------
    images : (batch, channels, height, width) float tensor
        Normalised images; the border is filled with the channel mean (zero).
    generator : torch.Generator
        Source of all randomness, on the CPU: the same moves on every device.
    pad : int
        Largest shift in pixels along each side.

    Returns
    -------
    (batch, channels, height, width) float tensor
        A new tensor.
    """
    batch, _, height, width = images.shape
    device = images.device
    flip = (torch.rand(batch, generator=generator) < 0.5).to(device)
    flipped = torch.where(flip[:, None, None, None], images.flip(3), images)
    padded = torch.nn.functional.pad(flipped, (pad, pad, pad, pad))
    top = torch.randint(0, 2 * pad + 1, (batch, 1), generator=generator)
    left = torch.randint(0, 2 * pad + 1, (batch, 1), generator=generator)
    rows = (top + torch.arange(height)).to(device)  # (batch, height)
    columns = (left + torch.arange(width)).to(device)  # (batch, width)
    which = torch.arange(batch, device=device)[:, None, None]
    # Indexing with a slice between index arrays puts the channels last: bring them back.
    shifted = padded[which, :, rows[:, :, None], columns[:, None, :]]
    return shifted.permute(0, 3, 1, 2).contiguous()  # (batch, channels, height, width)
