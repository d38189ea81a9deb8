"""From rows to measurements to one number per trial.

A row without a phase, or of phase ``step``, is a measurement of its own. Only the forward and the
backward row of one step add up: those of equal condition, split, trial, repeat and work.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

HALVES = ("forward", "backward")
#: What the two rows of a step have in common.
STEP = ["condition", "task", "comm_cores", "trial", "repeat", "work", "status"]
#: Measurements and trials further than this many robust standard deviations from the median of
#: their point are disturbed, not noise (one honest one in 15,000).
OUTLIER_SD = 4.0
_PAIR = 2
POINT = ["condition", "task", "comm_cores"]


def measurements(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per measurement: the steps' two halves added up, the other rows as they are.

    Returns
    -------
    DataFrame
        ``condition, task, comm_cores, trial, repeat, work, status, seconds``.
    """
    halves = rows["phase"].isin(HALVES)
    columns = [*STEP, "seconds"]
    whole = rows.loc[~halves, columns]
    if not halves.any():
        return whole.reset_index(drop=True)
    steps = rows[halves].groupby(STEP, sort=False)["seconds"].sum().reset_index()
    if whole.empty:
        return steps[columns]
    return pd.concat([whole, steps[columns]], ignore_index=True)


def trial_times(rows: pd.DataFrame) -> pd.DataFrame:
    """Reduce measurements to one number per trial: the median time per unit of work.

    Returns
    -------
    DataFrame
        ``condition, task, comm_cores, trial, seconds_per_work``.
    """
    each = _without_wild_ones(measurements(rows))
    each["seconds_per_work"] = each["seconds"] / each["work"]
    return each.groupby([*POINT, "trial"], sort=True)["seconds_per_work"].median().reset_index()


def _without_wild_ones(each: pd.DataFrame) -> pd.DataFrame:
    """Drop measurements far from their point's median where a trial has only two.

    A median of two is their mean: one disturbed measurement would move the whole trial. The
    median of more holds against it by itself, and a trial of one is judged as a trial.
    """
    sizes = each.groupby([*POINT, "trial"])["work"].transform("size")
    if sizes.empty or sizes.median() != _PAIR:
        return each
    log_time = pd.Series(np.log(each["seconds"] / each["work"]), index=each.index)
    points = [each[name] for name in POINT]
    residual = (log_time - log_time.groupby(points).transform("median")).abs()
    own = residual.groupby(points).transform("median")
    limit = OUTLIER_SD * 1.4826 * own.clip(lower=residual.median())
    kept: pd.DataFrame = each[residual <= limit.clip(lower=1e-9)].copy()
    return kept


def noisy_points(rows: pd.DataFrame, limit: float) -> set[tuple[str, str, int]]:
    """Find points whose trials vary by more than `limit`.

    The coefficient of variation is the robust one (1.4826 MAD / median): one disturbed trial
    among ten must not condemn a point, and the fit leaves it out anyway.

    Returns
    -------
    set of (condition, task, comm_cores)
        From undisturbed trials; a point without any is noisy too.
    """
    everything = {(str(a), str(b), int(c)) for a, b, c in rows[POINT].itertuples(index=False)}
    good = rows[rows["status"] != "foreign"]
    calm = set()
    for (condition, task, cores), group in trial_times(good).groupby(POINT):
        times = group["seconds_per_work"].to_numpy()
        spread = 1.4826 * np.median(np.abs(times - np.median(times)))
        if spread <= limit * np.median(times):
            calm.add((str(condition), str(task), int(str(cores))))
    return everything - calm
