"""The master's side of the workers: start, commands, answers, faults, end.

A :class:`WorkerPool` owns its processes: leaving its ``with`` block ends them, whatever state
they are in, and any fault closes the whole pool with an error that names the worker.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import select
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from calibration.workloads.split_inference.errors import WorkerError
from calibration.workloads.split_inference.workers.wire import (
    Channel,
    ClosedError,
    Frame,
    LateError,
    deadline_in,
    listen,
    recv_exactly,
)
from calibration.workloads.split_inference.workers.worker_process import WorkerProcess, WorkerSpec
from kdsim._types import Record


class WorkerPool:
    """Worker processes that run the parts of plans.

    Parameters
    ----------
    specs : sequence of WorkerSpec
        One for each worker.
    host : str
        Address to listen on; loopback by default.
    port : int
        The master's port, the workers' ports follow it; 0 for any that are free.
    timeout_s : float
        Longest wait for an answer.
    start_timeout_s : float
        Longest wait for the workers to come up.
    spin_s : float or None
        How long a worker polls before it sleeps; None: 200 us when each has its own core, else 0.

    Raises
    ------
    WorkerError
        If a port is in use, or a worker does not start in time.
    """

    def __init__(
        self,
        specs: Sequence[WorkerSpec],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        timeout_s: float = 30.0,
        start_timeout_s: float = 120.0,
        spin_s: float | None = None,
    ) -> None:
        if timeout_s <= 0 or start_timeout_s <= 0:
            raise WorkerError(f"timeouts must be positive, got {timeout_s}, {start_timeout_s}")
        self.specs = tuple(specs)
        self.host, self.timeout_s = host, timeout_s
        self._token = secrets.token_hex(32)
        self._members: list[WorkerProcess] = []
        self._transports: set[str] = {"none"}
        self._reason: str | None = None
        self._jobs = 0
        self._meeting: tempfile.TemporaryDirectory[str] | None = None
        cores = [c for spec in self.specs for c in spec.cores]
        alone = len(cores) == len(set(cores)) == len(self.specs)
        self._spin_s = (200e-6 if alone else 0.0) if spin_s is None else spin_s
        self._listener = listen(host, port, backlog=len(self.specs))
        try:
            for rank in range(len(self.specs)):
                self._members.append(self._start(rank, port + 1 + rank if port else 0))
            self._meet(deadline_in(start_timeout_s))
        except BaseException:
            self.close()
            raise

    # --- life ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.specs)

    @property
    def closed(self) -> bool:
        """Whether the workers have been ended."""
        return self._reason is not None

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [member.pid for member in self._members]

    def close(self, reason: str = "it was closed") -> None:
        """End every worker: first by asking, then by force. Closing twice does no harm."""
        if self._reason is None:
            self._reason = reason
        self._listener.close()
        for member in self._members:
            member.dismiss()
        asked = deadline_in(2.0)
        for member in self._members:
            member.end(asked)
        self._members = []
        if self._meeting is not None:
            self._meeting.cleanup()

    # --- commands -----------------------------------------------------------------------------

    def connect(self, transport: str) -> None:
        """Connect the workers with each other by a transport, once.

        Raises
        ------
        WorkerError
            If the name is unknown or the workers cannot reach each other.
        """
        if transport in self._transports or len(self) == 1:
            return
        if transport not in ("tcp", "gloo"):
            raise WorkerError(f"transport must be tcp or gloo, got {transport!r}")
        meta: Record = {"transport": transport, "world": len(self)}
        if transport == "gloo":
            self._meeting = tempfile.TemporaryDirectory(prefix="kdsim-split-")
            meta["meeting"] = str(Path(self._meeting.name) / "meeting")
        else:
            meta["ports"] = [member.halo_port for member in self._members]
        self.ask("mesh", [meta] * len(self))
        self._transports.add(transport)

    def new_job(self) -> int:
        """Return a number for a new job."""
        self._jobs += 1
        return self._jobs

    def ask(
        self,
        kind: str,
        metas: Sequence[Record],
        payloads: Sequence[Sequence[memoryview | bytes]] | None = None,
        *,
        timeout_s: float | None = None,
        take: Callable[[int, Record, int, Channel, float], None] | None = None,
    ) -> list[Frame | None]:
        """Send a command to the first workers and wait for all their answers.

        Parameters
        ----------
        metas : sequence of dict
            One for each worker asked.
        take : callable, optional
            Reads an answer's payload itself: ``take(rank, meta, size, channel, deadline)``.

        Returns
        -------
        list of Frame
            None where `take` has read the answer.

        Raises
        ------
        WorkerError
            If a worker reports an error, dies or does not answer; the pool is closed.
        """
        if self._reason is not None:
            raise WorkerError(f"the workers have ended: {self._reason}")
        seconds = self.timeout_s if timeout_s is None else timeout_s
        deadline = deadline_in(seconds)
        waiting: dict[int, int] = {}
        for rank, meta in enumerate(metas):
            channel = self.channel(rank)
            try:
                channel.send(kind, meta, payloads[rank] if payloads else (), deadline=deadline)
            except (ClosedError, LateError) as error:
                raise self.fail([rank], seconds) from error
            waiting[channel.sock.fileno()] = rank
        answers: list[Frame | None] = [None] * len(metas)
        poller = select.poll()
        for fd in waiting:
            poller.register(fd, select.POLLIN)
        while waiting:
            events = poller.poll(max(0.0, deadline - time.monotonic()) * 1e3)
            if not events:
                raise self.fail(list(waiting.values()), seconds)
            for fd, _ in events:
                rank = waiting[fd]
                answers[rank] = self._answer(rank, deadline, seconds, take)
                poller.unregister(fd)
                del waiting[fd]
        return answers

    def _answer(self, rank: int, deadline: float, seconds: float, take: Any) -> Frame | None:
        channel = self.channel(rank)
        try:
            kind, meta, size = channel.recv_header(deadline)
            if kind == "error":
                raise self.fail([rank], seconds, meta["message"])
            if take is not None:
                take(rank, meta, size, channel, deadline)
                return None
            payload = memoryview(bytearray(size))
            recv_exactly(channel.sock, payload, deadline)
            return Frame(kind, meta, payload)
        except (ClosedError, LateError) as error:
            raise self.fail([rank], seconds) from error

    def channel(self, rank: int) -> Channel:
        """Return the connection to a worker."""
        channel = self._members[rank].channel
        if channel is None:
            raise WorkerError(f"worker {rank} never connected")
        return channel

    # --- faults -------------------------------------------------------------------------------

    def fail(self, ranks: Sequence[int], seconds: float, message: str = "") -> WorkerError:
        """Find out what happened, end all workers, return the error to raise."""
        # A killed process closes its sockets a moment before it can be reaped.
        grace = deadline_in(0.5)
        dead = self._dead()
        while not dead and not message and time.monotonic() < grace:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._members[ranks[0]].process.wait(0.02)
            dead = self._dead()
            if not dead and self._members[ranks[0]].state in "TR":
                break
        stopped = [r for r, m in enumerate(self._members) if m.state == "T"]
        if dead:
            rank, how = dead[0]
            text = f"worker {rank} (process {self.pids[rank]}) {how}"
        elif stopped:
            rank = stopped[0]
            text = (
                f"worker {rank} (process {self.pids[rank]}) is stopped and gave no answer within "
                f"{seconds:g} s"
            )
        elif message:
            text = message
        else:
            who = ", ".join(f"{r} (process {self.pids[r]})" for r in ranks)
            text = f"worker {who} gave no answer within {seconds:g} s"
        if message and text != message:
            text += f"; worker {ranks[0]} reports: {message}"
        self.close(text)
        return WorkerError(text)

    def _dead(self) -> list[tuple[int, str]]:
        fates = [(rank, member.fate()) for rank, member in enumerate(self._members)]
        return [(rank, how) for rank, how in fates if how is not None]

    # --- start --------------------------------------------------------------------------------

    def _start(self, rank: int, halo_port: int) -> WorkerProcess:
        settings = {
            "rank": rank,
            "host": self.host,
            "port": self._listener.getsockname()[1],
            "token": self._token,
            "halo_port": halo_port,
            "timeout_s": self.timeout_s,
            "spin_s": self._spin_s,
        }
        return WorkerProcess.start(self.specs[rank], settings)

    def _meet(self, deadline: float) -> None:
        """Accept every worker's connection; strangers without the token are turned away."""
        self._listener.settimeout(0.1)
        while any(member.channel is None for member in self._members):
            late = time.monotonic() > deadline
            dead = self._dead()
            if dead or late:
                rank, how = dead[0] if dead else (self._absent(), "did not connect in time")
                raise WorkerError(f"worker {rank} could not be started: it {how}")
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            self._greet(Channel(sock))

    def _absent(self) -> int:
        return next(r for r, member in enumerate(self._members) if member.channel is None)

    def _greet(self, channel: Channel) -> None:
        try:
            hello = channel.recv(deadline_in(5.0))
        except (ClosedError, LateError, WorkerError, ValueError):
            channel.close()
            return
        if not hmac.compare_digest(str(hello.meta.get("token", "")), self._token):
            channel.close()
            return
        if "error" in hello.meta:
            channel.close()
            raise WorkerError(f"worker {hello.meta['rank']}: {hello.meta['error']}")
        member = self._members[hello.meta["rank"]]
        member.channel, member.halo_port = channel, hello.meta["halo_port"]
