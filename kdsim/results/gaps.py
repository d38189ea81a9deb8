"""The gap of a makespan to its bound, without the rounding of the last digits."""

from __future__ import annotations

from typing import overload

import numpy as np

from kdsim.model.curves import FloatArray

#: A gap below this share is rounding: the run is as fast as the bound. The engines agree on every
#: makespan to the same relative accuracy.
NO_GAP = 1e-9


@overload
def gap_of(makespan: float, bound: float) -> float: ...
@overload
def gap_of(makespan: FloatArray, bound: FloatArray) -> FloatArray: ...
def gap_of(makespan: float | FloatArray, bound: float | FloatArray) -> float | FloatArray:
    """Return ``makespan / bound - 1``; what is rounding, of either sign, is 0.

    Parameters
    ----------
    makespan : float or (n,) float array
        Seconds.
    bound : float or (n,) or (1,) float array
        Seconds, greater than 0.

    Returns
    -------
    float or (n,) float array
        A share. Less than ``-NO_GAP`` would be a fault of an engine or of the bound, and is shown.

    Examples
    --------
    >>> gap_of(1.1, 1.0) > 0.0999, gap_of(0.1 + 0.2, 0.3), gap_of(0.3, 0.1 + 0.2)
    (True, 0.0, 0.0)
    """
    gap = makespan / bound - 1.0
    if isinstance(gap, np.ndarray):
        return np.where(np.abs(gap) < NO_GAP, 0.0, gap)
    return 0.0 if abs(gap) < NO_GAP else gap
