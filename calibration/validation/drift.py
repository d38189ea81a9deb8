"""Is the device as fast as when its trace was measured? Points of the trace, measured in between.

CPU accounting sees other processes of this system. It sees neither a lower clock nor another
guest that shares the physical cores and caches, and both change how long the same work takes. So
the points that f and g are fitted to are measured again between the live runs, on the same bench
and under the same guard. They say how far the device has drifted since its trace, and they
give curves of the very minutes in which the runs were made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd

from calibration.bench.bench import BenchSettings
from calibration.bench.collect import guarded_trial
from calibration.bench.measure import CollectSettings, Point, plan_points
from calibration.bench.start import Teacher
from calibration.fit import Curve, Fit, fit_trace
from calibration.machine.sampling import LEAST_FOR_INTERVAL
from calibration.trace import Trace
from calibration.trace.trials import POINT, trial_times
from kdsim.errors import FitError
from kdsim.results.intervals import median_interval

#: Conditions under which a curve's points are measured.
_FITTED = ("alone", "contended")
#: Runs between two visits take at least so long, and so many times as long as a visit took.
_LEAST_S, _SHARE = 30.0, 4.0
#: A point of a visit is tried once, after waiting no longer than this for others to be calm: the
#: next visit comes soon, and on a busy machine the runs need the time.
_PATIENCE_S = 1.0
#: Fewer rounds of points make no curve.
_LEAST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Drift:
    """How much longer the same work takes than in the trace.

    Attributes
    ----------
    task : {"compute", "comm"}
    change : float
        Median over rounds of (time now / time in the trace - 1); a round's figure is the median
        over its points.
    low, high : float
        95 % interval of order statistics over rounds; with fewer than six, their range.
    rounds : int
    """

    task: Literal["compute", "comm"]
    change: float
    low: float
    high: float
    rounds: int

    def is_beyond(self, share: float) -> bool:
        """Whether the whole interval lies further than `share` from no change."""
        return self.low > share or self.high < -share

    @property
    def sentence(self) -> str:
        """What happened, for a person."""
        what = {"compute": "computing", "comm": "receiving"}[self.task]
        direction = "longer" if self.change > 0 else "less long"
        often = f"{self.rounds} round{'s' * (self.rounds != 1)}"
        kind = "95 % CI" if self.rounds >= LEAST_FOR_INTERVAL else "range"
        return (
            f"{what} took {abs(self.change):.1%} {direction} than in the trace "
            f"({kind} {self.low:+.1%} to {self.high:+.1%}, {often} between the runs)"
        )


def drifts(trace: Trace, between: pd.DataFrame) -> tuple[Drift, ...]:
    """Compare points measured between the runs with the same points of the trace.

    Parameters
    ----------
    trace : Trace
    between : DataFrame
        Rows of a trace; those that others disturbed do not count.

    Returns
    -------
    tuple of Drift
        One per task that has points in both.
    """
    if between.empty:
        return ()
    then = trial_times(_usable(trace.rows)).groupby(POINT)["seconds_per_work"].median()
    now = trial_times(_usable(between)).join(then.rename("then"), on=POINT).dropna()
    now["ratio"] = now["seconds_per_work"] / now["then"]
    found = []
    for task in ("compute", "comm"):
        rounds = now[now["task"] == task].groupby("trial")["ratio"].median().to_numpy() - 1
        if len(rounds) >= LEAST_FOR_INTERVAL:
            seen = median_interval(rounds)
            found.append(Drift(task, seen.median, seen.low, seen.high, seen.n))
        elif len(rounds):
            ends = float(rounds.min()), float(rounds.max())
            found.append(Drift(task, float(np.median(rounds)), *ends, len(rounds)))
    return tuple(found)


def curves_between(fit: Fit, between: pd.DataFrame) -> tuple[Curve, Curve] | None:
    """Fit the models of `fit` to points measured between the runs.

    Returns
    -------
    (Curve, Curve) or None
        f and g; None where fewer than three rounds were measured, or a point is missing.
    """
    if between.empty or _usable(between)["trial"].nunique() < _LEAST_ROUNDS:
        return None
    try:
        found = fit_trace(
            Trace(between, fit.trace.header),
            compute_model=fit.compute.model,
            communication_model=fit.communication.model,
            bootstrap=0,
        )
    except FitError:
        return None
    return found.compute, found.communication


def _usable(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep what f and g are fitted to; a point's spread over rounds is not noise but drift."""
    return rows[rows["status"].isin(["ok", "noisy"]) & rows["condition"].isin(_FITTED)]


class Recheck:
    """Measures the trace's points again, round by round, in turns with the live runs.

    Parameters
    ----------
    fit : Fit
    bench : BenchSettings
    teacher : Teacher
    earlier : DataFrame, optional
        Rows of earlier calls; their rounds count.
    on_rows : callable, optional
        Called with all rows after each visit, e.g. to keep them.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        fit: Fit,
        bench: BenchSettings,
        teacher: Teacher,
        *,
        earlier: pd.DataFrame | None = None,
        on_rows: Callable[[pd.DataFrame], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fit, self._bench, self._teacher = fit, bench, teacher
        self._settings = _settings_of(fit.trace.header.get("settings", {}))
        known = {tuple(key) for key in _usable(fit.trace.rows)[POINT].drop_duplicates().to_numpy()}
        self._points = [
            point
            for point in plan_points(bench.total_cores, full=self._settings.full)
            if point.condition in _FITTED and known & set(_keys(point, bench.total_cores))
        ]
        self._rows: list[dict[str, Any]] = []
        if earlier is not None:
            self._rows = [{str(k): v for k, v in row.items()} for row in earlier.to_dict("records")]
        self._on_rows, self._clock = on_rows, clock
        self._next = self._clock() + _LEAST_S
        self._runs_since = False

    @property
    def rows(self) -> pd.DataFrame:
        """All rows measured so far, as a trace has them; no rows before the first visit."""
        return pd.DataFrame(self._rows)

    def visit(self, *, last: bool = False) -> None:
        """Measure one round of points if it is time, or the last after the last runs."""
        began = self._clock()
        if began < self._next and not (last and self._runs_since):
            self._runs_since = True
            return
        trial = max((int(row["trial"]) for row in self._rows), default=-1) + 1
        zero = time.perf_counter() - since_trace(self._fit.trace)
        for point in self._in_turn(trial):
            measured = guarded_trial(
                self._bench, self._teacher, point, self._settings, trial, zero, {}, attempts=1
            )
            self._rows += [{**row, "device": self._fit.trace.device} for row in measured]
        if self._on_rows is not None:
            self._on_rows(self.rows)
        ended = self._clock()
        self._runs_since = not last
        self._next = ended + max(_LEAST_S, _SHARE * (ended - began))

    def _in_turn(self, trial: int) -> Sequence[Point]:
        order = np.random.default_rng([self._settings.seed, trial]).permutation(len(self._points))
        return [self._points[i] for i in order]


def since_trace(trace: Trace) -> float:
    """Return the seconds since a trace was begun; since the epoch, where it does not say when."""
    date = trace.header.get("host", {}).get("date")
    begun = datetime.fromisoformat(date).timestamp() if isinstance(date, str) else 0.0
    return time.time() - begun


def _keys(point: Point, total: int) -> list[tuple[str, str, int]]:
    return [(point.condition, side, point.recorded_cores(side, total)) for side in point.sides]


def _settings_of(header: Mapping[str, Any]) -> CollectSettings:
    """Return how the trace was measured, as far as its header says so."""
    known = {field.name for field in fields(CollectSettings)}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in header.items()
        if name in known
    }
    patience_s = min(given.get("patience_s", _PATIENCE_S), _PATIENCE_S)
    return CollectSettings(**{**given, "patience_s": patience_s})
