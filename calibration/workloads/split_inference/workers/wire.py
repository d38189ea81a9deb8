"""Frames between the master and a worker, and the low-level reading and writing of sockets.

A frame is a fixed header, a JSON description and raw bytes. Nothing that arrives is ever
executed or unpickled, every length is checked before memory is taken, and every wait ends at a
deadline.

The link's frames (``calibration.link.frames``) are others on purpose: they cross an untrusted
network, so that each has a checksum and a limit of 64 MiB, and their sockets block with a timeout;
these carry whole maps between processes of one user, on non-blocking sockets that a worker polls.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calibration.workloads.split_inference.errors import WorkerError
from kdsim._types import Record

_HEADER = struct.Struct("<4s8sIQ")  # magic, kind, bytes of JSON, bytes of payload
_MAGIC = b"KDS1"
_MAX_JSON = 64 * 2**20
_MAX_PAYLOAD = 64 * 2**30


class ClosedError(Exception):
    """The other end closed the connection."""


class LateError(Exception):
    """Nothing happened until the deadline."""


@dataclass(slots=True)
class Frame:
    """What arrived: its kind, its description, its raw bytes."""

    kind: str
    meta: Record
    payload: memoryview


class Channel:
    """One end of a connection that carries frames.

    Parameters
    ----------
    sock : socket
        Connected; becomes non-blocking and is owned by the channel.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock

    def send(
        self,
        kind: str,
        meta: Record | None = None,
        payload: Sequence[memoryview | bytes] = (),
        *,
        deadline: float,
    ) -> None:
        """Send one frame.

        Raises
        ------
        ClosedError, LateError
        """
        text = json.dumps(meta or {}, separators=(",", ":")).encode()
        total = sum(len(p) for p in payload)
        header = _HEADER.pack(_MAGIC, kind.encode(), len(text), total)
        send_all(self.sock, [header + text, *payload], deadline)

    def recv_header(self, deadline: float) -> tuple[str, Record, int]:
        """Receive kind, description and the length of the payload, which follows.

        Raises
        ------
        ClosedError, LateError
        WorkerError
            If what arrives is no frame.
        """
        head = bytearray(_HEADER.size)
        recv_exactly(self.sock, memoryview(head), deadline)
        magic, kind, meta_size, payload_size = _HEADER.unpack(head)
        if magic != _MAGIC or meta_size > _MAX_JSON or payload_size > _MAX_PAYLOAD:
            raise WorkerError(
                f"the peer does not speak the split protocol: frame starts with {bytes(head[:8])!r}"
            )
        text = bytearray(meta_size)
        recv_exactly(self.sock, memoryview(text), deadline)
        return kind.rstrip(b"\0").decode(), json.loads(text), payload_size

    def recv(self, deadline: float) -> Frame:
        """Receive one whole frame."""
        kind, meta, size = self.recv_header(deadline)
        payload = memoryview(bytearray(size))
        recv_exactly(self.sock, payload, deadline)
        return Frame(kind, meta, payload)

    def close(self) -> None:
        """Close the connection; closing twice does no harm."""
        self.sock.close()


def deadline_in(seconds: float) -> float:
    """Return the moment `seconds` from now, on the monotonic clock."""
    return time.monotonic() + seconds


def wait_for(sock: socket.socket, event: int, deadline: float) -> None:
    """Wait until a socket is ready; raise LateError at the deadline."""
    poller = select.poll()
    poller.register(sock, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poller.poll(left * 1e3):
        raise LateError


def send_all(sock: socket.socket, pieces: Sequence[memoryview | bytes], deadline: float) -> None:
    """Send all pieces on a non-blocking socket.

    Raises
    ------
    ClosedError, LateError
    """
    left = [memoryview(p) for p in pieces if len(p)]
    while left:
        try:
            sent = sock.sendmsg(left[:64])
        except BlockingIOError:
            wait_for(sock, select.POLLOUT, deadline)
            continue
        except (ConnectionError, OSError) as error:
            raise ClosedError from error
        while left and sent >= len(left[0]):
            sent -= len(left.pop(0))
        if sent:
            left[0] = left[0][sent:]


def recv_exactly(sock: socket.socket, into: memoryview, deadline: float) -> None:
    """Fill `into` from a non-blocking socket.

    Raises
    ------
    ClosedError, LateError
    """
    done = 0
    while done < len(into):
        try:
            n = sock.recv_into(into[done:])
        except BlockingIOError:
            wait_for(sock, select.POLLIN, deadline)
            continue
        except (ConnectionError, OSError) as error:
            raise ClosedError from error
        if n == 0:
            raise ClosedError
        done += n


def listen(host: str, port: int, backlog: int) -> socket.socket:
    """Open a listening socket.

    Raises
    ------
    WorkerError
        If the port is in use, reserved or out of range.
    """
    if not 0 <= port <= 65535:
        raise WorkerError(f"port must be 0 (any) to 65535, got {port}")
    try:
        return socket.create_server((host, port), backlog=backlog)
    except OSError as error:
        raise WorkerError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port, or 0 for any "
            "that is free"
        ) from error


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return the memory of a contiguous tensor as bytes, without a copy."""
    return tensor.numpy().data.cast("B") if tensor.numel() else memoryview(b"")


def pack_tensors(tensors: dict[str, Tensor]) -> tuple[Record, list[memoryview]]:
    """Describe tensors in JSON and give their bytes, in the same order."""
    meta, payload = {}, []
    for key, tensor in tensors.items():
        last = tensor.dim() == 4 and not tensor.is_contiguous()
        flat = tensor.permute(0, 2, 3, 1).contiguous() if last else tensor.contiguous()
        meta[key] = {
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "channels_last": last,
        }
        payload.append(tensor_bytes(flat.reshape(-1)))
    return meta, payload


def unpack_tensors(meta: Record, payload: memoryview) -> dict[str, Tensor]:
    """Rebuild what :func:`pack_tensors` described."""
    tensors, at = {}, 0
    for key, entry in meta.items():
        dtype = getattr(torch, entry["dtype"])
        shape = entry["shape"]
        count = int(np.prod(shape, dtype=np.int64))
        size = count * dtype.itemsize
        flat = torch.frombuffer(bytearray(payload[at : at + size]), dtype=dtype, count=count)
        if entry["channels_last"]:
            n, c, h, w = shape
            tensors[key] = flat.reshape(n, h, w, c).permute(0, 3, 1, 2)
        else:
            tensors[key] = flat.reshape(shape)
        at += size
    return tensors
