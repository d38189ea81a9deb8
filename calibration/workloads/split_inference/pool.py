"""The master's side of the workers: start, commands, answers, faults, end.

A :class:`WorkerPool` owns its processes: leaving its ``with`` block ends them, whatever state
they are in, and any fault closes the whole pool with an error that names the worker.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import calibration
from calibration.workloads.split_inference.errors import WorkerError
from calibration.workloads.split_inference.wire import (
    Channel,
    ClosedError,
    Frame,
    LateError,
    deadline_in,
    listen,
    recv_exactly,
)

#: glibc returns large blocks to the kernel at once and pays page faults for every feature map.
#: The fewer pages of half a map then fake a speed-up beyond the number of workers, so every
#: process, the baseline included, keeps its memory.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**26),
}


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Where a worker runs.

    Attributes
    ----------
    cores : tuple of int
        Cores it is pinned to; empty for no pinning.
    threads : int
        Compute threads.
    slowdown : float
        1 or more: makes every layer take this many times as long, to stand in for a slower
        device in a cluster of unequal ones.
    """

    cores: tuple[int, ...] = ()
    threads: int = 1
    slowdown: float = 1.0


def available_cores() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def one_core_each(workers: int) -> list[WorkerSpec]:
    """Return specs that pin each worker to a core of its own, as far as there are cores."""
    cores = available_cores()
    return [WorkerSpec((cores[i % len(cores)],)) for i in range(workers)]


@dataclass(slots=True)
class _Member:
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    channel: Channel | None = None
    halo_port: int = 0


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
        self._members: list[_Member] = []
        self._transports: set[str] = {"none"}
        self._reason: str | None = None
        self._jobs = 0
        cores = [c for spec in self.specs for c in spec.cores]
        alone = len(cores) == len(set(cores)) == len(self.specs)
        self._spin_s = (200e-6 if alone else 0.0) if spin_s is None else spin_s
        self._listener = listen(host, port, backlog=len(self.specs))
        try:
            for rank in range(len(self.specs)):
                self._members.append(self._spawn(rank, port + 1 + rank if port else 0))
            self._meet(deadline_in(start_timeout_s))
        except BaseException:
            self.close()
            raise

    # --- life ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        return [member.process.pid for member in self._members]

    def close(self, reason: str = "it was closed") -> None:
        """End every worker: first by asking, then by force. Closing twice does no harm."""
        if self._reason is None:
            self._reason = reason
        self._listener.close()
        for member in self._members:
            if member.channel is not None:
                with contextlib.suppress(ClosedError, LateError):
                    member.channel.send("stop", deadline=deadline_in(0.2))
                member.channel.close()
        asked = deadline_in(2.0)
        for member in self._members:
            with contextlib.suppress(subprocess.TimeoutExpired):
                member.process.wait(max(0.01, asked - time.monotonic()))
        for member in self._members:
            if member.process.poll() is None:
                member.process.kill()  # ends a stopped process too
            member.process.wait(10.0)
            member.log.close()
        self._members = []

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
        meta: dict[str, Any] = {"transport": transport, "world": len(self)}
        if transport == "gloo":
            with listen(self.host, 0, backlog=1) as free:
                meta["port"] = free.getsockname()[1]
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
        metas: Sequence[dict[str, Any]],
        payloads: Sequence[Sequence[memoryview | bytes]] | None = None,
        *,
        timeout_s: float | None = None,
        take: Callable[[int, dict[str, Any], int, Channel, float], None] | None = None,
    ) -> list[Frame | None]:
        """Send a command to the first workers and wait for all their answers.

        Parameters
        ----------
        kind : str
        metas : sequence of dict
            One for each worker asked.
        payloads : sequence of sequences of bytes, optional
        timeout_s : float, optional
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
            if not dead and _state(self._members[ranks[0]].process.pid) in "TR":
                break
        stopped = [r for r, m in enumerate(self._members) if _state(m.process.pid) == "T"]
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
        found = []
        for rank, member in enumerate(self._members):
            code = member.process.poll()
            if code is not None:
                how = f"exited with code {code}" if code >= 0 else f"was killed by {_name(-code)}"
                found.append((rank, how + _tail(member.log)))
        return found

    # --- start --------------------------------------------------------------------------------

    def _spawn(self, rank: int, halo_port: int) -> _Member:
        spec = self.specs[rank]
        threads = str(spec.threads)
        root = str(Path(calibration.__file__).parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | ALLOCATOR | {"PYTHONPATH": path}
        environment |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "calibration.workloads.split_inference.worker"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
        )
        settings = {
            "rank": rank,
            "host": self.host,
            "port": self._listener.getsockname()[1],
            "token": self._token,
            "halo_port": halo_port,
            "cores": list(spec.cores),
            "threads": spec.threads,
            "slowdown": spec.slowdown,
            "timeout_s": self.timeout_s,
            "spin_s": self._spin_s,
        }
        member = _Member(process, log)
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # found dead when it does not connect
                process.stdin.write(json.dumps(settings).encode() + b"\n")
                process.stdin.close()
        return member

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


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _state(pid: int) -> str:
    """Return the state letter of a process (T: stopped), or "?" where /proc does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "?"


def _tail(log: IO[bytes]) -> str:
    """Return the last line that a worker wrote, if any."""
    log.seek(0)
    lines = log.read()[-4000:].decode(errors="replace").strip().splitlines()
    return f" ({lines[-1][:300]})" if lines else ""
