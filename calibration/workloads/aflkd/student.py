"""AFLKD: an edge network learns from a cloud teacher with an adaptive number of frozen layers.

All methods (``methods``) share one training loop and differ in switches. The *baseline* trains
from scratch by cross-entropy. *SSLF* copies the cloud's first layers, freezes them and trains the
rest. *AFLKD* adds ``lambda * T^2 * KL(teacher || student)`` and freezes ``n(T)`` layers, recomputed
every epoch as the temperature T moves (Algorithm 1); on a stream it continues with what the
cloud returns (Algorithm 2, ``incremental``). Its ablations turn these off one by one.

A frozen layer is the cloud's: a layer that freezes again takes the cloud's weights again, unless
``refreeze="keep"`` asks to freeze it as it stands. A layer that has never been frozen starts from
random weights (Algorithm 1, line 3) unless the method shares all of them; one that thaws
starts from the cloud's.

A run takes place where its teacher is, on the CPU or on an accelerator.

What is not here: data (``datasets``, ``incremental``), temperature policies (``temperature``),
exact freezing (``freezing``), studies over seeds and sizes (``aflkd_study``).

References
----------
J. Fei et al., "A cloud-edge collaborative incremental learning architecture with adaptive parameter
freezing based on knowledge distillation", Computer Communications, 2026. Equations 1 to 17,
Algorithms 1 and 2. The slips of that text that matter here: eq. 17 gives n = 0 at T = 10, eq. 6
compares the student with itself, Algorithm 1 cites eq. 7 for eq. 17.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from calibration.workloads.aflkd.freezing import (
    freeze_layers,
    frozen_prefix,
    prefix_features,
    share_layers,
    trainable_tail,
)
from calibration.workloads.aflkd.incremental import Lesson
from calibration.workloads.aflkd.methods import METHODS, EpochRecord, StudentConfig, StudentRun
from calibration.workloads.aflkd.robustness import confidence_weights, safeguarded_weight
from calibration.workloads.aflkd.temperature import Temperature, frozen_layers
from calibration.workloads.losses import dissimilarity, distillation_loss
from calibration.workloads.records.profile import CycleCost
from calibration.workloads.training.checkpoints import load_checkpoint, restore, save_checkpoint
from calibration.workloads.training.loops import (
    PREDICT_BATCH,
    EpochMeasure,
    accuracy,
    predict,
    set_rate,
    train_epoch,
)
from calibration.workloads.training.networks import ConvNet, build_network, layer_count
from calibration.workloads.training.placement import device_of, move_network, on_device
from calibration.workloads.training.seeds import (
    batches,
    derive_seed,
    generator_for,
    own_random_state,
)
from kdsim._types import Record, RecordView

__all__ = [
    "METHODS",
    "EpochRecord",
    "StudentConfig",
    "StudentRun",
    "frozen_layers",
    "train_student",
]


def train_student(
    network_name: str,
    teacher: ConvNet,
    lessons: Sequence[Lesson],
    test: tuple[Tensor, Tensor],
    config: StudentConfig,
    *,
    seed: int,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 30.0,
    identity: RecordView | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> StudentRun:
    """Train one edge network through its lessons: Algorithm 1 on the first, 2 on the others.

    Runs with equal `seed` share initial weights, batch order, dropout masks and the start of T,
    whatever their method: they are pairs.

    Parameters
    ----------
    teacher : ConvNet
        The cloud, in eval mode; not changed.
    lessons : sequence of Lesson
        See ``incremental.make_lessons``.
    test : (images, labels)
        Normalised test images (n, channels, height, width) and labels (n,), for reporting only.
    checkpoint : path, optional
        Written at epoch ends, and resumed from when it exists.
    checkpoint_every_s : float
        Least seconds between two writes.
    identity : mapping, optional
        What else makes the run this run (data, teacher): a checkpoint of another one is refused.

    Raises
    ------
    WorkloadError
        If the networks do not match, the loss is not finite, or the checkpoint is damaged or
        belongs to another run.
    """
    student = _Student(network_name, teacher, config, seed)
    known = {
        **(identity or {}),
        "network": network_name,
        "config": asdict(config),
        "sizes": [lesson.size for lesson in lessons],
        "seed": seed,
    }
    if checkpoint is not None and checkpoint.exists():
        student.load_state_dict(checkpoint, load_checkpoint(checkpoint, known))
    saved = time.monotonic()
    epochs = config.training.epochs
    for number, lesson in enumerate(lessons):
        done = min(max(len(student.run.epochs) - number * epochs, 0), epochs)
        if done == epochs:
            continue
        if done == 0:
            student.begin_lesson(lesson)
        for epoch in range(done, epochs):
            last = epoch + 1 == epochs
            record = student.train_one(lesson, epoch, test if last or config.curve else None)
            if checkpoint is not None and time.monotonic() - saved >= checkpoint_every_s:
                save_checkpoint(checkpoint, student.state_dict(), known)
                saved = time.monotonic()
            if on_epoch is not None:
                on_epoch(record)
    return student.run


class _Student:
    """An edge network in the course of its training."""

    def __init__(self, name: str, teacher: ConvNet, config: StudentConfig, seed: int) -> None:
        network = build_network(
            name, teacher.input_shape, teacher.classes, seed=derive_seed(seed, "student")
        )
        self.device = device_of(teacher)
        move_network(network, self.device)
        self.network = network
        self.run = StudentRun(self.network)
        self.teacher = teacher
        self.config = config
        self.switches = config.switches
        self.seed = seed
        self.layers = layer_count(self.network)
        self.frozen = 0
        if self.switches.shares == "all":
            share_layers(teacher, self.network, range(self.layers))
        self.temperature: Temperature | None = None
        if self.switches.distils:
            self.temperature = Temperature(
                self.switches.temperature_config(config.temperature),
                seed=seed,
                device=self.device,
            )
        self.optimizer = self._new_optimizer()
        self._cached: tuple[Lesson, int, Tensor] | None = None
        self._cached_test: tuple[Tensor, Tensor] | None = None

    def _new_optimizer(self) -> torch.optim.SGD:
        training = self.config.training
        return torch.optim.SGD(
            self.network.parameters(), lr=training.learning_rate, momentum=training.momentum
        )

    def begin_lesson(self, lesson: Lesson) -> None:
        """Start a lesson from rest: each training job has its own momentum."""
        self.optimizer = self._new_optimizer()
        weight = self.config.distillation_weight if self.switches.distils else 0.0
        if self.config.safeguard and len(lesson.holdout_labels):
            weight = safeguarded_weight(weight, lesson.holdout_logits, lesson.holdout_labels)
        self.run.weights.append(weight)

    def train_one(
        self, lesson: Lesson, epoch: int, test: tuple[Tensor, Tensor] | None
    ) -> EpochRecord:
        """Train one epoch (from 0) of a lesson and record it."""
        training = self.config.training
        self._set_frozen(self._wanted_layers(epoch))
        set_rate(self.optimizer, training.rate_at(epoch))
        optimizers: list[torch.optim.Optimizer] = [self.optimizer]
        if self.temperature is not None:
            optimizers += self.temperature.optimizers()
        start = time.perf_counter()
        inputs, forward = self._inputs(lesson)
        prefix_s = time.perf_counter() - start
        purpose = (lesson.size, epoch)
        order = batches(
            len(lesson.images),
            training.batch_size,
            generator=generator_for(self.seed, "order", *purpose),
        )
        moves = generator_for(self.seed, "augment", *purpose) if training.augment else None
        with own_random_state(self.seed, "dropout", *purpose):
            measure = train_epoch(
                forward,
                inputs,
                lesson.labels,
                self._objective(lesson),
                optimizers,
                on_device(order, self.device),
                augmentation=moves,
            )
        record = EpochRecord(
            lesson.size,
            epoch + 1,
            measure.loss,
            measure.accuracy,
            None if self.temperature is None else self.temperature.value,
            self.frozen,
            None if test is None else accuracy(self._predict(test[0]), test[1]),
        )
        # The frozen prefix, where it was computed for this epoch, is part of its forward passes.
        for step, images in enumerate(measure.images):
            measure.forward_s[step] += prefix_s * images / len(lesson.images)
        self._add_cycles(lesson, epoch, order, measure, record)
        self.run.epochs.append(record)
        return record

    def _wanted_layers(self, epoch: int) -> int:
        value = None
        if self.temperature is not None:
            self.temperature.begin_epoch(epoch, self.config.training.epochs)
            value = self.temperature.value
        return self.switches.layers(self.layers, value, self.config.temperature)

    def _set_frozen(self, layers: int) -> None:
        if layers > self.frozen and (self.config.refreeze == "cloud" or not self.run.epochs):
            share_layers(self.teacher, self.network, range(self.frozen, layers))
        if layers != self.frozen:
            self._cached = self._cached_test = None
        self.frozen = layers
        freeze_layers(self.network, layers, self.optimizer)

    def _inputs(self, lesson: Lesson) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return what the step loop feeds, and the callable that maps it to logits."""
        if self.frozen == 0:
            return lesson.images, self.network
        tail = trainable_tail(self.network, self.frozen)
        if self.config.cache and not self.config.training.augment:
            if self._cached is None or self._cached[0] is not lesson:
                features = prefix_features(
                    self.network,
                    lesson.images,
                    self.frozen,
                    batch_size=self.config.training.batch_size,
                    limit_mb=self.config.cache_limit_mb,
                )
                self._cached = None if features is None else (lesson, self.frozen, features)
            if self._cached is not None:
                return self._cached[2], tail
        return lesson.images, _WithFrozenPrefix(frozen_prefix(self.network, self.frozen), tail)

    def _predict(self, images: Tensor) -> Tensor:
        """Return the logits for the test images: their frozen prefix is computed once, too."""
        if self.frozen == 0 or not self.config.cache:
            return predict(self.network, images)
        if self._cached_test is None or self._cached_test[0] is not images:
            features = prefix_features(
                self.network,
                images,
                self.frozen,
                batch_size=PREDICT_BATCH,
                limit_mb=self.config.cache_limit_mb,
            )
            if features is None:
                return predict(self.network, images)
            self._cached_test = (images, features)
        return predict(trainable_tail(self.network, self.frozen), self._cached_test[1])

    def _objective(self, lesson: Lesson) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        weight, temperature = self.run.weights[-1], self.temperature
        weights = confidence_weights(lesson.teacher_logits)
        augmented = self.config.training.augment

        def objective(logits: Tensor, rows: Tensor, batch: Tensor) -> Tensor:
            loss = functional.cross_entropy(logits, lesson.labels[rows])
            if temperature is None:
                return loss
            # An augmented batch is a new image to the cloud: it answers anew.
            answers = predict(self.teacher, batch) if augmented else lesson.teacher_logits[rows]
            t = temperature.tensor()
            if self.config.confidence_weighting:
                each = dissimilarity(logits, answers, "kl", temperature=t)  # (batch,)
                return loss + weight * t**2 * (weights[rows] * each).mean()
            return loss + weight * distillation_loss(logits, answers, "kl", temperature=t)

        return objective

    def _add_cycles(
        self,
        lesson: Lesson,
        epoch: int,
        order: Sequence[Tensor],
        measure: EpochMeasure,
        record: EpochRecord,
    ) -> None:
        # Answers to fixed images travel once; each augmented batch travels anew.
        again = epoch == 0 or (self.config.training.augment and self.switches.distils)
        for step, rows in enumerate(order):
            last = step + 1 == len(order)
            self.run.cycles.append(
                CycleCost(
                    cycle=len(self.run.cycles) + 1,
                    epoch=len(self.run.epochs) + 1,
                    downlink_bytes=int(lesson.bytes_down[rows.numpy()].sum()) if again else 0,
                    uplink_bytes=int(lesson.bytes_up[rows.numpy()].sum()) if again else 0,
                    forward_s=measure.forward_s[step],
                    backward_s=measure.backward_s[step],
                    cores=torch.get_num_threads(),
                    frozen_layers=self.frozen,
                    accuracy=record.test_accuracy if last else None,
                )
            )

    def state_dict(self) -> Record:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "temperature": None if self.temperature is None else self.temperature.state_dict(),
            "frozen": self.frozen,
            "weights": list(self.run.weights),
            "epochs": [asdict(record) for record in self.run.epochs],
            "cycles": [asdict(cycle) for cycle in self.run.cycles],
        }

    def load_state_dict(self, path: Path, state: RecordView) -> None:
        restore(path, self.network, state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.temperature is not None:
            self.temperature.load_state_dict(state["temperature"])
        self.frozen = state["frozen"]
        self.run.weights = list(state["weights"])
        self.run.epochs = [EpochRecord(**record) for record in state["epochs"]]
        self.run.cycles = [CycleCost(**cycle) for cycle in state["cycles"]]


class _WithFrozenPrefix(nn.Module):
    """Run the frozen prefix without building a graph, then the rest."""

    def __init__(self, prefix: nn.Module, tail: nn.Module) -> None:
        super().__init__()
        self.prefix = prefix
        self.tail = tail

    def forward(self, batch: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.prefix(batch)
        logits: Tensor = self.tail(features)
        return logits
