"""Counter-based random numbers: the same (seed, replication) gives the same draws everywhere.

A draw is a pure function of a stream key and a counter (SplitMix64's output function over a
Weyl sequence), so that the SimPy engine, the compiled engine and every worker of a sweep see the
same numbers in whatever order they run.

References
----------
Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdsim.model.curves import FloatArray

_WEYL = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)

#: Streams of one replication.
POLICY_STREAM, NOISE_STREAM = 0, 1
_BLOCK = 64


def uniform(key: Any, counter: Any) -> Any:
    """Return draw number `counter` of stream `key`, uniform on [0, 1).

    Written for uint64 arrays (numpy) and for uint64 scalars (compiled): one rule, one place.

    Parameters
    ----------
    key, counter : uint64 array or scalar

    Returns
    -------
    float64 array or scalar
        Multiples of 2**-53.
    """
    z = key + (counter + np.uint64(1)) * _WEYL
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    z = z ^ (z >> _S31)
    return (z >> _S11) * 1.1102230246251565e-16


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


def stream_keys(seed: int, replications: Any, stream: int) -> NDArray[np.uint64]:
    """Return the key of one stream for each replication.

    Parameters
    ----------
    seed : int
        Root seed, 0 <= seed < 2**63.
    replications : int or (n,) int array
        Replication numbers, >= 0.
    stream : int
        `POLICY_STREAM` or `NOISE_STREAM`.

    Returns
    -------
    (n,) uint64 array
    """
    numbers = np.atleast_1d(np.asarray(replications)).astype(np.uint64)
    root = _mix(np.full(1, seed, np.uint64) + _WEYL)
    return _mix(_mix(root ^ (numbers * _M2 + _WEYL)) + _weyl_steps(stream + 1))


def _weyl_steps(count: int) -> np.uint64:
    return np.uint64(count * int(_WEYL) % 2**64)  # numpy warns when a scalar wraps


class Draws:
    """The draws of one stream in order; made in blocks, since a numpy call costs like many."""

    __slots__ = ("_block", "_key", "_next")

    def __init__(self, seed: int, replication: int, stream: int = POLICY_STREAM) -> None:
        self._key = stream_keys(seed, replication, stream)
        self._block: list[float] = []
        self._next = 0

    def __call__(self) -> float:
        """Return the next draw, uniform on [0, 1)."""
        position = self._next % _BLOCK
        if position == 0:
            counters = np.arange(self._next, self._next + _BLOCK, dtype=np.uint64)
            self._block = uniform(self._key, counters).tolist()
        self._next += 1
        return self._block[position]


def noise_factors(seed: int, replications: Any, tasks: int, cv: float) -> FloatArray:
    """Return log-normal work factors with mean 1 and the given coefficient of variation.

    Parameters
    ----------
    seed : int
        Root seed.
    replications : int or (n,) int array
        Replication numbers.
    tasks : int
        One row of factors per replication; factor j belongs to task j under every policy.
    cv : float
        Coefficient of variation, >= 0.

    Returns
    -------
    (n, tasks) float array
        Factors; all 1 when `cv` is 0.
    """
    keys = stream_keys(seed, replications, NOISE_STREAM)
    if cv == 0:
        return np.ones((keys.size, tasks))
    sigma2 = np.log1p(cv * cv)
    counters = np.arange(2 * tasks, dtype=np.uint64).reshape(2, tasks)
    first = uniform(keys[:, None], counters[0][None, :])
    second = uniform(keys[:, None], counters[1][None, :])
    # Box and Muller 1958; 1 - u lies in (0, 1], so that the logarithm is finite.
    normal = np.sqrt(-2.0 * np.log(1.0 - first)) * np.cos(2.0 * np.pi * second)
    return np.asarray(np.exp(np.sqrt(sigma2) * normal - 0.5 * sigma2))
