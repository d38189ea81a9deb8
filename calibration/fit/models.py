"""Speed models that can be fitted to a side's measurements, each in well-posed coordinates.

Every model gives a side's rate (work per second) for each number of *communication* cores; it is
fitted in coordinates in which every real vector is legal, so that no step of the optimiser can
reach a negative rate or a pole within the feasible range. The formulas themselves are those of
``kdsim.model.curves``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from kdsim.model import curves

FloatArray = NDArray[np.float64]

COMPUTE, COMMUNICATION = "compute", "communication"
_LARGEST_LN_B3 = 600.0
_LARGEST_LN_GAIN = 20.0


@dataclass(frozen=True, slots=True)
class SideModel:
    """A model of one side of a device with `total` cores.

    Attributes
    ----------
    names : tuple of str
        Its parameters.
    start : callable
        From rates measured (FloatArray of core counts, of rates) to a start vector.
    parameters : callable
        From a vector to the parameters by name.
    rates : callable
        From the parameters and total cores to the (total + 1,) rates by communication cores; of a
        form that falls as cores are added, on all of them, as they were measured.
    """

    name: str
    names: tuple[str, ...]
    start: Callable[[FloatArray, FloatArray], FloatArray]
    parameters: Callable[[FloatArray], dict[str, float]]
    rates: Callable[[Mapping[str, float], int], FloatArray]


def side_models(side: str, total: int) -> dict[str, SideModel]:
    """Return the parametric models of a side, the paper's form first.

    Parameters
    ----------
    side : {"compute", "communication"}
    total : int
        Cores of the device; fixes which core counts are feasible.

    Returns
    -------
    dict
        ``paper`` and those of `kdsim.model.curves.MODELS`. The measured table, which has as many
        parameters as points, is made by ``calibration.fit`` itself.
    """
    paper = _paper_compute(total) if side == COMPUTE else _paper_communication(total)
    models = [paper, *(own_core_model(*item, side, total) for item in curves.MODELS.items())]
    return {model.name: model for model in models}


# --- the paper's forms ----------------------------------------------------------------------------


def _paper_compute(total: int) -> SideModel:
    """f: speed (1 - a2*c)/a1, linear in c, its pole 1/a2 beyond the largest feasible c."""
    last = max(total - 1, 1)

    def parameters(v: FloatArray) -> dict[str, float]:
        # The logistic function itself reaches 1 in floats, and with it the pole.
        return {"a1": math.exp(-v[0]), "a2": min(float(expit(v[1])), 1 - 1e-9) / last}

    def start(c: FloatArray, rates: FloatArray) -> FloatArray:
        slope, level = np.polyfit(c, rates, 1) if len(set(c)) > 1 else (0.0, rates.mean())
        level = max(level, rates.min())
        share = np.clip(-slope / level * last, 0.02, 0.98)
        return np.array([math.log(level), logit(share)])

    def rates(p: Mapping[str, float], cores: int) -> FloatArray:
        return curves.paper_compute_rates(p["a1"], p["a2"], cores, total)

    return SideModel("paper", ("a1", "a2"), start, parameters, rates)


def _paper_communication(total: int) -> SideModel:
    """g: r(c) = r1 + (rM - r1)*((1-w)*(c-1)/(M-1) + w*ln c/ln M) on c = 1..M, mapped to b1..b3.

    Both ends are positive and the mix increases, so the rate is positive throughout; eq. 4 has
    the same curves, but in coordinates where nearly every vector is illegal.
    """
    top = max(total, 2)

    def parameters(v: FloatArray) -> dict[str, float]:
        first, w = math.exp(v[0]), float(expit(v[2]))
        # In eq. 4 the first rate is a difference; a trial step of the optimiser to gains beyond
        # this would leave nothing of it but rounding, of either sign.
        gain = math.exp(min(v[1], v[0] + _LARGEST_LN_GAIN))
        b1, b2 = gain * (1 - w) / (top - 1), gain * w / math.log(top)
        # r1 = b1 + b2*ln b3. Without a logarithmic part eq. 4 has no constant left and b3 leaves
        # the range of floats; the least b2 that keeps it in adds under 0.5 % to the curve.
        b2 = max(b2, abs(first - b1) / _LARGEST_LN_B3)
        return {"b1": b1, "b2": b2, "b3": math.exp((first - b1) / b2) if b2 > 0 else 1.0}

    def start(c: FloatArray, rates: FloatArray) -> FloatArray:
        low, high = rates[np.argmin(c)], rates[np.argmax(c)]
        return np.array([math.log(low), math.log(max(high - low, 0.05 * low)), 0.0])

    def rates(p: Mapping[str, float], cores: int) -> FloatArray:
        return curves.paper_communication_rates(p["b1"], p["b2"], p["b3"], cores)

    return SideModel("paper", ("b1", "b2", "b3"), start, parameters, rates)


# --- models of a side's own cores -----------------------------------------------------------------


#: Where fits of a parameter begin, unless the data say.
_START = {
    "serial": 0.1,
    "sigma": 0.1,
    "kappa": 0.005,
    "sharpness": 4.0,
    "overhead": 0.02,
    "exponent": 0.8,
    "damping": 0.01,
}


def own_core_model(
    name: str,
    spec: curves.Model,
    side: str,
    total: int,
    start_at: Mapping[str, float] | None = None,
) -> SideModel:
    """Make a speed model of a side's own cores fit to measurements.

    Parameters
    ----------
    spec : curves.Model
        Its formula, parameters and their ranges.
    side : {"compute", "communication"}
    total : int
        Cores of the device.
    start_at : mapping, optional
        Where fits of its parameters begin, for those that the built-in models do not have.
    """

    def sides_own(c: FloatArray) -> FloatArray:
        return total - c if side == COMPUTE else c

    def parameters(v: FloatArray) -> dict[str, float]:
        return {
            key: _into_range(float(x), low, high)
            for key, x, low, high in zip(spec.parameters, v, spec.lower, spec.upper, strict=True)
        }

    def start(c: FloatArray, rates: FloatArray) -> FloatArray:
        own = sides_own(c)
        guess = {
            **_START,
            "rate1": float(np.median(rates / own)) * 1.1,
            "limit": 1.5 * float(rates.max()),
            **(start_at or {}),
        }
        return np.array(
            [
                _from_range(guess[key], low, high)
                for key, low, high in zip(spec.parameters, spec.lower, spec.upper, strict=True)
            ]
        )

    def rates(p: Mapping[str, float], cores: int) -> FloatArray:
        return curves.model_rates(spec, p, cores, side=side, surplus="used")

    return SideModel(name, spec.parameters, start, parameters, rates)


def _into_range(x: float, low: float, high: float) -> float:
    """Map the real line into a parameter's range: exp for a half line, logistic for an interval."""
    if math.isinf(high):
        return math.exp(min(max(x, -700.0), 700.0))
    return low + (high - low) * float(expit(x))


def _from_range(value: float, low: float, high: float) -> float:
    return math.log(value) if math.isinf(high) else float(logit((value - low) / (high - low)))
