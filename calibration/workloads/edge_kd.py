"""Edge knowledge distillation as one real loop: cloud teacher, TCP, student, core policy.

A teacher process (the cloud) infers on public data and streams its knowledge; the student process
(the edge) has private labelled data and the same public images, and trains with
``L = alpha*CE(private) + (1 - alpha)*Ld(public)``. A cycle is one Comm (the knowledge of a public
batch), one Forward and one Backward; a policy shares the cores while they run. The teacher is a
process here or a server elsewhere (:func:`serve_study`). The processes are those of
``calibration.bench``, the controller is ``calibration.replay``; the study over seeds and methods is
``calibration.workloads.edge_kd_study``.

References
----------
The contention paper, section II; Hinton, Vinyals, Dean: Distilling the knowledge in a neural
network, 2015.
"""

from __future__ import annotations

import copy
import math
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from calibration.bench import MAX_BATCHES
from calibration.bench_processes import Shared
from calibration.transport import Select, Source
from calibration.wire import Knowledge, matrix_payload
from calibration.workloads.checkpoints import differences
from calibration.workloads.datasets import Dataset, Split, load, split
from calibration.workloads.exchange import snapshot
from calibration.workloads.knowledge import FeatureProjection, feature_loss, relation_loss
from calibration.workloads.losses import MEASURES, distillation_loss
from calibration.workloads.networks import NETWORKS, ConvNet, build_network
from calibration.workloads.teacher import train_teacher
from calibration.workloads.training import (
    TrainingConfig,
    accuracy,
    derive_seed,
    generator_for,
    own_random_state,
    predict,
)
from kdsim.errors import WorkloadError

#: Epochs at whose ends the student's weights are kept, to be judged when the run is over.
_MOST_SNAPSHOTS = 50

#: What travels; "none" is the same training without a teacher.
METHODS = ("none", "response", "feature", "relation")


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """An edge-KD run but for its seed and its method.

    Attributes
    ----------
    data, data_dir : str, str or None
        Data set and its folder.
    student : str
        Architecture of the student (`calibration.workloads.networks`).
    teacher_images, private_images, public_images : int
        Disjoint parts of the training images: the cloud's labelled ones, the edge's labelled
        ones, and the unlabelled ones that both sides have.
    teacher_epochs, epochs : int
        An epoch of the edge is one pass over the public images.
    batch : int
        Images of a private and of a public batch.
    alpha : float
        Weight of the prediction loss, 0 to 1.
    temperature : float
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
        if not 0 < self.temperature < math.inf:
            raise WorkloadError(f"temperature must be positive and finite, got {self.temperature}")
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
        for what, name, known in (
            ("student", self.student, NETWORKS),
            ("measure", self.measure, MEASURES),
        ):
            if name not in known:
                raise WorkloadError(f"{what} must be one of {', '.join(known)}; got {name!r}")

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
    """Return which public images a cycle's batch holds; both sides compute it alike.

    Returns
    -------
    (batch,) int64 array
        Positions within the public part.
    """
    epoch, position = divmod(cycle, config.cycles_per_epoch)
    order = np.random.default_rng([2, seed, epoch]).permutation(config.public_images)
    return order[position * config.batch : (position + 1) * config.batch]


# --- the cloud --------------------------------------------------------------------------------


def prepare_teacher(config: EdgeConfig, folder: Path) -> ConvNet:
    """Train the teacher, or load what is there; the teacher process does the same and finds it.

    Parameters
    ----------
    config : EdgeConfig
    folder : path
        Holds the checkpoint.

    Returns
    -------
    ConvNet
        In eval mode.
    """
    dataset = load(config.data, config.data_dir)
    training = TrainingConfig(epochs=config.teacher_epochs, batch_size=32)
    parts = parts_of(config, dataset, seed=0)
    return train_teacher(dataset, parts.teacher, training, checkpoint=folder / "teacher.pt")


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


def build_source(spec: dict[str, Any]) -> tuple[Source, dict[str, Any]]:
    """Set the cloud up (called in the teacher's process).

    Parameters
    ----------
    spec : dict
        ``config``, ``folder``, ``seed``, ``method``.

    Returns
    -------
    (Source, dict)
        Chunk 0 of batch i is the knowledge of cycle i's public images.
    """
    torch.set_num_threads(1)
    config, method, seed = EdgeConfig(**spec["config"]), spec["method"], spec["seed"]
    teacher = prepare_teacher(config, Path(spec["folder"]))
    dataset = load(config.data, config.data_dir)
    images = dataset.images("train", parts_of(config, dataset, seed).stream)
    known = _knowledge(teacher, images, method, config.student)  # (public, columns)

    def source(kind: int, batch: int, chunk: int) -> tuple[bytes | memoryview, int | None] | None:
        if kind != Knowledge.RESPONSE or chunk != 0 or batch >= config.cycles:
            return None
        payload = matrix_payload(known[public_rows(config, seed, batch)])
        return payload, zlib.crc32(payload)

    greeting = {"columns": known.shape[1], "chunk_rows": config.batch, "knowledge": method}
    return source, greeting


#: What the teacher's answers depend on; all else is the edge's own business.
_SERVED = (
    "data", "student", "teacher_images", "private_images", "public_images", "teacher_epochs",
    "epochs", "batch",
)  # fmt: skip


def wish_of(config: EdgeConfig, method: str, seed: int, data_sha256: str) -> dict[str, Any]:
    """Return what an edge asks a teacher elsewhere for: JSON values, checked by its `serve_study`.

    Parameters
    ----------
    config : EdgeConfig
    method : str
    seed : int
    data_sha256 : str
        Digest of the edge's data set: both sides must mean the same images.
    """
    study = {name: getattr(config, name) for name in _SERVED}
    return {"edge-kd": {**study, "data_sha256": data_sha256}, "method": method, "seed": seed}


def serve_study(config: EdgeConfig, folder: Path) -> Select:
    """Train the teacher, or load it, and serve every method and seed of a study.

    Parameters
    ----------
    config : EdgeConfig
        The edge must be run with the same data, student, images, epochs and batch.
    folder : path
        Holds the teacher's checkpoint.

    Returns
    -------
    Select
        For a ``KnowledgeServer``. Greetings also tell the teacher's test accuracy; an edge of
        another study is refused with the first difference.
    """
    dataset = load(config.data, config.data_dir)
    teacher = prepare_teacher(config, folder)
    test = accuracy(predict(teacher, dataset.images("test")), dataset.labels("test"))
    lock = threading.Lock()
    built: dict[tuple[str, int], tuple[Source, dict[str, Any]]] = {}

    def select(wish: dict[str, Any]) -> tuple[Source, dict[str, Any]]:
        method, seed, study = (wish.get(key) for key in ("method", "seed", "edge-kd"))
        if not (isinstance(study, dict) and isinstance(seed, int) and seed >= 0):
            raise WorkloadError("it serves edge-KD studies; what is asked for is none")
        check_methods([method])
        ours = wish_of(config, method, seed, dataset.digest)["edge-kd"]
        for key, served, asked in differences(ours, study):
            raise WorkloadError(
                f"its {key} is {served!r}, the edge's {asked!r}; start both with the same options"
            )
        with lock:  # several streams of one run connect at once
            if (method, seed) not in built:
                built.clear()  # an edge asks for one run after the other
                source, greeting = build_source(spec_of(config, method, seed, folder))
                built[method, seed] = source, {**greeting, "accuracy": test}
            return built[method, seed]

    return select


def _knowledge(teacher: ConvNet, images: Tensor, method: str, student: str) -> np.ndarray:
    """Infer on all public images once: (public, columns) float32."""
    with torch.no_grad():
        if method == "feature":
            shape = teacher.input_shape
            pools = count_pools(build_network(student, shape, teacher.classes))
            maps = [teacher_map(teacher, part, pools) for part in images.split(256)]
            return torch.cat(maps).flatten(1).numpy()
        if method == "relation":
            maps = [teacher.features(part) for part in images.split(256)]
            return torch.cat(maps).mean(dim=(2, 3)).numpy()
        return predict(teacher, images).numpy()


# --- the edge ---------------------------------------------------------------------------------


class EdgeStudent:
    """The student on the bench: one private and one public batch a cycle.

    Parameters
    ----------
    spec : dict
        ``config``, ``seed``, ``method``.
    shared : Shared
        Where the received knowledge lies.
    """

    def __init__(self, spec: dict[str, Any], shared: Shared) -> None:
        self._config, self._method = EdgeConfig(**spec["config"]), spec["method"]
        self._seed, self._shared = spec["seed"], shared
        dataset = load(self._config.data, self._config.data_dir)
        parts = parts_of(self._config, dataset, self._seed)
        self._private = dataset.images("train", parts.student)
        self._labels = dataset.labels("train", parts.student)
        self._public = dataset.images("train", parts.stream)
        self._test = dataset.images("test"), dataset.labels("test")
        weights = derive_seed(self._seed, "student")
        self._net = build_network(
            self._config.student, dataset.input_shape, dataset.classes, seed=weights
        )
        self._projection = self._make_projection(dataset)
        parameters = [*self._net.parameters()]
        if self._projection is not None:
            parameters += self._projection.parameters()
        self._optimizer = torch.optim.SGD(
            parameters, lr=self._config.rate, momentum=self._config.momentum
        )
        self._kept: dict[str, Tensor] = {}
        self._loss = float("nan")
        self._forward_s = self._backward_s = 0.0
        self._snapshots: list[tuple[int, dict[str, Tensor]]] = []

    def _make_projection(self, dataset: Dataset) -> FeatureProjection | None:
        if self._method != "feature":
            return None
        with torch.no_grad():
            ours = self._net.eval().features(self._public[:1])
            cloud = build_network("cloud", dataset.input_shape, dataset.classes).eval()
            theirs = teacher_map(cloud, self._public[:1], count_pools(self._net))
        self._teacher_shape = theirs.shape[1:]
        generator = generator_for(self._seed, "projection")
        return FeatureProjection(ours.shape[1], theirs.shape[1], generator=generator)

    def forward(self, cycle: int, position: int, batches: int) -> None:
        """Run the net on the cycle's private batch and, with a teacher, on its public one."""
        start = time.perf_counter()
        self._net.train()
        rows = self._private_rows(cycle)
        with own_random_state(self._seed, "dropout", cycle):
            self._kept = {"labels": self._labels[rows], "private": self._net(self._private[rows])}
            if self._method != "none":
                public = self._public[public_rows(self._config, self._seed, cycle)]
                features = self._net.features(public)  # (batch, channels, height, width)
                self._kept["features"] = features
                if self._method == "response":
                    self._kept["public"] = self._net.head(features)  # (batch, classes)
        self._forward_s = time.perf_counter() - start

    def backward(self, cycle: int, position: int, batches: int) -> None:
        """Take the loss against the received knowledge, run it backward, move the weights."""
        start = time.perf_counter()
        alpha = self._config.alpha if self._method != "none" else 1.0
        loss = alpha * functional.cross_entropy(self._kept["private"], self._kept["labels"])
        if self._method != "none":
            loss = loss + (1 - alpha) * self._distillation(cycle)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._loss = float(loss.detach())
        if not np.isfinite(self._loss):
            raise WorkloadError(f"the loss of cycle {cycle + 1} is {self._loss}; lower the rate")
        self._backward_s = time.perf_counter() - start
        epoch, rest = divmod(cycle + 1, self._config.cycles_per_epoch)
        if rest == 0 and epoch % math.ceil(self._config.epochs / _MOST_SNAPSHOTS) == 0:
            # Judged when the run is over: a test would hold up the loop.
            self._snapshots.append((cycle + 1, snapshot(self._net)))

    def _distillation(self, cycle: int) -> Tensor:
        known = self._received(cycle)  # (batch, columns)
        if self._method == "response":
            return distillation_loss(
                self._kept["public"], known, self._config.measure,
                temperature=self._config.temperature,
            )  # fmt: skip
        if self._method == "feature":
            maps = known.reshape(-1, *self._teacher_shape)
            return feature_loss(self._kept["features"], maps, self._projection)
        return relation_loss(self._kept["features"].mean(dim=(2, 3)), known)

    def _received(self, cycle: int) -> Tensor:
        first = self._shared.first_row(cycle)
        return torch.from_numpy(self._shared.rows()[first : first + self._config.batch].copy())

    def _private_rows(self, cycle: int) -> Tensor:
        generator = generator_for(self._seed, "private", cycle)
        size = min(self._config.batch, len(self._private))
        return torch.randperm(len(self._private), generator=generator)[:size]

    def report(self) -> dict[str, Any]:
        """Tell the loss of the latest Backward, and the seconds of the latest steps.

        Of computing alone: a task's own length holds what it waited for cores, too.
        """
        return {
            "loss": self._loss if np.isfinite(self._loss) else None,
            "forward_s": self._forward_s,
            "backward_s": self._backward_s,
        }

    def answer_accuracy(self) -> dict[str, Any]:
        """Return the share of test images classified correctly, 0 to 1: now, and on the way.

        ``accuracies`` holds pairs of cycles done and the accuracy then, at ends of epochs.
        """
        images, labels = self._test
        now = accuracy(predict(self._net, images), labels)
        then, earlier = copy.deepcopy(self._net), []
        for cycles, state in self._snapshots:
            then.load_state_dict(state)
            earlier.append([cycles, accuracy(predict(then, images), labels)])
        return {"accuracy": now, "accuracies": earlier}


def build_student(spec: dict[str, Any], shared: Shared) -> EdgeStudent:
    """Build the edge's student (called in its own process)."""
    return EdgeStudent(spec, shared)


def check_methods(methods: Sequence[str]) -> None:
    """Raise WorkloadError unless these are different ones of `METHODS`, at least one."""
    if not methods or len(set(methods)) < len(methods) or not set(methods) <= set(METHODS):
        raise WorkloadError(
            f"methods must be different ones of {', '.join(METHODS)}; got "
            f"{', '.join(methods) or 'none'}"
        )


def spec_of(config: EdgeConfig, method: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return what the processes of a run are told, as JSON values.

    Raises
    ------
    WorkloadError
        If the method is unknown.
    """
    check_methods([method])
    return {"config": asdict(config), "method": method, "seed": seed, "folder": str(folder)}
