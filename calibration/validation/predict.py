"""Predicting every (condition, policy): with which curves, and how uncertain that is.

A prediction is made with the curves of a trace before anything is run. Once runs were made, they
can be predicted again with curves that were measured between them, which is the same question
without the drift of the device since its trace.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from calibration.fit import Curve, Fit
from calibration.machine.sampling import Precision
from calibration.validation.conditions import Condition, scenario_of
from calibration.validation.judge import Prediction, Target
from calibration.validation.measure import Cell, Measured
from kdsim.engines.des import simulate
from kdsim.errors import WorkloadError
from kdsim.results.intervals import median_interval
from kdsim.scenario.study import Scenario

#: Refits of the curves behind a prediction's interval, and replications of each.
_PREDICTION_DRAWS, _PREDICTION_REPLICATIONS = 40, 2


@dataclass(frozen=True, slots=True)
class ValidationSettings:
    """How predictions are tested.

    Attributes
    ----------
    policies : tuple of str
    conditions : tuple of Condition
    precision : Precision
        Runs of each (condition, policy), guard and budget.
    target : Target
    seed : int
        Of the order of the runs and of random policies.
    """

    policies: tuple[str, ...] = (
        "random", "comm-priority", "comp-priority", "greedy", "greedy-full", "static:1", "optimal",
    )  # fmt: skip
    conditions: tuple[Condition, ...] = (Condition("1:1"), Condition("2:1"))
    precision: Precision = field(default_factory=Precision)
    target: Target = field(default_factory=Target)
    seed: int = 0

    def __post_init__(self) -> None:
        labels = tuple(condition.label for condition in self.conditions)
        for what, given in (("policies", self.policies), ("conditions", labels)):
            if not given or len(set(given)) < len(given):
                raise WorkloadError(f"{what} must be given, and each once, got {given}")


def predict(fit: Fit, settings: ValidationSettings, chunk_mb: float) -> dict[Cell, Prediction]:
    """Predict every (condition, policy); nothing is run for real.

    Raises
    ------
    PolicyError
        If a policy is unknown or answers nonsense.
    """
    found = {}
    for condition in settings.conditions:
        scenario = scenario_of(fit, condition, chunk_mb)
        variants = _resampled(fit, condition, chunk_mb, scenario)
        for policy in settings.policies:
            run = simulate(scenario, policy, seed=settings.seed)
            low, high = _prediction_interval(variants, policy, settings.seed, fit.level)
            found[condition.label, policy] = Prediction(run, low, high)
    return found


def predict_again(
    fit: Fit,
    chunk_mb: float,
    curves: tuple[Curve, Curve],
    settings: ValidationSettings,
    cells: Iterable[Cell],
    runs: Sequence[Measured],
) -> pd.DataFrame:
    """Predict the same runs with curves that were measured between them.

    Parameters
    ----------
    fit : Fit
        It gives the amounts of work, the links and the releases, which are facts of the runs.
    chunk_mb : float
    curves : (Curve, Curve)
        f and g.
    settings : ValidationSettings
    cells : iterable of (str, str)
    runs : sequence of Measured

    Returns
    -------
    DataFrame
        ``condition``, ``policy``, ``predicted_between`` (seconds) and ``error_between`` (predicted
        / measured - 1) with ``_low`` and ``_high``; NaN where no undisturbed run is there.
    """
    compute, communication = (curve.rates for curve in curves)
    conditions = {condition.label: condition for condition in settings.conditions}
    columns = ("predicted_between", *(f"error_between{end}" for end in ("", "_low", "_high")))
    rows = []
    for label, policy in cells:
        mine = [m for m in runs if m.cell == (label, policy)]
        clean = [m for m in mine if not m.taken.disturbs(settings.precision.guard)]
        rows.append({"condition": label, "policy": policy, **dict.fromkeys(columns, math.nan)})
        if not clean:
            continue
        base = scenario_of(fit, conditions[label], chunk_mb)
        drifted = scenario_of(
            fit, conditions[label], chunk_mb, compute=compute, communication=communication
        )
        # Amounts, link and releases are facts of the run; only the rates are measured anew.
        scenario = base.model_copy(update={"device": drifted.device})
        seconds = {
            m.run.replication: simulate(
                scenario, policy, seed=m.run.seed, replication=m.run.replication
            ).makespan
            for m in clean
        }
        predicted = [seconds[m.run.replication] for m in clean]
        errors = [p / m.run.makespan - 1 for p, m in zip(predicted, clean, strict=True)]
        interval = median_interval(errors)
        rows[-1] |= {
            "predicted_between": float(np.median(predicted)),
            "error_between": interval.median,
            "error_between_low": interval.low,
            "error_between_high": interval.high,
        }
    return pd.DataFrame(rows)


def _resampled(fit: Fit, condition: Condition, chunk_mb: float, base: Scenario) -> list[Scenario]:
    n = min(_PREDICTION_DRAWS, len(fit.compute.draws), len(fit.communication.draws))
    variants = []
    for i in range(n):
        drawn = scenario_of(
            fit, condition, chunk_mb,
            compute=fit.compute.draws[i], communication=fit.communication.draws[i],
        )  # fmt: skip
        # The amounts are a fact, only the rates are uncertain.
        variants.append(drawn.model_copy(update={"workload": base.workload}))
    return variants


def _prediction_interval(
    variants: Sequence[Scenario], policy: str, seed: int, level: float
) -> tuple[float, float]:
    """Spread the curves' uncertainty into the prediction; NaN without resamples."""
    if not variants:
        return math.nan, math.nan
    means = [
        np.mean(
            [
                simulate(s, policy, seed=seed, replication=i).makespan
                for i in range(_PREDICTION_REPLICATIONS)
            ]
        )
        for s in variants
    ]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
