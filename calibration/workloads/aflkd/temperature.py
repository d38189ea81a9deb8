"""The distillation temperature of AFLKD and the number of frozen layers it implies (eq. 17).

Four policies say how the temperature moves within [t_min, t_max]:

``reverse``
    T *ascends* the distillation loss (gradient reversal, as in curriculum temperature). In T the
    loss ``T^2 KL`` rises and then falls, so its stationary point (eq. 13) is a maximum: ascending,
    T settles there.
``descend``
    T descends the loss as in eq. 5. It is driven away from that maximum and ends at a bound:
    every layer frozen or none, depending on the start.
``fixed``
    T stays at its initial value.
``schedule``
    T moves in equal steps from its initial to its final value over the epochs of a training: from
    t_min to t_max by default, thawing layer after layer.

A learnable temperature is ``T = t_min + (t_max - t_min) * sigmoid(theta)``.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from calibration.workloads.training.loops import generator_for
from kdsim.errors import WorkloadError

POLICIES: tuple[str, ...] = ("reverse", "descend", "fixed", "schedule")

#: theta is infinite at the bounds: a start there is moved inwards by this share of the range.
_INWARDS = 1e-3

#: Far above the rounding of a T given in decimals, far below any step of a learned one.
_BORDER = 1e-9


def frozen_layers(temperature: float, m: int, t_min: float = 1.0, t_max: float = 10.0) -> int:
    """Return the number of frozen layers that a temperature implies (eq. 17).

    ``n = floor(m * (1 - (T - t_min) / (t_max - t_min)) + 0.5)``: all m layers at t_min, none at
    t_max (where the paper's text says 1, its formula gives 0).

    Parameters
    ----------
    temperature : float
        T in [t_min, t_max].
    m : int
        Layers that can be frozen, 1 or more.
    t_min, t_max : float
        The range of T; 0 < t_min < t_max.

    Returns
    -------
    int
        From 0 to m, never rising with T.

    Raises
    ------
    WorkloadError
        If an argument is out of its range.

    Examples
    --------
    >>> [frozen_layers(t, 3) for t in (1.0, 2.5, 5.5, 10.0)]
    [3, 3, 2, 0]
    """
    if m < 1:
        raise WorkloadError(f"m must be 1 or more, got {m}")
    if not 0 < t_min < t_max:
        raise WorkloadError(f"need 0 < t_min < t_max, got {t_min:g} and {t_max:g}")
    if not t_min <= temperature <= t_max:
        raise WorkloadError(f"temperature must lie in [{t_min:g}, {t_max:g}], got {temperature!r}")
    # The margin: T = 8.65 lies on the border between 1 and 2 of 10 layers, 10 - 8.65 in floating
    # point just below it.
    return math.floor(m * (t_max - temperature) / (t_max - t_min) + 0.5 + _BORDER)


@dataclass(frozen=True, slots=True)
class TemperatureConfig:
    """How the temperature moves.

    Attributes
    ----------
    policy : {"reverse", "descend", "fixed", "schedule"}
        See the module's text. ``"reverse"`` deviates from the paper's eq. 5, which ``"descend"``
        follows.
    initial : float, optional
        T at the start; by default uniformly random in the range (Algorithm 1), from the run's
        seed, and t_min for ``"schedule"``.
    final : float, optional
        Where ``"schedule"`` ends; t_max by default.
    learning_rate, momentum : float
        Of theta.
    t_min, t_max : float
        The range.
    """

    policy: str = "reverse"
    initial: float | None = None
    final: float | None = None
    learning_rate: float = 0.01
    momentum: float = 0.9
    t_min: float = 1.0
    t_max: float = 10.0

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise WorkloadError(
                f"temperature policy must be one of {', '.join(POLICIES)}; got {self.policy!r}"
            )
        if not 0 < self.t_min < self.t_max:
            raise WorkloadError(f"need 0 < t_min < t_max, got {self.t_min:g} and {self.t_max:g}")
        for name in ("initial", "final"):
            value = getattr(self, name)
            if value is not None and not self.t_min <= value <= self.t_max:
                raise WorkloadError(
                    f"{name} temperature must lie in [{self.t_min:g}, {self.t_max:g}], "
                    f"got {value:g}"
                )
        if not 0 < self.learning_rate < math.inf or not 0 <= self.momentum < 1:
            raise WorkloadError(
                "temperature needs a finite learning_rate > 0 and momentum in [0, 1), got "
                f"{self.learning_rate:g} and {self.momentum:g}"
            )


class Temperature:
    """A temperature in the course of a training.

    Parameters
    ----------
    config : TemperatureConfig
        How it moves.
    seed : int
        Of the random start, where `config` names none.
    """

    def __init__(self, config: TemperatureConfig, *, seed: int) -> None:
        self.config = config
        start = config.initial
        if start is None and config.policy == "schedule":
            start = config.t_min
        if start is None:
            share = float(torch.rand((), generator=generator_for(seed, "temperature")))
            start = config.t_min + share * (config.t_max - config.t_min)
        self._start = start
        self._theta: Tensor | None = None
        self._constant = start
        self._optimizer: torch.optim.SGD | None = None
        if config.policy in ("reverse", "descend"):
            share = (start - config.t_min) / (config.t_max - config.t_min)
            share = min(max(share, _INWARDS), 1 - _INWARDS)
            self._theta = torch.tensor(math.log(share / (1 - share)), requires_grad=True)
            self._optimizer = torch.optim.SGD(
                [self._theta],
                lr=config.learning_rate,
                momentum=config.momentum,
                maximize=config.policy == "reverse",  # the reversed gradient
            )

    @property
    def value(self) -> float:
        """T now, within its range."""
        t_min, t_max = self.config.t_min, self.config.t_max
        # Float32 may round just past a bound.
        return min(max(float(self.tensor().detach()), t_min), t_max)

    def tensor(self) -> Tensor:
        """Return T as a scalar tensor, with a gradient to theta where it is learned."""
        if self._theta is None:
            return torch.tensor(self._constant)
        width = self.config.t_max - self.config.t_min
        return self.config.t_min + width * torch.sigmoid(self._theta)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimizer of theta, to be stepped with the network's; none if T is given."""
        return [] if self._optimizer is None else [self._optimizer]

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set the scheduled temperature of an epoch (from 0); other policies ignore it."""
        if self.config.policy == "schedule":
            final = self.config.t_max if self.config.final is None else self.config.final
            share = epoch / (epochs - 1) if epochs > 1 else 0.0
            self._constant = self._start + share * (final - self._start)

    def frozen(self, m: int) -> int:
        """Return how many of m layers this temperature freezes."""
        return frozen_layers(self.value, m, self.config.t_min, self.config.t_max)

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` needs to go on as if never interrupted."""
        return {
            "theta": None if self._theta is None else self._theta.detach().clone(),
            "constant": self._constant,
            # Copied: an optimizer hands out its momentum itself, which later steps would change.
            "optimizer": None
            if self._optimizer is None
            else copy.deepcopy(self._optimizer.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that :meth:`state_dict` returned."""
        self._constant = state["constant"]
        if self._theta is not None and self._optimizer is not None:
            with torch.no_grad():
                self._theta.copy_(state["theta"])
            self._optimizer.load_state_dict(state["optimizer"])
