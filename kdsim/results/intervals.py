"""Means and medians with confidence intervals, and paired differences.

Every interval names its method and n. What is *not* here: drawing (``plots``) and the design of
a study (``sweep``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

#: Wide enough that one float rounding of identical values is not taken for spread.
_SPREAD_RTOL = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its confidence interval.

    Attributes
    ----------
    mean, low, high : float
        The estimate and the ends of the interval, in the unit of the data.
    n : int
        Number of observations (of pairs, for a difference).
    level : float
        Nominal coverage, e.g. 0.95.
    method : str
        ``"t"`` (Student), ``"exact"`` (all observations are equal: a deterministic quantity), or
        ``"none"`` (one observation of a quantity that may vary: no interval can be given and the
        ends are NaN).
    sd : float
        Sample standard deviation (n - 1).
    """

    mean: float
    low: float
    high: float
    n: int
    level: float
    method: str
    sd: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero."""
        return self.low > 0.0 or self.high < 0.0


def mean_interval(
    values: ArrayLike, *, level: float = 0.95, deterministic: bool = False
) -> Interval:
    """Give the mean of independent observations with its Student t interval.

    Parameters
    ----------
    values : (n,) array_like
        The observations; n >= 1, all finite.
    level : float
        Nominal coverage in (0, 1).
    deterministic : bool
        The quantity has no randomness, so that one observation is the whole truth.

    Raises
    ------
    ValueError
        If there are no values, one is not finite, or `level` is outside (0, 1).

    Examples
    --------
    >>> interval = mean_interval([1.0, 2.0, 3.0])
    >>> round(interval.low, 3), round(interval.high, 3)
    (-0.484, 4.484)
    """
    x = _observations(values, level, "mean_interval")
    n = int(x.size)
    low, high = float(x.min()), float(x.max())
    if high - low <= _SPREAD_RTOL * max(abs(low), abs(high)) and (n > 1 or deterministic):
        mean = low if low == high else float(x.mean())
        return Interval(mean, mean, mean, n, level, "exact", 0.0)
    mean = float(x.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, n, level, "none", math.nan)
    sd = float(x.std(ddof=1))
    half = student_t_quantile(0.5 + level / 2.0, n - 1) * sd / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, level, "t", sd)


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, level: float = 0.95, deterministic: bool = False
) -> Interval:
    """Give the mean of ``a - b`` over pairs that share their randomness, with its t interval.

    Parameters
    ----------
    a, b : (n,) array_like
        Observations under two treatments; entry i of both shares seed and replication. An array
        of one value stands for a deterministic quantity and is paired with every entry.
    level : float
        Nominal coverage in (0, 1).
    deterministic : bool
        Neither quantity has any randomness.

    Raises
    ------
    ValueError
        If the lengths differ and neither is 1.
    """
    x, y = np.asarray(a, dtype=float).ravel(), np.asarray(b, dtype=float).ravel()
    if x.size != y.size and 1 not in (x.size, y.size):
        raise ValueError(f"paired_difference needs equal lengths, got {x.size} and {y.size}")
    return mean_interval(x - y, level=level, deterministic=deterministic)


def student_t_quantile(p: float, dof: int) -> float:
    """Return the p-quantile of Student's t with `dof` degrees of freedom."""
    from scipy.special import stdtrit  # not at import: scipy must not slow down `kdsim --help`

    return float(stdtrit(dof, p))


def replications_needed(interval: Interval) -> int:
    """Estimate how many pairs would make the interval exclude zero at the difference observed.

    Parameters
    ----------
    interval : Interval
        A paired difference from :func:`paired_difference`.

    Returns
    -------
    int
        The present n when it is enough already (or nothing varies), else the smallest n at which
        ``|mean| > t * sd / sqrt(n)`` in the normal approximation; ``2**62`` when no number can be
        given: the mean is 0, or there is one pair only.
    """
    if interval.method == "exact" or interval.excludes_zero:
        return interval.n
    if interval.mean == 0.0 or not math.isfinite(interval.sd):
        return 2**62
    z = student_t_quantile(0.5 + interval.level / 2.0, 10**6)
    return max(interval.n + 1, math.ceil((z * interval.sd / interval.mean) ** 2))


@dataclass(frozen=True, slots=True)
class MedianInterval:
    """A median with its distribution-free confidence interval.

    Attributes
    ----------
    median, low, high : float
        The estimate and two order statistics around it; the ends are NaN where there are too few
        observations for the level (fewer than 6 at 95 %).
    n : int
        Number of observations.
    level : float
        Nominal coverage; what is covered is at least that.
    """

    median: float
    low: float
    high: float
    n: int
    level: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width as a share of the median; NaN without an interval."""
        return (self.high - self.low) / (2 * abs(self.median)) if self.median else math.nan


def median_interval(values: ArrayLike, *, level: float = 0.95) -> MedianInterval:
    """Give the median of independent observations with the interval of its order statistics.

    It assumes nothing of the distribution. One wild observation among nine cannot move an end of
    the interval; among fewer it widens the interval and is seen in that.

    Parameters
    ----------
    values : (n,) array_like
        The observations; n >= 1, all finite.
    level : float
        Nominal coverage in (0, 1).

    Raises
    ------
    ValueError
        As for :func:`mean_interval`.

    References
    ----------
    H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, Wiley 2003, section 7.1.

    Examples
    --------
    >>> median_interval([5.0, 1.0, 2.0, 3.0, 4.0, 90.0])
    MedianInterval(median=3.5, low=1.0, high=90.0, n=6, level=0.95)
    """
    x = np.sort(_observations(values, level, "median_interval"))
    n = int(x.size)
    below, outer = 0.0, 0
    # The k-th smallest and k-th largest miss the median with probability 2 P(Binomial(n, 1/2) < k).
    for k in range(1, n // 2 + 1):
        below += math.comb(n, k - 1) / 2**n
        if 2 * below > 1.0 - level:
            break
        outer = k
    low, high = (x[outer - 1], x[n - outer]) if outer else (math.nan, math.nan)
    return MedianInterval(float(np.median(x)), float(low), float(high), n, level)


def _observations(values: ArrayLike, level: float, who: str) -> FloatArray:
    """Return the values as a checked array; `who` asks, for the message."""
    x = np.asarray(values, dtype=float).ravel()
    if x.size == 0:
        raise ValueError(f"{who} needs at least one value, got none")
    if not np.isfinite(x).all():
        raise ValueError(f"{who} needs finite values, got NaN or an infinity")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie in (0, 1), got {level!r}")
    return x
