"""What a run of several clients starts from and ends with, whatever it does in between.

Decentralised, multi-headed and federated runs share these nouns, the clients and the draw of public
samples, so that their results can be compared number by number.

What is *not* here: one client (``clients``), what happens between start and end (``decentralized``,
``multihead``, ``fedavg``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from calibration.workloads.decentralized.clients import Client, ClientAccuracy, make_client
from calibration.workloads.decentralized.exchange import Traffic
from calibration.workloads.training.residual import ClientNetwork
from calibration.workloads.training.seeds import generator_for
from calibration.workloads.training.weights import StartingWeights
from kdsim.errors import DataError

Progress = Callable[[int], None]


class Training(Protocol):
    """What every plan says about its clients' models and their SGD."""

    @property
    def network(self) -> str:
        """Name of the architecture."""
        ...

    @property
    def batch(self) -> int:
        """Samples in a step."""
        ...

    @property
    def learning_rate(self) -> float:
        """Where the cosine starts."""
        ...

    @property
    def momentum(self) -> float:
        """Of the descent."""
        ...

    @property
    def weights(self) -> StartingWeights | None:
        """The file that the models begin with."""
        ...

    @property
    def augment(self) -> bool:
        """Whether private images are flipped and shifted."""
        ...

    @property
    def seed(self) -> int:
        """Of the whole run."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Material:
    """The data of a run, as tensors.

    Attributes
    ----------
    shares : sequence of (images, labels)
        Each client's private samples.
    public : (n, channels, height, width) Tensor
        Unlabelled samples that every client holds; may be empty where none are used.
    test : (images, labels)
        Samples that nobody trains on, with every class present.
    """

    shares: Sequence[tuple[Tensor, Tensor]]
    public: Tensor
    test: tuple[Tensor, Tensor]
    classes: int


@dataclass(frozen=True, slots=True)
class Departure:
    """A client that stopped before the end, and when the others noticed."""

    client: int
    round: int
    reason: str


@dataclass(frozen=True, slots=True)
class RoundCosts:
    """What each round cost one client: the columns of a cost profile.

    Attributes
    ----------
    comm_bytes : tuple of int
        Payload bytes received, round by round.
    forward_s, backward_s : tuple of float
        Seconds, round by round.
    cores : int
        Threads that computed them.
    accuracies : tuple of (int, float)
        Rounds done and the client's shared accuracy then, in between and at the end.
    """

    comm_bytes: tuple[int, ...]
    forward_s: tuple[float, ...]
    backward_s: tuple[float, ...]
    cores: int
    accuracies: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gives.

    Attributes
    ----------
    accuracies : tuple of ClientAccuracy
        Of the clients that were there at the end.
    costs : tuple of RoundCosts
        Theirs, in the same order.
    departures : tuple of Departure
        Those that were not.
    """

    accuracies: tuple[ClientAccuracy, ...]
    costs: tuple[RoundCosts, ...]
    traffic: Traffic
    departures: tuple[Departure, ...] = ()


@dataclass(slots=True)
class CostLedger:
    """Costs of one client, growing round by round."""

    comm_bytes: list[int] = field(default_factory=list)
    forward_s: list[float] = field(default_factory=list)
    backward_s: list[float] = field(default_factory=list)
    accuracies: list[tuple[int, float]] = field(default_factory=list)

    def add(self, comm_bytes: int, forward_s: float, backward_s: float) -> None:
        """Enter one round."""
        self.comm_bytes.append(comm_bytes)
        self.forward_s.append(forward_s)
        self.backward_s.append(backward_s)

    def mark(self, accuracy: float) -> None:
        """Enter the accuracy after the rounds entered so far."""
        self.accuracies.append((len(self.comm_bytes), accuracy))

    def closed(self) -> RoundCosts:
        """Return what was entered."""
        return RoundCosts(
            tuple(self.comm_bytes),
            tuple(self.forward_s),
            tuple(self.backward_s),
            torch.get_num_threads(),
            tuple(self.accuracies),
        )


def client_of(
    material: Material, plan: Training, index: int, *, common_start: bool = False
) -> Client[ClientNetwork]:
    """Build client `index` of a run; see `make_client`."""
    images, labels = material.shares[index]
    return make_client(
        index,
        images,
        labels,
        classes=material.classes,
        network=plan.network,
        learning_rate=plan.learning_rate,
        momentum=plan.momentum,
        seed=plan.seed,
        common_start=common_start,
        weights=plan.weights,
        augmented=plan.augment,
    )


def check_public(material: Material, plan: Training) -> None:
    """Refuse data that cannot be distilled on.

    Raises
    ------
    DataError
        With less than a batch of public samples.
    """
    if len(material.public) < plan.batch:
        raise DataError(
            f"distilling in batches of {plan.batch} needs at least as many public samples, got "
            f"{len(material.public)}"
        )


def draw_public(public: Tensor, plan: Training, turn: int) -> Tensor:
    """Draw the public samples of a round, the same for every client, (batch, ...)."""
    order = torch.randperm(len(public), generator=generator_for(plan.seed, "public", turn))
    return public[order[: plan.batch]]
