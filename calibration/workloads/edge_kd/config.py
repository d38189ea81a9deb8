"""Edge knowledge distillation as one real loop: cloud teacher, TCP, student, core policy.

A teacher process (the cloud) infers on public data and streams its knowledge; the student process
(the edge) has private labelled data and the same public images, and trains with
``L = alpha*CE(private) + (1 - alpha)*Ld(public)``. A cycle is one Comm (the knowledge of a public
batch), one Forward and one Backward; a policy shares the cores while they run. The teacher is a
process here or a server elsewhere. The processes are those of ``calibration.bench.bench``, the
controller is ``calibration.bench.replay``. Here stands what both sides know; their halves are
``edge_kd_cloud`` and ``edge_kd_student``, the study over seeds and methods is ``edge_kd_study``.

References
----------
The contention paper, section II; Hinton, Vinyals, Dean: Distilling the knowledge in a neural
network, 2015.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from calibration.bench.bench import MAX_BATCHES
from calibration.workloads.checks import check_choice, check_positive
from calibration.workloads.data.datasets import Dataset
from calibration.workloads.data.splits import Split, split
from calibration.workloads.losses import MEASURES
from calibration.workloads.training.networks import NETWORKS, ConvNet
from kdsim._types import Record
from kdsim.errors import WorkloadError
from kdsim.messages import shorten

#: What travels; "none" is the same training without a teacher.
METHODS = ("none", "response", "feature", "relation")


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """An edge-KD run, except its seed and its method.

    Attributes
    ----------
    data, data_dir : str, str or None
        Data set and its folder.
    student : str
        Architecture of the student (`calibration.workloads.training.networks`).
    teacher_images, private_images, public_images : int
        Disjoint parts of the training images: the cloud's labelled ones, the edge's labelled
        ones, and the unlabelled ones that both sides have.
    teacher_epochs, epochs : int
        An epoch of the edge is one pass over the public images.
    batch : int
        Images of a private and of a public batch.
    alpha : float
        Weight of the prediction loss, 0 to 1.
    measure : str
        Dissimilarity behind the response loss.
    rate, momentum : float
        Of the student's stochastic gradient descent.
    """

    data: str = "digits"
    data_dir: str | None = None
    student: str = "edge-1"
    teacher_images: int = 700
    private_images: int = 60
    public_images: int = 512
    teacher_epochs: int = 30
    epochs: int = 12
    batch: int = 32
    alpha: float = 0.5
    temperature: float = 4.0
    measure: str = "kl"
    rate: float = 0.02
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise WorkloadError(f"alpha must lie in [0, 1], got {self.alpha}")
        check_positive(self, "temperature")
        if self.batch < 3:
            raise WorkloadError(f"a batch needs at least 3 images (relations), got {self.batch}")
        if self.public_images < self.batch or self.private_images < 2:
            raise WorkloadError(
                f"need at least one public batch of {self.batch} and 2 private images, got "
                f"{self.public_images} and {self.private_images}"
            )
        if self.epochs < 1 or not 0 < self.rate < math.inf or not 0 <= self.momentum < 1:
            raise WorkloadError(
                "epochs and rate must be positive and finite, momentum in [0, 1), got "
                f"{self.epochs}, {self.rate}, {self.momentum}"
            )
        if self.cycles > MAX_BATCHES:
            raise WorkloadError(f"a run has at most {MAX_BATCHES} cycles, got {self.cycles}")
        if self.teacher_images < 1 or self.teacher_epochs < 1:
            raise WorkloadError(
                "teacher_images and teacher_epochs must be positive, got "
                f"{self.teacher_images} and {self.teacher_epochs}"
            )
        check_choice("student", self.student, NETWORKS)
        check_choice("measure", self.measure, MEASURES)

    @property
    def cycles_per_epoch(self) -> int:
        """Public batches of an epoch; a last, smaller one is left out."""
        return self.public_images // self.batch

    @property
    def cycles(self) -> int:
        """Cycles of a run, N."""
        return self.epochs * self.cycles_per_epoch


def parts_of(config: EdgeConfig, dataset: Dataset, seed: int) -> Split:
    """Draw the disjoint parts: teacher, private (student) and public (stream)."""
    return split(
        dataset, teacher=config.teacher_images, student=config.private_images,
        stream=config.public_images, seed=seed,
    )  # fmt: skip


def public_rows(config: EdgeConfig, seed: int, cycle: int) -> np.ndarray:
    """Return which public images a cycle's batch holds; both sides compute the same.

    Returns
    -------
    (batch,) int64 array
        Positions within the public part.
    """
    epoch, position = divmod(cycle, config.cycles_per_epoch)
    order = np.random.default_rng([2, seed, epoch]).permutation(config.public_images)
    return order[position * config.batch : (position + 1) * config.batch]


def teacher_map(teacher: ConvNet, images: Tensor, pools: int) -> Tensor:
    """Return the teacher's intermediate map after its first `pools` poolings.

    Returns
    -------
    (batch, channels, height, width) Tensor
    """
    seen = 0
    for layer in teacher.features:
        images = layer(images)
        seen += isinstance(layer, nn.MaxPool2d)
        if seen == pools:
            break
    return images


def count_pools(network: ConvNet) -> int:
    """Return how many poolings a network has."""
    return sum(isinstance(layer, nn.MaxPool2d) for layer in network.features)


def check_methods(methods: Sequence[str]) -> None:
    """Raise WorkloadError unless these are different ones of `METHODS`, at least one."""
    known = all(isinstance(method, str) and method in METHODS for method in methods)
    if not methods or not known or len(set(methods)) < len(methods):
        raise WorkloadError(
            f"methods must be different ones of {', '.join(METHODS)}; got "
            f"{', '.join(m if isinstance(m, str) else shorten(m) for m in methods) or 'none'}"
        )


def spec_of(config: EdgeConfig, method: str, seed: int, folder: Path) -> Record:
    """Return the settings that the processes of a run receive, as JSON values.

    Raises
    ------
    WorkloadError
        If the method is unknown.
    """
    check_methods([method])
    return {"config": asdict(config), "method": method, "seed": seed, "folder": str(folder)}
