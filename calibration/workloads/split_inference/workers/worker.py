"""The worker process: waits for jobs and images, runs its part, answers with its rows.

Started by ``pool`` as ``python -m calibration.workloads.split_inference.workers.worker``; its
settings come as one JSON line on standard input, so that neither the token nor the ports show in
the process list. The worker ends when the master says so or its connection closes; it never
outlives it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration.workloads.split_inference.errors import PlanError, WorkerError
from calibration.workloads.split_inference.planning.kernels import whole_trunk
from calibration.workloads.split_inference.planning.program import Program
from calibration.workloads.split_inference.workers.runner import PartRunner, wire_order
from calibration.workloads.split_inference.workers.transport import (
    GlooExchange,
    NoExchange,
    TcpExchange,
    Transport,
    connect_mesh,
)
from calibration.workloads.split_inference.workers.wire import (
    Channel,
    ClosedError,
    LateError,
    deadline_in,
    listen,
    recv_exactly,
    tensor_bytes,
    unpack_tensors,
)
from kdsim._types import Record

_IDLE_S = 3600.0  # a wait for the next command; the master's death closes the connection earlier


class _Job:
    """One program with its weights, ready to run for any batch size."""

    def __init__(
        self, meta: Record, weights: dict[str, Tensor], exchange: Transport, slowdown: float
    ) -> None:
        self.slowdown = slowdown
        self.program = Program.from_json(meta["program"])
        self.whole = bool(meta["whole"])
        self.weights = weights
        self.exchange = exchange
        self.layout = torch.channels_last if meta["channels_last"] else torch.contiguous_format
        self.dtype: torch.dtype = getattr(torch, meta["dtype"])
        self._runners: dict[int, PartRunner] = {}

    def runner(self, batch: int) -> PartRunner:
        if batch not in self._runners:
            self._runners[batch] = PartRunner(
                self.program,
                self.weights,
                self.exchange,
                batch=batch,
                memory_format=self.layout,
                dtype=self.dtype,
                slowdown=self.slowdown,
            )
        return self._runners[batch]


class Worker:
    """Serves one master until it closes the connection.

    Parameters
    ----------
    settings : dict
        ``rank``, ``host``, ``port`` (of the master), ``token`` (hex), ``halo_port``,
        ``threads``, ``slowdown``, ``timeout_s``, ``spin_s``.
    """

    def __init__(self, settings: Record) -> None:
        self.rank: int = settings["rank"]
        self.host: str = settings["host"]
        self.token = bytes.fromhex(settings["token"])
        self.timeout_s: float = settings["timeout_s"]
        self.spin_s: float = settings["spin_s"]
        self.slowdown: float = settings["slowdown"]
        self.jobs: dict[int, _Job] = {}
        self.exchanges: dict[str, Transport] = {"none": NoExchange()}
        torch.set_num_threads(settings["threads"])
        address = (self.host, settings["port"])
        self.channel = Channel(socket.create_connection(address, timeout=self.timeout_s))
        self.listener: socket.socket | None = None
        hello: Record = {"rank": self.rank, "token": settings["token"], "pid": os.getpid()}
        try:
            self.listener = listen(self.host, settings["halo_port"], backlog=16)
            hello["halo_port"] = self.listener.getsockname()[1]
        except WorkerError as error:
            hello["error"] = str(error)
        self.channel.send("hello", hello, deadline=deadline_in(self.timeout_s))

    def serve(self) -> None:
        """Answer commands until the connection closes."""
        commands: dict[str, Callable[[Record, int], None]] = {
            "mesh": self._mesh,
            "job": self._job,
            "weights": self._weights,
            "forget": self._forget,
            "run": self._run,
            "stream": self._stream,
            "ping": self._ping,
        }
        while True:
            try:
                kind, meta, size = self.channel.recv_header(deadline_in(_IDLE_S))
            except LateError:
                continue
            if kind == "stop":
                return
            try:
                commands[kind](meta, size)
            except (WorkerError, PlanError, RuntimeError, ValueError) as error:
                self._answer("error", {"message": str(error), "rank": self.rank})

    def close(self) -> None:
        """Close every connection."""
        for exchange in self.exchanges.values():
            with contextlib.suppress(RuntimeError):  # gloo, when its peers have already ended
                exchange.close()
        if self.listener is not None:
            self.listener.close()
        self.channel.close()

    # --- commands -----------------------------------------------------------------------------

    def _mesh(self, meta: Record, size: int) -> None:
        if self.listener is None:
            raise WorkerError(f"worker {self.rank} has no port for halos")
        if meta["transport"] == "gloo":
            self.exchanges["gloo"] = GlooExchange(
                self.rank, meta["world"], meta["meeting"], timeout_s=self.timeout_s
            )
        else:
            peers = connect_mesh(
                self.rank,
                self.listener,
                meta["ports"],
                self.host,
                self.token,
                deadline_in(self.timeout_s),
            )
            self.exchanges["tcp"] = TcpExchange(
                peers, self.channel.sock, timeout_s=self.timeout_s, spin_s=self.spin_s
            )
        self._answer("ready", {})

    def _job(self, meta: Record, size: int) -> None:
        weights = unpack_tensors(meta["weights"], self._payload(size))
        self.jobs[meta["job"]] = _Job(
            meta, weights, self.exchanges[meta["exchange"]], self.slowdown
        )
        self._answer("ready", {})

    def _weights(self, meta: Record, size: int) -> None:
        weights = unpack_tensors(meta["weights"], self._payload(size))
        for key, tensor in self.jobs[meta["job"]].weights.items():
            tensor.copy_(weights[key])
        self._answer("ready", {})

    def _forget(self, meta: Record, size: int) -> None:
        self.jobs.pop(meta["job"], None)
        self._answer("ready", {})

    def _ping(self, meta: Record, size: int) -> None:
        """Exchange messages back and forth with the peer; rank 0 reports the round trips' times."""
        from calibration.workloads.split_inference.planning.layers import Rows
        from calibration.workloads.split_inference.planning.planner import Message

        peer, count, exchange = 1 - self.rank, meta["count"], self.exchanges[meta["transport"]]
        rows = torch.zeros(meta["values"])
        there = Message(0, self.rank, peer, Rows(0, 1), rows.numel())
        back = Message(0, peer, self.rank, Rows(0, 1), rows.numel())
        times = np.zeros(count, dtype=np.int64)
        for i in range(count):
            exchange.begin(i, self.timeout_s)
            start = time.perf_counter_ns()
            if self.rank == 0:
                exchange.send(0, there, rows)
                exchange.recv(0, back, rows)
            else:
                exchange.recv(0, back, rows)
                exchange.send(0, there, rows)
            exchange.end()
            times[i] = time.perf_counter_ns() - start
        self._answer("done", {}, [times.data.cast("B")])

    def _run(self, meta: Record, size: int) -> None:
        job, batch = self.jobs[meta["job"]], meta["batch"]
        runner = job.runner(batch)
        block = self._read_input(job, runner, deadline_in(meta["timeout_s"]))
        repeats = meta.get("repeats", 1)
        if job.whole:
            times, results = self._whole(job, block, repeats)
        else:
            times, results = self._part(job, runner, meta, repeats)
        self._answer("done", {"repeats": repeats}, [memoryview(times).cast("B"), *results])

    def _stream(self, meta: Record, size: int) -> None:
        """Run images one after the other; each result is sent as soon as it is ready."""
        job, seconds = self.jobs[meta["job"]], meta["timeout_s"]
        runner = job.runner(1)
        for k in range(meta["count"]):
            # The first worker waits for the master's images, the others for rows.
            self._read_input(job, runner, deadline_in(_IDLE_S))
            job.exchange.begin(meta["image"] + k, seconds)
            runner.run()
            job.exchange.end()
            if job.program.sinks:
                self._answer("image", {}, [_flat(block, job.layout) for block in runner.results()])
        self._answer("done", {})

    def _read_input(self, job: _Job, runner: PartRunner, deadline: float) -> Tensor:
        block = runner.input_block
        target = wire_order(block, job.layout)
        direct = target.is_contiguous()
        staging = target if direct else torch.empty(target.shape, dtype=job.dtype)
        recv_exactly(self.channel.sock, tensor_bytes(staging), deadline)
        if not direct:
            target.copy_(staging)
        return block

    def _part(
        self, job: _Job, runner: PartRunner, meta: Record, repeats: int
    ) -> tuple[Any, list[memoryview]]:
        times = []
        for repeat in range(repeats):
            job.exchange.begin(meta["image"] + repeat, meta["timeout_s"] * 0.8)
            runner.run()
            job.exchange.end()
            times.append(runner.times)
        return np.stack(times), [_flat(block, job.layout) for block in runner.results()]

    def _whole(self, job: _Job, x: Tensor, repeats: int) -> tuple[Any, list[memoryview]]:
        """Run the network's own calls, one after the other: the baseline."""
        layers, sinks = job.program.layers, [t for t, _ in job.program.sinks]
        x = x.clone(memory_format=job.layout)  # not a view into a padded buffer
        times = np.zeros((repeats, len(layers), 2), dtype=np.int64)
        for repeat in range(repeats):
            marks = times[repeat]
            outs = whole_trunk(layers, x, job.weights, sinks, marks)
        return times, [_flat(out, job.layout) for out in outs]

    # --- answers ------------------------------------------------------------------------------

    def _payload(self, size: int) -> memoryview:
        payload = memoryview(bytearray(size))
        recv_exactly(self.channel.sock, payload, deadline_in(self.timeout_s))
        return payload

    def _answer(self, kind: str, meta: Record, payload: list[memoryview] | None = None) -> None:
        self.channel.send(kind, meta, payload or (), deadline=deadline_in(self.timeout_s))


def _flat(block: Tensor, layout: torch.memory_format) -> memoryview:
    return tensor_bytes(wire_order(block, layout).contiguous())


def main() -> int:
    """Run a worker with the settings found on standard input."""
    # The terminal sends Ctrl-C to the whole group; the master decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = json.loads(sys.stdin.readline())
    if settings["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, settings["cores"])
    worker = Worker(settings)
    try:
        with torch.inference_mode():
            worker.serve()
    except (ClosedError, LateError):
        return 0  # the master has ended
    finally:
        worker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
