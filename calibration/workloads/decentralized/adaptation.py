"""Label-free adaptation: small students on cameras learn from a strong teacher's answers alone.

A teacher and a student network are trained on labelled *general* images, each seen under viewing
conditions of its own. Then each camera, with fixed conditions that the training never held, gathers
unlabelled images, and its copy of the student imitates the teacher's answers on them. The cameras
are synthetic: real images, shifted by a documented change of geometry, light, sharpness and noise.

What is *not* here: exchange among the cameras (``decentralized``).

References
----------
M. J. Molo et al., "Teacher-Student Models for AI Vision at the Edge: A Car Parking Case Study",
VISAPP 2024. Their task is detection of cars, judged by precision, recall and mean average
precision; here it is classification, judged by accuracy: the figures of the two do not compare.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from calibration.workloads.checks import check_choice, check_least
from calibration.workloads.data.datasets import Dataset
from calibration.workloads.data.splits import split
from calibration.workloads.losses import MEASURES, distillation_loss
from calibration.workloads.training.loops import TrainingConfig, accuracy, fit, predict
from calibration.workloads.training.networks import build_network
from calibration.workloads.training.seeds import derive_seed, generator_for
from kdsim._types import Record
from kdsim.errors import WorkloadError


@dataclass(frozen=True, slots=True)
class Camera:
    """Viewing conditions: how a camera shows an image.

    Attributes
    ----------
    name : str
        For tables, e.g. ``"C1"``.
    rotation_deg : float
        Turn about the centre.
    zoom : float
        Magnification; below 1 the object is smaller.
    shift : (float, float)
        Displacement to the right and down, as a share of half the image.
    gain, offset : float
        Contrast and brightness, in units of the normalised image.
    blur : float
        Share of each pixel that is replaced by the mean of its 3x3 neighbourhood, in [0, 1].
    noise : float
        Standard deviation of pixel noise, in units of the normalised image.
    """

    name: str
    rotation_deg: float = 0.0
    zoom: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    gain: float = 1.0
    offset: float = 0.0
    blur: float = 0.0
    noise: float = 0.0


def draw_cameras(count: int, *, strength: float = 1.0, seed: int) -> list[Camera]:
    """Draw cameras C1, C2, .. with random conditions.

    Parameters
    ----------
    strength : float
        0 leaves images as they are; at 1 the rotation is up to 25 degrees, the zoom 0.75 to 1.25,
        the displacement up to a sixth, the gain 0.6 to 1.4, the offset up to 0.5, the blur up to
        1 and the noise up to 0.5.

    Raises
    ------
    WorkloadError
        For a negative count, or a strength outside [0, 2].
    """
    if count < 0 or not 0 <= strength <= 2:
        raise WorkloadError(
            f"cameras need a count >= 0 and a strength in [0, 2], got {count} and {strength!r}"
        )
    rng = np.random.default_rng(derive_seed(seed, "cameras"))
    cameras = []
    for number in range(1, count + 1):
        either = strength * rng.uniform(-1, 1, size=6)
        above = strength * rng.uniform(0, 1, size=2)
        cameras.append(
            Camera(
                name=f"C{number}",
                rotation_deg=25 * either[0],
                zoom=1 + 0.25 * either[1],
                shift=(either[2] / 6, either[3] / 6),
                gain=1 + 0.4 * either[4],
                offset=0.5 * either[5],
                blur=min(1.0, above[0]),
                noise=0.5 * above[1],
            )
        )
    return cameras


def view(images: Tensor, cameras: Sequence[Camera], *, generator: torch.Generator) -> Tensor:
    """Show images as cameras see them.

    Parameters
    ----------
    images : (n, channels, height, width) Tensor
        Normalised images.
    cameras : sequence of Camera
        One for all images, or one for each.

    Returns
    -------
    (n, channels, height, width) Tensor

    Raises
    ------
    WorkloadError
        If the number of cameras is neither 1 nor that of the images.
    """
    if len(cameras) not in (1, len(images)):
        raise WorkloadError(f"{len(cameras)} cameras cannot show {len(images)} images")

    def each(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=images.dtype).expand(len(images))[:, None, None, None]

    shown = images
    if any(c.rotation_deg or c.zoom != 1 or c.shift != (0.0, 0.0) for c in cameras):
        matrices = torch.tensor([_inverse_affine(c) for c in cameras], dtype=images.dtype)
        grid = functional.affine_grid(
            matrices.expand(len(images), 2, 3), list(images.shape), align_corners=False
        )
        # Border, not zeros: zero is a mid-grey in normalised images.
        shown = functional.grid_sample(shown, grid, padding_mode="border", align_corners=False)
    blurred = functional.avg_pool2d(
        functional.pad(shown, (1, 1, 1, 1), mode="replicate"), kernel_size=3, stride=1
    )
    blur = each([c.blur for c in cameras])
    shown = (1 - blur) * shown + blur * blurred
    noise = torch.randn(images.shape, generator=generator, dtype=images.dtype)
    return (
        each([c.gain for c in cameras]) * shown
        + each([c.offset for c in cameras])
        + each([c.noise for c in cameras]) * noise
    )


def _inverse_affine(camera: Camera) -> list[list[float]]:
    """Map output to input coordinates, as ``affine_grid`` wants it."""
    angle = math.radians(camera.rotation_deg)
    c, s = math.cos(angle) / camera.zoom, math.sin(angle) / camera.zoom
    x, y = camera.shift
    return [[c, s, -(c * x + s * y)], [-s, c, -(-s * x + c * y)]]


@dataclass(frozen=True, slots=True)
class AdaptationPlan:
    """Everything that settles an adaptation run, except its data.

    Attributes
    ----------
    strength : float
        How far conditions vary, both in training and on the cameras; see :func:`draw_cameras`.
    teacher, student : str
        Architectures.
    general_samples, camera_samples : int
        Labelled general images; unlabelled images of each camera (all of them disjoint).
    teacher_epochs, student_epochs, camera_epochs : int
        Passes over them. A camera's reference with labels trains as long as its student.
    batch, learning_rate : float
        Of SGD with momentum 0.9; the cameras start at a third of the rate.
    measure : str
        Dissimilarity of the student's and the teacher's answers.
    temperature : float
        Of both answers.
    """

    cameras: int = 5
    strength: float = 1.0
    teacher: str = "edge-1"
    student: str = "small-cnn"
    general_samples: int = 500
    camera_samples: int = 150
    teacher_epochs: int = 10
    student_epochs: int = 10
    camera_epochs: int = 10
    batch: int = 32
    learning_rate: float = 0.03
    measure: str = "kl"
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(
            self, cameras=1, general_samples=1, camera_samples=1, teacher_epochs=1,
            student_epochs=1, camera_epochs=1,
        )  # fmt: skip
        check_choice("measure", self.measure, MEASURES)


def run_adaptation(
    dataset: Dataset, plan: AdaptationPlan, *, progress: Callable[[int, int], None] | None = None
) -> list[Record]:
    """Train teacher and student on general images, adapt a student to each camera, compare.

    Parameters
    ----------
    dataset : Dataset
        Source of all images; test images come from its test part.

    Returns
    -------
    list of dict
        One row per camera: ``camera``, ``seed``, and accuracies on its test images of the
        ``teacher``, of the student before (``general``) and after adapting without labels
        (``distilled``), and of one adapted with labels instead (``supervised``).

    Raises
    ------
    DataError
        If the data set is too small.
    """
    parts = split(
        dataset,
        teacher=0,
        student=plan.general_samples,
        stream=plan.cameras * plan.camera_samples,
        seed=plan.seed,
    )
    teacher, student = _general_networks(dataset, parts.student, plan)
    test_images, test_labels = dataset.images("test"), dataset.labels("test")
    imitation = partial(distillation_loss, measure=plan.measure, temperature=plan.temperature)
    rows = []
    for number, camera in enumerate(
        draw_cameras(plan.cameras, strength=plan.strength, seed=plan.seed)
    ):
        start = number * plan.camera_samples
        own = parts.stream[start : start + plan.camera_samples]
        noise = generator_for(plan.seed, "noise", camera.name)
        gathered = view(dataset.images("train", own), [camera], generator=noise)
        judged = view(test_images, [camera], generator=noise)
        answers = predict(teacher, gathered)  # all that the camera ever learns from

        distilled = _adapt(student, gathered, answers, imitation, camera, plan)
        labels = dataset.labels("train", own)
        supervised = _adapt(student, gathered, labels, functional.cross_entropy, camera, plan)
        networks = {
            "teacher": teacher, "general": student, "distilled": distilled, "supervised": supervised
        }  # fmt: skip
        rows.append(
            {"camera": camera.name, "seed": plan.seed}
            | {k: round(accuracy(predict(n, judged), test_labels), 6) for k, n in networks.items()}
        )
        if progress is not None:
            progress(number + 1, plan.cameras)
    return rows


def _general_networks(
    dataset: Dataset, indices: np.ndarray, plan: AdaptationPlan
) -> tuple[nn.Module, nn.Module]:
    """Train teacher and student on general images, each image under conditions of its own."""
    conditions = draw_cameras(
        len(indices), strength=plan.strength, seed=derive_seed(plan.seed, "general")
    )
    images = view(
        dataset.images("train", indices), conditions, generator=generator_for(plan.seed, "general")
    )
    labels = dataset.labels("train", indices)
    networks: list[nn.Module] = []
    for name, epochs in ((plan.teacher, plan.teacher_epochs), (plan.student, plan.student_epochs)):
        seed = derive_seed(plan.seed, len(networks), name)
        network = build_network(name, dataset.input_shape, dataset.classes, seed=seed)
        config = TrainingConfig(
            epochs=epochs,
            batch_size=plan.batch,
            learning_rate=plan.learning_rate,
            decay="cosine",
        )
        fit(network, images, labels, config, seed=seed)
        networks.append(network.eval().requires_grad_(False))
    return networks[0], networks[1]


def _adapt(
    student: nn.Module,
    images: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    camera: Camera,
    plan: AdaptationPlan,
) -> nn.Module:
    """Return a copy of the student, trained on a camera's images by ``loss(logits, targets)``."""
    network = copy.deepcopy(student).requires_grad_(True)
    config = TrainingConfig(
        epochs=plan.camera_epochs,
        batch_size=plan.batch,
        learning_rate=plan.learning_rate / 3,
        decay="cosine",
    )
    unlabelled = torch.zeros(len(images), dtype=torch.int64)  # for a training accuracy nobody reads

    def objective(logits: Tensor, picked: Tensor, _: Tensor) -> Tensor:
        return loss(logits, targets[picked])

    seed = derive_seed(plan.seed, "adapt", camera.name)
    fit(network, images, unlabelled, config, seed=seed, objective=objective)
    return network.eval()
