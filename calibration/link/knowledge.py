"""Knowledge over TCP: a server that answers for a teacher, and streams that ask for an edge.

The edge pulls: a client asks for chunk k of batch i and gets exactly that, so after a dropped
connection it asks again for what it still lacks and nothing is lost or doubled. Servers bind
loopback unless told otherwise; every wait has a limit; TLS is optional.

What is not here: the frames themselves (``calibration.link.frames``), who asks for which batch and
when (``calibration.bench.bench``), what the numbers mean (``calibration.workloads``).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.link.frames import (
    Frame,
    FrameType,
    Knowledge,
    peer_name,
    reason_of,
    receive_frame,
    send_frame,
)
from kdsim.errors import AddressError, KdsimError, TransportError

_MAX_GREETING_BYTES = 64 * 2**10
_SOCKET_BUFFER = 2**20
_MAX_CLIENTS = 64
_FIRST_PAUSE_S = 0.05

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
            raise TransportError(f"TLS: cannot load {files}: {reason_of(error)}") from error
        return context


# --- server -------------------------------------------------------------------------------------

#: Given (kind, batch, chunk), returns payload and CRC-32, or None when there is no such chunk.
Source = Callable[[int, int, int], "tuple[bytes | memoryview, int | None] | None"]

#: Given what a client asks for when it connects, returns the source and the greeting meant for it;
#: refuses by raising a KdsimError.
Select = Callable[[dict[str, Any]], "tuple[Source, dict[str, Any]]"]


class KnowledgeServer:
    """Serves a teacher's knowledge to any number of streams, each in its own thread.

    Parameters
    ----------
    source : Source
        What to send; called from several threads.
    greeting : dict
        JSON values told to every client on connecting.
    select : Select, optional
        Serves clients that ask for something of their own; without it they are refused.
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
        select: Select | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: Tls | None = None,
        timeout_s: float = 20.0,
        idle_s: float = 600.0,
    ) -> None:
        self._common = source, greeting
        self._select = select
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
            source = self._welcome(client)
            while not self._closing.is_set():
                self._answer(client, source)
        except (TransportError, OSError) as error:
            if not self._closing.is_set():
                del self.refusals[:-50]
                self.refusals.append(str(error))
        finally:
            with self._lock:
                self._clients.pop(key, None)
            client.close()

    def _welcome(self, client: socket.socket) -> Source:
        hello = receive_frame(client, max_bytes=_MAX_GREETING_BYTES)
        if hello.type != FrameType.HELLO:
            raise TransportError(f"{peer_name(client)}: must begin with a greeting")
        wish = _json_object(client, hello, "greeting") if hello.payload else {}
        try:
            source, greeting = self._chosen(wish)
        except KdsimError as error:
            send_frame(client, FrameType.REFUSAL, str(error).encode()[:_MAX_GREETING_BYTES])
            raise TransportError(f"{peer_name(client)}: refused: {error}") from error
        send_frame(client, FrameType.WELCOME, json.dumps(greeting).encode())
        return source

    def _chosen(self, wish: dict[str, Any]) -> tuple[Source, dict[str, Any]]:
        if not wish:
            return self._common
        if self._select is None:
            raise TransportError("it serves one thing to all and knows no study")
        return self._select(wish)

    def _answer(self, client: socket.socket, source: Source) -> None:
        client.settimeout(self._idle_s)
        frame = receive_frame(client, max_bytes=0)
        client.settimeout(self._timeout_s)
        if frame.type != FrameType.REQUEST:
            raise TransportError(f"{peer_name(client)}: expected a request, got {frame.type.name}")
        found = source(frame.kind, frame.batch, frame.chunk)
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
    AddressError
        If the text has another form.

    Examples
    --------
    >>> parse_address("edge.local:7000")
    ('edge.local', 7000)
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise AddressError(f"a teacher's address must be HOST:PORT, got {text!r}")
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
    wish : mapping, optional
        JSON values that tell the teacher what this stream is for; nothing by default.

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
        wish: Mapping[str, Any] | None = None,
    ) -> None:
        self._wish = json.dumps(dict(wish)).encode() if wish else b""
        self._address, self._timeout_s, self._reconnect_s = address, timeout_s, reconnect_s
        self._context = tls.context(server=False) if tls else None
        self._buffer = bytearray()
        self._pending: list[tuple[int, int, int]] = []
        self._socket: socket.socket | None = None
        self._lost_at: float | None = None
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
                peer = peer_name(self._connected())
                raise TransportError(f"{peer}: refused batch {batch}, chunk {chunk}: {reason}")
            got = (frame.kind, frame.batch, frame.chunk)
            if frame.type != FrameType.KNOWLEDGE or got != (kind, batch, chunk):
                raise TransportError(
                    f"{peer_name(self._connected())}: out of order: asked for batch {batch}, chunk "
                    f"{chunk}, got {frame.type.name} of batch {frame.batch}, chunk {frame.chunk}"
                )
            self._pending.pop(0)
            self._lost_at = None
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
        # Counted from the first loss since the last answer: a teacher that takes connections and
        # drops them must not keep the stream busy for ever.
        now = time.monotonic()
        self._lost_at = now if self._lost_at is None else self._lost_at
        give_up = self._lost_at + self._reconnect_s
        while now <= give_up:
            self.close()
            self._connect(give_up - now)
            self.reconnects += 1
            try:
                for request in self._pending:
                    self._send(request)
            except TransportError as again:
                error = again
                time.sleep(_FIRST_PAUSE_S)
                now = time.monotonic()
            else:
                return
        raise error

    def _connect(self, patience_s: float) -> None:
        host, port = self._address
        give_up = time.monotonic() + patience_s
        pause = _FIRST_PAUSE_S
        while True:
            sock = None
            try:
                sock = socket.create_connection(self._address, timeout=self._timeout_s)
                _tune(sock)
                if self._context is not None:
                    sock = self._context.wrap_socket(sock, server_hostname=host)
                self.greeting = _greet(sock, self._wish)
                self._socket = sock
                return
            except ssl.SSLCertVerificationError as error:
                _close(sock)
                raise TransportError(
                    f"teacher {host}:{port}: its certificate is not trusted: {error.verify_message}"
                ) from error
            except _RefusedError:
                _close(sock)  # it will not say otherwise the next time
                raise
            except (OSError, TransportError) as error:
                _close(sock)
                if time.monotonic() + pause > give_up:
                    raise TransportError(
                        f"teacher {host}:{port}: cannot connect: {reason_of(error)}"
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, 1.0)


def _close(sock: socket.socket | None) -> None:
    if sock is not None:
        sock.close()


class _RefusedError(TransportError):
    """The teacher is there and does not serve what is asked for."""


def _greet(sock: socket.socket, wish: bytes) -> dict[str, Any]:
    send_frame(sock, FrameType.HELLO, wish)
    frame = receive_frame(sock, max_bytes=_MAX_GREETING_BYTES)
    if frame.type == FrameType.REFUSAL:
        reason = bytes(frame.payload).decode(errors="replace")
        raise _RefusedError(f"teacher {peer_name(sock).removeprefix('peer ')} refuses: {reason}")
    if frame.type != FrameType.WELCOME:
        raise TransportError(f"{peer_name(sock)}: expected a welcome, got {frame.type.name}")
    return _json_object(sock, frame, "welcome")


def _json_object(sock: socket.socket, frame: Frame, what: str) -> dict[str, Any]:
    try:
        found = json.loads(bytes(frame.payload))
    except (ValueError, RecursionError) as error:
        raise TransportError(f"{peer_name(sock)}: its {what} is not JSON") from error
    if not isinstance(found, dict):
        raise TransportError(f"{peer_name(sock)}: its {what} must be a JSON object")
    return found


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
