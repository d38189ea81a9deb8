"""How noisy work may turn out: the futures on which the look-ahead plays its candidates.

A rule sees planned work only. Where the scenario says that work departs from the plan, what a
split is worth depends on how far: on the plan both sides may complete together again and again,
in fact one of them is late each time, and pays a change of the split for it. So candidates are
played on a few possible futures, the same for all of them.
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

import numpy as np

from kdsim.model.curves import FloatArray

#: Cycles after which an outlook's factors begin again.
PERIOD = 64
#: Pairs of outlooks under noise.
PAIRS = 1
#: The numbers whose multiples fill the unit cube most evenly (powers of 1/x, x**4 = x + 1).
_STEPS = tuple(1.2207440846057596**-power for power in (1, 2, 3))


def outlooks_of(noise: float) -> FloatArray:
    """Return factors on the work of each task in each outlook.

    Parameters
    ----------
    noise : float
        Coefficient of variation of each task's work.

    Returns
    -------
    (3 * PERIOD * outlooks,) float array
        Per outlook the factors of `PERIOD` Comm, then Forward, then Backward tasks; a single
        outlook of ones without noise. They come in pairs: what takes longer than planned in one is
        shorter in the other.
    """
    if noise == 0.0:
        return np.ones(3 * PERIOD)
    sigma = math.sqrt(math.log1p(noise * noise))
    return np.exp(sigma * _deviates() - 0.5 * sigma * sigma).ravel()


@functools.cache
def _deviates() -> FloatArray:
    """Return standard normal deviates, (outlooks, 3 * PERIOD), spread evenly."""
    inverse, rows = NormalDist().inv_cdf, []
    for pair in range(PAIRS):
        places = range(pair * PERIOD + 1, (pair + 1) * PERIOD + 1)
        row = [inverse((0.5 + step * place) % 1.0) for step in _STEPS for place in places]
        rows += [row, [-x for x in row]]
    return np.array(rows)
