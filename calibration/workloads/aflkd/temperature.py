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

A learnable temperature is ``T = t_min + (t_max - t_min) * sigmoid(theta)``, or, in the form
``"clamped"``, T itself, put back onto its range after every step.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from calibration.workloads.checks import check_choice
from calibration.workloads.training.seeds import generator_for
from kdsim._types import Record
from kdsim.errors import WorkloadError

POLICIES: tuple[str, ...] = ("reverse", "descend", "fixed", "schedule")

FORMS: tuple[str, ...] = ("sigmoid", "clamped")

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
        Of theta, or of T itself where it is clamped.
    form : {"sigmoid", "clamped"}
        What is learned: theta of the sigmoid, or T itself, clamped to the range.
    """

    policy: str = "reverse"
    initial: float | None = None
    final: float | None = None
    learning_rate: float = 0.01
    momentum: float = 0.9
    t_min: float = 1.0
    t_max: float = 10.0
    form: str = "sigmoid"

    def __post_init__(self) -> None:
        check_choice("temperature policy", self.policy, POLICIES)
        check_choice("form", self.form, FORMS)
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
    device : torch.device, optional
        Where the loss is computed; the CPU by default.
    """

    def __init__(
        self, config: TemperatureConfig, *, seed: int, device: torch.device | None = None
    ) -> None:
        self.config = config
        self._device = device or torch.device("cpu")
        start = config.initial
        if start is None and config.policy == "schedule":
            start = config.t_min
        if start is None:
            share = float(torch.rand((), generator=generator_for(seed, "temperature")))
            start = config.t_min + share * (config.t_max - config.t_min)
        self._start = start
        self._constant = start
        self._given = torch.tensor(start, device=self._device)
        self._learned: Tensor | None = None
        self._optimizer: torch.optim.SGD | None = None
        if config.policy in ("reverse", "descend"):
            self._learned = torch.tensor(
                self._parameter(start), device=self._device, requires_grad=True
            )
            self._optimizer = _WithinBounds(
                [self._learned],
                bounds=(config.t_min, config.t_max) if config.form == "clamped" else None,
                lr=config.learning_rate,
                momentum=config.momentum,
                maximize=config.policy == "reverse",  # the reversed gradient
            )

    def _parameter(self, temperature: float) -> float:
        """Return the value of the learned parameter that stands for a temperature."""
        if self.config.form == "clamped":
            return temperature
        share = (temperature - self.config.t_min) / (self.config.t_max - self.config.t_min)
        share = min(max(share, _INWARDS), 1 - _INWARDS)
        return math.log(share / (1 - share))

    @property
    def value(self) -> float:
        """T now, within its range."""
        t_min, t_max = self.config.t_min, self.config.t_max
        # Float32 may round just past a bound.
        return min(max(float(self.tensor().detach()), t_min), t_max)

    def tensor(self) -> Tensor:
        """Return T as a scalar tensor, with a gradient to what is learned."""
        if self._learned is None:
            return self._given
        if self.config.form == "clamped":
            return self._learned
        width = self.config.t_max - self.config.t_min
        return self.config.t_min + width * torch.sigmoid(self._learned)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimizer of T, to be stepped with the network's; none if T is given."""
        return [] if self._optimizer is None else [self._optimizer]

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set the scheduled temperature of an epoch (from 0); other policies ignore it."""
        if self.config.policy == "schedule":
            final = self.config.t_max if self.config.final is None else self.config.final
            share = epoch / (epochs - 1) if epochs > 1 else 0.0
            self._give(self._start + share * (final - self._start))

    def _give(self, temperature: float) -> None:
        self._constant = temperature
        self._given = torch.tensor(temperature, device=self._device)

    def state_dict(self) -> Record:
        """Return what :meth:`load_state_dict` needs to resume as if never interrupted."""
        return {
            "learned": None if self._learned is None else self._learned.detach().clone(),
            "constant": self._constant,
            # Copied: an optimizer hands out its momentum itself, which later steps would change.
            "optimizer": None
            if self._optimizer is None
            else copy.deepcopy(self._optimizer.state_dict()),
        }

    def load_state_dict(self, state: Record) -> None:
        """Resume from a state that :meth:`state_dict` returned."""
        self._give(state["constant"])
        if self._learned is not None and self._optimizer is not None:
            with torch.no_grad():
                self._learned.copy_(state["learned"])
            self._optimizer.load_state_dict(state["optimizer"])


class _WithinBounds(torch.optim.SGD):
    """Gradient steps, each followed by a return onto the range (projected gradient)."""

    def __init__(
        self, parameters: list[Tensor], *, bounds: tuple[float, float] | None, **options: Any
    ) -> None:
        super().__init__(parameters, **options)
        self._bounds = bounds

    def step(self, closure: Any = None) -> Any:
        """Make one step."""
        loss = super().step(closure)
        if self._bounds is not None:
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.clamp_(*self._bounds)
        return loss
