"""Training loops: a timed step, prediction, resume.

One step loop serves every workload: what differs (the loss, what is frozen, who else learns) is
handed in. A run that resumes at an epoch's end ends with the very weights of one that never
stopped.

What is not here: randomness (``seeds``), devices (``placement``), checkpoint files
(``checkpoints``), what is frozen (``freezing``), distillation losses (``losses``), studies.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from calibration.workloads.checks import check_choice, check_positive
from calibration.workloads.data.augmentation import augment
from calibration.workloads.training.checkpoints import load_checkpoint, restore, save_checkpoint
from calibration.workloads.training.placement import (
    device_of,
    move_images,
    move_network,
    on_device,
)
from calibration.workloads.training.seeds import batches, generator_for, own_random_state
from kdsim._types import RecordView
from kdsim.errors import WorkloadError

#: Images in one forward pass without gradients: large enough to keep a core busy, 100 MB at most.
PREDICT_BATCH = 250

#: ``objective(logits, rows, batch) -> loss``, see :func:`train_epoch`.
Objective = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How a network is trained.

    Attributes
    ----------
    epochs : int
        Passes over the data.
    batch_size : int
        Images per step.
    learning_rate, momentum : float
        Of stochastic gradient descent.
    decay : {"constant", "cosine"}
        Course of the learning rate over the epochs; ``"cosine"`` falls from `learning_rate`
        towards zero.
    augment : bool
        Flip and shift the images (``datasets.augment``).
    horizon : int, optional
        Epochs over which the cosine falls, `epochs` by default; more stop the training on the way.
    """

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.01
    momentum: float = 0.9
    decay: Literal["constant", "cosine"] = "constant"
    augment: bool = False
    horizon: int | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise WorkloadError(
                f"epochs and batch_size must be positive, got {self.epochs} and {self.batch_size}"
            )
        check_positive(self, "learning_rate")
        if not 0 <= self.momentum < 1:
            raise WorkloadError(f"momentum must lie in [0, 1), got {self.momentum!r}")
        check_choice("decay", self.decay, ("constant", "cosine"))
        if self.horizon is not None and self.horizon < self.epochs:
            raise WorkloadError(
                f"horizon must be at least epochs ({self.epochs}), got {self.horizon}"
            )

    def rate_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        if self.decay == "constant":
            return self.learning_rate
        return cosine_rate(self.learning_rate, epoch, self.horizon or self.epochs)


def cosine_rate(start: float, done: int, total: int) -> float:
    """Return a learning rate that falls from `start` to zero along a cosine of `total` steps."""
    return start * 0.5 * (1 + math.cos(math.pi * done / total))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give all parameters of an optimiser one learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


# --- steps ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class EpochMeasure:
    """What one epoch measured, step by step.

    Attributes
    ----------
    loss : float
        Mean over the images seen.
    accuracy : float
        Share of training images classified correctly while training (dropout on), 0 to 1.
    forward_s, backward_s : list of float
        Seconds of each step's forward pass with its loss, and of its backward pass with the
        update. On an accelerator, which works on while the next step is prepared, only the time
        it took to hand them over.
    images : list of int
        Images in each step.
    """

    loss: float = 0.0
    accuracy: float = 0.0
    forward_s: list[float] = field(default_factory=list)
    backward_s: list[float] = field(default_factory=list)
    images: list[int] = field(default_factory=list)


def train_epoch(
    network: Callable[[Tensor], Tensor],
    inputs: Tensor,
    labels: Tensor,
    objective: Objective,
    optimizers: Sequence[torch.optim.Optimizer],
    order: Sequence[Tensor],
    *,
    augmentation: torch.Generator | None = None,
) -> EpochMeasure:
    """Make one pass over the data.

    Parameters
    ----------
    network : callable
        Maps a batch of `inputs` to logits; in the mode (train, frozen parts in eval) it is to be
        in.
    inputs : (n, ...) float tensor
        Images, or cached features.
    labels : (n,) int64 tensor
        Class numbers, for the objective and the training accuracy.
    objective : callable
        ``objective(logits, rows, batch) -> loss``, a scalar; `rows` are the batch's indices into
        `inputs` and `batch` what the network was given (after augmentation).
    optimizers : sequence of Optimizer
        All are stepped after each backward pass.
    order : sequence of (k,) int64 tensor
        The batches; see :func:`batches`.
    augmentation : torch.Generator, optional
        Flip and shift each batch with this generator.

    Raises
    ------
    WorkloadError
        If the loss is not finite; known at the end of the epoch, since asking after every step
        would make an accelerator wait.
    """
    measure = EpochMeasure()
    losses: list[Tensor] = []
    correct: list[Tensor] = []
    for rows in order:
        batch = inputs[rows]  # (k, ...)
        if augmentation is not None:
            batch = augment(batch, generator=augmentation)
        start = time.perf_counter()
        logits = network(batch)  # (k, classes)
        loss = objective(logits, rows, batch)
        middle = time.perf_counter()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        measure.backward_s.append(time.perf_counter() - middle)
        measure.forward_s.append(middle - start)
        measure.images.append(len(rows))
        losses.append(loss.detach())
        correct.append((logits.detach().argmax(1) == labels[rows]).sum())
    seen = max(sum(measure.images), 1)
    for step, value in enumerate(torch.stack(losses).tolist() if losses else []):
        if not math.isfinite(value):
            raise WorkloadError(
                f"the loss became {value} at step {step + 1} of the epoch; a smaller learning rate "
                "may help"
            )
        measure.loss += value * measure.images[step]
    measure.loss /= seen
    measure.accuracy = int(torch.stack(correct).sum()) / seen if correct else 0.0
    return measure


def predict(network: nn.Module, images: Tensor, batch_size: int = PREDICT_BATCH) -> Tensor:
    """Return the logits in eval mode, without gradients; the network's modes are restored.

    The images may be elsewhere than the network; the logits are where the network is.

    Parameters
    ----------
    images : (n, ...) float tensor
        Its inputs.

    Returns
    -------
    (n, classes) float tensor
    """
    device = device_of(network)
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            return torch.cat([network(part.to(device)) for part in images.split(batch_size)])
    finally:
        for module, mode in modes:
            module.training = mode


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of correct top-1 predictions, 0 to 1."""
    return float((logits.argmax(1) == labels).double().mean())


def state_digest(network: nn.Module) -> str:
    """Return a SHA-256 over all parameters and buffers: equal digests, equal bits."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


# --- supervised training with resume -------------------------------------------------------------


def fit(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: TrainingConfig,
    *,
    seed: int,
    objective: Objective | None = None,
    checkpoint: Path | None = None,
    identity: RecordView | None = None,
    on_epoch: Callable[[int, EpochMeasure], None] | None = None,
) -> list[dict[str, float]]:
    """Train a whole network, from a checkpoint if there is one.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    images : (n, channels, height, width) float tensor
    labels : (n,) int64 tensor
    seed : int
        Of the order, the dropout and the augmentation.
    objective : callable, optional
        As for :func:`train_epoch`; cross-entropy with `labels` by default.
    checkpoint : path, optional
        Written after each epoch; when it exists, training resumes from it, to the same
        final weights.
    on_epoch : callable, optional
        Called with the epoch (from 1) and what it measured.

    Returns
    -------
    list of dict
        ``loss`` and ``accuracy`` (training) of each epoch.

    Raises
    ------
    WorkloadError
        If there are no images, the checkpoint is damaged or belongs to another run, or the loss is
        not finite.
    CheckpointError
        If the checkpoint cannot be written.
    """
    if not len(images):
        raise WorkloadError("a network cannot be trained on no images; give it at least one")
    device = device_of(network)
    move_network(network, device)
    images, labels = move_images(images, device), labels.to(device)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=config.learning_rate, momentum=config.momentum
    )
    known = {**(identity or {}), "training": asdict(config), "seed": seed, "images": len(images)}
    history: list[dict[str, float]] = []
    if checkpoint is not None and checkpoint.exists():
        state = load_checkpoint(checkpoint, known)
        restore(checkpoint, network, state["network"])
        if state["optimizer"] is not None:
            optimizer.load_state_dict(state["optimizer"])
        history = list(state["history"])

    def by_labels(logits: Tensor, rows: Tensor, _: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels[rows])

    for epoch in range(len(history), config.epochs):
        set_rate(optimizer, config.rate_at(epoch))
        network.train()
        order = batches(
            len(images), config.batch_size, generator=generator_for(seed, "order", epoch)
        )
        moves = generator_for(seed, "augment", epoch) if config.augment else None
        with own_random_state(seed, "dropout", epoch):
            measure = train_epoch(
                network,
                images,
                labels,
                objective or by_labels,
                [optimizer],
                on_device(order, device),
                augmentation=moves,
            )
        history.append({"loss": measure.loss, "accuracy": measure.accuracy})
        if checkpoint is not None:
            # A finished training has no use for its momentum, as large as the network.
            going_on = epoch + 1 < config.epochs
            state = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict() if going_on else None,
            }
            save_checkpoint(checkpoint, {**state, "history": history}, known)
        if on_epoch is not None:
            on_epoch(epoch + 1, measure)
    return history
