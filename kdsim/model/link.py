"""How data reach the device: what a link has delivered by a time, and when an amount is there.

A link's rate is piecewise constant, so the data that have arrived by time t, A(t), are piecewise
linear. Data wait on the device, in a buffer without a limit, until communication cores process
them; what the engines do with them is in ``engines``.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kdsim.errors import ScenarioError
from kdsim.model.curves import FloatArray

#: Stretches of constant rate until all data are there: more of them fill the memory.
MAX_STRETCHES = 5_000_000
#: Data are followed this share further than they go, so that rounding cannot leave any behind.
_MARGIN = 1e-9

Starved = Literal["idle", "shared"]


@dataclass(frozen=True, eq=False)
class Link:
    """A link of piecewise constant rate, from time 0 on.

    Attributes
    ----------
    times : (k,) float array
        Seconds at which a stretch of constant rate begins; the first is 0, they increase.
    rates : (k,) float array
        Data units per second in each stretch; 0 is an outage.
    period : float
        Seconds after which the stretches begin again; infinite where the last rate stays.
    starved : {"idle", "shared"}
        What becomes of communication cores that have processed all that has arrived: they wait, or
        computation uses the time that they do not need. The state is then the time-mix of c and 0
        communication cores that takes in data at the rate of the link.

    Raises
    ------
    ScenarioError
        If the stretches are not legal.

    Examples
    --------
    >>> link = Link(np.array([0.0, 2.0]), np.array([3.0, 0.0]), period=4.0)
    >>> link.arrival_time(np.array([6.0, 9.0]))
    array([2., 5.])
    >>> link.breakpoints(9.0)
    (array([0., 2., 4., 5.]), array([0., 6., 6., 9.]))
    """

    times: FloatArray
    rates: FloatArray
    period: float = math.inf
    starved: Starved = "idle"

    def __post_init__(self) -> None:
        times, rates = self.times, self.rates
        if not (times.ndim == rates.ndim == 1 and times.size == rates.size > 0):
            raise ScenarioError("needs as many times as rates, at least one", field="link")
        if times[0] != 0 or not (np.diff(times) > 0).all() or not times[-1] < self.period:
            raise ScenarioError("its times must begin at 0 and increase", field="link")
        if not (np.isfinite(rates).all() and (rates >= 0).all()):
            raise ScenarioError("its rates must be finite and at least 0", field="link")
        if not rates.any():
            raise ScenarioError("its rates are all 0: no data would ever arrive", field="link")

    def __str__(self) -> str:
        if self.rates.size == 1:
            return f"{self.rates[0]:g} data units per second, {self.starved}"
        return f"{self.rates.size} rates up to {self.rates.max():g}, {self.starved}"

    @classmethod
    def constant(cls, rate: float, starved: Starved = "idle") -> Link:
        """Return a link that always carries `rate` data units per second."""
        return cls(np.zeros(1), np.array([float(rate)]), math.inf, starved)

    @functools.cached_property
    def _ends(self) -> FloatArray:
        """Data that have arrived at the beginning of each stretch and at the end, (k + 1,)."""
        lengths = np.diff(np.append(self.times, self.period))
        # The last stretch may have no end; an outage without an end delivers nothing.
        with np.errstate(invalid="ignore"):
            amounts = np.where(self.rates > 0, self.rates * lengths, 0.0)
        return np.append(0.0, np.cumsum(amounts))

    def arrival_time(self, amount: Any) -> Any:
        """Return the earliest time at which so many data have arrived.

        Parameters
        ----------
        amount : float or array
            Data units.

        Returns
        -------
        float or array
            Seconds; 0 for no data, infinite for data that never arrive.
        """
        wanted = np.asarray(amount, dtype=float)
        ends = self._ends
        rounds = np.zeros_like(wanted)
        if self.period < math.inf:
            rounds = np.maximum(np.ceil(wanted / ends[-1]) - 1.0, 0.0)
        rest = np.clip(wanted - rounds * ends[-1], 0.0, ends[-1]) if rounds.any() else wanted
        # The stretch in which they arrive: the first one that ends with at least as many.
        stretch = np.maximum(np.searchsorted(ends, rest, side="left") - 1, 0)
        there = np.minimum(stretch, self.rates.size - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            within = np.where(rest > ends[there], (rest - ends[there]) / self.rates[there], 0.0)
            start = np.where(rounds > 0, rounds * self.period, 0.0) + self.times[there]
        time = np.where(wanted > 0, start + within, 0.0)
        return time if isinstance(amount, np.ndarray) else float(time)

    def check_reach(self, total: float) -> None:
        """Raise the `ScenarioError` of `breakpoints`, if there is one, at no cost."""
        wanted, ends, k = total * (1.0 + _MARGIN), self._ends, self.rates.size
        if self.period == math.inf:
            if wanted > ends[-1]:
                reason = f"ends with rate 0 after {ends[-1]:g} data units; {total:g} have to arrive"
                raise ScenarioError(reason, field="link")
        elif wanted / ends[-1] * k > MAX_STRETCHES:
            reason = (
                f"the data would take {wanted / ends[-1]:.3g} repetitions of its "
                f"{self.period:g} s; the limit is {max(MAX_STRETCHES // k, 1):,}"
            )
            raise ScenarioError(reason, field="link")

    def breakpoints(self, total: float) -> tuple[FloatArray, FloatArray]:
        """Return the corners of A(t) up to the time at which `total` data have arrived.

        Parameters
        ----------
        total : float
            Data units.

        Returns
        -------
        times, cumulative : (n,) float array
            Seconds, increasing, the first 0; data units, from 0 to `total`.

        Raises
        ------
        ScenarioError
            If so many data never arrive, or only after more than `MAX_STRETCHES` stretches.
        """
        times, cumulative, _ = self._unrolled(total)
        last = self.arrival_time(float(total))
        before = (cumulative < total) & (times < last)
        before[0] = total > 0
        return np.append(times[before], last), np.append(cumulative[before], total)

    def stretches(self, totals: Any) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
        """Return the stretches in which data arrive, for an engine.

        Parameters
        ----------
        totals : (m,) float array
            Data units of each of m runs.

        Returns
        -------
        times : (n + 1,) float array
            Beginnings of the stretches in seconds, and infinity.
        rates : (n,) float array
            Data units per second.
        last : (m,) int array
            For each run the stretch in which the last of its data arrive; it has no end.

        Raises
        ------
        ScenarioError
            As `breakpoints`.
        """
        wanted = np.asarray(totals, dtype=float)
        times, cumulative, rates = self._unrolled(float(wanted.max()))
        last = np.searchsorted(cumulative, wanted * (1.0 + _MARGIN), side="left") - 1
        # Without data any stretch will do that delivers something.
        last = np.where(wanted > 0, np.maximum(last, 0), rates.size - 1)
        return np.append(times, math.inf), rates, last

    def _unrolled(self, total: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return times, cumulative data and rates of all stretches that the data meet."""
        self.check_reach(total)
        wanted, ends, k = total * (1.0 + _MARGIN), self._ends, self.rates.size
        rounds = 1 if self.period == math.inf else max(math.ceil(wanted / ends[-1]), 1)
        turn = np.repeat(np.arange(rounds, dtype=float), k)
        once = (self.times, ends[:-1], self.rates)
        times, cumulative, rates = (np.tile(x, rounds) for x in once)
        if self.period < math.inf:
            # Rounding makes the end of one repetition differ from the beginning of the next.
            cumulative = np.maximum.accumulate(cumulative + turn * ends[-1])
            times = times + turn * self.period
        # Stretches count that begin before the data are there; the last of them is no outage.
        count = max(int(np.searchsorted(cumulative, wanted, side="left")), 1)
        while rates[count - 1] == 0:
            count += 1 if total == 0 else -1
        return times[:count], cumulative[:count], rates[:count]
