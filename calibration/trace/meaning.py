"""Whether a trace can mean what it says: the mistakes that leave every row legal.

Each check below is one way in which timings of another tool, or two files pasted together, give
curves that are wrong by a factor. Certain ones are faults; the others are questions, which stand
first among a fit's verdicts. All know the line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from calibration.trace.columns import TASKS
from calibration.trace.listing import listing
from calibration.trace.trials import HALVES, POINT, STEP, measurements
from kdsim._types import RecordView
from kdsim.errors import TraceError

#: Work per second that no device has (faults), or few have (questions): batches, MB.
_IMPOSSIBLE = {"compute": (1e-7, 1e7), "comm": (1e-6, 1e6)}
_UNLIKELY = {"compute": (0.1, 1e5), "comm": (0.1, 1e5)}
#: Two groups of one point's times, each tight, this far apart are asked about, or are two units
#: for certain: on an overloaded machine honest times came in two groups a factor of 4 apart.
_TWO_GROUPS, _TWO_UNITS = 1.5, 30.0
_MIN_GROUPED = 4
#: Parallel streams overlap a few times; another unit of time does so by a factor of 60 or more.
_OVERLAPS = 10.0
#: A side that is this much slower on all its cores than on its fewest.
_FALLS = 1.4
#: Steps that fill less than this of the time between their starts.
_FILLED = 0.7


@dataclass(frozen=True, slots=True)
class _Checked:
    """What the checks work on: undisturbed rows, each with its line."""

    rows: pd.DataFrame
    header: RecordView
    where: str
    faults: list[str]
    questions: list[str]

    def place(self, row: Any) -> str:
        return f"{self.where}:{int(row)}"


def check_meaning(
    rows: pd.DataFrame, lines: list[int], header: RecordView, where: str
) -> tuple[str, ...]:
    """Check what a trace's rows mean together.

    Parameters
    ----------
    rows : DataFrame
        All columns; legal one by one.
    lines : list of int
        The line of each row in the file.
    where : str
        How messages name the file.

    Returns
    -------
    tuple of str
        Questions: what is unlikely to be meant.

    Raises
    ------
    TraceError
        With every contradiction.
    """
    numbered = rows.assign(line=lines)
    # Rows that others disturbed are kept for the record: a repeated trial has its number again.
    checked = _Checked(numbered[numbered["status"] != "foreign"], header, where, [], [])
    checks: tuple[Callable[[_Checked], None], ...] = (
        _cores_of_the_host, _rows_twice, _halves_of_steps, _impossible_rates,
    )  # fmt: skip
    later: tuple[Callable[[_Checked], None], ...] = (
        _longer_than_the_clock, _two_groups, _falling, _half_filled, _one_repeat,
    )  # fmt: skip
    if not checked.rows.empty:
        for check in checks:
            check(checked)
        if not checked.faults:  # what is doubled or half there also looks odd in other ways
            for check in later:
                check(checked)
    if checked.faults:
        raise TraceError(listing(checked.faults))
    return tuple(checked.questions)


# --- faults of rows -------------------------------------------------------------------------------


def _cores_of_the_host(checked: _Checked) -> None:
    host, settings = (checked.header.get(key, {}) for key in ("host", "settings"))
    cores = host.get("cores")
    virtual = settings.get("virtual_cores")
    total = int(checked.rows["total_cores"].iloc[0])
    if isinstance(cores, int) and not virtual and total > cores:
        checked.faults.append(
            f"{checked.place(checked.rows['line'].iloc[0])}: total_cores: the header's host has "
            f"{cores} cores (got {total})"
        )


def _rows_twice(checked: _Checked) -> None:
    rows = checked.rows
    same = [name for name in rows.columns if name != "line"]
    twins = rows[rows.duplicated(same)]
    if twins.empty:
        return
    # A coarse clock gives equal times; under numbered repeats or starts rows are equal only by
    # mistake, and without either when nearly every row has a twin.
    numbered = rows["repeat"].nunique() > 1 or rows["trial"].nunique() > 1
    if not numbered and not rows["t_start"].notna().any() and len(twins) < 0.5 * len(rows):
        return
    first = rows.drop_duplicates(same).merge(twins, on=same, suffixes=("", "_again"))
    line, again = first[["line", "line_again"]].iloc[0]
    checked.faults.append(
        f"{checked.place(again)}: the same measurement as on line {line}: {len(twins)} of "
        f"{len(rows)} rows are there twice; remove one of each"
    )


def _halves_of_steps(checked: _Checked) -> None:
    halves = checked.rows[checked.rows["phase"].isin(HALVES)]
    if halves.empty:
        return
    only = halves["phase"].unique()
    if len(only) == 1:
        checked.faults.append(
            f"{checked.place(halves['line'].iloc[0])}: phase: only {only[0]} rows; a batch is a "
            "forward and a backward pass: add the other rows, or leave the phase empty where a "
            "row is a whole batch"
        )
        return
    on_comm = halves[halves["task"] == "comm"]
    if len(on_comm):
        checked.faults.append(
            f"{checked.place(on_comm['line'].iloc[0])}: phase: must be empty for task 'comm' (got "
            f"{on_comm['phase'].iloc[0]!r})"
        )
        return
    counts = halves.groupby([*STEP, "phase"], sort=False).agg(
        rows=("line", "size"), first=("line", "min"), last=("line", "max"), half=("phase", "first")
    )
    for twice in counts[counts["rows"] > 1].itertuples():
        checked.faults.append(
            f"{checked.place(twice.last)}: phase: a second {twice.half} row of one step (equal "
            f"condition, comm_cores, trial, repeat and work; the first is on line {twice.first}): "
            "number the repeats, or are two traces in one file?"
        )
    steps = halves.groupby(STEP, sort=False).agg(
        phases=("phase", "nunique"), line=("line", "min"), phase=("phase", "first")
    )
    for step in steps[steps["phases"] == 1].itertuples():
        other = HALVES[1 - HALVES.index(str(step.phase))]
        checked.faults.append(
            f"{checked.place(step.line)}: phase: a {step.phase} row without its {other} row (of "
            "equal condition, comm_cores, trial, repeat and work)"
        )


def _impossible_rates(checked: _Checked) -> None:
    rows = checked.rows
    rate = rows["work"] / rows["seconds"]
    for task, unit in TASKS.items():
        mine = rows["task"] == task
        if not mine.any():
            continue
        low, high = _IMPOSSIBLE[task]
        wrong = rows[mine & ~((rate >= low) & (rate <= high))]
        if len(wrong):
            row = wrong.iloc[0]
            checked.faults.append(
                f"{checked.place(row['line'])}: seconds: {row['work']:g} {unit} in "
                f"{row['seconds']:g} s is {row['work'] / row['seconds']:.3g} {unit} per second "
                f"({len(wrong)} such rows); are seconds in s, and work in {unit}"
                f"{' (1e6 bytes)' if unit == 'MB' else ''}?"
            )
            continue
        low, high = _UNLIKELY[task]
        each = measurements(rows[mine])  # a batch is both of its halves
        middle = float((each["work"] / each["seconds"]).median())
        if not low <= middle <= high:
            line = int(rows.loc[mine, "line"].iloc[0])
            typical = f"{1 / middle:.3g} s per {unit}" if middle < low else (
                f"{middle:.3g} {unit} per second"
            )  # fmt: skip
            checked.questions.append(
                f"{checked.place(line)}: {task} takes {typical} in the median: is the unit of "
                f"seconds s, and that of work {unit}?"
            )


# --- contradictions between rows ------------------------------------------------------------------


def _longer_than_the_clock(checked: _Checked) -> None:
    """Compare each measurement with the time to the next one's start."""
    for key, group in _sequences(checked.rows):
        ahead = np.diff(group["t_start"].to_numpy())
        seconds = group["seconds"].to_numpy()[:-1]
        over = (ahead > 0) & (seconds > _OVERLAPS * ahead)
        if over.sum() > 0.5 * len(over):
            k = int(np.flatnonzero(over)[0])
            checked.faults.append(
                f"{checked.place(group['line'].iloc[k])}: seconds: {seconds[k]:g} s, but the next "
                f"row of {key} starts {ahead[k]:g} s later (so in {over.sum()} of {len(over)} "
                f"rows): other units in seconds and t_start? (factor {seconds[k] / ahead[k]:.3g})"
            )
            return


def _half_filled(checked: _Checked) -> None:
    """Question batches that fill half of the time: the backward rows may be missing."""
    shares, line = [], 0
    for _, group in _sequences(checked.rows[checked.rows["task"] == "compute"]):
        span = group["t_start"].iloc[-1] - group["t_start"].iloc[0]
        if span > 0:
            shares.append(float(group["seconds"].iloc[:-1].sum() / span))
            line = line or int(group["line"].iloc[0])
    if shares and np.median(shares) < _FILLED and not checked.rows["phase"].isin(HALVES).any():
        checked.questions.append(
            f"{checked.place(line)}: the batches fill {np.median(shares):.0%} of the time between "
            "their starts: is a pass (backward) missing?"
        )


def _sequences(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    started = rows[rows["t_start"].notna() & (rows["condition"] != "switching")]
    for key, group in started.groupby([*POINT, "trial"], sort=True):
        if len(group) >= _MIN_GROUPED and group["t_start"].nunique() > 1:
            yield f"{key[1]} at c = {key[2]}", group.sort_values("t_start", kind="stable")


def _two_groups(checked: _Checked) -> None:
    """Look for points whose times fall into two tight groups far apart."""
    rows = checked.rows[checked.rows["condition"] != "switching"]
    halves = rows["phase"].isin(HALVES)
    for task in TASKS:
        mine = rows[(rows["task"] == task) & ~halves]
        found = [split for _, group in mine.groupby(POINT) if (split := _split(group))]
        points = sum(len(group) >= _MIN_GROUPED for _, group in mine.groupby(POINT))
        steps = rows[(rows["task"] == task) & halves]
        for _, group in steps.groupby([*POINT, "phase"]):
            points += len(group) >= _MIN_GROUPED
            if split := _split(group):
                found.append(split)
        if not found or len(found) < 0.5 * points:
            continue
        factor = math.exp(float(np.median([gap for gap, *_ in found])))
        _, fast, slow = found[0]
        sentence = (
            f"{checked.place(max(fast, slow))}: {task} times per unit of work are of two kinds at "
            f"{len(found)} of {points} points, a factor of {factor:.3g} apart (compare line "
            f"{min(fast, slow)}): two units, or two devices, in one trace?"
        )
        (checked.faults if factor >= _TWO_UNITS else checked.questions).append(sentence)


def _split(group: pd.DataFrame) -> tuple[float, int, int] | None:
    """Return the gap (in log time) and a line of either side, if the times are of two kinds."""
    if len(group) < _MIN_GROUPED:
        return None
    log_time = np.log((group["seconds"] / group["work"]).to_numpy())
    order = np.argsort(log_time, kind="stable")
    values = log_time[order]
    gaps = np.diff(values)
    k = int(np.argmax(gaps))
    least = max(2, math.ceil(0.2 * len(values)))
    if k + 1 < least or len(values) - k - 1 < least:
        return None
    spread = max(np.ptp(values[: k + 1]), np.ptp(values[k + 1 :]))
    if gaps[k] < math.log(_TWO_GROUPS) or gaps[k] < 2 * spread:
        return None
    lines = group["line"].to_numpy()[order]
    return float(gaps[k]), int(lines[: k + 1].min()), int(lines[k + 1 :].min())


# --- what is unlikely -----------------------------------------------------------------------------


def _falling(checked: _Checked) -> None:
    """Question a side that gets slower with more cores: the counts may be the other side's."""
    rows = checked.rows[checked.rows["condition"] != "switching"]
    total = int(rows["total_cores"].iloc[0]) if len(rows) else 0
    for task in TASKS:
        mine = rows[rows["task"] == task]
        if mine.empty:
            continue
        unit = (mine["seconds"] / mine["work"]).groupby(mine["comm_cores"]).median()
        own = total - unit.index.to_numpy() if task == "compute" else unit.index.to_numpy()
        if len(own) < 2:
            continue
        fewest, most = int(np.argmin(own)), int(np.argmax(own))
        slower = float(unit.iloc[most] / unit.iloc[fewest])
        if slower > _FALLS:
            line = int(mine.loc[mine["comm_cores"] == unit.index[most], "line"].iloc[0])
            checked.questions.append(
                f"{checked.place(line)}: {task} takes {slower:.3g} times as long on "
                f"{own[most]} cores as on {own[fewest]}: comm_cores is the number of cores given "
                "to communication, in compute rows too; are the sides swapped?"
            )


def _one_repeat(checked: _Checked) -> None:
    rows = checked.rows
    trials = rows.groupby(POINT)["trial"].nunique()
    sizes = rows[~rows["phase"].isin(HALVES)].groupby(POINT).size()
    if len(sizes) and trials.max() == 1 and sizes.max() > 1:
        checked.questions.append(
            f"{checked.place(rows['line'].iloc[0])}: repeat: all rows of a point are one trial "
            f"(up to {sizes.max()} rows): there are no intervals; number the repeats, or add a "
            "column trial"
        )
