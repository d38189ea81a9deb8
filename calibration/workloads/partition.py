"""Splitting a labelled data set among clients: evenly, or skewed towards primary labels.

Everything is drawn from a local generator in one vectorised pass: each sample goes to exactly one
client, the same seed gives the same split, and the time is bounded whatever the labels are.

What is *not* here: splits into training, public and test data (``datasets``).

References
----------
A. Zhmoginov et al., "Decentralized Learning with Multi-Headed Distillation", CVPR 2023,
section 4.1 (primary labels and the skewness gamma).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdsim.errors import DataError

IndexArray = NDArray[np.int64]


def iid_partition(
    labels: ArrayLike, clients: int, *, seed: int, sizes: Sequence[float] | None = None
) -> list[IndexArray]:
    """Deal shuffled samples to the clients, evenly or in given proportions.

    Parameters
    ----------
    labels : (n,) array_like of int
        One label a sample; only their number matters here.
    clients : int
        Number of clients, at least 1.
    sizes : sequence of float, optional
        Relative size of each client's share; equal by default. Sizes are exact up to rounding.

    Returns
    -------
    list of (n_k,) int64 arrays
        Sorted sample indices of each client; together they hold each index once.

    Raises
    ------
    DataError
        If the labels are not a vector, or `clients` or `sizes` are not usable.
    """
    samples = len(_as_labels(labels))
    weights = _as_weights(sizes, clients)
    order = np.random.default_rng(seed).permutation(samples)
    cuts = np.rint(np.cumsum(weights)[:-1] * samples).astype(np.int64)
    return [np.sort(share).astype(np.int64) for share in np.split(order, cuts)]


def primary_labels(
    classes: int, clients: int, *, per_client: int | None = None, seed: int
) -> list[tuple[int, ...]]:
    """Choose the labels each client mainly sees.

    Parameters
    ----------
    classes, clients : int
        Number of labels and of clients.
    per_client : int, optional
        Primary labels per client, between 0 and `classes`; where ``clients * per_client`` exceeds
        `classes`, clients share some labels. By default each label is primary for exactly one
        client, dealt as evenly as possible.
    seed : int
        Seed of the order in which labels are dealt.

    Returns
    -------
    list of tuple of int
        Sorted primary labels of each client.

    Raises
    ------
    DataError
        If `per_client` is out of range.
    """
    _check_clients(clients)
    order = np.random.default_rng([seed, 1]).permutation(classes)
    if per_client is None:
        return [tuple(sorted(int(x) for x in order[k::clients])) for k in range(clients)]
    if not 0 <= per_client <= classes:
        raise DataError(
            f"primary labels per client must lie between 0 and the {classes} classes, "
            f"got {per_client}"
        )
    # Consecutive stretches of the endless repetition of `order`: no label twice for one client,
    # and no label is given a second client before every label has had a first.
    starts = [k * per_client for k in range(clients)]
    return [
        tuple(sorted(int(order[(start + i) % classes]) for i in range(per_client)))
        for start in starts
    ]


def skewed_partition(
    labels: ArrayLike,
    clients: int,
    *,
    gamma: float,
    seed: int,
    primary: Sequence[Sequence[int]] | int | None = None,
    sizes: Sequence[float] | None = None,
) -> list[IndexArray]:
    """Split samples among clients, each label favouring the clients for which it is primary.

    A sample of label l goes to client i with a probability proportional to ``1 + gamma`` where l
    is a primary label of i, and to 1 elsewhere. With one primary client a label, that client's
    share is ``(1 + gamma) / (clients + gamma)`` in expectation.

    Parameters
    ----------
    labels : (n,) array_like of int
        One label a sample, any non-negative integers.
    clients : int
        Number of clients, at least 1.
    gamma : float
        Skewness, >= 0; 0 is :func:`iid_partition`.
    seed : int
        Seed of the split (and of the primary labels, where they are chosen here).
    primary : sequence of sequences of int, or int, optional
        Primary labels of each client, or how many each client has; see :func:`primary_labels`
        for the default. Labels count from 0 to the largest one present.
    sizes : sequence of float, optional
        Relative sizes of the clients: factors on their probabilities. Equal by default.

    Returns
    -------
    list of (n_k,) int64 arrays
        Sorted sample indices of each client; together they hold each index once. A client may
        get none where there are few samples.

    Raises
    ------
    DataError
        For negative labels or gamma, or `primary` and `sizes` that do not fit the clients.

    Examples
    --------
    >>> parts = skewed_partition([0, 0, 1, 1, 2, 2], 3, gamma=15, seed=0)
    >>> sorted(int(i) for part in parts for i in part)
    [0, 1, 2, 3, 4, 5]
    """
    y = _as_labels(labels)
    weights = _as_weights(sizes, clients)
    if not (gamma >= 0 and math.isfinite(gamma)):
        raise DataError(f"the skewness gamma must be a finite number >= 0, got {gamma!r}")
    if gamma == 0:
        return iid_partition(y, clients, seed=seed, sizes=sizes)
    classes = int(y.max()) + 1 if len(y) else 1
    if primary is None or isinstance(primary, int):
        primary = primary_labels(classes, clients, per_client=primary, seed=seed)
    if len(primary) != clients:
        raise DataError(f"primary labels are given for {len(primary)} clients, not for {clients}")

    odds = np.tile(weights, (classes, 1))  # (classes, clients)
    for client, chosen in enumerate(primary):
        present = [label for label in chosen if 0 <= label < classes]
        odds[present, client] *= 1.0 + gamma
    share = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)  # (classes, clients)
    share[:, -1] = 1.0  # rounding must not leave a draw beyond the last client

    # Inverse transform for all samples at once: the owner is the first client whose cumulated
    # probability exceeds the draw. Sorting by label would change the draws; this does not.
    draws = np.random.default_rng([seed, 0]).random(len(y))
    owner = np.zeros(len(y), dtype=np.int64)
    for client in range(clients - 1):
        owner += draws >= share[y, client]
    return [np.flatnonzero(owner == client).astype(np.int64) for client in range(clients)]


def label_mix(labels: ArrayLike, classes: int) -> NDArray[np.float64]:
    """Return the share of each label, (classes,), summing to 1.

    Raises
    ------
    DataError
        If there are no labels.
    """
    y = _as_labels(labels)
    if len(y) == 0:
        raise DataError("a client without samples has no label mix; give it data")
    counts = np.bincount(y, minlength=classes).astype(float)
    mix: NDArray[np.float64] = counts / counts.sum()
    return mix


def _as_labels(labels: ArrayLike) -> IndexArray:
    y = np.asarray(labels)
    if y.size == 0:
        y = y.astype(np.int64)
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"labels must be a vector of integers, got {y.dtype} of shape {y.shape}")
    if y.size and y.min() < 0:
        raise DataError(f"labels must not be negative, got {int(y.min())}")
    return y.astype(np.int64)


def _as_weights(sizes: Sequence[float] | None, clients: int) -> NDArray[np.float64]:
    _check_clients(clients)
    if sizes is None:
        return np.full(clients, 1.0 / clients)
    weights = np.asarray(sizes, dtype=float)
    if weights.shape != (clients,) or not (np.isfinite(weights) & (weights > 0)).all():
        raise DataError(
            f"sizes must be {clients} positive numbers, one per client, got {list(sizes)!r}"
        )
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _check_clients(clients: int) -> None:
    if clients < 1:
        raise DataError(f"the number of clients must be at least 1, got {clients}")
