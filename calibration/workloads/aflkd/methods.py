"""The three methods of AFLKD's comparison: how they are configured and what a run records.

Nouns only; the training is in ``aflkd``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from calibration.workloads.aflkd.temperature import TemperatureConfig
from calibration.workloads.records.profile import CycleCost
from calibration.workloads.training.loops import TrainingConfig
from calibration.workloads.training.networks import ConvNet
from kdsim.errors import WorkloadError

METHODS: tuple[str, ...] = (
    "baseline",
    "sslf",
    "aflkd-reverse",
    "aflkd-descend",
    "aflkd-fixed",
    "aflkd-schedule",
)


@dataclass(frozen=True, slots=True)
class StudentConfig:
    """How an edge network is trained.

    Attributes
    ----------
    method : str
        One of :data:`METHODS`; the policy of an AFLKD method overrides that of `temperature`.
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
        augmented. The result is the same; its seconds are shared out over the forward passes of
        the epoch that needed it.
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
        if self.method not in METHODS:
            raise WorkloadError(f"method must be one of {', '.join(METHODS)}; got {self.method!r}")
        if not 0 <= self.distillation_weight < math.inf:
            raise WorkloadError(
                "distillation_weight must be finite and not negative, got "
                f"{self.distillation_weight!r}"
            )
        if self.refreeze not in ("cloud", "keep"):
            raise WorkloadError(f"refreeze must be 'cloud' or 'keep', got {self.refreeze!r}")

    @property
    def distils(self) -> bool:
        """Whether the student learns from logits and a temperature."""
        return self.method.startswith("aflkd")


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
