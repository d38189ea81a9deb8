"""Which speed model a side's measurements support.

Every model is judged on the same data by AICc and by predicting core counts it was not shown.
The paper's form is the default as long as the measurements do not contradict it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from calibration.fit.estimate import TABLE, Draws, Samples, expanded_tail, fit_model
from calibration.fit.models import FloatArray, SideModel, side_models
from kdsim.errors import FitError


def compare(samples: Samples, models: Mapping[str, SideModel], total: int) -> pd.DataFrame:
    """Fit every model and tabulate how well it does.

    Parameters
    ----------
    samples : Samples
        Free of outliers.
    models : mapping
        Parametric models by name; the measured table joins them.
    total : int

    Returns
    -------
    DataFrame
        ``side, model, k, core_counts, n, rms_log_error, aicc, delta_aicc, held_out_error,
        verdict``; AICc and errors are NaN where a model has no unique fit.
    """
    rows = []
    for name, model in [*models.items(), (TABLE, None)]:
        counts = len(samples.counts)
        k = counts if model is None else len(model.names)
        row = {
            "side": samples.side, "model": name, "k": k, "core_counts": counts,
            "n": len(samples.cores), "rms_log_error": math.nan, "aicc": math.nan,
            "held_out_error": math.nan,
        }  # fmt: skip
        if k > counts:
            row["verdict"] = f"no unique fit: {k} parameters, {counts} core counts"
        else:
            residual = _residuals(samples, model, total)
            row["rms_log_error"] = float(np.sqrt(np.mean(residual**2)))
            row["aicc"] = _aicc(residual, k)
            row["held_out_error"] = _held_out(samples, model, total)
            row["verdict"] = "identified" if k < counts else "no degree of freedom left to test it"
        rows.append(row)
    table = pd.DataFrame(rows)
    table.insert(7, "delta_aicc", table["aicc"] - table["aicc"].min())
    return table


def choose(
    table: pd.DataFrame, samples: Samples, draws: Draws, level: float, wanted: str
) -> tuple[str, list[str]]:
    """Choose a model and say why.

    Parameters
    ----------
    table : DataFrame
        From :func:`compare`.
    draws : Draws
        Bootstrap of the measured table: what is known about the rates without any model.
    wanted : str
        ``auto``, or a model's name.

    Returns
    -------
    (str, list of str)
        The name, and sentences for the user.
    """
    side, counts = samples.side, len(samples.counts)
    notes = []
    paper = table[table["model"] == "paper"].iloc[0]
    if counts < 4:
        notes.append(
            f"{side}: only {counts} core count(s) measured; a curve through them says nothing "
            "about others"
        )
    if wanted != "auto":
        return wanted, [*notes, f"{side}: model {wanted} as asked"]
    if paper["k"] > counts:
        notes.append(
            f"{side}: the paper's form has {paper['k']} parameters and no unique fit to {counts} "
            "core count(s); the measured table is used"
        )
        return TABLE, notes
    off = _contradictions(samples, draws, level, paper)
    if not off:
        if paper["k"] == counts:
            notes.append(
                f"{side}: the paper's form goes through its {counts} points whatever they are "
                "(no degree of freedom)"
            )
        return "paper", notes
    testable = table[(table["k"] < table["core_counts"]) | (table["model"] == TABLE)]
    if testable["aicc"].isna().all():
        notes.append(
            f"{side}: the paper's form misses the measurements' intervals at c = {off}, and there "
            "are too few trials to compare others; the measured table is used"
        )
        return TABLE, notes
    best = str(testable.sort_values("aicc", kind="stable")["model"].iloc[0])
    outcome = "yet no other has a lower AICc" if best == "paper" else f"{best} has the lowest AICc"
    notes.append(
        f"{side}: the paper's form misses the measurements' intervals at c = {off}; {outcome}"
    )
    return best, notes


def _contradictions(samples: Samples, draws: Draws, level: float, paper: pd.Series) -> list[int]:
    """Core counts at which the paper's fit lies outside the measured rate's interval."""
    total = draws.rates.shape[1] - 1
    model = side_models(samples.side, total)["paper"]
    _, rates = fit_model(samples.without_outliers(), model, total)
    # Simultaneous over the core counts: one of twelve honest intervals misses half the time.
    counts = samples.counts
    trials = min(int(np.sum(samples.cores == c)) for c in counts)
    tail = expanded_tail(1 - (1 - level) / len(counts), trials, trials - 1)
    if not len(draws.rates):
        return []
    low, high = np.quantile(draws.rates[:, counts], [tail, 1 - tail], axis=0)
    # Below half a per cent a contradiction is real but of no use to anyone.
    slack = 0.005 * rates[counts]
    outside = (rates[counts] < low - slack) | (rates[counts] > high + slack)
    return [int(c) for c in counts[outside]]


def _residuals(samples: Samples, model: SideModel | None, total: int) -> FloatArray:
    _, rates = fit_model(samples, model, total)
    return samples.log_time + np.log(rates[samples.cores])


def _aicc(residual: FloatArray, k: int) -> float:
    """Return AICc under normal errors of unknown size (that is one more parameter)."""
    n, p = len(residual), k + 1
    if n <= p + 1:
        return math.nan
    spread = max(float(np.mean(residual**2)), 1e-16)
    return n * math.log(spread) + 2 * p + 2 * p * (p + 1) / (n - p - 1)


def leave_one_out(samples: Samples, model: SideModel | None, total: int) -> dict[int, float]:
    """Predict each core count from the others.

    Parameters
    ----------
    samples : Samples
        Free of outliers.
    model : SideModel or None
        None for the measured table, which says nothing beyond its ends.

    Returns
    -------
    dict
        Communication cores left out -> relative error of the predicted time, positive where it
        is too long; NaN where the rest has no unique fit.
    """
    counts = samples.counts
    errors = dict.fromkeys(counts.tolist(), math.nan)
    left = counts if model is not None else counts[1:-1]
    if len(counts) < 3 or (model is not None and len(counts) - 1 < len(model.names)):
        return errors
    for c in left:
        inside = samples.cores != c
        try:
            _, rates = fit_model(samples.take(inside), model, total)
        except FitError:
            continue
        median = float(np.median(samples.log_time[~inside]))
        errors[int(c)] = math.expm1(-math.log(rates[c]) - median)
    return errors


def _held_out(samples: Samples, model: SideModel | None, total: int) -> float:
    """Return the median relative error at inner core counts left out in turn."""
    counts = samples.counts
    if len(counts) < 4:
        return math.nan
    found = leave_one_out(samples, model, total)
    errors = [abs(found[int(c)]) for c in counts[1:-1]]
    return math.nan if np.isnan(errors).any() else float(np.median(errors))
