"""Randomness of a training: one seed per purpose, seeded batches, the global state lent.

All randomness of an epoch, the order of the images and the dropout masks, is a function of
``(seed, epoch)``, and nothing depends on what ran before in the same process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def derive_seed(seed: int, *purpose: object) -> int:
    """Return a seed for one purpose, unrelated to that of any other purpose.

    Parameters
    ----------
    *purpose : objects with a stable ``str``
        For example ``"order", epoch``.

    Returns
    -------
    int
        In [0, 2**63).

    Examples
    --------
    >>> derive_seed(0, "order", 1) == derive_seed(0, "order", 1) != derive_seed(0, "order", 2)
    True
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def generator_for(seed: int, *purpose: object) -> torch.Generator:
    """Return a torch generator for one purpose; see :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


@contextmanager
def own_random_state(seed: int, *purpose: object) -> Iterator[None]:
    """Seed torch's global random state inside the context, and restore it on leaving.

    Dropout draws from the global state and takes no generator; within this context its masks are
    a function of the arguments and the kind of device alone, and code outside notices nothing.
    """
    accelerators = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=accelerators):
        torch.manual_seed(derive_seed(seed, *purpose))
        yield


def batches(count: int, batch_size: int, *, generator: torch.Generator) -> list[Tensor]:
    """Shuffle `count` indices into batches.

    A last batch of a single image joins the one before it: BatchNorm has no variance to learn
    from one value.

    Parameters
    ----------
    count, batch_size : int
        How many indices, and how many a batch.

    Returns
    -------
    list of (k,) int64 tensor
        Each index once.
    """
    parts = list(torch.randperm(count, generator=generator).split(batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts
