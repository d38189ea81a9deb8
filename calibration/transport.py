"""Logits over the wire: a framed, checksummed, length-limited protocol on TCP.

The edge pulls: a client asks for chunk k of batch i and gets exactly that, so after a dropped
connection it asks again for what it still lacks and nothing is lost or doubled. Nothing on the
wire is code: headers are fixed structs, the greeting is JSON, payloads are raw little-endian
floats. Servers bind loopback unless told otherwise; every wait has a limit; TLS is optional.

What is not here: who asks for which batch and when (``calibration.bench``), what the numbers
mean (``calibration.workloads``).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from kdsim.errors import TransportError

#: magic, type, knowledge kind, reserved, batch, chunk, payload length, CRC-32 of the payload
_HEADER = struct.Struct("<4sBBHIIII")
#: rows, columns of the matrix that follows, float32 little-endian
_SHAPE = struct.Struct("<II")
MAGIC = b"KDL1"
MAX_FRAME_BYTES = 64 * 2**20
_MAX_GREETING_BYTES = 64 * 2**10
_SOCKET_BUFFER = 2**20
_MAX_CLIENTS = 64


class FrameType(IntEnum):
    """What a frame carries."""

    HELLO = 1
    WELCOME = 2
    REQUEST = 3
    KNOWLEDGE = 4
    REFUSAL = 5


class Knowledge(IntEnum):
    """Which knowledge of the teacher a request asks for."""

    RESPONSE = 0
    FEATURE = 1
    RELATION = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as received; `payload` is a view of the receiver's buffer, valid until the next."""

    type: FrameType
    kind: int
    batch: int
    chunk: int
    payload: memoryview


# --- frames -----------------------------------------------------------------------------------


def send_frame(
    sock: socket.socket,
    frame_type: FrameType,
    payload: bytes | memoryview = b"",
    *,
    kind: int = 0,
    batch: int = 0,
    chunk: int = 0,
    crc: int | None = None,
) -> None:
    """Send one frame.

    Parameters
    ----------
    sock : socket
        A connected socket with a timeout.
    frame_type : FrameType
    payload : bytes-like
    kind, batch, chunk : int
        What the payload is, or what is asked for.
    crc : int, optional
        The payload's CRC-32 where it is known already (a bank of logits is summed once).

    Raises
    ------
    TransportError
        If the peer is gone or does not take the data in time.
    """
    size = len(payload)
    check = zlib.crc32(payload) if crc is None else crc
    head = _HEADER.pack(MAGIC, frame_type, kind, 0, batch, chunk, size, check)
    try:
        if size < 2**12:
            sock.sendall(head + bytes(payload))
        else:
            sock.sendall(head)
            sock.sendall(payload)
    except (OSError, ValueError) as error:
        raise TransportError(f"{_peer(sock)}: cannot send: {_reason(error)}") from error


def receive_frame(
    sock: socket.socket,
    buffer: bytearray | None = None,
    *,
    max_bytes: int = MAX_FRAME_BYTES,
) -> Frame:
    """Receive one frame and check it.

    Parameters
    ----------
    sock : socket
        A connected socket with a timeout.
    buffer : bytearray, optional
        Where the payload goes; grown when too small, made anew when not given.
    max_bytes : int
        Longest payload accepted. Checked before any memory is taken.

    Returns
    -------
    Frame

    Raises
    ------
    TransportError
        If the peer closed, stalled, or sent anything but a well-formed frame.
    """
    head = bytearray(_HEADER.size)
    _receive_exactly(sock, memoryview(head), "a frame header")
    magic, number, kind, reserved, batch, chunk, size, crc = _HEADER.unpack(head)
    if magic != MAGIC:
        raise TransportError(
            f"{_peer(sock)}: speaks another protocol: a frame begins with {MAGIC!r}, "
            f"got {bytes(head[:8])!r}"
        )
    if number not in FrameType.__members__.values() or reserved:
        raise TransportError(
            f"{_peer(sock)}: malformed frame header (type {number}, reserved {reserved})"
        )
    if size > max_bytes:
        raise TransportError(
            f"{_peer(sock)}: oversized frame: at most {max_bytes} bytes are taken, got {size}"
        )
    if buffer is None:
        buffer = bytearray(size)
    elif len(buffer) < size:
        buffer.extend(bytes(size - len(buffer)))
    view = memoryview(buffer)[:size]
    _receive_exactly(sock, view, f"batch {batch}, chunk {chunk}")
    if zlib.crc32(view) != crc:
        raise TransportError(
            f"{_peer(sock)}: corrupt frame: checksum of batch {batch}, chunk {chunk} is "
            f"{zlib.crc32(view):#010x}, the header says {crc:#010x}"
        )
    return Frame(FrameType(number), kind, batch, chunk, view)


def _receive_exactly(sock: socket.socket, view: memoryview, what: str) -> None:
    wanted, done = len(view), 0
    while done < wanted:
        try:
            got = sock.recv_into(view[done:])
        except (OSError, ValueError) as error:
            raise TransportError(
                f"{_peer(sock)}: lost while waiting for {what}: {_reason(error)}"
            ) from error
        if got == 0:
            raise TransportError(
                f"{_peer(sock)}: closed the connection while {what} was due "
                f"({done} of {wanted} bytes had come)"
            )
        done += got


def _peer(sock: socket.socket) -> str:
    try:
        host, port = sock.getpeername()[:2]
    except (OSError, ValueError):
        return "peer"
    return f"peer {host}:{port}"


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer within the time limit"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    return getattr(error, "strerror", None) or str(error)


def matrix_payload(matrix: np.ndarray) -> bytes:
    """Encode a (rows, columns) float matrix as a payload."""
    rows, columns = matrix.shape
    return _SHAPE.pack(rows, columns) + np.ascontiguousarray(matrix, dtype="<f4").tobytes()


def payload_matrix(payload: memoryview) -> np.ndarray:
    """Decode a payload into a (rows, columns) float32 view.

    Raises
    ------
    TransportError
        If the length and the shape disagree or a value is not finite.
    """
    if len(payload) < _SHAPE.size:
        raise TransportError(f"knowledge frame too short: {len(payload)} bytes hold no shape")
    rows, columns = _SHAPE.unpack_from(payload)
    if rows * columns * 4 != len(payload) - _SHAPE.size:
        raise TransportError(
            f"knowledge frame says {rows} x {columns} floats, but holds "
            f"{len(payload) - _SHAPE.size} bytes"
        )
    matrix = np.frombuffer(payload, dtype="<f4", offset=_SHAPE.size).reshape(rows, columns)
    # One pass: the sum is finite unless a value is not (or it overflows, which logits never do).
    if not np.isfinite(matrix.sum(dtype=np.float64)):
        raise TransportError("knowledge frame holds NaN or infinite values")
    return matrix


# --- TLS --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tls:
    """Where the TLS material lies.

    Attributes
    ----------
    certificate, key : str or None
        PEM files that this end shows; a server must have both.
    authority : str or None
        PEM file that this end trusts. A client must have it: the system's store is not asked. A
        server that has it asks clients for a certificate too.
    """

    certificate: str | None = None
    key: str | None = None
    authority: str | None = None

    def context(self, *, server: bool) -> ssl.SSLContext:
        """Build the context for one end.

        Raises
        ------
        TransportError
            If a file is missing or no PEM.
        """
        needed = (self.certificate and self.key) if server else self.authority
        if not needed:
            end = "server needs a certificate and a key" if server else "client needs an authority"
            raise TransportError(f"TLS: a {end}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key)
            if self.authority:
                context.load_verify_locations(self.authority)
                context.verify_mode = ssl.CERT_REQUIRED
        except OSError as error:  # ssl.SSLError is one
            files = ", ".join(filter(None, (self.certificate, self.key, self.authority)))
            raise TransportError(f"TLS: cannot load {files}: {_reason(error)}") from error
        return context


# --- server -------------------------------------------------------------------------------------

#: Given (kind, batch, chunk), returns payload and CRC-32, or None when there is no such chunk.
Source = Callable[[int, int, int], "tuple[bytes | memoryview, int | None] | None"]


class KnowledgeServer:
    """Serves a teacher's knowledge to any number of streams, each in its own thread.

    Parameters
    ----------
    source : Source
        What to send; called from several threads.
    greeting : dict
        JSON values told to every client on connecting.
    host, port : str, int
        Loopback and any free port by default.
    tls : Tls, optional
    timeout_s : float
        A client that starts a frame, or is sent one, and stalls this long is dropped. A client
        that is merely silent between requests is kept for `idle_s`.
    """

    def __init__(
        self,
        source: Source,
        greeting: dict[str, Any],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: Tls | None = None,
        timeout_s: float = 20.0,
        idle_s: float = 600.0,
    ) -> None:
        self._source = source
        self._greeting = json.dumps(greeting).encode()
        self._timeout_s, self._idle_s = timeout_s, idle_s
        self._context = tls.context(server=True) if tls else None
        self._closing = threading.Event()
        self._clients: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        try:
            self._listener = socket.create_server((host, port), backlog=_MAX_CLIENTS)
        except OSError as error:
            raise TransportError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        self._listener.settimeout(0.2)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        #: Why clients were dropped, newest last; for logs and tests.
        self.refusals: list[str] = []
        self._thread = threading.Thread(target=self._accept, name="teacher", daemon=True)
        self._thread.start()

    def __enter__(self) -> KnowledgeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and drop every client."""
        self._closing.set()
        self._thread.join(timeout=5.0)
        self._listener.close()
        with self._lock:
            clients = list(self._clients.values())
        for client in clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if len(self._clients) >= _MAX_CLIENTS:
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        key = id(client)
        try:
            client.settimeout(self._timeout_s)
            _tune(client)
            if self._context is not None:
                client = self._context.wrap_socket(client, server_side=True)
            with self._lock:
                self._clients[key] = client
            if receive_frame(client, max_bytes=_MAX_GREETING_BYTES).type != FrameType.HELLO:
                raise TransportError(f"{_peer(client)}: must begin with a greeting")
            send_frame(client, FrameType.WELCOME, self._greeting)
            while not self._closing.is_set():
                self._answer(client)
        except (TransportError, OSError) as error:
            if not self._closing.is_set():
                del self.refusals[:-50]
                self.refusals.append(str(error))
        finally:
            with self._lock:
                self._clients.pop(key, None)
            client.close()

    def _answer(self, client: socket.socket) -> None:
        client.settimeout(self._idle_s)
        frame = receive_frame(client, max_bytes=0)
        client.settimeout(self._timeout_s)
        if frame.type != FrameType.REQUEST:
            raise TransportError(f"{_peer(client)}: expected a request, got {frame.type.name}")
        found = self._source(frame.kind, frame.batch, frame.chunk)
        names = {"kind": frame.kind, "batch": frame.batch, "chunk": frame.chunk}
        if found is None:
            send_frame(client, FrameType.REFUSAL, b"no such chunk", **names)
            return
        payload, crc = found
        send_frame(client, FrameType.KNOWLEDGE, payload, crc=crc, **names)


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A peer that vanished without a word (half-open) is found out by the kernel as well.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)


# --- client -----------------------------------------------------------------------------------


def parse_address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``.

    Raises
    ------
    TransportError
        If the text has another form.

    Examples
    --------
    >>> parse_address("edge.local:7000")
    ('edge.local', 7000)
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise TransportError(f"a teacher's address must be HOST:PORT, got {text!r}")
    return host, int(port)


class KnowledgeStream:
    """One TCP stream from a teacher, with requests in flight; reconnects after a drop.

    Parameters
    ----------
    address : (str, int)
        The teacher's host and port.
    timeout_s : float
        Longest wait for any single answer.
    reconnect_s : float
        How long to keep trying after a drop before giving up; 0 tries once.
    tls : Tls, optional

    Attributes
    ----------
    greeting : dict
        What the teacher said about itself.
    reconnects : int
        How often the stream was taken up again.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        timeout_s: float = 20.0,
        reconnect_s: float = 0.0,
        tls: Tls | None = None,
    ) -> None:
        self._address, self._timeout_s, self._reconnect_s = address, timeout_s, reconnect_s
        self._context = tls.context(server=False) if tls else None
        self._buffer = bytearray()
        self._pending: list[tuple[int, int, int]] = []
        self._socket: socket.socket | None = None
        self.greeting: dict[str, Any] = {}
        self.reconnects = 0
        self._connect(reconnect_s)

    def __enter__(self) -> KnowledgeStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the stream; requests in flight are forgotten."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @property
    def in_flight(self) -> int:
        """Requests sent whose answers have not been taken."""
        return len(self._pending)

    def request(self, batch: int, chunk: int, kind: int = Knowledge.RESPONSE) -> None:
        """Ask for one chunk; answers come in the order of the requests.

        Raises
        ------
        TransportError
            If the teacher is gone and does not come back in time.
        """
        self._pending.append((kind, batch, chunk))
        try:
            self._send(self._pending[-1])
        except TransportError as error:
            self._resume(error)

    def receive(self) -> Frame:
        """Take the answer to the oldest request.

        Returns
        -------
        Frame
            Valid until the next call.

        Raises
        ------
        TransportError
            If the teacher refuses, answers something else, or is gone and does not come back.
        """
        if not self._pending:
            raise TransportError("no request is in flight")
        while True:
            kind, batch, chunk = self._pending[0]
            try:
                frame = receive_frame(self._connected(), self._buffer)
            except TransportError as error:
                self._resume(error)
                continue
            if frame.type == FrameType.REFUSAL:
                reason = bytes(frame.payload).decode(errors="replace")
                raise TransportError(
                    f"{_peer(self._connected())}: refused batch {batch}, chunk {chunk}: {reason}"
                )
            got = (frame.kind, frame.batch, frame.chunk)
            if frame.type != FrameType.KNOWLEDGE or got != (kind, batch, chunk):
                raise TransportError(
                    f"{_peer(self._connected())}: out of order: asked for batch {batch}, chunk "
                    f"{chunk}, got {frame.type.name} of batch {frame.batch}, chunk {frame.chunk}"
                )
            self._pending.pop(0)
            return frame

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise TransportError("the stream is closed")
        return self._socket

    def _send(self, request: tuple[int, int, int]) -> None:
        kind, batch, chunk = request
        send_frame(self._connected(), FrameType.REQUEST, kind=kind, batch=batch, chunk=chunk)

    def _resume(self, error: TransportError) -> None:
        """Take the stream up again and repeat every request that has no answer yet."""
        if self._socket is None or self._reconnect_s <= 0:
            raise error
        self.close()
        self._connect(self._reconnect_s)
        self.reconnects += 1
        for request in self._pending:
            self._send(request)

    def _connect(self, patience_s: float) -> None:
        host, port = self._address
        give_up = time.monotonic() + patience_s
        pause = 0.05
        while True:
            sock = None
            try:
                sock = socket.create_connection(self._address, timeout=self._timeout_s)
                _tune(sock)
                if self._context is not None:
                    sock = self._context.wrap_socket(sock, server_hostname=host)
                self.greeting = _greet(sock)
                self._socket = sock
                return
            except ssl.SSLCertVerificationError as error:
                _close(sock)
                raise TransportError(
                    f"teacher {host}:{port}: its certificate is not trusted: {error.verify_message}"
                ) from error
            except (OSError, TransportError) as error:
                _close(sock)
                if time.monotonic() + pause > give_up:
                    raise TransportError(
                        f"teacher {host}:{port}: cannot connect: {_reason(error)}"
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, 1.0)


def _close(sock: socket.socket | None) -> None:
    if sock is not None:
        sock.close()


def _greet(sock: socket.socket) -> dict[str, Any]:
    send_frame(sock, FrameType.HELLO)
    frame = receive_frame(sock, max_bytes=_MAX_GREETING_BYTES)
    if frame.type != FrameType.WELCOME:
        raise TransportError(f"{_peer(sock)}: expected a welcome, got {frame.type.name}")
    try:
        greeting = json.loads(bytes(frame.payload))
    except ValueError as error:
        raise TransportError(f"{_peer(sock)}: its welcome is not JSON") from error
    if not isinstance(greeting, dict):
        raise TransportError(f"{_peer(sock)}: its welcome must be a JSON object")
    return greeting


def readable_file(path: str | os.PathLike[str]) -> str:
    """Return `path` if a file is there.

    Raises
    ------
    TransportError
        If not; TLS libraries answer with errors that name no file.
    """
    if not Path(path).is_file():
        raise TransportError(f"TLS: no such file: {path}")
    return str(path)
