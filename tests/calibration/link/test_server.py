"""A server that cannot be made deaf: admission, deadlines, who may be served."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from pathlib import Path

import pytest

from calibration.link.frames import (
    FrameType,
    matrix_payload,
    payload_matrix,
    receive_frame,
    send_frame,
)
from calibration.link.server import KnowledgeServer
from calibration.link.stream import KnowledgeStream
from calibration.link.tls import Tls, is_proof, proof_of, read_token
from kdsim.errors import TransportError, WorkloadError

PEM = Path(__file__).parent / "tls"
TEACHER = Tls(str(PEM / "teacher.pem"), str(PEM / "teacher.key"))
EDGE = Tls(authority=str(PEM / "teacher.pem"))
TOKEN = b"sixteen bytes or more"


def source(kind, batch, chunk):
    import numpy as np

    return matrix_payload(np.full((1, 2), batch, dtype=np.float32)), None


def is_served(server, **options):
    with KnowledgeStream(server.address, timeout_s=5, **options) as stream:
        stream.request(3, 0)
        return bool((payload_matrix(stream.receive().payload) == 3).all())


def hangs_up(client):
    """Wait until the other end closes; an error in the test if it does not within its time."""
    client.settimeout(10)
    with contextlib.suppress(ConnectionError):
        while client.recv(4096):
            pass
    return True


# --- admission ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [None, TEACHER], ids=["plain", "tls"])
def test_connections_that_never_greet_cannot_shut_a_client_out(tls):
    edge = EDGE if tls else None
    with (
        KnowledgeServer(source, {}, tls=tls, timeout_s=60, max_clients=3) as server,
        contextlib.ExitStack() as stack,
    ):
        silent = [stack.enter_context(socket.create_connection(server.address)) for _ in range(9)]
        assert is_served(server, tls=edge)
        assert all(hangs_up(client) for client in silent[:6])


def test_a_client_that_was_welcomed_keeps_its_place_from_silent_ones():
    with (
        KnowledgeServer(source, {}, timeout_s=60, max_clients=2) as server,
        KnowledgeStream(server.address, timeout_s=5) as stream,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(6):
            stack.enter_context(socket.create_connection(server.address))
        stream.request(1, 0)
        assert (payload_matrix(stream.receive().payload) == 1).all()


def test_beyond_the_limit_a_newcomer_is_turned_away_and_admitted_later():
    with KnowledgeServer(source, {}, timeout_s=60, max_clients=1) as server:
        with KnowledgeStream(server.address, timeout_s=5):
            with socket.create_connection(server.address) as late:
                assert hangs_up(late)
            assert "not admitted, 1 clients are served" in server.refusals[-1]
        assert is_served(server, reconnect_s=10)


def test_a_server_without_descriptors_serves_again_when_there_are_some(monkeypatch):
    failures = iter([errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.ENOBUFS])
    accept = socket.socket.accept

    def scarce(listener):
        if (number := next(failures, None)) is not None:
            raise OSError(number, "scarce")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", scarce)
    with KnowledgeServer(source, {}) as server:
        assert is_served(server)
        assert [r for r in server.refusals if "cannot take a connection" in r]
    assert next(failures, None) is None


def test_a_server_without_threads_serves_again_when_there_are_some(monkeypatch):
    with KnowledgeServer(source, {}) as server:
        start, failures = threading.Thread.start, iter([True, True])

        def scarce(thread):
            if next(failures, False):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", scarce)
        assert is_served(server, reconnect_s=10)


# --- deadlines ------------------------------------------------------------------------------------


class Dripping:
    """A socket that hands out one byte per second of a clock, and never times out by itself."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.taken = 0
        monkeypatch.setattr("calibration.link.frames.time.monotonic", lambda: self.now)

    def settimeout(self, seconds):
        assert seconds > 0

    def recv_into(self, view):
        self.now += 1.0
        self.taken += 1
        view[0] = b"KDL1"[self.taken % 4]
        return 1

    def send(self, view):
        self.now += 1.0
        self.taken += 1
        return 1

    def getpeername(self):
        return ("drip", 1)


def test_a_frame_that_comes_byte_by_byte_is_not_waited_for_beyond_its_deadline(monkeypatch):
    drip = Dripping(monkeypatch)
    with pytest.raises(TransportError, match="no answer within the time limit"):
        receive_frame(drip, deadline=5.0)
    assert drip.taken == 5


def test_a_frame_that_has_begun_must_end_in_time_however_long_it_was_waited_for(monkeypatch):
    drip = Dripping(monkeypatch)
    with pytest.raises(TransportError, match="no answer within the time limit"):
        receive_frame(drip, idle_s=100.0, within_s=5.0)
    assert drip.taken == 6


def test_a_frame_that_is_taken_byte_by_byte_is_not_sent_beyond_its_deadline(monkeypatch):
    drip = Dripping(monkeypatch)
    with pytest.raises(TransportError, match="no answer within the time limit"):
        send_frame(drip, FrameType.KNOWLEDGE, b"payload", deadline=5.0)
    assert drip.taken == 5


@pytest.mark.parametrize("tls", [None, TEACHER], ids=["plain", "tls"])
def test_a_greeting_that_drips_in_has_one_deadline(tls):
    with (
        KnowledgeServer(source, {}, tls=tls, timeout_s=0.4) as server,
        socket.create_connection(server.address) as slow,
    ):
        slow.settimeout(0.1)
        sent = 0
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                sent += slow.send(b"\x16" if tls else b"K")
                try:
                    if not slow.recv(1):
                        break
                except TimeoutError:
                    continue
        assert sent < 24  # less than a header


# --- who is served ----------------------------------------------------------------------------


def test_whoever_knows_the_token_is_served_and_nobody_else():
    with KnowledgeServer(source, {}, token=TOKEN) as server:
        assert is_served(server, token=TOKEN)
        with pytest.raises(TransportError, match="does not know the teacher's token"):
            is_served(server, token=b"another token of enough bytes")
        with pytest.raises(TransportError, match=r"asks for a token and none was given"):
            is_served(server)
        assert is_served(server, token=TOKEN)


def test_a_token_is_no_hindrance_where_none_is_asked_for():
    with KnowledgeServer(source, {}) as server:
        assert is_served(server, token=TOKEN)


def test_a_proof_holds_for_its_challenge_alone_and_hides_the_token():
    first, second = proof_of(TOKEN, b"1" * 32), proof_of(TOKEN, b"2" * 32)
    assert first != second
    assert TOKEN not in first
    assert is_proof(TOKEN, b"1" * 32, first)
    assert not is_proof(TOKEN, b"2" * 32, first)


def test_a_recorded_greeting_opens_nothing():
    with KnowledgeServer(source, {}, token=TOKEN) as server:
        challenges = []
        for _ in range(2):
            with socket.create_connection(server.address, timeout=5) as thief:
                send_frame(thief, FrameType.HELLO)
                challenges.append(bytes(receive_frame(thief).payload))
                send_frame(thief, FrameType.PROOF, proof_of(TOKEN, challenges[0]))
                answer = receive_frame(thief).type
        assert challenges[0] != challenges[1]
        assert answer == FrameType.REFUSAL


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 5000])
def test_a_token_that_is_no_secret_is_refused(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(TransportError, match="a token has 16 to 4096 bytes"):
        read_token(path)
    path.write_bytes(TOKEN + b"\n")
    assert read_token(path) == TOKEN
    with pytest.raises(TransportError, match="cannot be read"):
        read_token(tmp_path / "absent")


def test_a_teacher_with_an_authority_serves_certified_edges_only():
    both = Tls(TEACHER.certificate, TEACHER.key, str(PEM / "teacher.pem"))
    stranger = Tls(str(PEM / "stranger.pem"), str(PEM / "stranger.key"), str(PEM / "teacher.pem"))
    with KnowledgeServer(source, {}, tls=both) as server:
        assert is_served(server, tls=both)
        for edge in (EDGE, stranger):
            with pytest.raises(TransportError):
                is_served(server, tls=edge)
        assert is_served(server, tls=both)


# --- what is asked for --------------------------------------------------------------------------


def test_a_fault_in_what_is_served_is_that_clients_alone():
    def select(study_request):
        return source if study_request["good"] else 1 / 0, {}

    with KnowledgeServer(source, {}, select=select) as server:
        with pytest.raises(TransportError):
            is_served(server, study_request={"good": False})
        assert "ZeroDivisionError" in server.refusals[-1]
        assert is_served(server, study_request={"good": True})


def test_what_a_study_refuses_is_said_to_the_client():
    def select(study_request):
        raise WorkloadError("not this one")

    with (
        KnowledgeServer(source, {}, select=select) as server,
        pytest.raises(TransportError, match="refuses: not this one"),
    ):
        is_served(server, study_request={"a": 1})
