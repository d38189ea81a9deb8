"""Decentralised distillation: clients with their own models and data teach one another.

A *round* is one exchange of soft predictions and one optimiser step of every client, all of them
computed from the weights at the round's start. Client k minimises
``alpha * CE + (1 - alpha) * Ld``, with ``Ld`` its dissimilarity to the remote clients' predictions
(:func:`calibration.workloads.losses.decentralized_loss`). There is no server.

What is *not* here: real processes (``processes``), grids of runs (``dissimilarity``).

References
----------
"Experimenting with Information Dissimilarity for Knowledge Distillation at the Edge" (the losses,
their two cases and the split); A. Zhmoginov et al., CVPR 2023 (rolling pools of checkpoints).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor, nn

from calibration.workloads.checks import check_choice, check_positive
from calibration.workloads.decentralized.clients import Client, StepCost
from calibration.workloads.decentralized.cohort import (
    CostLedger,
    Departure,
    Material,
    Progress,
    Result,
    check_public,
    client_of,
    draw_public,
)
from calibration.workloads.decentralized.exchange import (
    CheckpointPool,
    ExchangeGraph,
    Traffic,
    exchange_graph,
    received_bytes,
    state_bytes,
    supplier,
)
from calibration.workloads.losses import MEASURES, Case, Scale, decentralized_loss
from calibration.workloads.training.checkpoints import snapshot
from calibration.workloads.training.loops import cosine_rate, predict, set_rate
from calibration.workloads.training.residual import ClientNetwork
from calibration.workloads.training.weights import StartingWeights
from kdsim.errors import WorkloadError


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that settles a decentralised run, except its data.

    Attributes
    ----------
    rounds : int
        Exchanges, each with one optimiser step of every client.
    measure, case, alpha, temperature, scale, averaging
        The objective; see :func:`calibration.workloads.losses.decentralized_loss`. ``alpha`` is
        the weight of the labels: 0 distils only, 1 never exchanges anything.
    distil_on : {"public", "private"}
        Where predictions are compared: on unlabelled samples that every client holds, or on the
        learner's own batch, which then has to travel to its teachers.
    graph : str
        Who learns from whom; see
        :func:`calibration.workloads.decentralized.exchange.exchange_graph`.
    network, batch, learning_rate, momentum
        The model and its SGD; a step takes `batch` private and as many public samples. The rate
        falls from `learning_rate` to zero along a cosine, so that the last round is not a draw
        from the noise of large steps.
    common_start : bool
        All clients begin with the same weights.
    weights : StartingWeights, optional
        The file that all clients' models begin with; the last layer is drawn for each client
        where the file has another number of classes.
    augment : bool
        Flip and shift the private images of each batch; public samples stay as they are.
    refresh_every : int
        0 for synchronous exchange of predictions. Otherwise each client keeps a rolling pool of
        others' checkpoints, fetches a new one every so many rounds, and learns from those.
    pool_size : int
        Capacity of that pool.
    departures : tuple of (client, round)
        Clients that fail abruptly at the start of a round; the others continue.
    evaluate_every : int
        Rounds after which each client's accuracy is entered among its costs; 0 for never. It
        changes nothing else.
    seed : int
        Seed of weights, batch orders and public samples.
    """

    rounds: int = 100
    measure: str = "js"
    case: Case = "average"
    alpha: float = 0.5
    temperature: float = 1.0
    scale: Scale = "none"
    averaging: Literal["probabilities", "logits"] = "probabilities"
    distil_on: Literal["public", "private"] = "public"
    graph: str = "complete"
    network: str = "small-cnn"
    batch: int = 32
    learning_rate: float = 0.05
    momentum: float = 0.9
    common_start: bool = False
    weights: StartingWeights | None = None
    augment: bool = False
    refresh_every: int = 0
    pool_size: int = 4
    departures: tuple[tuple[int, int], ...] = ()
    evaluate_every: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {
            "measure": (self.measure, MEASURES),
            "case": (self.case, ("sum", "average")),
            "scale": (self.scale, ("none", "curvature")),
            "averaging": (self.averaging, ("probabilities", "logits")),
            "distil_on": (self.distil_on, ("public", "private")),
        }
        for name, (value, known) in choices.items():
            check_choice(name, value, known)
        ranges = {
            "alpha": (self.alpha, 0.0, 1.0),
            "rounds": (self.rounds, 1, math.inf),
            "batch": (self.batch, 2, math.inf),  # BatchNorm needs two samples
            "refresh_every": (self.refresh_every, 0, math.inf),
            "pool_size": (self.pool_size, 1, math.inf),
            "evaluate_every": (self.evaluate_every, 0, math.inf),
            "momentum": (self.momentum, 0.0, 1.0),
        }
        for name, (number, low, high) in ranges.items():
            if not low <= number <= high:
                raise WorkloadError(f"{name} must lie in [{low}, {high}], got {number!r}")
        check_positive(self, "temperature", "learning_rate")


def run_decentralized(
    material: Material, plan: Plan, *, progress: Progress | None = None
) -> Result:
    """Train all clients in this process and evaluate each.

    Raises
    ------
    DataError
        If a client has no samples, or there are no public samples where they are needed.
    WorkloadError
        If the graph does not fit, or every client departs.
    """
    graph = exchange_graph(plan.graph, len(material.shares))
    check_material(material, plan)
    present = {
        k: client_of(material, plan, k, common_start=plan.common_start)
        for k in range(graph.clients)
    }
    ledgers = {k: CostLedger() for k in present}
    pools = {k: StaleTeachers(graph, k, plan, client.network) for k, client in present.items()}
    traffic, departures = Traffic(), []
    for turn in range(plan.rounds):
        for leaver, when in plan.departures:
            if when == turn and present.pop(leaver, None) is not None:
                departures.append(Departure(leaver, turn, "left"))
        if not present:
            raise WorkloadError(f"every client had departed by round {turn}; none is left")
        traffic += _round(present, graph, plan, material.public, turn, ledgers, pools)
        for k, client in present.items():
            watch(client, ledgers[k], material, plan, turn)
        if progress is not None:
            progress(turn + 1)
    return Result(
        accuracies=tuple(c.accuracy(*material.test, material.classes) for c in present.values()),
        costs=tuple(ledgers[k].closed() for k in present),
        traffic=traffic,
        departures=tuple(departures),
    )


def _round(
    present: dict[int, Client[ClientNetwork]],
    graph: ExchangeGraph,
    plan: Plan,
    public: Tensor,
    turn: int,
    ledgers: dict[int, CostLedger],
    pools: dict[int, StaleTeachers],
) -> Traffic:
    """Let every client answer, then every client learn; return the bytes moved."""
    batches = {k: client.draw(plan.batch) for k, client in present.items()}
    shared = public_batch(public, plan, turn)
    questions = {k: batches[k][0] if shared is None else shared for k in present}
    teachers = {k: [j for j in graph.teachers[k] if j in present] for k in present}
    judging_s = dict.fromkeys(present, 0.0)
    answers: dict[int, list[Tensor]] = {k: [] for k in present}
    moved = dict.fromkeys(present, Traffic())

    if plan.alpha < 1 and plan.refresh_every:
        for k in present:
            source = pools[k].due(turn)
            if source in present:
                state = snapshot(present[source].network)
                pools[k].fetch(source, turn, state)
                moved[k] = Traffic(checkpoints=state_bytes(state))
        for k in present:
            start = time.perf_counter()
            answers[k] = pools[k].judge(questions[k], turn)
            judging_s[k] += time.perf_counter() - start
    elif plan.alpha < 1:
        given: dict[tuple[int, int], Tensor] = {}  # by teacher and question
        for k in present:
            for j in teachers[k]:
                key = (j, -1 if shared is not None else k)
                if key not in given:
                    start = time.perf_counter()
                    given[key] = present[j].judge(questions[k])
                    judging_s[j] += time.perf_counter() - start
                answers[k].append(given[key])
            moved[k] = round_traffic(plan, questions[k], answers[k])

    for k, client in present.items():
        question = None if shared is None else questions[k]
        cost = learn_from(client, batches[k], question, answers[k], plan, turn)
        incoming = moved[k].predictions + moved[k].checkpoints
        ledgers[k].add(incoming, cost.forward_s + judging_s[k], cost.backward_s)
    return sum(moved.values(), Traffic())


class StaleTeachers:
    """What a client learns from when predictions do not travel: a rolling pool of checkpoints.

    Parameters
    ----------
    graph : ExchangeGraph
        Names the possible suppliers.
    plan : Plan
        `refresh_every`, `pool_size` and `seed` are used.
    network : nn.Module
        Gives the architecture into which checkpoints are loaded; it is copied.
    """

    def __init__(self, graph: ExchangeGraph, learner: int, plan: Plan, network: nn.Module) -> None:
        self._graph, self._learner, self._plan = graph, learner, plan
        self._pool = CheckpointPool(plan.pool_size)
        self._network = copy.deepcopy(network)

    def due(self, turn: int) -> int | None:
        """Return whose checkpoint is to be fetched in this round, if any."""
        return due_supplier(self._graph, self._plan, self._learner, turn)

    def fetch(self, owner: int, turn: int, state: dict[str, Tensor]) -> None:
        """Take a checkpoint into the pool."""
        self._pool.add(owner, turn, state)

    def judge(self, images: Tensor, turn: int) -> list[Tensor]:
        """Return the logits of as many drawn checkpoints as the client has teachers."""
        rng = np.random.default_rng([self._plan.seed, self._learner, turn])
        answers = []
        for _, _, state in self._pool.draw(len(self._graph.teachers[self._learner]), rng):
            self._network.load_state_dict(state)
            answers.append(predict(self._network, images))
        return answers


def due_supplier(graph: ExchangeGraph, plan: Plan, learner: int, turn: int) -> int | None:
    """Return who sends `learner` a checkpoint in round `turn`; every process computes the same."""
    if plan.alpha == 1 or not plan.refresh_every or turn % plan.refresh_every:
        return None
    return supplier(graph, learner, turn // plan.refresh_every, plan.seed)


def learn_from(
    client: Client[ClientNetwork],
    batch: tuple[Tensor, Tensor],
    question: Tensor | None,
    answers: Sequence[Tensor],
    plan: Plan,
    turn: int,
) -> StepCost:
    """Take one step of `client` on the plan's objective; a sum over no answers is zero."""

    def distilled(logits: Tensor) -> Tensor:
        return decentralized_loss(
            logits,
            answers,
            plan.measure,
            case=plan.case,
            temperature=plan.temperature,
            scale=plan.scale,
            averaging=plan.averaging,
        )

    set_rate(client.optimizer, cosine_rate(plan.learning_rate, turn, plan.rounds))
    return client.learn(batch, question, plan.alpha, distilled if answers else None)


def watch(
    client: Client[ClientNetwork], ledger: CostLedger, material: Material, plan: Plan, turn: int
) -> None:
    """Enter the client's accuracy after a round, where the plan asks for it."""
    if plan.evaluate_every and (turn + 1) % plan.evaluate_every == 0:
        ledger.mark(client.accuracy(*material.test, material.classes).shared)


def public_batch(public: Tensor, plan: Plan, turn: int) -> Tensor | None:
    """Draw the samples all clients compare on in a round; None where each uses its own batch."""
    if plan.distil_on == "private" or plan.alpha == 1:
        return None
    return draw_public(public, plan, turn)


def round_traffic(plan: Plan, question: Tensor, answers: Sequence[Tensor]) -> Traffic:
    """Count what one learner's synchronous round moved."""
    classes = answers[0].shape[1] if answers else 0
    return received_bytes(
        len(answers), len(question), classes, question[0].numel(), distil_on=plan.distil_on
    )


def check_material(material: Material, plan: Plan) -> None:
    """Refuse data that the plan cannot use.

    Raises
    ------
    DataError
        Without a batch of public samples where the plan distils on them.
    """
    if plan.distil_on == "public" and plan.alpha < 1:
        check_public(material, plan)
