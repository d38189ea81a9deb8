"""What runs in the processes of the test bench: teacher, receiving workers, student.

Control messages are JSON over the bench's own pipes; what changes often lies in shared memory
(`Shared`). A process ends when its pipe closes or its parent ends, so none outlives the bench.
This module imports no torch: the student's own module does.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import mmap
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from calibration.bench.paced import PacedSource, Schedule
from calibration.link.frames import payload_matrix
from calibration.link.server import KnowledgeServer
from calibration.link.stream import KnowledgeStream
from calibration.link.tls import Tls
from calibration.machine.children import end_with_parent
from calibration.machine.cores import thread_ids
from kdsim.errors import KdsimError, TransportError, WorkloadError

#: Indices into `Shared.control`: chunks granted, chunks claimed, active workers, compute threads,
#: batches done of the student's running task.
CONTROL = GRANTED, CLAIMED, ACTIVE, THREADS, STEPS = range(5)
#: Niceness of a student that gives way: a tenth of a receiving worker's weight. Less (SCHED_IDLE)
#: would let it starve altogether on a machine that others use.
_YIELDING = 10
#: Answers that a worker has on their way while it decodes one.
_AHEAD = 2
#: While it waits for cores or work, a process looks up this often even if nobody wakes it.
_LOOK_UP_S = 1.0


@dataclass
class Shared:
    """What the processes of a bench share: numbers only.

    Attributes
    ----------
    lock
        Guards claiming and counting.
    control
        See `CONTROL`.
    grant_end, done
        Chunks are numbered through; batch b ends before chunk ``grant_end[b]``, and ``done[b]`` of
        its chunks have come.
    store
        Decoded knowledge: chunk k is in slot ``k % slots``, each ``chunk_rows * columns`` floats.
    """

    lock: Any
    control: Any
    grant_end: Any
    done: Any
    store: Any
    slots: int
    columns: int
    chunk_rows: int

    def rows(self) -> np.ndarray:
        """View the store as (slots * chunk_rows, columns)."""
        return np.frombuffer(self.store, dtype=np.float32).reshape(-1, self.columns)

    def map_pages(self) -> None:
        """Enter every page of the store into this process's page table.

        Each process pays for its own first access to a page, though the memory is there: with two
        workers that take chunks as they come, the first Comm of a run took a third longer than the
        eighth, a gigabyte later.
        """
        np.frombuffer(self.store, dtype=np.uint8)[:: mmap.PAGESIZE].max()

    def first_row(self, batch: int) -> int:
        """Row of the store at which a batch begins (it may wrap around the end)."""
        first_chunk = self.grant_end[batch - 1] if batch else 0
        return (first_chunk % self.slots) * self.chunk_rows


def resolve(name: str) -> Callable[..., Any]:
    """Import ``module:function``."""
    module, _, attribute = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return found


def _say(pipe: Connection, **message: Any) -> None:
    pipe.send_bytes(json.dumps(message).encode())


def _run(main: Callable[..., None], pipe: Connection, *args: Any) -> None:
    """Run a process's main; report its failure as a last message; leave Ctrl-C to the bench."""
    end_with_parent()
    try:
        main(pipe, *args)
    except (EOFError, BrokenPipeError):
        return  # The bench has closed the pipe: nobody listens any more.
    except KdsimError as error:
        kind = "transport" if isinstance(error, TransportError) else "workload"
        with contextlib.suppress(OSError):
            _say(pipe, failure=str(error), kind=kind)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
        OSError,
    ) as error:
        with contextlib.suppress(OSError):
            _say(pipe, failure=f"{type(error).__name__}: {error}", kind="workload")


# --- teacher ----------------------------------------------------------------------------------


def _teacher(
    pipe: Connection, source: str, spec: dict[str, Any], host: str, port: int, tls: Tls | None
) -> None:
    serve, greeting = resolve(source)(spec)
    paced = PacedSource(serve)
    with KnowledgeServer(paced, greeting, host=host, port=port, tls=tls) as server:
        _say(pipe, host=server.address[0], port=server.address[1], greeting=greeting)
        while True:
            schedule = json.loads(pipe.recv_bytes())
            late_s = paced.late_s
            paced.follow(Schedule(**schedule) if schedule else None)
            _say(pipe, late_s=late_s)


# --- receiving workers --------------------------------------------------------------------------


def soften(rows: np.ndarray, temperature: float, out: np.ndarray) -> None:
    """Write softmax(rows / temperature) to `out`, row by row, without further memory.

    Parameters
    ----------
    rows, out : (n, classes) float32 array
    temperature : float
    """
    np.multiply(rows, np.float32(1.0 / temperature), out=out)
    out -= out.max(axis=1, keepdims=True)
    np.exp(out, out=out)
    out /= out.sum(axis=1, keepdims=True)


def _receiver(
    pipe: Connection,
    shared: Shared,
    index: int,
    stream_settings: dict[str, Any],
    decode: str,
    temperature: float,
) -> None:
    store, chunk_rows = shared.rows(), shared.chunk_rows
    shared.map_pages()
    mine: deque[tuple[int, int]] = deque()  # (chunk number, batch) in the order of the requests
    batch = 0
    with KnowledgeStream(**stream_settings) as stream:
        _say(pipe, ready=True)
        while True:
            while len(mine) < _AHEAD and (number := _claim(shared, index)) is not None:
                while number >= shared.grant_end[batch]:
                    batch += 1
                first = shared.grant_end[batch - 1] if batch else 0
                stream.request(batch, number - first)
                mine.append((number, batch))
            if not mine:
                _await_message(pipe)
                continue
            frame = stream.receive()
            number, of_batch = mine.popleft()
            rows = payload_matrix(frame.payload)  # (chunk_rows, columns)
            if rows.shape != (chunk_rows, shared.columns):
                raise TransportError(
                    f"the teacher promised chunks of {chunk_rows} x {shared.columns}, "
                    f"got {rows.shape[0]} x {rows.shape[1]}"
                )
            start = (number % shared.slots) * chunk_rows
            out = store[start : start + chunk_rows]
            if decode == "soft":
                soften(rows, temperature, out)
            else:
                out[:] = rows
            if _count(shared, of_batch):
                _say(pipe, task="comm", batch=of_batch, end=time.perf_counter())


def _claim(shared: Shared, index: int) -> int | None:
    control = shared.control
    with shared.lock:
        number = int(control[CLAIMED])
        if index >= control[ACTIVE] or number >= control[GRANTED]:
            return None
        control[CLAIMED] = number + 1
    return number


def _count(shared: Shared, batch: int) -> bool:
    """Count a chunk of `batch` as done; return whether it was the last."""
    with shared.lock:
        shared.done[batch] += 1
        first = shared.grant_end[batch - 1] if batch else 0
        return bool(shared.done[batch] == shared.grant_end[batch] - first)


def _await_message(pipe: Connection) -> None:
    """Wait a while for messages and read all that have come; those of a receiver only wake it."""
    patience = _LOOK_UP_S
    while pipe.poll(patience):
        pipe.recv_bytes()
        patience = 0.0


# --- student ------------------------------------------------------------------------------------


def _student(
    pipe: Connection, shared: Shared, factory: str, spec: dict[str, Any], most_threads: int,
    yielding: bool,
) -> None:  # fmt: skip
    import torch

    if yielding:  # before the team of threads is there, which inherits it
        os.nice(_YIELDING)
    torch.set_num_threads(most_threads)
    # Start the team of threads now, so that the bench knows whom to give a core each.
    before = set(thread_ids(os.getpid()))
    torch.ones(1 << 20).exp_()
    team = [os.getpid(), *sorted(set(thread_ids(os.getpid())) - before)]
    student = resolve(factory)(spec, shared)
    shared.map_pages()
    set_threads = _ThreadSetter(most_threads, torch.set_num_threads)
    _say(pipe, ready=True, team=team)
    while True:
        message = json.loads(pipe.recv_bytes())
        task = message.pop("do")
        if task == "wake":
            continue
        if task not in {"forward", "backward"}:
            _say(pipe, **getattr(student, f"answer_{task}")(**message))
            continue
        cycle, batches = message["cycle"], message["batches"]
        step = student.forward if task == "forward" else student.backward
        start = time.perf_counter()
        for position in range(batches):
            _await_cores(pipe, shared, set_threads)
            step(cycle, position, batches)
            shared.control[STEPS] = position + 1
        _say(
            pipe, task=task, work=float(batches), start=start, end=time.perf_counter(),
            **student.report(),
        )  # fmt: skip


class _ThreadSetter:
    """Sets the number of compute threads only when it changes."""

    def __init__(self, now: int, apply: Callable[[int], None]) -> None:
        self._now, self._apply = now, apply

    def __call__(self, threads: int) -> None:
        if threads != self._now:
            self._apply(threads)
            self._now = threads


def _await_cores(pipe: Connection, shared: Shared, set_threads: _ThreadSetter) -> None:
    """Set the current number of threads, waiting while it is zero."""
    while (threads := int(shared.control[THREADS])) == 0:
        if pipe.poll(_LOOK_UP_S):
            message = json.loads(pipe.recv_bytes())
            if message["do"] != "wake":
                raise WorkloadError(f"a {message['do']} was asked for while a task runs")
    set_threads(threads)


teacher_main = functools.partial(_run, _teacher)
receiver_main = functools.partial(_run, _receiver)
student_main = functools.partial(_run, _student)
