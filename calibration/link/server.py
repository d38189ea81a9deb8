"""Knowledge over TCP, the teacher's end: a server that answers requests for chunks.

A client asks for chunk k of batch i and is sent exactly that. The server binds loopback unless
another address is given, admits a limited number of clients, and bounds every wait. A client that
has not greeted yet holds its place only until a newcomer needs it, so silent connections cannot
shut others out.

What is not here: the frames themselves (``calibration.link.frames``), the edge's end
(``calibration.link.stream``), what the numbers mean (``calibration.workloads``).
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from calibration.link.frames import (
    MAX_GREETING_BYTES,
    FrameType,
    json_object,
    peer_name,
    reason_of,
    receive_frame,
    send_frame,
    tune,
)
from calibration.link.tls import Tls, is_proof
from kdsim._types import Record
from kdsim.errors import KdsimError, TransportError

_MAX_CLIENTS = 64
_CHALLENGE_BYTES = 32
#: After a failed accept, e.g. for want of descriptors: time for clients to leave.
_PAUSE_S = 0.05
#: Reasons that are kept.
_MOST_REFUSALS = 50

#: Given (kind, batch, chunk), returns payload and CRC-32, or None when there is no such chunk.
Source = Callable[[int, int, int], "tuple[bytes | memoryview, int | None] | None"]

#: Given what a client asks for when it connects, returns the source and the greeting meant for it;
#: refuses by raising a KdsimError.
Select = Callable[[Record], "tuple[Source, Record]"]


@dataclass(eq=False, slots=True)
class _Client:
    """A connection: since when, and whether it has greeted and may stay."""

    sock: socket.socket
    since: float
    greeted: bool = False

    def hang_up(self) -> None:
        """Wake the thread that waits on this connection, whatever it waits for."""
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown, which would take the TLS state away from under that thread.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


class KnowledgeServer:
    """Serves a teacher's knowledge to any number of streams, each in its own thread.

    Parameters
    ----------
    source : Source
        What to send; called from several threads.
    greeting : dict
        JSON values sent to every client on connecting.
    select : Select, optional
        Serves clients that ask for something of their own; without it they are refused.
    host, port : str, int
        Loopback and any free port by default.
    tls : Tls, optional
        With an authority, clients must show a certificate of it.
    token : bytes, optional
        Clients must prove that they know it; it does not travel.
    timeout_s : float
        The TLS handshake and the greeting together may take this long, and so may each request
        from its first byte and each answer; a slower client is dropped.
    idle_s : float
        A client that asks for nothing this long is dropped.
    max_clients : int
        Connections at a time, those that have not greeted included.
    """

    def __init__(
        self,
        source: Source,
        greeting: Record,
        *,
        select: Select | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: Tls | None = None,
        token: bytes | None = None,
        timeout_s: float = 20.0,
        idle_s: float = 600.0,
        max_clients: int = _MAX_CLIENTS,
    ) -> None:
        self._common = source, greeting
        self._select, self._token = select, token
        self._timeout_s, self._idle_s, self._max_clients = timeout_s, idle_s, max_clients
        self._context = tls.context(server=True) if tls else None
        self._closing = threading.Event()
        self._clients: set[_Client] = set()
        self._lock = threading.Lock()
        try:
            self._listener = socket.create_server((host, port), backlog=max_clients)
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
            clients = list(self._clients)
        for client in clients:
            client.hang_up()

    # -- admission ------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                # No descriptor is free, or a caller hung up while it waited: not the service's end.
                self._note(f"cannot take a connection: {reason_of(error)}")
                self._closing.wait(_PAUSE_S)
                continue
            try:
                self._admit(sock)
            except (OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
                sock.close()
                self._note(f"cannot serve a connection: {error}")
                self._closing.wait(_PAUSE_S)

    def _admit(self, sock: socket.socket) -> None:
        """Give a connection a place and a thread; nothing here waits for the other end."""
        tune(sock)
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        client = _Client(sock, time.monotonic())
        if not self._take_place(client):
            self._note(f"{peer_name(sock)}: not admitted, {self._max_clients} clients are served")
            sock.close()
            return
        try:
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()
        except RuntimeError:
            self._forget(client)
            raise

    def _take_place(self, client: _Client) -> bool:
        """Count a client, in the place of the one that has kept silent longest if all are taken."""
        with self._lock:
            if len(self._clients) >= self._max_clients:
                silent = [other for other in self._clients if not other.greeted]
                if not silent:
                    return False
                oldest = min(silent, key=lambda other: other.since)
                self._clients.discard(oldest)
                oldest.hang_up()
            self._clients.add(client)
        return True

    def _forget(self, client: _Client) -> None:
        with self._lock:
            self._clients.discard(client)
        client.sock.close()

    def take_refusals(self) -> list[str]:
        """Return why clients were dropped since the last call, at most the newest fifty."""
        with self._lock:
            taken, self.refusals = self.refusals, []
        return taken

    def _note(self, reason: str) -> None:
        with self._lock:
            del self.refusals[: 1 - _MOST_REFUSALS]
            self.refusals.append(reason)

    # -- one client -----------------------------------------------------------------------------

    def _serve(self, client: _Client) -> None:
        try:
            source = self._welcome(client.sock)
            client.greeted = True
            while not self._closing.is_set():
                self._answer(client.sock, source)
        except (TransportError, OSError) as error:
            if not self._closing.is_set():
                self._note(str(error))
        except Exception as error:  # noqa: BLE001 - a fault in what is served is that client's alone
            self._note(f"{peer_name(client.sock)}: {type(error).__name__}: {error}")
        finally:
            self._forget(client)

    def _welcome(self, sock: socket.socket) -> Source:
        """Shake hands and greet, all of it by one deadline."""
        deadline = time.monotonic() + self._timeout_s
        if isinstance(sock, ssl.SSLSocket):
            sock.settimeout(self._timeout_s)  # bounds the handshake as a whole
            sock.do_handshake()
        hello = receive_frame(sock, max_bytes=MAX_GREETING_BYTES, deadline=deadline)
        if hello.type != FrameType.HELLO:
            raise TransportError(f"{peer_name(sock)}: must begin with a greeting")
        try:
            study_request = json_object(sock, hello, "greeting") if hello.payload else {}
            self._authenticate(sock, deadline)
            source, greeting = self._chosen(study_request)
        except KdsimError as error:
            reason = str(error).encode()[:MAX_GREETING_BYTES]
            send_frame(sock, FrameType.REFUSAL, reason, deadline=deadline)
            raise TransportError(f"{peer_name(sock)}: refused: {error}") from error
        # What the client asked for may have taken longer to build than a greeting may.
        answer_by = time.monotonic() + self._timeout_s
        send_frame(sock, FrameType.WELCOME, json.dumps(greeting).encode(), deadline=answer_by)
        return source

    def _authenticate(self, sock: socket.socket, deadline: float) -> None:
        if self._token is None:
            return
        challenge = secrets.token_bytes(_CHALLENGE_BYTES)
        send_frame(sock, FrameType.CHALLENGE, challenge, deadline=deadline)
        frame = receive_frame(sock, max_bytes=MAX_GREETING_BYTES, deadline=deadline)
        given = bytes(frame.payload)
        if frame.type != FrameType.PROOF or not is_proof(self._token, challenge, given):
            raise TransportError("the client does not know the teacher's token")

    def _chosen(self, study_request: Record) -> tuple[Source, Record]:
        if not study_request:
            return self._common
        if self._select is None:
            raise TransportError("it serves the same to every client and knows no study")
        return self._select(study_request)

    def _answer(self, sock: socket.socket, source: Source) -> None:
        frame = receive_frame(sock, max_bytes=0, idle_s=self._idle_s, within_s=self._timeout_s)
        if frame.type != FrameType.REQUEST:
            raise TransportError(f"{peer_name(sock)}: expected a request, got {frame.type.name}")
        found = source(frame.kind, frame.batch, frame.chunk)
        names = {"kind": frame.kind, "batch": frame.batch, "chunk": frame.chunk}
        deadline = time.monotonic() + self._timeout_s
        if found is None:
            send_frame(sock, FrameType.REFUSAL, b"no such chunk", deadline=deadline, **names)
            return
        payload, crc = found
        send_frame(sock, FrameType.KNOWLEDGE, payload, crc=crc, deadline=deadline, **names)
