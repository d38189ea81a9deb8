"""Multi-headed distillation: a chain of auxiliary heads learns from other clients' heads.

Each client has one embedding network, a *main* head trained on its own labels, and auxiliary heads
1 to m trained on unlabelled public samples: head n imitates the heads n - 1 of others (head 0 is
the main one), for each sample the most confident of them and of the client itself. Knowledge thus
spreads one client further with each head, and the last head answers for all clients' data while the
main head stays with its own. Embeddings are pulled together as well. What clients learn from are
stale checkpoints in a rolling pool; no predictions travel.

What is *not* here: exchange of single-headed predictions (``decentralized``).

References
----------
A. Zhmoginov et al., "Decentralized Learning with Multi-Headed Distillation", CVPR 2023, sections
3.2 to 3.4.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import skip_init

from calibration.workloads.checks import check_least
from calibration.workloads.decentralized.clients import Client, ClientAccuracy
from calibration.workloads.decentralized.cohort import (
    Material,
    Progress,
    check_public,
    client_of,
    draw_public,
)
from calibration.workloads.decentralized.exchange import (
    CheckpointPool,
    ExchangeGraph,
    Traffic,
    exchange_graph,
    state_bytes,
    supplier,
)
from calibration.workloads.training.checkpoints import snapshot
from calibration.workloads.training.loops import cosine_rate, set_rate
from calibration.workloads.training.residual import ClientNetwork
from calibration.workloads.training.seeds import derive_seed, generator_for
from calibration.workloads.training.weights import StartingWeights
from kdsim.errors import WorkloadError


@dataclass(frozen=True, slots=True)
class MultiHeadPlan:
    """Everything that settles a multi-headed run, except its data.

    Attributes
    ----------
    rounds : int
        Optimiser steps of every client.
    warm_up : int
        Rounds on labels alone before anything is distilled or sent. Heads of the first rounds are
        wrong and confident; taught by them from the start, the features collapse, and a budget of
        a hundred rounds does not mend them.
    heads : int
        Auxiliary heads m; 0 leaves the main head and embedding distillation.
    head_layers : int
        Fully connected layers of each auxiliary head; the main head always has one.
    embedding_weight, head_weight : float
        Weights of embedding distillation and of each auxiliary head (the paper's nu_emb, nu_aux).
    teachers : int
        Checkpoints drawn from the pool for each step.
    pool_size, refresh_every : int
        Capacity of a client's pool; a new checkpoint comes every so many rounds.
    graph, network, batch, learning_rate, momentum, weights, augment, seed
        As in :class:`calibration.workloads.decentralized.run.Plan`.
    """

    rounds: int = 100
    warm_up: int = 0
    heads: int = 3
    head_layers: int = 1
    embedding_weight: float = 1.0
    head_weight: float = 1.0
    teachers: int = 1
    pool_size: int = 4
    refresh_every: int = 5
    graph: str = "complete"
    network: str = "small-cnn"
    batch: int = 32
    learning_rate: float = 0.05
    momentum: float = 0.9
    weights: StartingWeights | None = None
    augment: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(
            self, rounds=1, warm_up=0, heads=0, head_layers=1, teachers=1, pool_size=1, batch=2,
            refresh_every=1, embedding_weight=0, head_weight=0,
        )  # fmt: skip
        if self.warm_up >= self.rounds:
            raise WorkloadError(
                f"warm_up must be less than the {self.rounds} rounds, or nothing is ever "
                f"distilled; got {self.warm_up}"
            )


@dataclass(frozen=True, slots=True)
class MultiHeadResult:
    """What a multi-headed run gives.

    Attributes
    ----------
    heads : tuple of tuple of ClientAccuracy
        ``heads[n][k]``: head n (0 is the main one) of client k.
    traffic : Traffic
        Checkpoint bytes of the whole run.
    """

    heads: tuple[tuple[ClientAccuracy, ...], ...]
    traffic: Traffic


class MultiHeadNet(nn.Module):
    """An embedding network with a linear main head, and auxiliary heads of one layer or more.

    Parameters
    ----------
    network : ConvNet or ResNet18
        Its features and head, except the last layer, give the embedding; its last layer is the
        main head.
    heads : int
        Auxiliary heads to add.
    generator : torch.Generator
        Source of their weights.
    layers : int
        Fully connected layers of each of them, with ReLUs between; all but the last are as wide as
        the embedding.
    """

    def __init__(
        self, network: ClientNetwork, heads: int, generator: torch.Generator, *, layers: int = 1
    ) -> None:
        super().__init__()
        self.features = network.features
        self.neck = network.head[:-1]
        main = cast(nn.Linear, network.head[-1])  # every head ends in one
        self.heads = nn.ModuleList([main, *(_like(main, layers) for _ in range(heads))])
        bound = 1 / math.sqrt(main.in_features)
        with torch.no_grad():
            for head in list(self.heads)[1:]:
                for parameter in head.parameters():
                    parameter.uniform_(-bound, bound, generator=generator)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the embedding (batch, width) and each head's logits (batch, classes)."""
        embedding = self.neck(self.features(images))
        return embedding, [head(embedding) for head in self.heads]


def _like(main: nn.Linear, layers: int) -> nn.Module:
    """Return a head for the embedding and the classes of the main one."""
    last = copy.deepcopy(main)
    if layers == 1:
        return last
    width = main.in_features
    hidden: list[nn.Module] = []
    for _ in range(layers - 1):
        # Without weights of its own: all heads draw theirs from one generator.
        hidden += [skip_init(nn.Linear, width, width), nn.ReLU()]
    return nn.Sequential(*hidden, last)


def most_confident(logits: Sequence[Tensor]) -> Tensor:
    """Take, for each sample, the logits of the model with the largest top probability.

    Parameters
    ----------
    logits : sequence of (batch, classes) Tensor
        One entry per model; a tie goes to the earlier one.

    Returns
    -------
    (batch, classes) Tensor
    """
    stacked = torch.stack(list(logits))  # (models, batch, classes)
    # The largest log-probability orders as the probability does, and does not saturate at 1.
    confidence = functional.log_softmax(stacked, dim=-1).amax(dim=-1)  # (models, batch)
    winner = confidence.argmax(dim=0)  # (batch,)
    return stacked[winner, torch.arange(stacked.shape[1])]


def embedding_loss(student: Tensor, teachers: Sequence[Tensor]) -> Tensor:
    """Give the mean squared distance between normalised embeddings, summed over the teachers."""
    own = functional.normalize(student, dim=1)
    distances = [
        (own - functional.normalize(other, dim=1)).square().sum(dim=1).mean() for other in teachers
    ]
    return torch.stack(distances).sum()


def chain_loss(own: Sequence[Tensor], others: Sequence[Sequence[Tensor]]) -> Tensor:
    """Give the loss of the chain: auxiliary head n against the most confident heads n - 1.

    The client's own head n - 1 is a candidate too, by choice: without it the first auxiliary head
    forgets the client's own classes (4 % private accuracy on skewed digits).

    Parameters
    ----------
    own : sequence of (batch, classes) Tensor
        The client's logits, main head first.
    others : sequence of sequences of (batch, classes) Tensor
        Each teacher's logits, main head first.

    Returns
    -------
    () Tensor
        Sum over the auxiliary heads of their mean cross-entropy with soft targets. Targets carry
        no gradient.
    """
    losses = []
    for n in range(1, len(own)):
        candidates = [own[n - 1].detach(), *(teacher[n - 1].detach() for teacher in others)]
        target = functional.softmax(most_confident(candidates), dim=1)
        losses.append(functional.cross_entropy(own[n], target))
    return torch.stack(losses).sum()


def run_multihead(
    material: Material, plan: MultiHeadPlan, *, progress: Progress | None = None
) -> MultiHeadResult:
    """Train all clients by multi-headed distillation and evaluate every head.

    Parameters
    ----------
    material : Material
        The data; the public samples are what clients distil on.

    Raises
    ------
    DataError
        If a client has no samples, or there are too few public ones.
    """
    check_public(material, plan)
    graph = exchange_graph(plan.graph, len(material.shares))
    clients = [_client(material, plan, k) for k in range(graph.clients)]
    pools = [CheckpointPool(plan.pool_size) for _ in clients]
    stranger = copy.deepcopy(clients[0].network).eval()  # into which checkpoints are loaded
    moved = 0
    for turn in range(plan.rounds):
        refresh, between = divmod(turn - plan.warm_up, plan.refresh_every)
        if refresh >= 0 and between == 0:  # until the first refresh the pools are empty
            moved += _refresh(clients, pools, graph, plan, refresh)
        public = draw_public(material.public, plan, turn)
        rate = cosine_rate(plan.learning_rate, turn, plan.rounds)
        for client, pool in zip(clients, pools, strict=True):
            rng = np.random.default_rng([plan.seed, client.index, turn])
            teachers = []
            for _, _, state in pool.draw(plan.teachers, rng):
                stranger.load_state_dict(state)
                with torch.no_grad():
                    teachers.append(stranger(public))
            set_rate(client.optimizer, rate)
            _step(client, client.draw(plan.batch), public, teachers, plan)
        if progress is not None:
            progress(turn + 1)
    return MultiHeadResult(
        heads=tuple(
            tuple(_accuracy(client, n, material) for client in clients)
            for n in range(plan.heads + 1)
        ),
        traffic=Traffic(checkpoints=moved),
    )


def _client(material: Material, plan: MultiHeadPlan, index: int) -> Client[MultiHeadNet]:
    plain = client_of(material, plan, index)
    drawn = generator_for(plan.seed, "heads", index)
    network = MultiHeadNet(plain.network, plan.heads, drawn, layers=plan.head_layers)
    optimizer = torch.optim.SGD(network.parameters(), lr=plan.learning_rate, momentum=plan.momentum)
    return Client(
        index,
        network,
        optimizer,
        plain.images,
        plain.labels,
        plain.generator,
        plain.seed,
        plain.moves,
    )


def _refresh(
    clients: Sequence[Client[MultiHeadNet]],
    pools: Sequence[CheckpointPool],
    graph: ExchangeGraph,
    plan: MultiHeadPlan,
    refresh: int,
) -> int:
    """Give each client a checkpoint of one of its teachers; return the bytes moved."""
    states = [snapshot(client.network) for client in clients]
    moved = 0
    for client, pool in zip(clients, pools, strict=True):
        source = supplier(graph, client.index, refresh, derive_seed(plan.seed, "suppliers"))
        if source is not None:
            pool.add(source, plan.warm_up + refresh * plan.refresh_every, states[source])
            moved += state_bytes(states[source])
    return moved


def _step(
    client: Client[MultiHeadNet],
    private: tuple[Tensor, Tensor],
    public: Tensor,
    teachers: Sequence[tuple[Tensor, list[Tensor]]],
    plan: MultiHeadPlan,
) -> None:
    """Take one optimiser step on the main head's labels and the teachers' heads."""
    client.network.train()
    _, logits = client.network(private[0])
    loss = functional.cross_entropy(logits[0], private[1])
    if teachers:
        embedding, heads = client.network(public)
        if plan.embedding_weight:
            theirs = [teacher[0] for teacher in teachers]
            loss = loss + plan.embedding_weight * embedding_loss(embedding, theirs)
        if plan.heads and plan.head_weight:
            loss = loss + plan.head_weight * chain_loss(heads, [t[1] for t in teachers])
    client.descend(loss)


class _OneHead(nn.Module):
    """A view of a multi-headed network that answers with one head."""

    def __init__(self, network: MultiHeadNet, head: int) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.network(images)[1][self.head]
        return answer


def _accuracy(client: Client[MultiHeadNet], head: int, material: Material) -> ClientAccuracy:
    return client.accuracy(*material.test, material.classes, network=_OneHead(client.network, head))
