"""Knowledge over TCP, the edge's end: one stream of requests and answers to a teacher.

The edge pulls: it asks for the chunks it lacks, so after a dropped connection it asks again and
nothing is lost or doubled. Every wait has a limit; TLS and authentication are optional.

What is not here: the frames themselves (``calibration.link.frames``), the teacher's end
(``calibration.link.server``), who asks for which batch and when (``calibration.bench``).
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any

from calibration.link.frames import (
    MAX_GREETING_BYTES,
    Frame,
    FrameType,
    Knowledge,
    json_object,
    peer_name,
    reason_of,
    receive_frame,
    send_frame,
    tune,
)
from calibration.link.tls import Tls, proof_of
from kdsim._types import Record, RecordView
from kdsim.errors import AddressError, TransportError

_FIRST_PAUSE_S = 0.05


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
    token : bytes, optional
        Shows a teacher that asks for it that this edge may be served; it does not travel.
    study_request : mapping, optional
        JSON values that say what this stream is for; nothing by default.

    Attributes
    ----------
    greeting : dict
        What the teacher said about itself.
    reconnects : int
        How often the stream was connected again.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        timeout_s: float = 20.0,
        reconnect_s: float = 0.0,
        tls: Tls | None = None,
        token: bytes | None = None,
        study_request: RecordView | None = None,
    ) -> None:
        self._token = token
        self._study_request = json.dumps(dict(study_request)).encode() if study_request else b""
        self._address, self._timeout_s, self._reconnect_s = address, timeout_s, reconnect_s
        self._context = tls.context(server=False) if tls else None
        self._buffer = bytearray()
        self._pending: list[tuple[int, int, int]] = []
        self._socket: socket.socket | None = None
        self._lost_at: float | None = None
        self.greeting: Record = {}
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

    def request(self, batch: int, chunk: int, kind: int = Knowledge.RESPONSE) -> None:
        """Ask for one chunk; answers come in the order of the requests.

        Raises
        ------
        TransportError
            If the teacher cannot be reached and does not return in time.
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
            If the teacher refuses, answers something else, or is lost and does not return.
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
        """Connect again and repeat every request that has no answer yet."""
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
                tune(sock)
                if self._context is not None:
                    sock = self._context.wrap_socket(sock, server_hostname=host)
                self.greeting = _greet(sock, self._study_request, self._token, self._timeout_s)
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


@dataclass(frozen=True, slots=True)
class RemoteTeacher:
    """A teacher on another machine, and how this edge identifies it and itself.

    Attributes
    ----------
    address : (str, int)
    """

    address: tuple[str, int]
    tls: Tls | None = None
    token: bytes | None = None

    def stream(self, **options: Any) -> KnowledgeStream:
        """Connect; options are those of `KnowledgeStream`."""
        return KnowledgeStream(self.address, tls=self.tls, token=self.token, **options)


class _RefusedError(TransportError):
    """The teacher is there and does not serve what is asked for."""


def _greet(
    sock: socket.socket, study_request: bytes, token: bytes | None, timeout_s: float
) -> Record:
    """Say what is wanted, prove who asks if asked to, and return the teacher's welcome."""
    deadline = time.monotonic() + timeout_s
    send_frame(sock, FrameType.HELLO, study_request, deadline=deadline)
    frame = receive_frame(sock, max_bytes=MAX_GREETING_BYTES, deadline=deadline)
    teacher = f"teacher {peer_name(sock).removeprefix('peer ')}"
    if frame.type == FrameType.CHALLENGE:
        if token is None:
            raise _RefusedError(f"{teacher} asks for a token and none was given (--token-file)")
        proof = proof_of(token, bytes(frame.payload))
        send_frame(sock, FrameType.PROOF, proof, deadline=deadline)
        frame = receive_frame(sock, max_bytes=MAX_GREETING_BYTES, deadline=deadline)
    if frame.type == FrameType.REFUSAL:
        reason = bytes(frame.payload).decode(errors="replace")
        raise _RefusedError(f"{teacher} refuses: {reason}")
    if frame.type != FrameType.WELCOME:
        raise TransportError(f"{peer_name(sock)}: expected a welcome, got {frame.type.name}")
    sock.settimeout(timeout_s)
    return json_object(sock, frame, "welcome")
