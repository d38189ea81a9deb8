"""The methods of AFLKD's comparison: their switches, their configuration, what a run records.

A method is a row of switches: what it takes over from the cloud, what it freezes, whether it
distils, how its temperature moves. Two methods that differ in one switch show what that switch is
worth. Nouns only; the training is in ``student``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from calibration.workloads.aflkd.temperature import TemperatureConfig, frozen_layers
from calibration.workloads.checks import check_choice
from calibration.workloads.records.profile import CycleCost
from calibration.workloads.training.loops import TrainingConfig
from calibration.workloads.training.networks import ConvNet
from kdsim._types import RecordView
from kdsim.errors import WorkloadError


@dataclass(frozen=True, slots=True)
class Method:
    """The switches of a method.

    Attributes
    ----------
    shares : {"nothing", "frozen", "all"}
        Which layers start with the cloud's weights: none, a layer whenever it freezes, or all that
        can freeze, from the start (a frozen layer then holds them too).
    freezes : {"none", "half", "all", "adaptive"}
        How many of m layers are frozen: 0, m / 2 rounded up, m, or eq. 17's n(T).
    temperature : mapping or None
        What the method fixes of ``TemperatureConfig``, at least the policy; None: it does not
        distil.
    """

    shares: Literal["nothing", "frozen", "all"]
    freezes: Literal["none", "half", "all", "adaptive"]
    temperature: RecordView | None = None

    @property
    def distils(self) -> bool:
        """Whether the student learns from logits at a temperature."""
        return self.temperature is not None

    def temperature_config(self, given: TemperatureConfig) -> TemperatureConfig:
        """Return how T moves: what the method fixes, and `given` for the rest."""
        return replace(given, **(self.temperature or {}))

    def layers(self, m: int, temperature: float | None, bounds: TemperatureConfig) -> int:
        """Return how many of m layers are frozen at a temperature."""
        if self.freezes == "adaptive":
            if temperature is None:
                raise WorkloadError("a method that does not distil has no temperature to follow")
            return frozen_layers(temperature, m, bounds.t_min, bounds.t_max)
        return {"none": 0, "half": (m + 1) // 2, "all": m}[self.freezes]


def _fixed(temperature: float) -> RecordView:
    return MappingProxyType({"policy": "fixed", "initial": temperature})


_REVERSE = MappingProxyType({"policy": "reverse"})
_DESCEND = MappingProxyType({"policy": "descend"})
#: T itself is the parameter and is clamped to its range: eq. 5 without a sigmoid.
_CLAMPED = MappingProxyType({"policy": "descend", "form": "clamped"})
#: Eq. 5 exactly as printed: it has no learning rate, so that the step is the gradient itself.
_PRINTED = MappingProxyType({**_CLAMPED, "learning_rate": 1.0, "momentum": 0.0})

#: Every method, each reached from a neighbour by one switch. The temperature of the methods that
#: keep it fixed is 4 unless their name says another.
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        # without distillation
        "baseline": Method("nothing", "none"),
        "fine-tune": Method("all", "none"),
        "sslf": Method("frozen", "all"),
        # distillation at a fixed temperature
        "kd": Method("nothing", "none", _fixed(4.0)),
        "kd-shared": Method("all", "none", _fixed(4.0)),
        "kd-half": Method("frozen", "half", _fixed(4.0)),
        "kd-frozen": Method("frozen", "all", _fixed(4.0)),
        "kd-frozen-t1": Method("frozen", "all", _fixed(1.0)),
        "kd-frozen-t2": Method("frozen", "all", _fixed(2.0)),
        "kd-frozen-t8": Method("frozen", "all", _fixed(8.0)),
        # a temperature that is learned, a number of frozen layers that is not
        "kd-shared-learned": Method("all", "none", _REVERSE),
        "kd-half-learned": Method("frozen", "half", _REVERSE),
        "kd-frozen-learned": Method("frozen", "all", _REVERSE),
        # n follows T
        "aflkd-fixed": Method("frozen", "adaptive", MappingProxyType({"policy": "fixed"})),
        "aflkd-schedule": Method("frozen", "adaptive", MappingProxyType({"policy": "schedule"})),
        "aflkd-reverse": Method("frozen", "adaptive", _REVERSE),
        "aflkd-reverse-shared": Method("all", "adaptive", _REVERSE),
        "aflkd-descend": Method("frozen", "adaptive", _DESCEND),
        "aflkd-clamped": Method("frozen", "adaptive", _CLAMPED),
        "aflkd-printed": Method("frozen", "adaptive", _PRINTED),
    }
)


@dataclass(frozen=True, slots=True)
class StudentConfig:
    """How an edge network is trained.

    Attributes
    ----------
    method : str
        One of :data:`METHODS`; what it fixes of the temperature overrides `temperature`.
    training : TrainingConfig
        Epochs and step of each lesson.
    distillation_weight : float
        lambda.
    temperature : TemperatureConfig
        Start, range and step of T.
    refreeze : {"cloud", "keep"}
        What a layer holds when it freezes again.
    cache : bool
        Compute the frozen prefix once instead of every epoch, where the data are fixed and not
        augmented, and once for the test images. The result is the same; the seconds for the
        training images are shared out over the forward passes of the epoch that needed them.
    cache_limit_mb : float
        The most memory cached features may take; beyond it they are recomputed.
    confidence_weighting, safeguard : bool
        The remedies of ``robustness``.
    curve : bool
        Report test accuracy after every epoch, not only at the end of each lesson.
    """

    method: str = "aflkd-reverse"
    training: TrainingConfig = field(default_factory=TrainingConfig)
    distillation_weight: float = 1.0
    temperature: TemperatureConfig = field(default_factory=TemperatureConfig)
    refreeze: str = "cloud"
    cache: bool = True
    cache_limit_mb: float = 1000.0
    confidence_weighting: bool = False
    safeguard: bool = False
    curve: bool = False

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        if not 0 <= self.distillation_weight < math.inf:
            raise WorkloadError(
                "distillation_weight must be finite and not negative, got "
                f"{self.distillation_weight!r}"
            )
        check_choice("refreeze", self.refreeze, ("cloud", "keep"))

    @property
    def switches(self) -> Method:
        """The switches of its method."""
        return METHODS[self.method]


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one epoch did.

    Attributes
    ----------
    size : int
        Images seen so far (the lesson).
    epoch : int
        From 1, within the lesson.
    loss, train_accuracy : float
        Means over the epoch.
    temperature : float or None
        T at the end of the epoch; None without distillation.
    frozen_layers : int
        n during the epoch.
    test_accuracy : float or None
        At the end of the epoch, where asked for and at the end of a lesson.
    """

    size: int
    epoch: int
    loss: float
    train_accuracy: float
    temperature: float | None
    frozen_layers: int
    test_accuracy: float | None = None


@dataclass(slots=True)
class StudentRun:
    """A trained edge network and its history.

    Attributes
    ----------
    network : ConvNet
        With its final weights.
    epochs : list of EpochRecord
        Every epoch of every lesson.
    cycles : list of CycleCost
        Every training cycle, for the cost profile.
    weights : list of float
        The lambda that each lesson used.
    """

    network: ConvNet
    epochs: list[EpochRecord] = field(default_factory=list)
    cycles: list[CycleCost] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def test_accuracy(self, size: int) -> float:
        """Return the test accuracy at the end of the lesson that ended at `size` images."""
        return next(
            e.test_accuracy
            for e in reversed(self.epochs)
            if e.size == size and e.test_accuracy is not None
        )
