"""One client of a decentralised run: its network, its private data, its step, its accuracy.

A client knows nothing of the others: it draws batches, predicts samples on request, and learns
from the predictions passed to it. The same client therefore serves in one process and in many.

What is *not* here: who asks whom (``exchange``), the loop over rounds (``decentralized``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from calibration.workloads.data.augmentation import augment
from calibration.workloads.partition import label_mix
from calibration.workloads.training.loops import predict
from calibration.workloads.training.seeds import own_random_state
from kdsim.errors import DataError, WorkloadError

#: Small enough for a client's activations to stay in cache; 2,000 at once took 2.5 times as long.
_JUDGING_BATCH = 64

Objective = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class StepCost:
    """Seconds that a client spent on one round.

    Attributes
    ----------
    forward_s : float
        Its own forward passes and losses, and judging samples for others.
    backward_s : float
        Backward pass and optimiser step.
    """

    forward_s: float
    backward_s: float


@dataclass(frozen=True, slots=True)
class ClientAccuracy:
    """How well one client's network does on test data.

    Attributes
    ----------
    samples : int
        Its private training samples.
    mix : tuple of float
        Share of each label among them.
    recalls : tuple of float
        Share of each class's test images that it labels right.
    """

    client: int
    samples: int
    mix: tuple[float, ...]
    recalls: tuple[float, ...]

    @property
    def shared(self) -> float:
        """Accuracy under a uniform label mix, in [0, 1]."""
        return float(np.mean(self.recalls))

    @property
    def private(self) -> float:
        """Accuracy under the client's own label mix, in [0, 1]."""
        return float(np.dot(self.mix, self.recalls))


_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(slots=True)
class Client(Generic[_Network]):
    """A learner with private data.

    Attributes
    ----------
    optimizer : torch.optim.Optimizer
        Over the network's parameters.
    images : (n, channels, height, width) Tensor
        Private images.
    labels : (n,) Tensor
        Their labels.
    generator : torch.Generator
        Source of its batch order, and of nothing else.
    seed : int
        Seed of what the network itself draws (dropout).
    moves : torch.Generator, optional
        Source of the flips and shifts of the private images; None leaves them as they are.
    """

    index: int
    network: _Network
    optimizer: torch.optim.Optimizer
    images: Tensor
    labels: Tensor
    generator: torch.Generator
    seed: int = 0
    moves: torch.Generator | None = None
    _steps: int = 0
    _queue: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Take the next `batch` samples of an endless stream of reshuffled passes over the data.

        Batches are always full, so that what travels between clients has one size.
        """
        while len(self._queue) < batch:
            order = torch.randperm(len(self.labels), generator=self.generator)
            self._queue = torch.cat([self._queue, order])
        chosen, self._queue = self._queue[:batch], self._queue[batch:]
        images = self.images[chosen]
        if self.moves is not None:
            images = augment(images, generator=self.moves)
            images = images.contiguous(memory_format=torch.channels_last)
        return images, self.labels[chosen]

    def judge(self, images: Tensor) -> Tensor:
        """Return this client's logits in evaluation mode, without a gradient, (n, classes)."""
        # One layout for every request: another one may be computed in another order of additions.
        images = images.contiguous(memory_format=torch.channels_last)
        return predict(self.network, images, _JUDGING_BATCH)

    def learn(
        self,
        private: tuple[Tensor, Tensor],
        question: Tensor | None,
        alpha: float,
        distilled: Objective | None,
    ) -> StepCost:
        """Take one optimiser step on ``alpha * CE + (1 - alpha) * distilled``.

        A term of weight zero is not evaluated at all, so that ``alpha = 1`` is training without
        distillation to the last bit; with nothing to learn from, no step is taken.

        Parameters
        ----------
        private : (batch, ...) images and (batch,) labels
            Samples with their labels.
        question : (m, ...) Tensor, optional
            Unlabelled samples to distil on; None for the private images themselves.
        alpha : float
            Weight of the labels, in [0, 1].
        distilled : callable, optional
            Maps this client's logits on the samples to distil on to the distillation loss; None
            where no teacher answered.

        Raises
        ------
        WorkloadError
            If the loss is not finite.
        """
        images, labels = private
        distils = alpha < 1 and distilled is not None
        if alpha == 0 and not distils:
            return StepCost(0.0, 0.0)
        self.network.train()
        start = time.perf_counter()
        with self._randomness():
            terms: list[Tensor] = []
            logits: Tensor | None = None
            if alpha > 0 or question is None:
                logits = self.network(images)  # (batch, classes)
            if alpha > 0 and logits is not None:
                terms.append(alpha * functional.cross_entropy(logits, labels))
            if alpha < 1 and distilled is not None:
                own = self.network(question) if logits is None or question is not None else logits
                terms.append((1 - alpha) * distilled(own))
        loss = torch.stack(terms).sum()
        middle = time.perf_counter()
        self.descend(loss)
        return StepCost(middle - start, time.perf_counter() - middle)

    def descend(self, loss: Tensor) -> None:
        """Take one optimiser step on a loss of this client's network.

        Raises
        ------
        WorkloadError
            If the loss is not finite.
        """
        value = float(loss.detach())
        if not math.isfinite(value):
            raise WorkloadError(
                f"client {self.index}: the loss became {value} at step {self._steps + 1}; "
                "a smaller learning rate may help"
            )
        self._steps += 1
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _randomness(self) -> AbstractContextManager[None]:
        """Give dropout a random state of its own; others skip that (a fifth faster)."""
        if any(isinstance(module, nn.Dropout) for module in self.network.modules()):
            return own_random_state(self.seed, "dropout", self.index, self._steps + 1)
        return nullcontext()

    def accuracy(
        self, images: Tensor, labels: Tensor, classes: int, *, network: nn.Module | None = None
    ) -> ClientAccuracy:
        """Evaluate on test data that no client has trained on.

        Parameters
        ----------
        network : nn.Module, optional
            What to evaluate instead of the client's whole network, e.g. one of its heads.
        """
        judged = self.network if network is None else network
        return ClientAccuracy(
            client=self.index,
            samples=len(self.labels),
            mix=tuple(label_mix(self.labels.numpy(), classes).tolist()),
            recalls=tuple(class_recalls(judged, images, labels, classes).tolist()),
        )


def class_recalls(
    network: nn.Module, images: Tensor, labels: Tensor, classes: int
) -> NDArray[np.float64]:
    """Return the share of each class's images labelled right, (classes,).

    Raises
    ------
    DataError
        If a class has no test image: its recall would be undefined.
    """
    counts = torch.bincount(labels, minlength=classes)
    if (counts == 0).any():
        missing = int((counts == 0).nonzero()[0])
        raise DataError(f"the test data have no image of class {missing}; use more of them")
    right = labels[predict(network, images, _JUDGING_BATCH).argmax(dim=1) == labels]
    return (torch.bincount(right, minlength=classes) / counts).double().numpy()
