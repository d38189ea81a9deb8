"""Means over two crossed sources of chance: every seed of the student meets every teacher.

A difference between methods varies with the student's seed (its images, weights, order) and with
the teacher. Fifteen runs of three teachers and five seeds are not fifteen independent ones: an
interval must be as wide as three teachers allow. The model is ``mean + teacher + seed + rest``,
each a random effect; its variances are those of a two-way analysis of variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdsim.errors import WorkloadError
from kdsim.results.intervals import mean_interval


@dataclass(frozen=True, slots=True)
class Crossed:
    """A mean over teachers and seeds with its interval, and where the spread comes from.

    Attributes
    ----------
    mean, low, high : float
        The estimate and the ends of its interval, for teachers and seeds like these; NaN ends
        where there is one seed only, whatever the number of teachers.
    sd_teachers, sd_seeds, sd_rest : float
        Standard deviations of the effects: of a teacher, of a seed, of what neither explains. NaN
        for a source that occurs once.
    teachers, seeds : int
        How many of each; every pair of them is one run.
    method : str
        ``"crossed"``, or that of ``mean_interval`` where there is one teacher; ``"none"`` where
        there is one seed.
    """

    mean: float
    low: float
    high: float
    sd_teachers: float
    sd_seeds: float
    sd_rest: float
    teachers: int
    seeds: int
    level: float
    method: str


def crossed_interval(values: ArrayLike, *, level: float = 0.95) -> Crossed:
    """Give the mean of a complete crossing of teachers and seeds with its interval.

    With MT, MS and ME the mean squares of teachers, seeds and rest, the variance of the mean is
    ``(MT + MS - ME) / (teachers * seeds)``, its degrees of freedom are Satterthwaite's. A source
    whose estimated variance is negative counts as none. With a single teacher it is
    Student's interval over seeds; a single seed has none, since runs that share it share all but
    their teacher, and the baseline not even that.

    Parameters
    ----------
    values : (teachers, seeds) array_like
        One run each, all finite.
    level : float
        Nominal coverage in (0, 1).

    Raises
    ------
    WorkloadError
        If the values are no such table.
    """
    x = np.asarray(values, dtype=float)
    if x.ndim != 2 or x.size == 0 or not np.isfinite(x).all():
        raise WorkloadError(
            f"a crossing needs a finite table (teachers, seeds), got shape {x.shape}"
        )
    teachers, seeds = x.shape
    unknown = math.nan
    if seeds == 1:
        sd = float(x.std(ddof=1)) if teachers > 1 else unknown
        mean = float(x.mean())
        return Crossed(mean, unknown, unknown, sd, unknown, unknown, teachers, 1, level, "none")
    if teachers == 1:
        plain = mean_interval(x[0], level=level)
        return Crossed(
            plain.mean, plain.low, plain.high, unknown, plain.sd, unknown,
            1, seeds, level, plain.method,
        )  # fmt: skip
    mean = float(x.mean())
    by_teacher, by_seed = x.mean(axis=1), x.mean(axis=0)
    rest = x - by_teacher[:, None] - by_seed[None, :] + mean
    degrees = (teachers - 1, seeds - 1, (teachers - 1) * (seeds - 1))
    ms_t = seeds * float(((by_teacher - mean) ** 2).sum()) / degrees[0]
    ms_s = teachers * float(((by_seed - mean) ** 2).sum()) / degrees[1]
    ms_e = float((rest**2).sum()) / degrees[2]
    variance, df = _of_mean((ms_t, ms_s, ms_e), degrees, x)
    half = _student(level, df) * math.sqrt(variance)
    return Crossed(
        mean,
        mean - half,
        mean + half,
        math.sqrt(max(ms_t - ms_e, 0.0) / seeds),
        math.sqrt(max(ms_s - ms_e, 0.0) / teachers),
        math.sqrt(ms_e),
        teachers,
        seeds,
        level,
        "crossed",
    )


def _of_mean(
    squares: tuple[float, float, float], degrees: tuple[int, int, int], x: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the variance of the mean and its degrees of freedom."""
    ms_t, ms_s, ms_e = squares
    if ms_t > ms_e and ms_s > ms_e:
        total = ms_t + ms_s - ms_e
        spread = sum(ms**2 / df for ms, df in zip(squares, degrees, strict=True))
        return total / x.size, max(total**2 / spread, float(min(degrees[:2])))
    if ms_t > ms_e:
        return ms_t / x.size, float(degrees[0])
    if ms_s > ms_e:
        return ms_s / x.size, float(degrees[1])
    return float(x.var(ddof=1)) / x.size, float(x.size - 1)


def _student(level: float, df: float) -> float:
    from scipy.special import stdtrit  # slow to import

    return float(stdtrit(df, (1 + level) / 2))
