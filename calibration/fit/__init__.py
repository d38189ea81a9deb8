"""Curves from a trace: which form, with which parameters, how well known.

The path: measurements -> one median a trial -> gross outliers out -> every model fitted in log
time under a soft loss -> the models compared -> one chosen and its parameters bootstrapped over
trials. An analyst runs this on a laptop: nothing here needs torch. The models are in
``calibration.fit.models``, the estimation in ``calibration.fit.estimate``, the file that scenarios
read in ``calibration.fit.curve_file``.
"""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from calibration.fit.diagnostics import extras, measurement_notes
from calibration.fit.estimate import (
    TABLE,
    Samples,
    bootstrap_rates,
    expanded_tail,
    fit_model,
    side_samples,
)
from calibration.fit.models import COMMUNICATION, COMPUTE, FloatArray, side_models
from calibration.fit.selection import choose, compare
from calibration.trace import Trace, read_trace
from calibration.trace.trials import OUTLIER_SD
from kdsim._types import Record
from kdsim.errors import FitError
from kdsim.model import curves


class ExtrapolationWarning(UserWarning):
    """A prediction was asked for outside what was measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A side's fitted speed.

    Attributes
    ----------
    side : {"compute", "communication"}
    model : str
        ``paper``, ``table`` or a name in `kdsim.model.curves.MODELS`.
    parameters : dict
        By name; a table's are its own core counts and rates.
    total_cores : int
        Cores of the device measured.
    rates, low, high : (total_cores + 1,) float array
        Work a second by communication cores, and the ends of its confidence interval.
    measured : tuple of int
        Communication core counts that were measured.
    work_range : (float, float)
        Smallest and largest amount of work measured at once.
    draws : (n, total_cores + 1) float array
        Rates of the bootstrap's refits.
    parameter_draws : dict
        Their parameters by name, each an (n,) float array; entry k of all is refit k.
    """

    side: str
    model: str
    parameters: Record
    total_cores: int
    rates: FloatArray
    low: FloatArray
    high: FloatArray
    measured: tuple[int, ...]
    work_range: tuple[float, float]
    draws: FloatArray
    parameter_draws: dict[str, FloatArray] = field(default_factory=dict)

    def time(self, work: ArrayLike, comm_cores: ArrayLike) -> FloatArray:
        """Predict how long work takes.

        Parameters
        ----------
        work : array_like
            Batches, or MB; broadcast against `comm_cores`.
        comm_cores : array_like of int
            Cores given to communication.

        Returns
        -------
        float array
            Seconds; infinite where the side has no core.

        Raises
        ------
        FitError
            If a core count is not a whole number in 0..total_cores, or work is negative.

        Warns
        -----
        ExtrapolationWarning
            Between or beyond the measured core counts, or beyond the measured work.
        """
        c, x = np.asarray(comm_cores), np.asarray(work, dtype=float)
        if not np.isin(c, np.arange(self.total_cores + 1)).all():
            raise FitError(
                f"communication cores must be whole numbers in 0..{self.total_cores}, got {c}"
            )
        if not (x >= 0).all():
            raise FitError(f"work must be zero or positive, got {x}")
        rate = self.rates[c.astype(int)]
        unseen = (rate > 0) & ~np.isin(c, self.measured)
        if unseen.any():
            warnings.warn(
                f"{self.side}: no measurement at {np.unique(c[unseen]).tolist()} "
                f"communication cores (measured: {list(self.measured)})",
                ExtrapolationWarning,
                stacklevel=2,
            )
        if x.size and (x.max() > 10 * self.work_range[1]):
            warnings.warn(
                f"{self.side}: work up to {x.max():g} is far beyond what was measured at once "
                f"({self.work_range[0]:g} to {self.work_range[1]:g})",
                ExtrapolationWarning,
                stacklevel=2,
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(rate > 0, x / rate, np.where(x > 0, np.inf, 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Curves fitted to a trace, with what is known about how far to trust them.

    Attributes
    ----------
    compute, communication : Curve
    parameters : dict
        ``{side: {name: value}}`` of the chosen models.
    ci : dict
        ``{side: {name: (low, high)}}``, bootstrap over trials.
    model_table : DataFrame
        One row per side and model: parameters, AICc, held-out error, verdict.
    verdicts : tuple of str
        Sentences on identifiability, linearity, contention: what a user must know.
    points : DataFrame
        What was fitted: side, comm_cores, condition, trials, median, MAD, p5, p95 of seconds a
        unit of work.
    extras : dict
        ``forward_share`` of a batch's time by communication cores, ``reallocation_cost_s`` and
        ``sender_cpu_s_per_mb``.
    trace : Trace
    samples : dict
        What each side was fitted to, outliers included.
    level : float
        Nominal coverage of every interval.
    bootstrap : int
        Resamples behind every interval.
    seed : int
    """

    compute: Curve
    communication: Curve
    parameters: dict[str, Record]
    ci: dict[str, dict[str, tuple[float, float]]]
    model_table: pd.DataFrame
    verdicts: tuple[str, ...]
    points: pd.DataFrame
    trace: Trace
    samples: dict[str, Samples]
    extras: Record = field(default_factory=dict)
    level: float = 0.95
    bootstrap: int = 0
    seed: int = 0


def fit_trace(
    path: str | os.PathLike[str] | Trace,
    *,
    compute_model: str = "auto",
    communication_model: str = "auto",
    condition: str = "auto",
    trials: ArrayLike | None = None,
    include_noisy: bool = False,
    bootstrap: int = 400,
    level: float = 0.95,
    seed: int = 0,
) -> Fit:
    """Fit f and g to a device trace.

    Parameters
    ----------
    path : path-like or Trace
        A trace file, or one that was read.
    compute_model, communication_model : str
        ``auto``, ``paper``, ``table`` or a name in `kdsim.model.curves.MODELS`.
    condition : {"auto", "alone", "contended"}
        Which measurements count. In a run both sides work at every split but the extreme ones,
        so ``auto`` takes contended points there, and what was measured alone elsewhere.
    trials : array_like of int, optional
        Fit to these trials only (to test a prediction on the others).
    include_noisy : bool
        Fit to points marked noisy too; their spread is in the intervals.
    bootstrap : int
        Resamples of the trials.
    level : float
        Nominal coverage of the intervals.
    seed : int
        Of the resampling.

    Returns
    -------
    Fit

    Raises
    ------
    TraceError
        If the trace is malformed.
    FitError
        If it lacks a side, or a model was asked for that its points cannot determine.

    Examples
    --------
    ``fit_trace("pi4.csv").communication.time(1.0, 2)`` is the time of 1 MB on two cores.
    """
    trace = path if isinstance(path, Trace) else read_trace(path)
    samples = side_samples(trace, condition=condition, trials=trials, include_noisy=include_noisy)
    rng = np.random.default_rng(seed)
    fitted = {
        side: _fit_side(samples[side], trace.total_cores, model, bootstrap, level, rng)
        for side, model in [(COMPUTE, compute_model), (COMMUNICATION, communication_model)]
    }
    return Fit(
        compute=fitted[COMPUTE].curve,
        communication=fitted[COMMUNICATION].curve,
        parameters={side: f.curve.parameters for side, f in fitted.items()},
        ci={side: f.ci for side, f in fitted.items()},
        model_table=pd.concat([f.table for f in fitted.values()], ignore_index=True),
        verdicts=(
            *trace.questions,
            *(v for f in fitted.values() for v in f.verdicts),
            *measurement_notes(trace),
        ),
        points=pd.concat([s.summary() for s in samples.values()], ignore_index=True),
        trace=trace,
        samples=samples,
        extras=extras(trace, trials),
        level=level,
        bootstrap=bootstrap,
        seed=seed,
    )


# --- one side -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _FittedSide:
    curve: Curve
    ci: dict[str, tuple[float, float]]
    table: pd.DataFrame
    verdicts: list[str]


def _fit_side(
    samples: Samples, total: int, wanted: str, bootstrap: int, level: float,
    rng: np.random.Generator,
) -> _FittedSide:  # fmt: skip
    models = side_models(samples.side, total)
    if wanted not in {"auto", TABLE, *models}:
        raise FitError(
            f"{samples.side}: unknown model {wanted!r}; one of auto, {', '.join(models)}, {TABLE}"
        )
    clean = samples.without_outliers()
    counts = len(samples.counts)
    if wanted in models and counts < len(models[wanted].names):
        raise FitError(
            f"{samples.side}: model {wanted} has {len(models[wanted].names)} parameters, but only "
            f"{counts} core count(s) were measured: it has no unique fit; use {TABLE}"
        )
    table = compare(clean, models, total)
    sizes = [int(np.sum(samples.cores == c)) for c in samples.counts]
    if max(sizes) < 2:
        bootstrap = 0  # resampling single trials gives intervals of no width
    interval_rates = bootstrap_rates(samples, None, total, bootstrap, rng)
    name, reasons = choose(table, samples, interval_rates, level, wanted)
    model = models.get(name)
    drawn = (
        interval_rates if model is None else bootstrap_rates(samples, model, total, bootstrap, rng)
    )
    parameters, rates = fit_model(clean, model, total)
    # Fitted to the times as measured; what is predicted from it is what the simulator does.
    rates, drawn_rates = (curves.as_simulated(r, samples.side) for r in (rates, drawn.rates))
    dof = len(clean.cores) - (counts if model is None else len(model.names))
    tail = expanded_tail(level, min(sizes), dof)
    reasons += _too_few_trials(samples.side, sizes, table_chosen=model is None)
    low, high = _quantiles(drawn_rates, tail, rates)
    ci: dict[str, tuple[float, float]] = {}
    for key, values in drawn.parameters.items():
        ends = np.quantile(values, [tail, 1 - tail]) if len(values) else (math.nan, math.nan)
        ci[key] = (float(ends[0]), float(ends[1]))
    table["chosen"] = table["model"] == name
    curve = Curve(
        samples.side, name, parameters, total, rates, low, high,
        tuple(samples.counts.tolist()), samples.work_range, drawn_rates,
        drawn.parameters,
    )  # fmt: skip
    dropped = len(samples.cores) - len(clean.cores)
    if dropped:
        reasons.append(
            f"{samples.side}: {dropped} of {len(samples.cores)} trials lie more than "
            f"{OUTLIER_SD:g} robust standard deviations off and were left out"
        )
    return _FittedSide(curve, ci, table, reasons)


def _too_few_trials(side: str, sizes: list[int], *, table_chosen: bool) -> list[str]:
    if max(sizes) < 2:
        return [f"{side}: one trial per core count shows no spread: there are no intervals"]
    # A resample of n trials never leaves their range, which holds the median with 1 - 2/2^n.
    holds = 1 - 2 ** (1 - min(sizes))
    if table_chosen and holds < 0.9:
        return [
            f"{side}: a core count with {min(sizes)} trial(s) has an interval no wider than their "
            f"range, which holds the truth in {holds:.0%} of cases, not more"
        ]
    return []


def _quantiles(draws: FloatArray, tail: float, rates: FloatArray) -> tuple[FloatArray, FloatArray]:
    if not len(draws):
        return np.full_like(rates, math.nan), np.full_like(rates, math.nan)
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return low, high
