"""What the edge learns from: its initial labelled images, then what the cloud makes of a stream.

Algorithm 2: unlabelled images go up to the cloud; its predictions come back as labels and logits.
A :class:`Lesson` holds one such training set with the bytes that it cost, so that a training
cycle's communication is that of a real exchange. What is not here: the training (``aflkd``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from calibration.workloads.aflkd.robustness import check_share, corrupt_logits, flip_labels
from calibration.workloads.checks import check_choice
from calibration.workloads.data.datasets import Dataset
from calibration.workloads.data.splits import Split
from calibration.workloads.training.loops import predict
from calibration.workloads.training.networks import ConvNet
from calibration.workloads.training.placement import device_of
from calibration.workloads.training.seeds import generator_for
from kdsim.errors import WorkloadError

UPDATES: tuple[str, ...] = ("new", "cumulative")
STREAM_LABELS: tuple[str, ...] = ("cloud", "true")


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One training set of the edge.

    Attributes
    ----------
    size : int
        Images the edge has seen so far, this lesson's included (the tables' column).
    images : (n, channels, height, width) float tensor
        Normalised.
    labels : (n,) int64 tensor
        True (initial images) or the cloud's predictions (streamed ones).
    teacher_logits : (n, classes) float tensor
        The cloud's answers.
    bytes_up, bytes_down : (n,) int64 array
        Bytes of each image's own journey: the image to the cloud, labels and logits back. 0 for
        an image whose answer is already there.
    holdout_logits : (k, classes) float tensor
    holdout_labels : (k,) int64 tensor
        Labelled images kept out of training, for the teacher safeguard; may be empty. Their own
        journey to the cloud is not counted in the bytes.
    """

    size: int
    images: Tensor
    labels: Tensor
    teacher_logits: Tensor
    bytes_up: NDArray[np.int64]
    bytes_down: NDArray[np.int64]
    holdout_logits: Tensor
    holdout_labels: Tensor


@dataclass(frozen=True, slots=True)
class LessonConfig:
    """How the edge's training sets are made.

    Attributes
    ----------
    sizes : tuple of int
        Images seen after each training; the first are labelled, the increments are streamed.
    update : {"new", "cumulative"}
        Train each increment alone (Algorithm 2) or on everything seen so far.
    distil : bool
        Logits travel; without, only labels do, and only for streamed images.
    holdout : float
        Share of the initial images kept out of training (0 for none).
    label_noise : float
        Share of the initial labels made wrong.
    teacher_noise : float
        Share of the cloud's answers made wrong.
    stream_labels : {"cloud", "true"}
        What streamed images are labelled with: the cloud's predictions (Algorithm 2), or, to tell
        what its mistakes cost, the truth.
    """

    sizes: tuple[int, ...]
    update: str = "new"
    distil: bool = True
    holdout: float = 0.0
    label_noise: float = 0.0
    teacher_noise: float = 0.0
    stream_labels: str = "cloud"

    def __post_init__(self) -> None:
        check_sizes(self.sizes)
        check_choice("update", self.update, UPDATES)
        check_choice("stream_labels", self.stream_labels, STREAM_LABELS)
        if not 0 <= self.holdout < 1:
            raise WorkloadError(f"holdout must lie in [0, 1), got {self.holdout!r}")
        if self.held_out == self.sizes[0]:
            raise WorkloadError(
                f"holdout {self.holdout:g} leaves none of the {self.sizes[0]} initial images to "
                "train on"
            )
        check_share("label noise", self.label_noise)
        check_share("teacher noise", self.teacher_noise)

    @property
    def held_out(self) -> int:
        """How many of the initial images are kept out of training."""
        return round(self.holdout * self.sizes[0])


def check_sizes(sizes: Sequence[int]) -> None:
    """Raise WorkloadError unless the sizes are positive and rise."""
    if not sizes or sizes[0] < 1 or any(b <= a for a, b in pairwise(sizes)):
        raise WorkloadError(
            f"sizes must be positive and rise, got {','.join(map(str, sizes)) or 'none'}"
        )


def make_lessons(
    dataset: Dataset, split: Split, teacher: ConvNet, config: LessonConfig, *, seed: int
) -> list[Lesson]:
    """Prepare the initial training set and every increment.

    Parameters
    ----------
    split : Split
        Its student part has ``sizes[0]`` images and its stream at least the rest.
    teacher : ConvNet
        The cloud, in eval mode. The lessons are where it is.
    seed : int
        Of the disturbances.

    Returns
    -------
    list of Lesson
        One a size.

    Raises
    ------
    WorkloadError
        If the split does not hold as many images as the sizes ask for.
    """
    sizes = config.sizes
    if len(split.student) != sizes[0] or len(split.stream) < sizes[-1] - sizes[0]:
        raise WorkloadError(
            f"sizes up to {sizes[-1]} need {sizes[0]} student and {sizes[-1] - sizes[0]} stream "
            f"images, got {len(split.student)} and {len(split.stream)}"
        )
    indices = np.concatenate([split.student, split.stream])[: sizes[-1]]
    images = dataset.images("train", indices)  # (n, channels, height, width)
    answers = predict(teacher, images).cpu()  # (n, classes)
    answers = corrupt_logits(
        answers, config.teacher_noise, generator=generator_for(seed, "teacher noise")
    )
    labels = answers.argmax(1)
    if config.stream_labels == "true":
        labels = dataset.labels("train", indices)
    labels[: sizes[0]] = flip_labels(
        dataset.labels("train", split.student),
        config.label_noise,
        dataset.classes,
        generator=generator_for(seed, "label noise"),
    )
    up, down = _journey(dataset, config, len(indices))
    held, device = config.held_out, device_of(teacher)
    lessons = []
    for previous, size in zip((0, *sizes), sizes, strict=False):
        start = held if config.update == "cumulative" or previous == 0 else previous
        own_up, own_down = up[start:size].copy(), down[start:size].copy()
        # What an earlier lesson has brought is already at the edge.
        own_up[: max(previous - start, 0)] = own_down[: max(previous - start, 0)] = 0
        lessons.append(
            Lesson(
                size,
                images[start:size].to(device),
                labels[start:size].to(device),
                answers[start:size].to(device),
                own_up,
                own_down,
                answers[:held].to(device),
                labels[:held].to(device),
            )
        )
    return lessons


def _journey(
    dataset: Dataset, config: LessonConfig, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each image's bytes to the cloud and back: raw pixels; a label byte, float32 logits."""
    streamed = np.arange(count) >= config.sizes[0]
    travels = streamed | config.distil
    up = np.where(travels, dataset.train_images[0].nbytes, 0)
    down = np.where(streamed, 1 if dataset.classes <= 256 else 2, 0)
    down = down + (4 * dataset.classes if config.distil else 0)
    return up.astype(np.int64), down.astype(np.int64)
