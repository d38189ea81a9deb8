"""How rows travel between workers: plain TCP sockets, or gloo as the measured alternative.

Both implement :class:`~calibration.workloads.split_inference.workers.runner.Exchange`: a send
returns at once, a receive waits to its deadline and then says who did not deliver what. Rows go as
they lie in memory; in channels-last layout no copy is made on either side.
"""

from __future__ import annotations

import hmac
import select
import socket
import struct
import time
from collections import deque
from datetime import timedelta
from typing import Any, Protocol

from torch import Tensor

from calibration.link.gloo_group import join_group
from calibration.workloads.split_inference.errors import WorkerError
from calibration.workloads.split_inference.planning.planner import Message
from calibration.workloads.split_inference.workers.runner import Exchange
from calibration.workloads.split_inference.workers.wire import (
    ClosedError,
    LateError,
    deadline_in,
    recv_exactly,
    send_all,
    tensor_bytes,
)

_ROWS = struct.Struct("<IIQ")  # image, message, bytes of rows
_HELLO = struct.Struct("<I32s")  # rank, token


class Transport(Exchange, Protocol):
    """An exchange as a worker uses it, image by image."""

    def begin(self, image: int, timeout_s: float) -> None:
        """Start an image."""

    def end(self) -> None:
        """Wait until everything sent has left, so that buffers may be written again."""

    def close(self) -> None:
        """Close the connections."""


class TcpExchange:
    """Rows over one TCP connection for each pair of workers.

    Parameters
    ----------
    peers : dict of int to socket
        Connected sockets by rank; owned by the exchange.
    watch : socket
        The connection to the master: when it closes during a wait, the wait ends.
    timeout_s : float
        Longest wait for one message.
    spin_s : float
        How long to poll without sleeping before a wait; waking up costs tens of microseconds,
        but spinning only pays while every worker has a core of its own.
    """

    def __init__(
        self,
        peers: dict[int, socket.socket],
        watch: socket.socket,
        *,
        timeout_s: float,
        spin_s: float = 0.0,
    ) -> None:
        for sock in peers.values():
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peers = peers
        self._watch = watch
        self._timeout_s = timeout_s
        self._spin_s = spin_s
        self._image = 0
        self._master_waits = False  # its next image lies in the socket already
        self._unsent: dict[int, deque[memoryview]] = {rank: deque() for rank in peers}
        self._early: dict[int, bytes] = {}
        self._header = memoryview(bytearray(_ROWS.size))
        self._views: dict[int, tuple[Tensor, memoryview]] = {}

    def begin(self, image: int, timeout_s: float) -> None:
        """Start an image and discard what is left of the one before."""
        self._image, self._timeout_s = image, timeout_s
        self._master_waits = False
        self._early.clear()

    def send(self, number: int, message: Message, rows: Tensor) -> None:
        """Pass rows to the socket; what it does not accept at once is sent during later waits."""
        data = self._bytes(number, rows)
        header = _ROWS.pack(self._image, number, len(data))
        queue = self._unsent[message.target]
        if queue:
            queue += [memoryview(header), memoryview(bytes(data))]
            return
        try:
            sent = self._peers[message.target].sendmsg([header, data])
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise _gone(message.target, "could not be sent its rows") from error
        if sent < len(header):
            queue.append(memoryview(header)[sent:])
            sent = len(header)
        if sent - len(header) < len(data):
            # A copy: the buffer may serve another feature map before this has left.
            queue.append(memoryview(bytes(data[sent - len(header) :])))

    def recv(self, number: int, message: Message, rows: Tensor) -> None:
        """Receive the rows of one message."""
        into, source = self._bytes(number, rows), message.source
        deadline = deadline_in(self._timeout_s)
        while True:
            if number in self._early:
                into[:] = self._early.pop(number)
                return
            self._fill(source, self._header, deadline)
            image, found, size = _ROWS.unpack(self._header)
            if image != self._image:
                raise WorkerError(
                    f"worker {source} sent rows of image {image} while image {self._image} is "
                    "being computed"
                )
            if found == number and size == len(into):
                self._fill(source, into, deadline)
                return
            if found == number or size > 2**34:
                raise WorkerError(f"worker {source} sent {size} bytes, expected {len(into)}")
            stash = bytearray(size)
            self._fill(source, memoryview(stash), deadline)
            self._early[found] = bytes(stash)

    def end(self) -> None:
        """Wait until everything sent has left, so that buffers may be written again."""
        deadline = deadline_in(self._timeout_s)
        while any(self._unsent.values()):
            self._wait(None, deadline)

    def close(self) -> None:
        """Close all connections."""
        for sock in self._peers.values():
            sock.close()

    def _bytes(self, number: int, rows: Tensor) -> memoryview:
        """Return the memory of `rows`; looked up, because making the view costs microseconds."""
        known = self._views.get(number)
        if known is None or known[0] is not rows:
            known = self._views[number] = rows, tensor_bytes(rows)
        return known[1]

    def _fill(self, source: int, into: memoryview, deadline: float) -> None:
        sock, done = self._peers[source], 0
        spin_until = time.monotonic() + self._spin_s
        while done < len(into):
            try:
                n = sock.recv_into(into[done:])
            except BlockingIOError:
                if time.monotonic() > spin_until:
                    self._wait(source, deadline)
                continue
            except OSError as error:
                raise _gone(source, "broke its connection") from error
            if n == 0:
                raise _gone(source, "closed its connection")
            done += n

    def _wait(self, source: int | None, deadline: float) -> None:
        """Sleep until rows come or queued rows can leave."""
        poller = select.poll()
        if source is not None:
            poller.register(self._peers[source], select.POLLIN)
        if not self._master_waits:
            poller.register(self._watch, select.POLLIN)
        for rank, queue in self._unsent.items():
            if queue:
                mask = select.POLLOUT | (select.POLLIN if rank == source else 0)
                poller.register(self._peers[rank], mask)
        left = deadline - time.monotonic()
        events = poller.poll(max(0.0, left) * 1e3)
        if not events:
            who = "a worker" if source is None else f"worker {source}"
            raise WorkerError(f"{who} sent or took no rows within {self._timeout_s:g} s")
        if any(fd == self._watch.fileno() for fd, _ in events):
            self._check_master()
        self._flush()

    def _check_master(self) -> None:
        """Distinguish a master that has ended from one that has already sent the next image."""
        try:
            gone = not self._watch.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            gone = True
        if gone:
            raise WorkerError("the master gave up on this image")
        self._master_waits = True

    def _flush(self) -> None:
        for rank, queue in self._unsent.items():
            while queue:
                try:
                    sent = self._peers[rank].send(queue[0])
                except BlockingIOError:
                    break
                except OSError as error:
                    raise _gone(rank, "could not be sent its rows") from error
                if sent < len(queue[0]):
                    queue[0] = queue[0][sent:]
                    break
                queue.popleft()


def _gone(rank: int, what: str) -> WorkerError:
    return WorkerError(f"worker {rank} is lost: it {what}")


def connect_mesh(
    rank: int, listener: socket.socket, ports: list[int], host: str, token: bytes, deadline: float
) -> dict[int, socket.socket]:
    """Connect every pair of workers once: the higher rank calls, the lower one answers.

    Raises
    ------
    WorkerError
        If a worker cannot be reached, or a stranger connects.
    """
    peers: dict[int, socket.socket] = {}
    try:
        for other in range(rank):
            sock = socket.create_connection((host, ports[other]), timeout=_left(deadline))
            sock.setblocking(False)
            send_all(sock, [_HELLO.pack(rank, token)], deadline)
            peers[other] = sock
        while len(peers) < len(ports) - 1:
            listener.settimeout(_left(deadline))
            sock, _ = listener.accept()
            sock.setblocking(False)
            hello = bytearray(_HELLO.size)
            recv_exactly(sock, memoryview(hello), deadline)
            other, shown = _HELLO.unpack(hello)
            if not hmac.compare_digest(shown, token) or other in peers or other >= len(ports):
                sock.close()
                continue
            peers[other] = sock
    except (OSError, LateError, ClosedError) as error:
        for sock in peers.values():
            sock.close()
        missing = sorted(set(range(len(ports))) - set(peers) - {rank})
        raise WorkerError(f"worker {rank} could not connect to workers {missing}") from error
    return peers


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


class GlooExchange:
    """Rows over ``torch.distributed``'s gloo backend, point to point.

    Parameters
    ----------
    meeting : str
        The file in which the workers meet, see `calibration.link.gloo_group`.
    """

    def __init__(self, rank: int, world: int, meeting: str, *, timeout_s: float) -> None:
        import torch.distributed as dist  # only who asks for gloo loads it

        try:
            join_group(meeting, rank, world, timeout_s)
        except (RuntimeError, ValueError) as error:
            raise WorkerError(
                f"worker {rank} could not join the gloo group: {_first(error)}"
            ) from error
        self._dist: Any = dist
        self._timeout_s = timeout_s
        self._pending: list[Any] = []

    def begin(self, image: int, timeout_s: float) -> None:
        """Start an image."""
        self._timeout_s = timeout_s

    def send(self, number: int, message: Message, rows: Tensor) -> None:
        """Start to send rows."""
        try:
            # A copy: gloo reads the rows later, when the buffer may serve another feature map.
            self._pending.append(self._dist.isend(rows.clone(), message.target, tag=number))
        except RuntimeError as error:
            raise _gone(message.target, f"could not be sent its rows ({_first(error)})") from error

    def recv(self, number: int, message: Message, rows: Tensor) -> None:
        """Receive the rows of one message."""
        self._finish(self._dist.irecv(rows, message.source, tag=number), message.source)

    def end(self) -> None:
        """Wait until everything sent has left."""
        for work in self._pending:
            self._finish(work, None)
        self._pending.clear()

    def close(self) -> None:
        """Leave the group."""
        self._dist.destroy_process_group()

    def _finish(self, work: Any, source: int | None) -> None:
        try:
            work.wait(timedelta(seconds=self._timeout_s))
        except RuntimeError as error:
            who = "a worker" if source is None else f"worker {source}"
            raise WorkerError(
                f"{who} sent or took no rows within {self._timeout_s:g} s (gloo: {_first(error)})"
            ) from error


def _first(error: Exception) -> str:
    return str(error).splitlines()[0][:200]


class NoExchange:
    """For programs without messages."""

    def begin(self, image: int, timeout_s: float) -> None:
        """Start an image."""

    def send(self, number: int, message: Message, rows: Tensor) -> None:
        """Refuse: such a program sends nothing."""
        raise WorkerError("a program without exchange tried to send rows")

    def recv(self, number: int, message: Message, rows: Tensor) -> None:
        """Refuse: such a program receives nothing."""
        raise WorkerError("a program without exchange tried to receive rows")

    def end(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """Nothing is open."""
