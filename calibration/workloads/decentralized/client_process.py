"""One client of a decentralised run in a process of its own: its rounds and its messages.

To its peers it sends predictions (samples, checkpoints) over gloo, pair by pair; to its parent,
through a pipe, what each round moved, its results at the end, and a heartbeat several times a
second, from a thread of its own. By these heartbeats the parent distinguishes a client that waits
for another from one that has stalled.

What is *not* here: starting and ending processes (``processes``), what a round computes
(``decentralized``, ``clients``).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from calibration.link.gloo_group import join_group
from calibration.machine.children import end_with_parent
from calibration.workloads.decentralized.clients import Client
from calibration.workloads.decentralized.cohort import CostLedger, Material, client_of
from calibration.workloads.decentralized.exchange import (
    ExchangeGraph,
    Traffic,
    pack_state,
    unpack_state,
)
from calibration.workloads.decentralized.run import (
    Plan,
    StaleTeachers,
    due_supplier,
    learn_from,
    public_batch,
    round_traffic,
    watch,
)
from calibration.workloads.training.checkpoints import snapshot
from calibration.workloads.training.residual import ClientNetwork
from kdsim._types import Record
from kdsim.errors import KdsimError

#: Exit status of a client that a plan lets fail: abrupt, without closing anything.
LEFT = 17

#: Heartbeats within the longest silence that the parent accepts: a busy machine may delay some.
_BEATS = 10

_SAMPLES, _ANSWERS, _CHECKPOINT = 1, 2, 3  # message tags


def work(
    pipe: Connection,
    path: Path,
    plan: Plan,
    graph: ExchangeGraph,
    index: int,
    meeting: Path,
    timeout_s: float,
    threads: int,
) -> None:
    """Run one client to the end, reporting each round to the parent.

    Parameters
    ----------
    pipe : Connection
        To the parent, which never writes.
    meeting : Path
        The file in which the clients meet, see `calibration.link.gloo_group`.
    timeout_s : float
        The longest silence after which the parent still waits.
    """
    end_with_parent()
    torch.set_num_threads(threads)
    with _heartbeat(pipe, timeout_s / _BEATS) as reports:
        try:
            client, material = _receive(path, plan, graph, index)
            peers = _meet(index, graph.clients, meeting, timeout_s)
            _rounds(client, material, plan, graph, peers, reports)
        except (KdsimError, RuntimeError) as error:
            reports.send({"error": str(error).partition("\n")[0]})


class _Reports:
    """The pipe to the parent; each message arrives whole, whichever thread sends it."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self._lock = threading.Lock()

    def send(self, message: Record) -> None:
        """Send a message; an empty one is a heartbeat."""
        try:
            with self._lock:
                self.pipe.send_bytes(json.dumps(message).encode())
        except OSError:  # the parent has ended or has given up this run
            os._exit(1)


@contextmanager
def _heartbeat(pipe: Connection, every_s: float) -> Iterator[_Reports]:
    """Show the parent at even intervals that this process is neither stopped nor stuck."""
    reports, ended = _Reports(pipe), threading.Event()

    def repeat() -> None:
        while not ended.wait(every_s):
            reports.send({})

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield reports
    finally:
        ended.set()
        thread.join()


def _rounds(
    client: Client[ClientNetwork],
    material: Material,
    plan: Plan,
    graph: ExchangeGraph,
    peers: _Peers,
    reports: _Reports,
) -> None:
    ledger = CostLedger()
    pool = StaleTeachers(graph, client.index, plan, client.network)
    failing = dict(plan.departures).get(client.index)
    parent = multiprocessing.parent_process()
    for turn in range(plan.rounds):
        if turn == failing:
            os._exit(LEFT)
        if parent is not None and not parent.is_alive():
            os._exit(1)  # the parent has ended: there is no one to report to
        batch = client.draw(plan.batch)
        shared = public_batch(material.public, plan, turn)
        question = batch[0] if shared is None else shared
        answers, judging_s, traffic = _exchange(client, question, plan, graph, peers, pool, turn)
        cost = learn_from(client, batch, shared, answers, plan, turn)
        received = traffic.predictions + traffic.checkpoints
        ledger.add(received, cost.forward_s + judging_s, cost.backward_s)
        watch(client, ledger, material, plan, turn)
        reports.send({"round": turn + 1, "traffic": asdict(traffic)})
    accuracy = client.accuracy(*material.test, material.classes)
    reports.send(
        {
            "accuracy": asdict(accuracy),
            "costs": asdict(ledger.closed()),
            "lost": sorted(peers.lost),
        }
    )
    # A peer may still be reading what this client sent last: stay until the parent closes the pipe.
    while not reports.pipe.poll(1.0):  # the parent never writes: readable is closed
        pass
    dist.destroy_process_group()


def _exchange(
    client: Client[ClientNetwork],
    question: Tensor,
    plan: Plan,
    graph: ExchangeGraph,
    peers: _Peers,
    pool: StaleTeachers,
    turn: int,
) -> tuple[list[Tensor], float, Traffic]:
    """Return the answers to this client's question, seconds spent judging, and bytes moved."""
    index = client.index
    if plan.alpha == 1:
        return [], 0.0, Traffic()
    if plan.refresh_every:
        moved = _refresh(client, plan, graph, peers, pool, turn)
        start = time.perf_counter()
        answers = pool.judge(question, turn)
        return answers, time.perf_counter() - start, moved

    learners, teachers = graph.learners(index), graph.teachers[index]
    questions = {k: question for k in learners if k in peers.alive}
    if plan.distil_on == "private":
        blank = question.contiguous()
        questions = peers.swap(
            dict.fromkeys(teachers, blank), {k: torch.empty_like(blank) for k in learners}, _SAMPLES
        )
    start = time.perf_counter()
    if plan.distil_on == "private":
        judged = {k: client.judge(asked) for k, asked in questions.items()}
    else:
        judged = dict.fromkeys(questions, client.judge(question)) if questions else {}
    judging_s = time.perf_counter() - start
    blanks = {j: torch.empty(len(question), int(client.network.classes)) for j in teachers}
    given = peers.swap(judged, blanks, _ANSWERS)
    answers = [given[j] for j in sorted(given)]
    return answers, judging_s, round_traffic(plan, question, answers)


def _refresh(
    client: Client[ClientNetwork],
    plan: Plan,
    graph: ExchangeGraph,
    peers: _Peers,
    pool: StaleTeachers,
    turn: int,
) -> Traffic:
    """Fetch the checkpoint that is due, and send this client's to those for whom it is due."""
    state = snapshot(client.network)
    packed = pack_state(state)
    asking = [
        k
        for k in range(graph.clients)
        if k != client.index and due_supplier(graph, plan, k, turn) == client.index
    ]
    source = pool.due(turn)
    blanks = {} if source is None else {source: torch.empty_like(packed)}
    given = peers.swap(dict.fromkeys(asking, packed), blanks, _CHECKPOINT)
    if source not in given:
        return Traffic()
    pool.fetch(source, turn, unpack_state(given[source], state))
    return Traffic(checkpoints=given[source].numel())


class _Peers:
    """Point-to-point messages to the other clients, of whom some may vanish.

    Pairwise messages, not collectives: when one end of a pair dies, gloo fails that pair alone and
    the others go on, while a collective would fail for everybody.
    """

    def __init__(self, index: int, clients: int) -> None:
        self.alive = {k for k in range(clients) if k != index}
        self.lost: set[int] = set()

    def swap(
        self, outgoing: dict[int, Tensor], incoming: dict[int, Tensor], tag: int
    ) -> dict[int, Tensor]:
        """Send and receive at once; return what arrived, and drop the peers that failed."""
        requests: list[tuple[int, Any]] = []
        for peer, tensor in sorted(outgoing.items()):
            self._try(
                peer, lambda p=peer, t=tensor: requests.append((p, dist.isend(t, p, tag=tag)))
            )
        for peer, blank in sorted(incoming.items()):
            self._try(peer, lambda p=peer, t=blank: requests.append((p, dist.irecv(t, p, tag=tag))))
        for peer, request in requests:
            self._try(peer, request.wait)
        return {peer: tensor for peer, tensor in incoming.items() if peer in self.alive}

    def _try(self, peer: int, action: Any) -> None:
        if peer not in self.alive:
            return
        try:
            action()
        except RuntimeError:  # what gloo raises for a closed or silent connection
            self.alive.discard(peer)
            self.lost.add(peer)


def _meet(index: int, clients: int, meeting: Path, timeout_s: float) -> _Peers:
    """Join the other clients on the loopback interface.

    A stalled peer is the parent's to end, which fails its connections alone. When gloo itself runs
    out of patience with one peer it fails all connections of this process; its limit is therefore
    well above the parent's.
    """
    join_group(meeting, index, clients, patience_s(timeout_s))
    return _Peers(index, clients)


def _receive(
    path: Path, plan: Plan, graph: ExchangeGraph, index: int
) -> tuple[Client[ClientNetwork], Material]:
    """Read this client's data; the other clients' shares are left empty."""
    content = torch.load(path, weights_only=True)
    own = (content["images"], content["labels"])
    nothing = (own[0][:0], own[1][:0])
    material = Material(
        shares=[own if k == index else nothing for k in range(graph.clients)],
        public=content["public"],
        test=(content["test_images"], content["test_labels"]),
        classes=int(content["classes"]),
    )
    return client_of(material, plan, index, common_start=plan.common_start), material


def patience_s(timeout_s: float) -> float:
    """Return the longest wait for a start, which imports torch and may be slower than any round."""
    return 2 * timeout_s + 30.0
