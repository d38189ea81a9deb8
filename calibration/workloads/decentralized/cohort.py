"""What a run of several clients starts from and ends with, whatever it does in between.

Decentralised, multi-headed and federated runs share these nouns, the clients and the draw of public
samples, so that their results can be compared number by number.

What is *not* here: one client (``clients``), what happens between start and end (``decentralized``,
``multihead``, ``fedavg``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from calibration.workloads.decentralized.clients import Client, ClientAccuracy
from calibration.workloads.decentralized.exchange import Traffic
from calibration.workloads.training.networks import to_channels_last
from calibration.workloads.training.residual import ClientNetwork, build_client_network
from calibration.workloads.training.seeds import derive_seed, generator_for
from calibration.workloads.training.weights import start_from
from kdsim.errors import DataError

if TYPE_CHECKING:
    from calibration.workloads.decentralized.fedavg import FedAvgPlan
    from calibration.workloads.decentralized.multihead import MultiHeadPlan
    from calibration.workloads.decentralized.run import Plan

    #: Every plan says what its clients' models are and how they descend.
    AnyPlan: TypeAlias = Plan | MultiHeadPlan | FedAvgPlan

Progress = Callable[[int], None]


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
    material: Material, plan: AnyPlan, index: int, *, common_start: bool = False
) -> Client[ClientNetwork]:
    """Build client `index` of a run; where no file says more, all of it follows from the seed.

    Parameters
    ----------
    plan : Plan, MultiHeadPlan or FedAvgPlan
        Architecture, SGD, augmentation, the seed, and perhaps a file with the weights to begin
        with; what that lacks of the last layer is drawn.
    common_start : bool
        All clients begin with the same weights.

    Raises
    ------
    DataError
        If the client has no samples.
    WorkloadError
        If the weights do not fit the network.
    """
    images, labels = material.shares[index]
    if len(labels) == 0:
        raise DataError(
            f"client {index} has no samples; use fewer clients, more data or a smaller gamma"
        )
    start = derive_seed(plan.seed, "weights", 0 if common_start else index)
    channels, height, width = images.shape[1:]
    shape = (channels, height, width)
    model = build_client_network(plan.network, shape, material.classes, seed=start)
    if plan.weights is not None:
        start_from(model, plan.weights)
    to_channels_last(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=plan.learning_rate, momentum=plan.momentum)
    order = generator_for(plan.seed, "order", index)
    moves = generator_for(plan.seed, "augment", index) if plan.augment else None
    images = images.contiguous(memory_format=torch.channels_last)
    return Client(index, model, optimizer, images, labels, order, plan.seed, moves)


def check_public(material: Material, plan: AnyPlan) -> None:
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


def draw_public(public: Tensor, plan: AnyPlan, turn: int) -> Tensor:
    """Draw the public samples of a round, the same for every client, (batch, ...)."""
    order = torch.randperm(len(public), generator=generator_for(plan.seed, "public", turn))
    return public[order[: plan.batch]]
