"""Frames on the wire: fixed headers, checksums, length limits; nothing on it is code.

A frame is a 24-byte header (magic, type, kind, batch, chunk, length, CRC-32) and a payload: JSON in
a greeting, raw little-endian floats in a knowledge frame. Who listens and who asks is in
``calibration.link.server`` and ``calibration.link.stream``.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import time
import zlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from kdsim._types import Record
from kdsim.errors import TransportError

#: magic, type, knowledge kind, reserved, batch, chunk, payload length, CRC-32 of the payload
_HEADER = struct.Struct("<4sBBHIIII")
#: rows, columns of the matrix that follows, float32 little-endian
_SHAPE = struct.Struct("<II")
MAGIC = b"KDL1"
MAX_FRAME_BYTES = 64 * 2**20
MAX_GREETING_BYTES = 64 * 2**10
_SOCKET_BUFFER = 2**20


class FrameType(IntEnum):
    """What a frame carries."""

    HELLO = 1
    WELCOME = 2
    REQUEST = 3
    KNOWLEDGE = 4
    REFUSAL = 5
    CHALLENGE = 6
    PROOF = 7


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
    deadline: float | None = None,
) -> None:
    """Send one frame.

    Parameters
    ----------
    sock : socket
        A connected socket with a timeout.
    kind, batch, chunk : int
        What the payload is, or what is asked for.
    crc : int, optional
        The payload's CRC-32 where it is known already (a bank of logits is summed once).
    deadline : float, optional
        Instant of `time.monotonic` by which the whole frame must have been taken; the socket's
        own timeout bounds each piece only.

    Raises
    ------
    TransportError
        If the peer has closed or does not take the data in time.
    """
    size = len(payload)
    check = zlib.crc32(payload) if crc is None else crc
    head = _HEADER.pack(MAGIC, frame_type, kind, 0, batch, chunk, size, check)
    try:
        if size < 2**12:
            _send_all(sock, memoryview(head + bytes(payload)), deadline)
        else:
            _send_all(sock, memoryview(head), deadline)
            _send_all(sock, memoryview(payload), deadline)
    except (OSError, ValueError) as error:
        raise TransportError(f"{peer_name(sock)}: cannot send: {reason_of(error)}") from error


def receive_frame(
    sock: socket.socket,
    buffer: bytearray | None = None,
    *,
    max_bytes: int = MAX_FRAME_BYTES,
    deadline: float | None = None,
    idle_s: float | None = None,
    within_s: float | None = None,
) -> Frame:
    """Receive one frame and check it.

    Parameters
    ----------
    sock : socket
        A connected socket with a timeout.
    buffer : bytearray, optional
        Where the payload goes; enlarged when too small, created when not given.
    max_bytes : int
        Longest payload accepted. Checked before any memory is taken.
    deadline : float, optional
        Instant of `time.monotonic` by which the whole frame must have come; the socket's own
        timeout bounds the wait for each piece only, so a peer that sends a byte now and then
        would be waited for without end.
    idle_s, within_s : float, optional
        Instead of a deadline: seconds until the frame's first byte, and from it to the last.

    Raises
    ------
    TransportError
        If the peer closed, stalled, or sent anything but a well-formed frame.
    """
    head = memoryview(bytearray(_HEADER.size))
    begun = 0
    if idle_s is not None and within_s is not None:
        _receive_exactly(sock, head[:1], "a frame header", time.monotonic() + idle_s)
        begun, deadline = 1, time.monotonic() + within_s
    _receive_exactly(sock, head[begun:], "a frame header", deadline)
    magic, number, kind, reserved, batch, chunk, size, crc = _HEADER.unpack(head)
    if magic != MAGIC:
        raise TransportError(
            f"{peer_name(sock)}: speaks another protocol: a frame begins with {MAGIC!r}, "
            f"got {bytes(head[:8])!r}"
        )
    if number not in FrameType.__members__.values() or reserved:
        raise TransportError(
            f"{peer_name(sock)}: malformed frame header (type {number}, reserved {reserved})"
        )
    if size > max_bytes:
        raise TransportError(
            f"{peer_name(sock)}: oversized frame: at most {max_bytes} bytes are taken, got {size}"
        )
    if buffer is None:
        buffer = bytearray(size)
    elif len(buffer) < size:
        buffer.extend(bytes(size - len(buffer)))
    view = memoryview(buffer)[:size]
    _receive_exactly(sock, view, f"batch {batch}, chunk {chunk}", deadline)
    if zlib.crc32(view) != crc:
        raise TransportError(
            f"{peer_name(sock)}: corrupt frame: checksum of batch {batch}, chunk {chunk} is "
            f"{zlib.crc32(view):#010x}, the header says {crc:#010x}"
        )
    return Frame(FrameType(number), kind, batch, chunk, view)


def _send_all(sock: socket.socket, view: memoryview, deadline: float | None) -> None:
    if deadline is None:
        sock.sendall(view)
        return
    done = 0
    while done < len(view):
        sock.settimeout(_left(deadline))
        done += sock.send(view[done:])


def _left(deadline: float) -> float:
    """Return the seconds until a deadline; a TimeoutError when it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _receive_exactly(
    sock: socket.socket, view: memoryview, what: str, deadline: float | None
) -> None:
    wanted, done = len(view), 0
    while done < wanted:
        try:
            if deadline is not None:
                sock.settimeout(_left(deadline))
            got = sock.recv_into(view[done:])
        except (OSError, ValueError) as error:
            raise TransportError(
                f"{peer_name(sock)}: lost while waiting for {what}: {reason_of(error)}"
            ) from error
        if got == 0:
            raise TransportError(
                f"{peer_name(sock)}: closed the connection while {what} was due "
                f"({done} of {wanted} bytes had come)"
            )
        done += got


def tune(sock: socket.socket) -> None:
    """Set a connection up for small requests and large answers."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # The kernel, too, detects a peer that vanished without closing (half-open).
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)


def json_object(sock: socket.socket, frame: Frame, what: str) -> Record:
    """Read a frame's payload as a JSON object.

    Raises
    ------
    TransportError
        If it is anything else.
    """
    try:
        found = json.loads(bytes(frame.payload))
    except (ValueError, RecursionError) as error:
        raise TransportError(f"{peer_name(sock)}: its {what} is not JSON") from error
    if not isinstance(found, dict):
        raise TransportError(f"{peer_name(sock)}: its {what} must be a JSON object")
    return found


def peer_name(sock: socket.socket) -> str:
    """Name the other end of a socket for a message."""
    try:
        host, port = sock.getpeername()[:2]
    except (OSError, ValueError):
        return "peer"
    return f"peer {host}:{port}"


def reason_of(error: Exception) -> str:
    """Say in words why a socket failed."""
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
