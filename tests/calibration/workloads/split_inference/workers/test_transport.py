from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibration.workloads.split_inference.errors import WorkerError
from calibration.workloads.split_inference.planning.layers import Rows
from calibration.workloads.split_inference.planning.planner import Message
from calibration.workloads.split_inference.workers.transport import TcpExchange, connect_mesh
from calibration.workloads.split_inference.workers.wire import (
    Channel,
    ClosedError,
    LateError,
    deadline_in,
    listen,
    pack_tensors,
    unpack_tensors,
)

Pair = tuple[TcpExchange, TcpExchange]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        a = socket.create_connection(server.getsockname())
        b, _ = server.accept()
    (watch_a, master_a), (watch_b, master_b) = socket.socketpair(), socket.socketpair()
    ends = (
        TcpExchange({1: a}, watch_a, timeout_s=20),
        TcpExchange({0: b}, watch_b, timeout_s=20),
    )
    yield ends
    for end in ends:
        end.close()
    for sock in (watch_a, master_a, watch_b, master_b):
        sock.close()


def _message(source: int, values: int) -> Message:
    return Message(1, source, 1 - source, Rows(0, 1), values)


def test_halos_larger_than_every_socket_buffer_cross_without_a_deadlock(pair: Pair) -> None:
    values = 4_000_000  # 16 MB each way

    def swap(rank: int) -> torch.Tensor:
        exchange, rows = pair[rank], torch.full((values,), float(rank))
        got = torch.empty(values)
        exchange.begin(0, 20.0)
        exchange.send(rank, _message(rank, values), rows)
        exchange.recv(1 - rank, _message(1 - rank, values), got)
        exchange.end()
        return got

    with ThreadPoolExecutor(2) as threads:
        got = list(threads.map(swap, (0, 1)))
    assert torch.equal(got[0], torch.ones(values))
    assert torch.equal(got[1], torch.zeros(values))


def test_messages_may_be_received_in_another_order_than_they_were_sent(pair: Pair) -> None:
    for number in (5, 3):
        pair[0].send(number, _message(0, 4), torch.full((4,), float(number)))
    rows = torch.empty(4)
    for number in (3, 5):
        pair[1].recv(number, _message(0, 4), rows)
        assert torch.equal(rows, torch.full((4,), float(number)))


def test_rows_of_another_image_are_refused(pair: Pair) -> None:
    pair[0].begin(7, 1.0)
    pair[0].send(0, _message(0, 4), torch.zeros(4))
    pair[1].begin(8, 1.0)
    with pytest.raises(WorkerError, match="rows of image 7 while image 8"):
        pair[1].recv(0, _message(0, 4), torch.empty(4))


def test_rows_of_another_size_are_refused(pair: Pair) -> None:
    pair[0].send(0, _message(0, 5), torch.zeros(5))
    with pytest.raises(WorkerError, match="sent 20 bytes, expected 16"):
        pair[1].recv(0, _message(0, 4), torch.empty(4))


def test_a_silent_peer_ends_the_wait_at_the_timeout_and_a_gone_one_at_once(pair: Pair) -> None:
    pair[1].begin(0, 0.05)
    with pytest.raises(WorkerError, match=r"worker 0 sent or took no rows within 0\.05 s"):
        pair[1].recv(0, _message(0, 4), torch.empty(4))
    pair[0].close()
    with pytest.raises(WorkerError, match="worker 0 is lost: it closed its connection"):
        pair[1].recv(0, _message(0, 4), torch.empty(4))


def test_a_stranger_cannot_join_the_mesh() -> None:
    token = b"t" * 32
    with listen("127.0.0.1", 0, 4) as server:
        port = server.getsockname()[1]
        stranger = socket.create_connection(("127.0.0.1", port))
        stranger.sendall(struct.pack("<I32s", 1, b"x" * 32))
        with pytest.raises(WorkerError, match=r"could not connect to workers \[1\]"):
            connect_mesh(0, server, [port, 0], "127.0.0.1", token, deadline_in(0.3))
        stranger.close()


def test_frames_that_are_none_are_refused_and_waits_end() -> None:
    a, b = socket.socketpair()
    left, right = Channel(a), Channel(b)
    with pytest.raises(LateError):
        left.recv(deadline_in(0.02))
    right.send("hello", {"n": 1}, [b"abc"], deadline=deadline_in(1))
    frame = left.recv(deadline_in(1))
    assert (frame.kind, frame.meta, bytes(frame.payload)) == ("hello", {"n": 1}, b"abc")
    b.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with pytest.raises(WorkerError, match="does not speak the split protocol"):
        left.recv(deadline_in(1))
    right.close()
    left.close()
    with pytest.raises(ClosedError):
        left.send("late", deadline=deadline_in(1))


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.int64]),
    last=st.booleans(),
)
def test_tensors_survive_packing(shape: list[int], dtype: torch.dtype, last: bool) -> None:
    tensor = torch.arange(int(torch.tensor(shape).prod()), dtype=dtype)
    tensor = tensor.reshape(shape)
    if last and len(shape) == 4:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    meta, payload = pack_tensors({"w": tensor})
    back = unpack_tensors(json.loads(json.dumps(meta)), memoryview(b"".join(payload)))["w"]
    assert torch.equal(back, tensor)
    assert back.stride() == tensor.stride() or 1 in tensor.shape
