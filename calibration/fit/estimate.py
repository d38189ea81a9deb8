"""Estimating a side's rates from its trials: samples, the robust fit, the bootstrap.

Which model is right is ``calibration.fit.selection``'s question; the whole path from a file to a
`Fit` is ``calibration.fit``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from scipy.special import ndtr

from calibration.fit.models import COMMUNICATION, COMPUTE, FloatArray, SideModel
from calibration.trace import Trace, trial_times
from calibration.trace.trials import OUTLIER_SD
from kdsim._types import Record
from kdsim.errors import FitError
from kdsim.model import curves
from kdsim.results.intervals import student_t_quantile

TABLE = "table"
#: Residuals in log time beyond about this count linearly, not squared.
_SOFT_SCALE = 0.05
_MIN_OUTLIER_TRIALS = 4


# --- what is fitted -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """One side's data: a time for a unit of work from each trial.

    Attributes
    ----------
    cores : (n,) int array
        Communication cores.
    log_time : (n,) float array
        ln of seconds per unit of work.
    conditions : (n,) array of str
    work_range : (float, float)
    """

    side: str
    cores: NDArray[np.int64]
    log_time: FloatArray
    conditions: NDArray[Any]
    work_range: tuple[float, float]

    def __post_init__(self) -> None:
        if not len(self.cores):
            raise FitError(f"the trace has no usable {self.side} measurement")

    @property
    def counts(self) -> NDArray[np.int64]:
        """Distinct communication core counts, increasing."""
        return np.unique(self.cores)

    def take(self, index: NDArray[Any]) -> Samples:
        """Return the samples at an index or mask."""
        return Samples(
            self.side, self.cores[index], self.log_time[index], self.conditions[index],
            self.work_range,
        )  # fmt: skip

    def medians(self) -> FloatArray:
        """Return the median log time at each of `counts`."""
        return np.array([np.median(self.log_time[self.cores == c]) for c in self.counts])

    def without_outliers(self) -> Samples:
        """Drop trials that lie far from their core count's median.

        The yardstick is the spread around the medians, pooled, or that of the core count itself
        where it is larger: no model takes part in deciding which data it is judged on, and at
        least half of a core count's trials always stay.
        """
        residual = np.empty_like(self.log_time)
        own_scale = np.empty_like(self.log_time)
        sizes = np.empty(len(self.cores), dtype=np.int64)
        for c in self.counts:
            here = self.cores == c
            residual[here] = np.abs(self.log_time[here] - np.median(self.log_time[here]))
            own_scale[here] = np.median(residual[here])
            sizes[here] = here.sum()
        many = sizes >= _MIN_OUTLIER_TRIALS
        if not many.any():
            return self
        # The medians used up a degree of freedom of each core count.
        n, k = len(self.cores), len(self.counts)
        pooled = np.median(residual[many]) * math.sqrt(n / max(n - k, 1))
        limit = OUTLIER_SD * 1.4826 * np.maximum(own_scale, pooled)
        return self.take((residual <= np.maximum(limit, 1e-9)) | ~many)

    def resample(self, rng: np.random.Generator) -> Samples:
        """Draw trials with replacement, within each core count."""
        index = np.concatenate(
            [
                rng.choice(where, size=len(where))
                for where in (np.flatnonzero(self.cores == c) for c in self.counts)
            ]
        )
        return self.take(index)

    def summary(self) -> pd.DataFrame:
        """Summarise each core count: trials, median, MAD, p5, p95 in seconds per unit of work."""
        rows = []
        for c in self.counts:
            here = self.cores == c
            times = np.exp(self.log_time[here])
            median = float(np.median(times))
            rows.append(
                {
                    "side": self.side,
                    "comm_cores": int(c),
                    "condition": str(self.conditions[here][0]),
                    "trials": len(times),
                    "median_s": median,
                    "mad_s": float(np.median(np.abs(times - median))),
                    "p5_s": float(np.quantile(times, 0.05)),
                    "p95_s": float(np.quantile(times, 0.95)),
                }
            )
        return pd.DataFrame(rows)


def side_samples(
    trace: Trace,
    *,
    condition: str = "auto",
    trials: ArrayLike | None = None,
    include_noisy: bool = False,
) -> dict[str, Samples]:
    """Take from a trace what f and g are fitted to.

    Raises
    ------
    FitError
        If the condition is unknown, or a side has no usable measurement at all or none on all
        the cores, where most of a run's blocked time is spent.
    """
    if condition not in {"auto", "alone", "contended"}:
        raise FitError(f"condition must be auto, alone or contended, got {condition!r}")
    usable = ["ok", "noisy"] if include_noisy else ["ok"]
    rows = trace.rows[trace.rows["status"].isin(usable)]
    if trials is not None:
        rows = rows[rows["trial"].isin(np.asarray(trials).ravel().tolist())]
    found = {}
    for side, task in ((COMPUTE, "compute"), (COMMUNICATION, "comm")):
        mine = rows[rows["task"] == task]
        times = trial_times(mine) if len(mine) else pd.DataFrame(columns=["condition"])
        chosen = _choose_condition(times, condition)
        work = mine["work"] if len(mine) else pd.Series([math.nan])
        found[side] = Samples(
            side,
            chosen["comm_cores"].to_numpy(dtype=np.int64),
            np.log(chosen["seconds_per_work"].to_numpy(dtype=float)),
            chosen["condition"].to_numpy(),
            (float(work.min()), float(work.max())),
        )
        _check_full_cores(found[side], trace, task)
    return found


def _check_full_cores(samples: Samples, trace: Trace, task: str) -> None:
    end = 0 if samples.side == COMPUTE else trace.total_cores
    if end in samples.counts:
        return
    rows = trace.rows
    here = rows[(rows["task"] == task) & (rows["comm_cores"] == end)]
    found = ", ".join(f"{n} {status}" for status, n in here["status"].value_counts().items())
    raise FitError(
        f"{samples.side}: no usable measurement at c = {end}, where it has every core (the trace "
        f"has {found or 'none'}); measure again (collect --resume --rounds N) or take noisy "
        "points too (--include-noisy)"
    )


def _choose_condition(times: pd.DataFrame, condition: str) -> pd.DataFrame:
    columns = ["condition", "comm_cores", "seconds_per_work"]
    if times.empty:
        return pd.DataFrame(columns=columns)
    alone, contended = (times[times["condition"] == name] for name in ("alone", "contended"))
    if condition == "alone":
        return alone[columns]
    # Asked for contended only, a side still has nothing but its own when the other has no core.
    rest = alone[~alone["comm_cores"].isin(contended["comm_cores"].unique())]
    return pd.concat([contended, rest])[columns]


# --- fitting one model ---


def fit_model(
    samples: Samples, model: SideModel | None, total: int, start: FloatArray | None = None
) -> tuple[Record, FloatArray]:
    """Fit one model to samples that are free of outliers.

    Parameters
    ----------
    model : SideModel or None
        None for the measured table.
    start : float array, optional
        Start vector; from the data by default.

    Returns
    -------
    (dict, (total + 1,) float array)
        Parameters by name, and rates by communication cores.

    Raises
    ------
    FitError
        If the optimiser fails.
    """
    if model is None:
        return fit_table(samples, total)
    v = _solve(samples, model, total, start)
    parameters = model.parameters(v)
    return dict(parameters), model.rates(parameters, total)


def _solve(
    samples: Samples, model: SideModel, total: int, start: FloatArray | None = None
) -> FloatArray:
    cores, log_time = samples.cores, samples.log_time
    if start is None:
        start = model.start(samples.counts.astype(float), np.exp(-samples.medians()))

    def residuals(v: FloatArray) -> FloatArray:
        return log_time + np.log(model.rates(model.parameters(v), total)[cores])

    try:
        found = least_squares(
            residuals, start, bounds=(-60.0, 60.0), loss="soft_l1", f_scale=_SOFT_SCALE,
            x_scale=1.0, xtol=1e-10, ftol=1e-10, max_nfev=400,
        )  # fmt: skip
    except ValueError as error:
        raise FitError(f"{samples.side}: model {model.name} cannot be fitted: {error}") from error
    return np.asarray(found.x)


def fit_table(samples: Samples, total: int) -> tuple[Record, FloatArray]:
    """Fit a rate to each measured core count: the soft mean of its trials."""
    counts = samples.counts
    rates = np.array([math.exp(-_soft_mean(samples.log_time[samples.cores == c])) for c in counts])
    own = total - counts if samples.side == COMPUTE else counts
    order = np.argsort(own)
    parameters = {"cores": [int(c) for c in own[order]], "rates": rates[order].tolist()}
    return parameters, curves.table_own_core_rates(
        parameters["cores"], parameters["rates"], total, side=samples.side, surplus="used"
    )


def _soft_mean(values: FloatArray) -> float:
    """Return the location that minimises the soft loss (Newton steps on its weights)."""
    centre = float(np.median(values))
    for _ in range(50):
        weight = 1.0 / np.sqrt(1.0 + ((values - centre) / _SOFT_SCALE) ** 2)
        step = float(np.sum(weight * values) / np.sum(weight)) - centre
        centre += step
        if abs(step) < 1e-12:
            break
    return centre


# --- the bootstrap --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Refits to resampled trials: (n, total + 1) rates and (n,) arrays of parameters."""

    rates: FloatArray
    parameters: dict[str, FloatArray]


def bootstrap_rates(
    samples: Samples,
    model: SideModel | None,
    total: int,
    n: int,
    rng: np.random.Generator,
    resample: Callable[[np.random.Generator], Samples] | None = None,
) -> Draws:
    """Refit a model to resampled trials, outliers and all.

    Parameters
    ----------
    samples : Samples
        Every trial; outliers are removed from each resample again.
    model : SideModel or None
        None for the measured table.
    total, n : int
        Cores of the device; resamples.
    resample : callable, optional
        Draws the data of one refit; trials within each core count by default.
    """
    start = None
    if model is not None:
        start = _solve(samples.without_outliers(), model, total)
    rates, parameters = [], []
    for _ in range(n):
        drawn = (resample or samples.resample)(rng).without_outliers()
        if model is None:
            found, curve = fit_table(drawn, total)
        else:
            found, curve = fit_model(drawn, model, total, start)
        rates.append(curve)
        parameters.append(found)
    if model is None:
        columns = {
            f"rate on {cores:g} cores": np.array([p["rates"][i] for p in parameters])
            for i, cores in enumerate(fit_table(samples, total)[0]["cores"])
        }
    else:
        columns = {name: np.array([p[name] for p in parameters]) for name in model.names}
    return Draws(np.array(rates).reshape(n, total + 1), columns)


def expanded_tail(level: float, trials: int, dof: int) -> float:
    """Return the tail probability at which percentiles of few trials have the nominal coverage.

    The bootstrap's spread is too narrow by sqrt((n-1)/n) within a group of n trials, and normal
    where Student's t is meant; both are made good in the percentile asked for.

    References
    ----------
    Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69
    (2015), section 5.3 (expanded percentile intervals).
    """
    if trials < 2:
        return (1 - level) / 2
    t = student_t_quantile((1 - level) / 2, max(dof, 1))
    return float(ndtr(math.sqrt(trials / (trials - 1)) * t))
