"""A device's compute curve: the form that its times support, and how well it is known.

Every network is one trial: its times at all core counts, in seconds per unit of work. Forms are
compared on how the times *scale*, with each network's own level taken out; the intervals resample
whole networks, level and all, so they say how far another network may lie from the curve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from calibration.devices.measurements import MeasuredDevice
from calibration.fit.estimate import TABLE, Draws, Samples, bootstrap_rates, fit_model
from calibration.fit.models import COMPUTE, side_models
from calibration.fit.selection import choose, compare
from kdsim._types import Record
from kdsim.model.curves import FloatArray

RESAMPLES = 200
LEVEL = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class ScalingCurve:
    """The compute curve of one device.

    Attributes
    ----------
    model : str
        The form chosen.
    total : int
        Most cores measured; the curve's reference cores.
    rates, low, high : (counts,) float array
        Units of work per second of the chosen form at each measured count, and the ends of its
        interval over networks.
    measured : (counts,) float array
        The same, without any form: the mean over networks at that count alone.
    draws : Draws
        Refits to resampled networks.
    table : DataFrame
        How each form does; see `calibration.fit.selection.compare`. Empty for one count.
    reasons : tuple of str
        Why this form, and what a user must know of it.
    """

    model: str
    parameters: Record
    total: int
    rates: FloatArray
    low: FloatArray
    high: FloatArray
    measured: FloatArray
    draws: Draws
    table: pd.DataFrame
    reasons: tuple[str, ...]


def unit_times(device: MeasuredDevice, sizes: Mapping[str, float]) -> FloatArray:
    """Return (networks, counts) seconds per unit of work; see `measurements.network_sizes`."""
    work = np.array([sizes[name] for name in device.networks])
    times: FloatArray = device.seconds / work[:, None]
    return times


def as_samples(times: FloatArray, counts: tuple[int, ...]) -> Samples:
    """Turn times per unit of work into samples of a compute side with the most cores measured.

    Each network's own level is replaced by the mean one: what is left is how they scale.

    Parameters
    ----------
    times : (networks, counts) float array
    """
    logs = np.log(times)
    logs = logs - logs.mean(axis=1, keepdims=True) + logs.mean()
    networks, n = logs.shape
    total = counts[-1]
    return Samples(
        COMPUTE,
        np.tile(total - np.array(counts, dtype=np.int64), networks),
        logs.ravel(),
        np.full(networks * n, "alone"),
        (1.0, 1.0),
    )


def fit_device(
    device: MeasuredDevice, sizes: Mapping[str, float], *, resamples: int = RESAMPLES, seed: int = 0
) -> ScalingCurve:
    """Choose and fit a device's compute curve.

    Parameters
    ----------
    sizes : mapping
        From `measurements.network_sizes`.
    resamples : int
        Of whole networks, behind every interval.
    """
    times = unit_times(device, sizes)
    counts, total = device.counts, device.counts[-1]
    rng = np.random.default_rng(seed)
    samples = as_samples(times, counts)
    models = side_models(COMPUTE, total)
    at = total - np.array(counts)
    clean = samples.without_outliers()
    if len(counts) == 1:
        name, reasons, table = TABLE, [_ONE_COUNT.format(counts[0])], pd.DataFrame()
    else:
        table = compare(clean, models, total)
        free = bootstrap_rates(samples, None, total, resamples, rng)
        name, reasons = choose(table, samples, free, LEVEL, "auto")
    model = models.get(name)

    def networks(rng: np.random.Generator) -> Samples:
        return as_samples(times[rng.integers(len(times), size=len(times))], counts)

    draws = bootstrap_rates(samples, model, total, resamples, rng, networks)
    parameters, rates = fit_model(clean, model, total)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws.rates[:, at], [tail, 1 - tail], axis=0)
    measured = np.exp(-np.mean(np.log(times), axis=0))
    return ScalingCurve(
        name, parameters, total, rates[at], low, high, measured, draws, table,
        (*reasons, *_falling(counts, measured)),
    )  # fmt: skip


_ONE_COUNT = (
    "compute: measured on {} cores only: how it scales is unknown, and any other number of cores "
    "is extrapolation"
)


def _falling(counts: tuple[int, ...], measured: FloatArray) -> list[str]:
    """Describe where more cores were slower."""
    best = int(np.argmax(measured))
    if best == len(counts) - 1 or len(counts) == 1:
        return []
    loss = 1 - measured[-1] / measured[best]
    return [
        f"compute: fastest on {counts[best]} cores; on {counts[-1]} it was {loss:.0%} slower, so "
        "the cores beyond are left idle"
    ]


def worst_point(times: FloatArray, counts: tuple[int, ...], model: str) -> FloatArray:
    """Return the relative error of each network's worst point under a form fitted to it alone.

    Parameters
    ----------
    times : (networks, counts) float array

    Returns
    -------
    (networks,) float array
    """
    total = counts[-1]
    form = side_models(COMPUTE, total)[model]
    worst = []
    for row in times:
        one = as_samples(row[None, :], counts)
        _, rates = fit_model(one, form, total)
        off = -np.log(rates[one.cores]) - one.log_time
        worst.append(math.expm1(float(np.abs(off).max())))
    return np.array(worst)
