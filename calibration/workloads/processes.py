"""A decentralised run with one operating-system process a client, over ``torch.distributed``.

Clients exchange predictions (and, where the plan says so, samples or checkpoints) peer to peer
over gloo on the loopback interface; no server takes part in a round. The parent process only hands
out data, offers the rendezvous, and collects results. A client that dies or stalls is dropped by
its peers, which go on, and is reported. Without failures the result equals that of
:func:`calibration.workloads.decentralized.run_decentralized`.

What is *not* here: what a round computes (``decentralized``, ``clients``).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from calibration.workloads.clients import Client, ClientAccuracy
from calibration.workloads.decentralized import (
    Departure,
    Ledger,
    Material,
    Plan,
    Progress,
    Result,
    RoundCosts,
    StaleTeachers,
    check_material,
    client_of,
    due_supplier,
    learn_from,
    public_batch,
    round_traffic,
)
from calibration.workloads.exchange import (
    ExchangeGraph,
    Traffic,
    exchange_graph,
    pack_state,
    snapshot,
    unpack_state,
)
from kdsim.errors import KdsimError, TransportError, WorkloadError

#: Exit status of a client that a plan lets fail: abrupt, without closing anything.
_LEFT = 17

_SAMPLES, _ANSWERS, _CHECKPOINT = 1, 2, 3  # message tags


def run_in_processes(
    material: Material,
    plan: Plan,
    *,
    progress: Progress | None = None,
    timeout_s: float = 60.0,
) -> Result:
    """Train and evaluate each client in a process of its own.

    Parameters
    ----------
    material : Material
        The data; each process is given its own share, the public samples and the test samples.
    plan : Plan
        The run; a departure in it ends the client's process on the spot.
    progress : callable, optional
        Called with the number of rounds that some client has done.
    timeout_s : float
        The longest silence, of a peer or of all processes, before it is taken for dead.

    Returns
    -------
    Result
        With a departure for each process that did not reach the end.

    Raises
    ------
    DataError
        As for :func:`calibration.workloads.decentralized.run_decentralized`.
    WorkloadError
        If no client reached the end.
    TransportError
        If the processes fall silent.
    """
    graph = exchange_graph(plan.graph, len(material.shares))
    check_material(material, plan)
    for index in range(graph.clients):
        client_of(material, plan, index)  # faults of the data are told here, not by a process
    store = dist.TCPStore(
        "127.0.0.1",
        0,
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(seconds=timeout_s),
    )
    context = _context()
    with tempfile.TemporaryDirectory(prefix="kdsim-clients-") as name:
        paths = _hand_out(material, Path(name))
        workers: list[_Worker] = []
        try:
            for index in range(graph.clients):
                here, there = context.Pipe()
                arguments = (there, paths[index], plan, graph, index, store.port, timeout_s)
                process = context.Process(
                    target=_work, args=(*arguments, torch.get_num_threads()), daemon=True
                )
                process.start()
                there.close()  # so that the end of the process is the end of the pipe
                workers.append(_Worker(index, process, here))
            _collect(workers, plan, progress, timeout_s)
        finally:
            _end(workers)
    return _result(workers)


@dataclass(slots=True)
class _Worker:
    """The parent's view of one client's process."""

    index: int
    process: BaseProcess
    pipe: Connection
    rounds: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    outcome: dict[str, Any] | None = None
    departure: Departure | None = None

    @property
    def finished(self) -> bool:
        return self.outcome is not None or self.departure is not None


def _context() -> Any:
    """Return a way to start processes that inherits neither threads nor open sockets.

    A fork server imports torch once for all clients, and for all later runs; where there is none
    (Windows), each process imports it anew.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _hand_out(material: Material, folder: Path) -> list[Path]:
    """Write each client's data to a file of tensors; return the files."""
    paths = []
    for index, (images, labels) in enumerate(material.shares):
        path = folder / f"client-{index}.pt"
        content = {
            "images": images,
            "labels": labels,
            "public": material.public,
            "test_images": material.test[0],
            "test_labels": material.test[1],
            "classes": torch.tensor(material.classes),
        }
        # A slice of a larger tensor would be saved with all of that tensor.
        torch.save({key: value.clone() for key, value in content.items()}, path)
        paths.append(path)
    return paths


def _collect(
    workers: list[_Worker], plan: Plan, progress: Progress | None, timeout_s: float
) -> None:
    """Read messages until every client has finished or failed."""
    furthest = 0
    # The start imports torch and meets the others; it may be slower than any round.
    patience = 2 * timeout_s + 30.0
    while waiting := [w for w in workers if not w.finished]:
        ready = wait([w.pipe for w in waiting], timeout=patience)
        if not ready:
            names = ", ".join(str(w.index) for w in waiting)
            raise TransportError(
                f"clients {names} have been silent for {patience:g} s, the furthest in round "
                f"{furthest} of {plan.rounds}; the run was stopped"
            )
        for worker in waiting:
            if worker.pipe in ready:
                _read(worker)
                furthest = max(furthest, worker.rounds)
        if progress is not None:
            progress(furthest)


def _read(worker: _Worker) -> None:
    """Take in one message of a client, or its end."""
    try:
        message = json.loads(worker.pipe.recv_bytes())
    except (EOFError, OSError):
        worker.process.join(timeout=10.0)
        code = worker.process.exitcode
        reason = "left" if code == _LEFT else f"its process ended with status {code}"
        worker.departure = Departure(worker.index, worker.rounds, reason)
        return
    if "round" in message:
        worker.rounds = message["round"]
        worker.traffic += Traffic(**message["traffic"])
    elif "error" in message:
        worker.departure = Departure(worker.index, worker.rounds, message["error"])
    else:
        worker.outcome = message


def _end(workers: Iterable[_Worker]) -> None:
    """Let every process go; none outlives the run."""
    for worker in workers:
        worker.pipe.close()  # a client that has finished waits for this
    for worker in workers:
        worker.process.join(timeout=5.0)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join(timeout=5.0)
        worker.process.close()


def _result(workers: list[_Worker]) -> Result:
    departures = tuple(w.departure for w in workers if w.departure is not None)
    there = [w.outcome for w in workers if w.outcome is not None]
    if not there:
        told = "; ".join(f"client {d.client}: {d.reason}" for d in departures)
        raise WorkloadError(f"no client reached the end ({told})")
    return Result(
        accuracies=tuple(
            ClientAccuracy(**{k: _tuples(v) for k, v in o["accuracy"].items()}) for o in there
        ),
        costs=tuple(RoundCosts(**{k: _tuples(v) for k, v in o["costs"].items()}) for o in there),
        traffic=sum((w.traffic for w in workers), Traffic()),
        departures=departures,
    )


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# --- in a client's process -----------------------------------------------------------------------


def _work(
    pipe: Connection,
    path: Path,
    plan: Plan,
    graph: ExchangeGraph,
    index: int,
    port: int,
    timeout_s: float,
    threads: int,
) -> None:
    """Run one client to the end, telling the parent of each round."""
    torch.set_num_threads(threads)
    try:
        client, material = _receive(path, plan, graph, index)
        peers = _meet(index, graph.clients, port, timeout_s)
        _rounds(client, material, plan, graph, peers, pipe)
    except (KdsimError, RuntimeError) as error:
        _tell(pipe, {"error": str(error).partition("\n")[0]})


def _rounds(
    client: Client,
    material: Material,
    plan: Plan,
    graph: ExchangeGraph,
    peers: _Peers,
    pipe: Connection,
) -> None:
    ledger = Ledger()
    pool = StaleTeachers(graph, client.index, plan, client.network)
    failing = dict(plan.departures).get(client.index)
    parent = multiprocessing.parent_process()
    for turn in range(plan.rounds):
        if turn == failing:
            os._exit(_LEFT)
        if parent is not None and not parent.is_alive():
            os._exit(1)  # nobody is left to report to
        batch = client.draw(plan.batch)
        shared = public_batch(material.public, plan, turn)
        question = batch[0] if shared is None else shared
        answers, judging_s, traffic = _exchange(client, question, plan, graph, peers, pool, turn)
        cost = learn_from(client, batch, shared, answers, plan, turn)
        received = traffic.predictions + traffic.checkpoints
        ledger.add(received, cost.forward_s + judging_s, cost.backward_s)
        _tell(pipe, {"round": turn + 1, "traffic": asdict(traffic)})
    accuracy = client.accuracy(*material.test, material.classes)
    _tell(pipe, {"accuracy": asdict(accuracy), "costs": asdict(ledger.closed())})
    # A peer may still be reading what this client sent last: stay until the parent lets go.
    while not pipe.poll(1.0):  # the parent never writes: readable means that it let go
        pass
    dist.destroy_process_group()


def _exchange(
    client: Client,
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
    blanks = {j: torch.empty(len(question), client.network.classes) for j in teachers}
    given = peers.swap(judged, blanks, _ANSWERS)
    answers = [given[j] for j in sorted(given)]
    return answers, judging_s, round_traffic(plan, question, answers)


def _refresh(
    client: Client,
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


def _meet(index: int, clients: int, port: int, timeout_s: float) -> _Peers:
    """Join the other clients on the loopback interface."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = loopback
    limit = timedelta(seconds=timeout_s)
    store = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=limit)
    dist.init_process_group("gloo", store=store, rank=index, world_size=clients, timeout=limit)
    return _Peers(index, clients)


def _receive(path: Path, plan: Plan, graph: ExchangeGraph, index: int) -> tuple[Client, Material]:
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
    return client_of(material, plan, index), material


def _tell(pipe: Connection, message: dict[str, Any]) -> None:
    try:
        pipe.send_bytes(json.dumps(message).encode())
    except OSError:  # the parent has gone or has given up on this run
        os._exit(1)
