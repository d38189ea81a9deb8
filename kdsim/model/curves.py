"""How fast each side works on its cores: f and g, and their rates.

Source: the contention paper, eqs. 3 and 4. ``c`` is always the number of *communication* cores;
computation has the other ``c_total - c``. Every curve is linear in the work, so all that the
simulator needs of it is a rate for each ``c``: ``q(c) = 1/f(1, c)`` for computation and
``r(c) = 1/g(1, c)`` for communication, with ``q(c_total) = 0`` and ``r(0) = 0``.

What is not here: the rate region (``rate_region``), reading curves from files (``scenario``) and
fitting them (``calibration.fit``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kdsim.errors import ScenarioError

FloatArray = NDArray[np.float64]


# --- models of a side's speed on its own cores -----------------------------------------------
#
# Beside the paper's two forms a device may be described by any of these; `p` is the number of
# cores the side itself has. Parameters are positional in the order of `MODELS`.


def _power(p: FloatArray, v: Mapping[str, float]) -> FloatArray:
    return np.asarray(v["rate1"] * p ** v["exponent"])


def _damped_power(p: FloatArray, v: Mapping[str, float]) -> FloatArray:
    return np.asarray(v["rate1"] * p ** v["exponent"] * np.exp(-v["damping"] * (p - 1.0)))


def _log_overhead(p: FloatArray, v: Mapping[str, float]) -> FloatArray:
    # Time 1/p of perfectly parallel work, and a synchronisation that costs ln p.
    return np.asarray(v["rate1"] / (1.0 / p + v["overhead"] * np.log(p)))


def _amdahl(p: FloatArray, v: Mapping[str, float]) -> FloatArray:
    return v["rate1"] / (v["serial"] + (1.0 - v["serial"]) / p)


def _usl(p: FloatArray, v: Mapping[str, float]) -> FloatArray:
    return np.asarray(v["rate1"] * p / (1.0 + v["sigma"] * (p - 1.0) + v["kappa"] * p * (p - 1.0)))


def _roofline(p: FloatArray, v: Mapping[str, float]) -> FloatArray:
    # A smooth minimum: rate1*p while cores limit, `limit` (e.g. the link) beyond.
    # Powers of the two rates themselves leave the range of floats, powers of their ratio do not.
    k = v["sharpness"]
    with np.errstate(over="ignore"):  # what is beyond floats is beyond the limit
        rising = v["rate1"] * p
    low = np.minimum(rising, v["limit"])
    ratio = low / np.maximum(rising, v["limit"])
    return np.asarray(low * (1.0 + ratio**k) ** (-1.0 / k))


@dataclass(frozen=True, slots=True)
class Model:
    """A named speed model: its parameters, their legal open or closed ranges, its rate."""

    parameters: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    rate: Callable[[FloatArray, Mapping[str, float]], FloatArray]


_TINY = np.finfo(float).tiny

#: Speed models in terms of a side's own cores (Amdahl 1967; Gunther's universal scalability law,
#: 1993; a smooth roofline; parallel work with a logarithmic synchronisation cost, the simplest of
#: the overheads of Flatt and Kennedy 1989; a power law, and one with an exponential loss). Usl,
#: log-overhead and damped-power may fall as cores are added. The paper's f, affine in p, has the
#: shape of Gustafson's scaled speed-up (1988). It and the measured table have their own fields.
MODELS: dict[str, Model] = {
    "amdahl": Model(("rate1", "serial"), (_TINY, 0.0), (math.inf, 1.0), _amdahl),
    "usl": Model(("rate1", "sigma", "kappa"), (_TINY, 0.0, 0.0), (math.inf, 1.0, 1.0), _usl),
    "roofline": Model(
        ("rate1", "limit", "sharpness"), (_TINY, _TINY, 0.5), (math.inf, math.inf, 64.0), _roofline
    ),
    "log-overhead": Model(("rate1", "overhead"), (_TINY, 0.0), (math.inf, 1.0), _log_overhead),
    "power": Model(("rate1", "exponent"), (_TINY, 0.0), (math.inf, 1.0), _power),
    "damped-power": Model(
        ("rate1", "exponent", "damping"), (_TINY, 0.0, 0.0), (math.inf, 1.0, 1.0), _damped_power
    ),
}


def table_rates(cores: Sequence[float], rates: Sequence[float], p: FloatArray) -> FloatArray:
    """Interpolate a measured table monotonically (PCHIP); constant beyond its ends.

    Parameters
    ----------
    cores : sequence of float
        Measured core counts, increasing.
    rates : sequence of float
        Work per second at each of them.
    p : (n,) float array
        Core counts asked for, >= 1. Below the first measured count the rate falls in proportion.

    Returns
    -------
    (n,) float array
    """
    knots, values = np.asarray(cores, float), np.asarray(rates, float)
    if np.isin(p, knots).all():
        return np.asarray(values[np.searchsorted(knots, p)])
    below: FloatArray = values[0] * np.minimum(p / knots[0], 1.0)
    if knots.size == 1:
        return below
    from scipy.interpolate import PchipInterpolator  # only tables that interpolate need scipy

    inside = PchipInterpolator(knots, values)(np.clip(p, knots[0], knots[-1]))
    return np.where(p < knots[0], below, inside)


# --- a device's rates -------------------------------------------------------------------------


def scale_compute(a1: float, a2: float, reference_cores: int, c_total: int) -> tuple[float, float]:
    """Carry f's parameters from the device they were fitted on to one with `c_total` cores.

    ``a1*c_ref/c_total`` and ``a2*c_ref/c_total``: with perfect scaling (``a2*c_ref = 1``) the
    rate stays one function of the number of compute cores.
    """
    ratio = reference_cores / c_total
    return a1 * ratio, a2 * ratio


def paper_compute_rates(a1: float, a2: float, c_total: int, reference_cores: int) -> FloatArray:
    """Return q(0..c_total) of eq. 3, scaled from `reference_cores` to `c_total` cores.

    Returns
    -------
    (c_total + 1,) float array
        Work per second; the last entry is 0 (no compute core is left).

    Raises
    ------
    ScenarioError
        If a parameter is out of range or the curve has a pole at a feasible core count.
    """
    if not a1 > 0:
        raise ScenarioError(f"must be positive (got {a1:g})", field="compute.a1")
    if not a2 >= 0:
        raise ScenarioError(f"must be zero or positive (got {a2:g})", field="compute.a2")
    s1, s2 = scale_compute(a1, a2, reference_cores, c_total)
    c = np.arange(c_total + 1, dtype=float)
    speed = 1.0 - s2 * c
    broken = np.flatnonzero(speed[:-1] <= 0)
    if broken.size:
        scaled = "" if reference_cores == c_total else f" (a2 scaled to {c_total} cores: {s2:g})"
        raise ScenarioError(
            f"1 - a2*c must stay positive, but is {speed[broken[0]]:g} at c = {broken[0]} "
            f"communication cores of {c_total}{scaled} (got {a2:g})",
            field="compute.a2",
        )
    rates = speed / s1
    rates[-1] = 0.0
    return rates


def fitted_compute_rates(a1: float, a2: float, c_total: int, reference_cores: int) -> FloatArray:
    """Return q(0..c_total) of an eq. 3 that was fitted on a device with `reference_cores` cores.

    What was measured is the rate on each number p of *compute* cores, so that is what stays the
    same on a part of the device: ``q = (1 - a2*(reference_cores - p)) / a1`` with
    ``p = c_total - c``. With perfect scaling (``a2*reference_cores = 1``), and on all reference
    cores, it equals :func:`paper_compute_rates`.

    Returns
    -------
    (c_total + 1,) float array
        Work per second; the last entry is 0 (no compute core is left).

    Raises
    ------
    ScenarioError
        If a parameter is out of range or the curve has a pole at a feasible core count.
    """
    fitted = paper_compute_rates(a1, a2, reference_cores, reference_cores)
    if c_total <= reference_cores:
        return fitted[reference_cores - c_total :]
    beyond = np.arange(c_total - reference_cores, 0, -1, dtype=float)
    return np.concatenate([(1.0 + a2 * beyond) / a1, fitted])


def paper_communication_rates(b1: float, b2: float, b3: float, c_total: int) -> FloatArray:
    """Return r(0..c_total) of eq. 4.

    Returns
    -------
    (c_total + 1,) float array
        Data per second; the first entry is 0 (no communication core).

    Notes
    -----
    Where a legal curve falls as cores are added (b1 or b2 negative), the cores that would slow
    communication down stay idle: the rate is that of the best count up to c. Else "all cores to
    Comm" (eq. 13) could be slower than some of them, and no policy could mend it.

    Raises
    ------
    ScenarioError
        If the rate is not positive at some feasible core count.
    """
    if not b3 > 0:
        raise ScenarioError(f"must be positive (got {b3:g})", field="communication.b3")
    c = np.arange(1, c_total + 1, dtype=float)
    rate = b1 * c + b2 * np.log(b3 * c)
    broken = np.flatnonzero(~(rate > 0))
    if broken.size:
        k = int(broken[0])
        raise ScenarioError(
            f"b1*c + b2*ln(b3*c) must be positive for every c from 1 to {c_total}, but is "
            f"{rate[k]:g} at c = {k + 1} (got b1 = {b1:g}, b2 = {b2:g}, b3 = {b3:g})",
            field="communication",
        )
    return np.concatenate([[0.0], np.maximum.accumulate(rate)])


def own_core_rates(
    model: str,
    parameters: Mapping[str, float],
    c_total: int,
    *,
    side: str,
    surplus: Literal["idle", "used"] = "idle",
) -> FloatArray:
    """Return a side's rates from a model of its own cores.

    Parameters
    ----------
    model : str
        A key of `MODELS`.
    parameters : mapping
        The model's parameters by name.
    c_total : int
        Cores of the device.
    side : {"compute", "communication"}
        For compute, own cores are ``c_total - c``.
    surplus : {"idle", "used"}
        What becomes of cores beyond which the curve falls: the simulator leaves them idle, a fit
        compares the curve as it is with times measured on all of them.

    Returns
    -------
    (c_total + 1,) float array
        Rates indexed by communication cores.

    Raises
    ------
    ScenarioError
        If a parameter is outside its range or a rate is not positive and finite.
    """
    spec = MODELS[model]
    for name, low, high in zip(spec.parameters, spec.lower, spec.upper, strict=True):
        if not low <= parameters[name] <= high:
            bounds = f"(0, {high:g}]" if low == _TINY else f"[{low:g}, {high:g}]"
            raise ScenarioError(
                f"must lie in {bounds} for model {model} (got {parameters[name]:g})",
                field=f"{side}.{name}",
            )
    return model_rates(spec, parameters, c_total, side=side, surplus=surplus)


def model_rates(
    spec: Model,
    parameters: Mapping[str, float],
    c_total: int,
    *,
    side: str,
    surplus: Literal["idle", "used"] = "idle",
) -> FloatArray:
    """Return a side's rates from any speed model; see :func:`own_core_rates`."""
    own = spec.rate(np.arange(1, c_total + 1, dtype=float), parameters)
    return _by_comm_cores(own, side, surplus)


def table_own_core_rates(
    cores: Sequence[float],
    rates: Sequence[float],
    c_total: int,
    *,
    side: str,
    surplus: Literal["idle", "used"] = "idle",
) -> FloatArray:
    """Return a side's rates from a measured table of its own cores; see :func:`table_rates`."""
    own = table_rates(cores, rates, np.arange(1, c_total + 1, dtype=float))
    return _by_comm_cores(own, side, surplus)


def _by_comm_cores(own: FloatArray, side: str, surplus: Literal["idle", "used"]) -> FloatArray:
    bad = np.flatnonzero(~(np.isfinite(own) & (own > 0)))
    if bad.size:
        k = int(bad[0])
        raise ScenarioError(
            f"the rate on {k + 1} cores must be positive and finite (got {own[k]:g})", field=side
        )
    padded = np.concatenate([[0.0], own if surplus == "used" else surplus_idle(own)])
    return padded[::-1].copy() if side == "compute" else padded


def surplus_idle(own: FloatArray) -> FloatArray:
    """Return rates on 1, 2, .. own cores where cores that would slow the side down stay idle.

    As with the paper's curve: under retrograde scaling the rate is that of the best count so far.
    """
    return np.asarray(np.maximum.accumulate(own, axis=-1))


def as_simulated(rates: FloatArray, side: str) -> FloatArray:
    """Return rates by communication cores, as measured on all of them, as the simulator has them.

    Parameters
    ----------
    rates : (..., c_total + 1) float array
    side : {"compute", "communication"}

    Returns
    -------
    (..., c_total + 1) float array
        See :func:`surplus_idle`.
    """
    if side == "compute":
        return np.asarray(surplus_idle(rates[..., ::-1])[..., ::-1])
    return surplus_idle(rates)


def unit_times(rates: FloatArray) -> FloatArray:
    """Return seconds per unit of work for rates in work per second; infinite where a rate is 0."""
    return np.asarray(np.divide(1.0, rates, out=np.full(rates.shape, np.inf), where=rates > 0))
