"""The edge of edge KD: the student that trains on private labels and received knowledge."""

from __future__ import annotations

import copy
import math
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from calibration.bench.processes import Shared
from calibration.workloads.data.datasets import Dataset, load
from calibration.workloads.edge_kd.config import (
    EdgeConfig,
    count_pools,
    parts_of,
    public_rows,
    teacher_map,
)
from calibration.workloads.edge_kd.knowledge import FeatureProjection, feature_loss, relation_loss
from calibration.workloads.losses import distillation_loss
from calibration.workloads.training.checkpoints import snapshot
from calibration.workloads.training.loops import accuracy, predict
from calibration.workloads.training.networks import build_network
from calibration.workloads.training.seeds import derive_seed, generator_for, own_random_state
from kdsim._types import Record
from kdsim.errors import WorkloadError

#: Epochs at whose ends the student's weights are kept, to be judged when the run is over.
_MOST_SNAPSHOTS = 50


class EdgeStudent:
    """The student on the bench: one private and one public batch a cycle.

    Parameters
    ----------
    spec : dict
        ``config``, ``seed``, ``method``.
    shared : Shared
        Where the received knowledge lies.
    """

    def __init__(self, spec: Record, shared: Shared) -> None:
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

    def report(self) -> Record:
        """Tell the loss of the latest Backward, and the seconds of the latest steps.

        Of computing alone: a task's own length holds what it waited for cores, too.
        """
        return {
            "loss": self._loss if np.isfinite(self._loss) else None,
            "forward_s": self._forward_s,
            "backward_s": self._backward_s,
        }

    def answer_accuracy(self) -> Record:
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


def build_student(spec: Record, shared: Shared) -> EdgeStudent:
    """Build the edge's student (called in its own process)."""
    return EdgeStudent(spec, shared)
