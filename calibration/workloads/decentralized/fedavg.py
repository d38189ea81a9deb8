"""Federated averaging: the reference with a server, on the same clients and data.

In each round the clients start from the server's weights, take some optimiser steps on their
private labels, and the server averages what comes back, weighted by the clients' samples.

What is *not* here: exchange without a server (``decentralized``).

References
----------
B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
AISTATS 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from calibration.workloads.checks import check_least, check_positive
from calibration.workloads.decentralized.clients import Client
from calibration.workloads.decentralized.cohort import (
    CostLedger,
    Material,
    Progress,
    Result,
    client_of,
)
from calibration.workloads.decentralized.exchange import Traffic, state_bytes
from calibration.workloads.training.checkpoints import StateDict, snapshot
from calibration.workloads.training.loops import cosine_rate
from calibration.workloads.training.residual import ClientNetwork
from calibration.workloads.training.weights import StartingWeights
from kdsim.errors import WorkloadError


@dataclass(frozen=True, slots=True)
class FedAvgPlan:
    """Everything that settles a federated run, except its data.

    Attributes
    ----------
    rounds : int
        Averagings.
    local_steps : int
        Optimiser steps of each client between two averagings.
    network, batch, learning_rate, momentum
        The model and its SGD. The rate falls along a cosine over all rounds; momentum starts
        new in each round, because it belongs to weights that the server has replaced.
    weights, augment
        As in :class:`calibration.workloads.decentralized.run.Plan`.
    seed : int
        Seed of the common weights and of the batch orders.
    """

    rounds: int = 20
    local_steps: int = 5
    network: str = "small-cnn"
    batch: int = 32
    learning_rate: float = 0.05
    momentum: float = 0.9
    weights: StartingWeights | None = None
    augment: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, rounds=1, local_steps=1, batch=2)
        check_positive(self, "learning_rate")


def average_states(states: Sequence[StateDict], weights: Sequence[float]) -> StateDict:
    """Average checkpoints, entry by entry.

    Parameters
    ----------
    states : sequence of dict
        Checkpoints of one architecture.
    weights : sequence of float
        Not negative, not all zero; normalised here. For FedAvg, the clients' sample counts.

    Returns
    -------
    dict
        Summed in float64. Counters (BatchNorm's batches seen) are rounded to whole numbers.

    Raises
    ------
    WorkloadError
        If the numbers of states and weights differ, or the weights are unusable.

    Examples
    --------
    >>> states = [{"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}]
    >>> average_states(states, [3, 1])["w"]
    tensor([1.])
    """
    total = float(sum(weights))
    if len(states) != len(weights) or not states or min(weights) < 0 or not total > 0:
        raise WorkloadError(
            f"averaging needs a weight >= 0 for each state, not all zero; got {len(states)} "
            f"states and weights {list(weights)!r}"
        )
    averaged: StateDict = {}
    for name, like in states[0].items():
        mean = torch.zeros_like(like, dtype=torch.float64)
        for state, weight in zip(states, weights, strict=True):
            mean += state[name].double() * (weight / total)
        averaged[name] = (mean if like.is_floating_point() else mean.round()).to(like.dtype)
    return averaged


def run_fedavg(material: Material, plan: FedAvgPlan, *, progress: Progress | None = None) -> Result:
    """Train one global model by federated averaging and evaluate it for each client.

    Parameters
    ----------
    material : Material
        The data; the public samples are not used.

    Returns
    -------
    Result
        Each client's accuracies are those of the final global model, under uniform labels and
        under its own; a cycle of the costs is one local step, its bytes the weights received at
        a round's start. Traffic counts weights down and up.

    Raises
    ------
    DataError
        If a client has no samples.
    """
    clients = [
        client_of(material, plan, index, common_start=True) for index in range(len(material.shares))
    ]
    samples = [len(client.labels) for client in clients]
    ledgers = [CostLedger() for _ in clients]
    server = snapshot(clients[0].network)
    size = state_bytes(server)
    for turn in range(plan.rounds):
        rate = cosine_rate(plan.learning_rate, turn, plan.rounds)
        for client, ledger in zip(clients, ledgers, strict=True):
            _local_steps(client, server, rate, plan, ledger, size)
        server = average_states([client.network.state_dict() for client in clients], samples)
        if progress is not None:
            progress(turn + 1)
    for client in clients:
        client.network.load_state_dict(server)
    return Result(
        accuracies=tuple(c.accuracy(*material.test, material.classes) for c in clients),
        costs=tuple(ledger.closed() for ledger in ledgers),
        traffic=Traffic(checkpoints=2 * size * len(clients) * plan.rounds),
    )


def _local_steps(
    client: Client[ClientNetwork],
    server: StateDict,
    rate: float,
    plan: FedAvgPlan,
    ledger: CostLedger,
    size: int,
) -> None:
    """Train one client from the server's weights."""
    client.network.load_state_dict(server)
    client.optimizer = torch.optim.SGD(client.network.parameters(), lr=rate, momentum=plan.momentum)
    for step in range(plan.local_steps):
        batch: tuple[Tensor, Tensor] = client.draw(plan.batch)
        cost = client.learn(batch, None, 1.0, None)
        ledger.add(size if step == 0 else 0, cost.forward_s, cost.backward_s)
