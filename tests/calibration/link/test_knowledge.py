from __future__ import annotations

import contextlib
import pickle
import socket
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.link.frames import (
    MAGIC,
    FrameType,
    matrix_payload,
    payload_matrix,
    receive_frame,
    send_frame,
)
from calibration.link.server import KnowledgeServer
from calibration.link.stream import KnowledgeStream, parse_address
from calibration.link.tls import Tls
from kdsim.errors import AddressError, TransportError

HEADER = struct.Struct("<4sBBHIIII")
PEM = Path(__file__).parent / "tls"


def logits(batch: int, chunk: int) -> np.ndarray:
    return np.arange(6, dtype=np.float32).reshape(2, 3) + 100 * batch + chunk


def source(kind, batch, chunk):
    if batch >= 5 or kind != 0:
        return None
    return matrix_payload(logits(batch, chunk)), None


@pytest.fixture
def server():
    with KnowledgeServer(source, {"columns": 3}, timeout_s=0.5) as running:
        yield running


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.settimeout(0.5)
    with ours, theirs:
        yield ours, theirs


def fake_teacher(behaviour):
    """Accept one connection after another and let `behaviour(sock, number)` handle each."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)

    def run():
        number = 0
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.settimeout(2)
                with client, contextlib.suppress(TransportError, OSError):
                    behaviour(client, number)
                number += 1

    threading.Thread(target=run, daemon=True).start()
    return listener


def welcome(client):
    receive_frame(client)
    send_frame(client, FrameType.WELCOME, b"{}")


# --- frames -----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    payload=st.binary(max_size=20_000),
    kind=st.integers(0, 255),
    batch=st.integers(0, 2**32 - 1),
    chunk=st.integers(0, 2**32 - 1),
)
def test_a_frame_arrives_as_it_was_sent(payload, kind, batch, chunk):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(2)
        theirs.settimeout(2)
        send_frame(ours, FrameType.KNOWLEDGE, payload, kind=kind, batch=batch, chunk=chunk)
        frame = receive_frame(theirs)
    assert (frame.kind, frame.batch, frame.chunk) == (kind, batch, chunk)
    assert bytes(frame.payload) == payload


def test_another_protocol_is_refused_by_name(pair):
    pair[0].sendall(b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n")
    with pytest.raises(TransportError, match="another protocol"):
        receive_frame(pair[1])


def test_an_oversized_frame_is_refused_before_any_memory_is_taken(pair):
    pair[0].sendall(HEADER.pack(MAGIC, 4, 0, 0, 0, 0, 2**32 - 1, 0))
    with pytest.raises(TransportError, match="oversized frame"):
        receive_frame(pair[1])


def test_a_flipped_bit_is_found(pair):
    payload = bytes(100)
    pair[0].sendall(HEADER.pack(MAGIC, 4, 0, 0, 1, 2, 100, zlib.crc32(payload) ^ 1) + payload)
    with pytest.raises(TransportError, match="corrupt frame: checksum of batch 1, chunk 2"):
        receive_frame(pair[1])


@pytest.mark.parametrize("number", [0, 8, 255])
def test_an_unknown_frame_type_is_refused(pair, number):
    pair[0].sendall(HEADER.pack(MAGIC, number, 0, 0, 0, 0, 0, 0))
    with pytest.raises(TransportError, match="malformed frame header"):
        receive_frame(pair[1])


def test_a_peer_that_stalls_or_leaves_in_mid_frame_is_an_error(pair):
    pair[0].sendall(HEADER.pack(MAGIC, 4, 0, 0, 7, 0, 100, 0) + bytes(40))
    with pytest.raises(TransportError, match="no answer within the time limit"):
        receive_frame(pair[1])
    pair[0].close()
    with pytest.raises(TransportError, match="closed the connection"):
        receive_frame(pair[1])


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_no_garbage_is_ever_taken_for_a_frame(garbage):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(0.5)
        ours.sendall(garbage)
        ours.close()
        with pytest.raises(TransportError):
            receive_frame(theirs)


def test_a_pickle_is_garbage_like_any_other(pair):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('unpickled')",))

    pair[0].sendall(pickle.dumps(Bomb()) + bytes(64))
    with pytest.raises(TransportError, match="another protocol"):
        receive_frame(pair[1])


def test_no_module_of_the_harness_unpickles():
    package = Path(__file__).parents[3] / "calibration"
    modules = [
        path
        for folder in ("link", "bench", "fit", "importing", "machine", "trace", "validation")
        for path in (package / folder).rglob("*.py")
    ]
    assert len(modules) > 20
    for path in modules:
        text = path.read_text()
        assert "pickle" not in text, path
        assert ".recv()" not in text, path


def test_matrices_survive_and_malformed_ones_do_not():
    matrix = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    payload = memoryview(matrix_payload(matrix))
    assert (payload_matrix(payload) == matrix).all()
    with pytest.raises(TransportError, match="hold no shape"):
        payload_matrix(payload[:4])
    with pytest.raises(TransportError, match="says 5 x 7 floats"):
        payload_matrix(payload[:-4])
    matrix[2, 3] = np.nan
    with pytest.raises(TransportError, match="NaN"):
        payload_matrix(memoryview(matrix_payload(matrix)))


# --- server and client ------------------------------------------------------------------------


def test_chunks_come_in_the_order_of_the_requests(server):
    with KnowledgeStream(server.address, timeout_s=2) as stream:
        assert stream.greeting == {"columns": 3}
        for batch, chunk in [(0, 0), (3, 1), (1, 9)]:
            stream.request(batch, chunk)
        for batch, chunk in [(0, 0), (3, 1), (1, 9)]:
            frame = stream.receive()
            assert (payload_matrix(frame.payload) == logits(batch, chunk)).all()


def test_a_chunk_that_does_not_exist_is_refused(server):
    with KnowledgeStream(server.address, timeout_s=2) as stream:
        stream.request(99, 0)
        with pytest.raises(TransportError, match="refused batch 99"):
            stream.receive()


def test_the_server_binds_loopback_unless_told_otherwise(server):
    assert server.address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x80\x04pickle?" * 20,
        b"GET / HTTP/1.1\r\n\r\n" + bytes(60),
        HEADER.pack(MAGIC, 1, 0, 0, 0, 0, 2**31, 0),
        HEADER.pack(MAGIC, 4, 0, 0, 0, 0, 0, 0),
        HEADER.pack(MAGIC, 1, 0, 0, 0, 0, 0, 0) + HEADER.pack(MAGIC, 4, 0, 0, 0, 0, 0, 0),
        HEADER.pack(MAGIC, 1, 0, 0, 0, 0, 0, 0) + HEADER.pack(MAGIC, 3, 0, 0, 0, 0, 9, 0),
        b"KD",  # and then silence: a half-open peer
    ],
)
def test_malformed_clients_are_dropped_and_others_served(server, rubbish):
    with socket.create_connection(server.address, timeout=5) as bad:
        bad.sendall(rubbish)
        with contextlib.suppress(ConnectionError):
            while bad.recv(4096):
                pass  # Until the server hangs up, which it must.
    assert len(server.refusals) == 1
    with KnowledgeStream(server.address, timeout_s=2) as stream:
        stream.request(1, 2)
        assert (payload_matrix(stream.receive().payload) == logits(1, 2)).all()


def test_a_stream_resumes_at_the_right_chunk_after_a_drop():
    def drops_every_third_answer(client, number):
        welcome(client)
        for _ in range(3):
            frame = receive_frame(client)
            payload = matrix_payload(logits(frame.batch, frame.chunk))
            if _ == 2:  # Cut in the middle of a frame.
                client.sendall(
                    HEADER.pack(MAGIC, 4, 0, 0, frame.batch, frame.chunk, len(payload), 0)
                    + payload[:9]
                )
                return
            send_frame(client, FrameType.KNOWLEDGE, payload, batch=frame.batch, chunk=frame.chunk)

    with (
        fake_teacher(drops_every_third_answer) as listener,
        KnowledgeStream(listener.getsockname()[:2], timeout_s=2, reconnect_s=5) as stream,
    ):
        got = []
        stream.request(0, 0)
        for chunk in range(7):
            stream.request(0, chunk + 1)  # One ahead, so that requests in flight are lost too.
            got.append(payload_matrix(stream.receive().payload).copy())
        for chunk, matrix in enumerate(got):
            assert (matrix == logits(0, chunk)).all()
        assert stream.reconnects >= 2


def drops(client, number):
    welcome(client)


def leaves(client, number):
    welcome(client)
    receive_frame(client)


def says_nothing(client, number):
    leaves(client, number)
    with contextlib.suppress(TimeoutError):
        client.recv(4096)


def answers_wrongly(client, number):
    leaves(client, number)
    send_frame(client, FrameType.KNOWLEDGE, matrix_payload(logits(0, 0)), batch=3)
    receive_frame(client)


@pytest.mark.parametrize(
    ("behaviour", "options", "said"),
    [
        (drops, {"timeout_s": 1, "reconnect_s": 0.3}, None),
        (leaves, {"timeout_s": 1, "reconnect_s": 0}, "closed the connection"),
        (says_nothing, {"timeout_s": 0.3}, "no answer within the time limit"),
        (answers_wrongly, {"timeout_s": 1}, "out of order"),
    ],
)
def test_a_teacher_that_fails_is_an_error_and_never_a_hang(behaviour, options, said):
    with (
        fake_teacher(behaviour) as listener,
        KnowledgeStream(listener.getsockname()[:2], **options) as stream,
    ):
        stream.request(0, 0)
        with pytest.raises(TransportError, match=said):
            stream.receive()


@pytest.mark.parametrize("greeting", [b"[1]", b"not json", b"\xff"])
def test_a_strange_welcome_is_refused(greeting):
    def greets(client, number):
        receive_frame(client)
        send_frame(client, FrameType.WELCOME, greeting)

    with fake_teacher(greets) as listener, pytest.raises(TransportError, match="welcome"):
        KnowledgeStream(listener.getsockname()[:2], timeout_s=1)


def test_nobody_listening_is_an_error_that_names_the_address():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(TransportError, match=f"127.0.0.1:{port}: cannot connect"):
        KnowledgeStream(("127.0.0.1", port), timeout_s=1)


def test_a_taken_port_is_an_error_that_names_it(server):
    with pytest.raises(TransportError, match="cannot listen"):
        KnowledgeServer(source, {}, port=server.address[1])


@pytest.mark.parametrize("text", ["host", "host:", ":7", "host:seven", "host:0", "host:70000"])
def test_an_address_must_be_host_and_port(text):
    with pytest.raises(AddressError, match="HOST:PORT") as caught:
        parse_address(text)
    assert caught.value.exit_code == 2


# --- TLS --------------------------------------------------------------------------------------


def tls(name: str) -> Tls:
    return Tls(certificate=str(PEM / f"{name}.pem"), key=str(PEM / f"{name}.key"))


def test_logits_travel_under_tls():
    with KnowledgeServer(source, {}, tls=tls("teacher")) as server:
        trusting = Tls(authority=str(PEM / "teacher.pem"))
        with KnowledgeStream(server.address, timeout_s=5, tls=trusting) as stream:
            stream.request(2, 1)
            assert (payload_matrix(stream.receive().payload) == logits(2, 1)).all()


def test_a_wrong_certificate_is_refused_at_once():
    with KnowledgeServer(source, {}, tls=tls("stranger")) as server:
        trusting = Tls(authority=str(PEM / "teacher.pem"))
        with pytest.raises(TransportError, match="certificate is not trusted"):
            KnowledgeStream(server.address, timeout_s=5, reconnect_s=30, tls=trusting)


def test_a_client_without_tls_gets_nothing_from_a_server_with_it():
    with (
        KnowledgeServer(source, {}, tls=tls("teacher"), timeout_s=0.5) as server,
        pytest.raises(TransportError),
    ):
        KnowledgeStream(server.address, timeout_s=2)


def test_tls_material_that_is_missing_or_no_pem_is_named(tmp_path):
    with pytest.raises(TransportError, match="needs a certificate and a key"):
        KnowledgeServer(source, {}, tls=Tls())
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with pytest.raises(TransportError, match=r"broken\.pem"):
        KnowledgeStream(("127.0.0.1", 1), tls=Tls(authority=str(broken)))
