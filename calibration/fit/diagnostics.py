"""What a trace says beyond its curves: contention, linearity, reallocation, the sender's share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from calibration.fit.models import COMMUNICATION, COMPUTE
from calibration.trace import Trace, measurements, trial_times
from calibration.trace.trials import HALVES
from kdsim._types import Record
from kdsim.results.intervals import mean_interval

#: Work of twice the size that takes over 5 % more or less than twice the time is not linear.
_LINEAR_WITHIN = 0.05


def measurement_notes(trace: Trace) -> list[str]:
    """Describe what a user must know about the measurements themselves."""
    rows = trace.rows
    found = []
    noisy = rows[rows["status"] == "noisy"]
    points = noisy[["condition", "task", "comm_cores"]].drop_duplicates()
    found += [
        f"{task} {condition} at c = {cores}: trials vary by more than the limit; marked noisy "
        "(fitted only on request)"
        for condition, task, cores in points.itertuples(index=False)
    ]
    disturbed = int((rows["status"] == "foreign").sum())
    if disturbed:
        found.append(f"{disturbed} measurements were disturbed by other processes; not fitted")
    found += _contention(rows[rows["status"] == "ok"])
    # A window holds as much work as fits in; only single tasks show linearity.
    if not trace.header.get("settings", {}).get("virtual_cores"):
        found += _linearity(rows[rows["status"] == "ok"])
    return found


def _contention(rows: pd.DataFrame) -> list[str]:
    if rows.empty:
        return []
    times = trial_times(rows)
    found = []
    for (task, cores), point in times.groupby(["task", "comm_cores"]):
        by = point.groupby("condition")["seconds_per_work"].median().to_dict()
        if {"alone", "contended"} <= by.keys():
            slower = by["contended"] / by["alone"] - 1
            found.append(
                f"{task} at c = {cores}: {100 * slower:+.1f} % time when the other side runs too"
            )
    return found


def _linearity(rows: pd.DataFrame) -> list[str]:
    found = []
    alone = rows[(rows["condition"] == "alone") & (rows["phase"] != "step")]
    for task, group in alone.groupby("task"):
        each = measurements(group)
        unit = (each["seconds"] / each["work"]).groupby([each["comm_cores"], each["work"]])
        medians = unit.median()
        for cores, by_work in medians.groupby(level=0):
            by_work = by_work.droplevel(0)
            if len(by_work) < 2:
                continue
            ratio = float(by_work.iloc[0] / by_work.iloc[-1])
            if abs(ratio - 1) > _LINEAR_WITHIN:
                found.append(
                    f"{task} at c = {cores}: a unit of work takes {100 * (ratio - 1):+.1f} % "
                    f"time in tasks of {by_work.index[0]:g} against tasks of "
                    f"{by_work.index[-1]:g}: time is not quite linear in work"
                )
    return found


def extras(trace: Trace, trials: ArrayLike | None = None) -> Record:
    """Compute the other quantities of the trace that a scenario uses besides the curves.

    Returns
    -------
    dict
        ``forward_share`` (by communication cores), ``reallocation_cost_s`` (per side: mean, ends
        of its 95 % interval, n) and ``sender_cpu_s_per_mb``; what was not measured is absent.
    """
    rows = trace.rows[trace.rows["status"] == "ok"]
    if trials is not None:
        rows = rows[rows["trial"].isin(np.asarray(trials).ravel().tolist())]
    found: Record = {}
    phases = rows[(rows["phase"].isin(HALVES)) & (rows["condition"] != "shared")]
    if len(phases):
        medians = (
            (phases["seconds"] / phases["work"])
            .groupby([phases["comm_cores"], phases["phase"]])
            .median()
            .unstack()
            .reindex(columns=list(HALVES))
        )
        share = (medians["forward"] / medians.sum(axis=1, skipna=False)).dropna()
        if len(share):
            by_cores = zip(share.index.to_numpy(), share, strict=True)
            found["forward_share"] = {int(cores): float(part) for cores, part in by_cores}
    cost = {
        side: described
        for side, task in ((COMPUTE, "compute"), (COMMUNICATION, "comm"))
        if (described := _reallocation(rows[rows["task"] == task]))
    }
    if cost:
        found["reallocation_cost_s"] = cost
    sent = rows[rows["sender_cpu_s"].notna() & (rows["task"] == "comm")]
    if len(sent):
        found["sender_cpu_s_per_mb"] = float((sent["sender_cpu_s"] / sent["work"]).median())
    return found


def _reallocation(rows: pd.DataFrame) -> Record:
    """Time lost at a change of the split: what a window's work took beyond what it should.

    A window is held against the same trial's windows at the two splits that it goes between: a
    task's own time leaves out the moment between two tasks (half a millisecond), a contended one
    has the other side's interference in it, and another trial's pace would be missing from the
    interval.
    """
    alone = _window_times(rows[rows["condition"] == "alone"])
    losses = []
    switching = rows[rows["condition"] == "switching"]
    names = ("comm_cores", "trial", "changes", "seconds", "work")
    columns = (switching[name].tolist() for name in names)
    for cores, trial, changes, seconds, work in zip(*columns, strict=True):
        splits = [(cores, trial), (cores + 1, trial)]
        if changes and all(split in alone for split in splits):
            mean_rate = sum(1 / alone[split] for split in splits) / 2
            losses.append((seconds - work / mean_rate) / changes)
    if not losses:
        return {}
    interval = mean_interval(losses)
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}


def _window_times(rows: pd.DataFrame) -> dict[tuple[int, int], float]:
    """Return the time of a unit of work over each whole window, by (communication cores, trial)."""
    times = {}
    started = rows[rows["t_start"].notna()]
    for _, window in started.groupby(["comm_cores", "trial"]):
        # A batch is a forward and a backward pass; where they are apart, each row is half of one.
        halves = window["phase"].isin(HALVES)
        work = window["work"].where(~halves, window["work"] / 2).sum()
        elapsed = (window["t_start"] + window["seconds"]).max() - window["t_start"].min()
        times[int(window["comm_cores"].iloc[0]), int(window["trial"].iloc[0])] = float(
            elapsed / work
        )
    return times
