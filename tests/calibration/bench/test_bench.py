"""The test bench: its tasks, its splits, and what becomes of its processes."""

from __future__ import annotations

import multiprocessing
import threading
import time

import numpy as np
import pytest

from calibration.bench import measure
from calibration.bench import processes as bench_processes
from calibration.bench.bench import Bench, BenchSettings
from calibration.bench.start import Teacher, TeacherProcess
from calibration.bench.student import logit_bank
from calibration.link.frames import payload_matrix
from calibration.link.server import KnowledgeServer
from calibration.machine.cores import take_cores
from kdsim.errors import TransportError, WorkloadError

TINY = {"batch": 8, "channels": [2, 4], "classes": 100}
#: A guard of 1 accepts trials on a busy machine: these tests check the path, not the times.
FAST = measure.CollectSettings(
    rounds=1, extra_rounds=0, window_s=0.05, batches=(1, 2), mb=(0.256,), guard=1.0,
    patience_s=0.0, device="test",
)  # fmt: skip


@pytest.fixture(scope="module")
def teacher():
    with TeacherProcess(spec={"chunks": 2, "chunk_rows": 64}) as running:
        yield running


def bench_settings(**changes):
    return BenchSettings(
        cores=take_cores(None), student_spec=TINY, capacity_mb=1.0,
        **{"timeout_s": 30.0, "reconnect_s": 0.5, **changes},
    )  # fmt: skip


def test_workers_leave_softened_logits_in_memory_in_the_right_place(teacher):
    with Bench(bench_settings(temperature=2.0), teacher) as bench:
        total = bench.total_cores
        bench.set_split(total)
        bench.start_comm(3.4 * teacher.chunk_mb)
        event = bench.next_event()
        assert event.task == "comm"
        assert event.work == pytest.approx(3 * teacher.chunk_mb)
        rows = bench._shared.rows()
        source, _ = logit_bank({"chunks": 2, "chunk_rows": 64})
        for chunk in range(3):
            sent = payload_matrix(memoryview(source(0, 0, chunk)[0])).astype(np.float64)
            expected = np.exp(sent / 2.0 - (sent / 2.0).max(axis=1, keepdims=True))
            expected /= expected.sum(axis=1, keepdims=True)
            np.testing.assert_allclose(rows[64 * chunk : 64 * (chunk + 1)], expected, atol=1e-6)


def test_a_cycle_runs_and_progress_is_counted(teacher):
    with Bench(bench_settings(), teacher) as bench:
        bench.set_split(0)
        assert bench.comm_progress() == bench.comp_progress() == 0.0
        bench.start_forward(2)
        assert bench.next_event().task == "forward"
        bench.start_comm(teacher.chunk_mb)
        assert bench.next_event(0.05) is None  # no core for communication: nothing comes
        bench.set_split(1)
        assert bench.next_event().task == "comm"
        bench.set_split(0)
        bench.start_backward(2)
        event = bench.next_event()
        assert (event.task, event.work) == ("backward", 2.0)
        bench.start_forward(1)
        with pytest.raises(WorkloadError, match="busy with a forward"):
            bench.start_forward(1)


def test_a_comm_begins_before_it_is_granted(teacher):
    with Bench(bench_settings(), teacher) as bench:
        bench.set_split(0)
        lock, granted = bench._shared.lock, []

        class Watched:
            def __enter__(self):
                granted.append(time.perf_counter())
                return lock.__enter__()

            def __exit__(self, *error):
                return lock.__exit__(*error)

        bench._shared.lock = Watched()
        bench.start_comm(teacher.chunk_mb)
        bench.set_split(bench.total_cores)
        assert bench.next_event().start <= granted[0]


def test_a_side_without_cores_waits_and_goes_on(teacher):
    with Bench(bench_settings(), teacher) as bench:
        bench.set_split(bench.total_cores)
        bench.start_forward(1)
        assert bench.next_event(0.05) is None
        bench.set_split(0)
        assert bench.next_event().task == "forward"


def test_a_teacher_killed_in_mid_stream_is_an_error_not_a_hang():
    with (
        TeacherProcess(spec={"chunks": 2, "chunk_rows": 64}) as teacher,
        Bench(bench_settings(reconnect_s=0.3, timeout_s=10), teacher) as bench,
    ):
        bench.set_split(bench.total_cores)
        bench.start_comm(teacher.chunk_mb)
        bench.next_event()
        process = next(p for p in multiprocessing.active_children() if p.pid == teacher.pid)
        process.kill()
        process.join(10)
        bench.start_comm(50.0)
        with pytest.raises(TransportError, match="receiver"):
            bench.next_event()


def test_a_teacher_that_comes_back_is_taken_up_again_and_nothing_is_lost():
    source, greeting = logit_bank({"chunks": 2, "chunk_rows": 64})
    asked: list[tuple[int, int]] = []
    gate = threading.Event()

    def slow_source(kind, batch, chunk):
        asked.append((batch, chunk))
        if len(asked) == 5:
            gate.set()
        return source(kind, batch, chunk)

    first = KnowledgeServer(slow_source, greeting)
    settings = bench_settings(reconnect_s=10.0)
    with Bench(settings, Teacher(first.address, greeting)) as bench:
        bench.set_split(bench.total_cores)
        bench.start_comm(400 * 64 * 400e-6 / 4)
        assert gate.wait(10)
        first.close()
        with KnowledgeServer(slow_source, greeting, port=first.address[1]):
            event = bench.next_event()
        assert event.task == "comm"
        chunks = bench.chunks(event.work)
    assert {chunk for _, chunk in asked} == set(range(chunks))


def test_a_student_that_fails_says_why(teacher):
    bench = Bench(bench_settings(student="calibration.bench.student:absent"), teacher)
    with pytest.raises(WorkloadError, match="the student: AttributeError"), bench:
        pass


def test_a_dead_student_is_reported(teacher):
    with Bench(bench_settings(), teacher) as bench:
        bench.set_split(0)
        bench._children[0].process.kill()
        bench._children[0].exit_code(10)
        with pytest.raises(WorkloadError, match="the student died"):
            bench.next_event()


def test_no_process_outlives_its_bench(teacher):
    with Bench(bench_settings(), teacher) as bench:
        processes = [child.process for child in bench._children]
        assert all(process.is_alive() for process in processes)
    assert not any(process.is_alive() for process in processes)


def test_softening_is_the_softmax_of_tempered_logits():
    rows = np.random.default_rng(0).normal(scale=50, size=(20, 7)).astype(np.float32)
    out = np.empty_like(rows)
    bench_processes.soften(rows, 3.0, out)
    exact = np.exp(rows.astype(float) / 3 - (rows.astype(float) / 3).max(1, keepdims=True))
    np.testing.assert_allclose(out, exact / exact.sum(1, keepdims=True), atol=1e-6)
