"""A decentralised run with one operating-system process per client, over ``torch.distributed``.

Clients exchange predictions (and, where the plan says so, samples or checkpoints) peer to peer
over gloo on the loopback interface; no server takes part in a round. The parent process only hands
out data, offers the rendezvous, collects results, and ends a process that has fallen silent. A
client that dies or stalls is dropped by its peers, which go on, and is reported. Without failures
the result equals that of :func:`calibration.workloads.decentralized.run.run_decentralized`.

What is *not* here: what such a process does (``client_process``).
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from calibration.machine.children import Child, end_children, fork_server
from calibration.workloads.decentralized.client_process import LEFT, patience_s, work
from calibration.workloads.decentralized.clients import ClientAccuracy
from calibration.workloads.decentralized.cohort import (
    Departure,
    Material,
    Progress,
    Result,
    RoundCosts,
    client_of,
)
from calibration.workloads.decentralized.exchange import Traffic, exchange_graph
from calibration.workloads.decentralized.run import Plan, check_material
from kdsim._types import Record
from kdsim.errors import TransportError, WorkloadError


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
        The longest silence of a process before it is taken for stalled and ended. A client that
        only waits for another is not silent, nor is one in a long round; a stopped or frozen
        process is.

    Returns
    -------
    Result
        With a departure for each process that did not reach the end.

    Raises
    ------
    DataError
        As for :func:`calibration.workloads.decentralized.run.run_decentralized`.
    WorkloadError
        If no client reached the end.
    TransportError
        If two clients lost each other though both lived on.
    """
    graph = exchange_graph(plan.graph, len(material.shares))
    check_material(material, plan)
    for index in range(graph.clients):
        client_of(material, plan, index)  # faults of the data are reported here, not by a process
    # Imports torch once for all clients, and for all later runs.
    context = fork_server([work.__module__])
    with tempfile.TemporaryDirectory(prefix="kdsim-clients-") as name:
        paths = _hand_out(material, Path(name))
        meeting = Path(name) / "meeting"
        workers: list[_Worker] = []
        try:
            for index in range(graph.clients):
                arguments = (paths[index], plan, graph, index, meeting, timeout_s)
                child = Child(
                    context, work, (*arguments, torch.get_num_threads()), f"kdsim-client-{index}"
                )
                workers.append(_Worker(index, child))
            _collect(workers, progress, timeout_s)
        finally:
            # A client that has finished waits for the end of its pipe.
            end_children([worker.child for worker in workers])
    return _result(workers)


@dataclass(slots=True)
class _Worker:
    """The parent's view of one client's process.

    Attributes
    ----------
    heard : bool
        Whether it has sent anything yet.
    silent_s : float
        Seconds since its last message during which this process was running and could read one.
    rounds, traffic
        What it has done so far.
    """

    index: int
    child: Child
    heard: bool = False
    silent_s: float = 0.0
    rounds: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    outcome: Record | None = None
    departure: Departure | None = None

    @property
    def finished(self) -> bool:
        return self.outcome is not None or self.departure is not None


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


def _collect(workers: list[_Worker], progress: Progress | None, timeout_s: float) -> None:
    """Read messages until every client has finished or failed; end those that fall silent."""
    patience, look_s = patience_s(timeout_s), min(1.0, timeout_s / 4)
    before = time.monotonic()
    while waiting := [w for w in workers if not w.finished]:
        ready = wait([w.child.pipe for w in waiting], timeout=look_s)
        now = time.monotonic()
        # A pause of this process, and perhaps of all, must not count as the clients' silence.
        passed, before = min(now - before, look_s), now
        for worker in waiting:
            if worker.child.pipe in ready:
                _read(worker)
                continue
            worker.silent_s += passed
            if worker.silent_s >= (timeout_s if worker.heard else patience):
                worker.child.process.kill()  # its sockets close with it, and its peers continue
                reason = f"silent for {worker.silent_s:.0f} s; its process was ended"
                worker.departure = Departure(worker.index, worker.rounds, reason)
        if progress is not None:
            progress(max(w.rounds for w in workers))


def _read(worker: _Worker) -> None:
    """Take in one message of a client, or its end."""
    worker.heard, worker.silent_s = True, 0.0
    try:
        message = worker.child.receive()
    except (EOFError, OSError):
        left = worker.child.exit_code() == LEFT
        reason = "left" if left else f"its process ended with {worker.child.how_it_ended()}"
        worker.departure = Departure(worker.index, worker.rounds, reason)
        return
    if "round" in message:
        worker.rounds = message["round"]
        worker.traffic += Traffic(**message["traffic"])
    elif "error" in message:
        worker.departure = Departure(worker.index, worker.rounds, message["error"])
    elif message:  # an empty one only says that the process lives
        worker.outcome = message


def _result(workers: list[_Worker]) -> Result:
    departures = tuple(w.departure for w in workers if w.departure is not None)
    there = [w.outcome for w in workers if w.outcome is not None]
    if not there:
        reasons = "; ".join(f"client {d.client}: {d.reason}" for d in departures)
        raise WorkloadError(f"no client reached the end ({reasons})")
    departed = {d.client for d in departures}
    for outcome in there:
        if apart := set(outcome["lost"]) - departed:
            raise TransportError(
                f"client {outcome['accuracy']['client']} lost its connection to client "
                f"{min(apart)}, though both continued; the result would not be that of one run"
            )
    return Result(
        accuracies=tuple(
            ClientAccuracy(**{k: _tuples(v) for k, v in o["accuracy"].items()}) for o in there
        ),
        costs=tuple(RoundCosts(**{k: _tuples(v) for k, v in o["costs"].items()}) for o in there),
        traffic=sum((w.traffic for w in workers), Traffic()),
        departures=departures,
    )


def _tuples(value: object) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
