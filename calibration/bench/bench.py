"""The test bench: a teacher, receiving workers and a student in processes of their own.

It carries out one thing at a time on each side (a Comm; a Forward or a Backward), on the core
split it is given, and reports what ended when. ``calibration.bench.collect`` runs it at fixed
splits to measure f and g; ``calibration.bench.replay`` runs it under a policy. The processes' own
code is in ``calibration.bench.processes``.

With c communication cores there are c receiving workers, each with a TCP stream and a core of
its own: one stream gains nothing from a second core. A teacher on the same machine runs on the
communication cores, so that its work never slows the student; its CPU time is read apart.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from calibration.bench import processes as bench_processes
from calibration.bench.start import Teacher, process_context, read_message, send_message
from calibration.link.tls import Tls
from calibration.machine.children import Child, end_children
from calibration.machine.cores import pin_process, split_cores
from calibration.machine.disturbance import process_cpu_s
from calibration.machine.shares import Share, make_shares
from kdsim.errors import WorkloadError

#: Room for the counts of every Comm of a bench's life.
MAX_BATCHES = 1 << 16


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What runs on the bench.

    Attributes
    ----------
    cores : tuple of int
        Ids of the device's cores.
    student : str
        ``module:function`` that builds the student in its process.
    student_spec : mapping
        JSON values passed to it.
    decode : {"soft", "raw"}
        What workers leave in memory: probabilities softened by `temperature`, or the rows as sent.
    temperature : float
    capacity_mb : float
        Knowledge held in memory; the oldest is overwritten beyond that.
    most_threads : int or None
        Compute threads at most; 1 makes the student's arithmetic repeatable to the last bit.
    virtual_cores : int or None
        Number of fractional shares that stand in for cores, instead of pinning.
    yielding : bool
        The student gives way to the receiving workers wherever they share a core.
    tls, token
        For a teacher elsewhere; see `KnowledgeStream`.
    study_request : mapping or None
        What the streams ask the teacher for when they connect.
    timeout_s : float
        Longest wait for any single task before the bench is declared stalled.
    reconnect_s : float
        How long a stream tries to get its teacher back.
    """

    cores: tuple[int, ...]
    student: str = "calibration.bench.student:build"
    student_spec: Mapping[str, Any] = field(default_factory=dict)
    decode: str = "soft"
    temperature: float = 4.0
    capacity_mb: float = 128.0
    most_threads: int | None = None
    virtual_cores: int | None = None
    prefer_cgroup: bool = True
    tls: Tls | None = None
    token: bytes | None = None
    yielding: bool = False
    study_request: Mapping[str, Any] | None = None
    timeout_s: float = 60.0
    reconnect_s: float = 5.0

    @property
    def total_cores(self) -> int:
        """Cores of the device as a policy sees it."""
        return self.virtual_cores or len(self.cores)


@dataclass(frozen=True, slots=True)
class Event:
    """A task that ended.

    Attributes
    ----------
    task : {"comm", "forward", "backward"}
    work : float
        MB or batches.
    start, end : float
        Seconds of `time.perf_counter`, as the process that did it saw them.
    report : dict
        Whatever else the student's process says (loss, accuracy).
    """

    task: str
    work: float
    start: float
    end: float
    report: dict[str, Any] = field(default_factory=dict)


class Bench:
    """The running bench; use it as a context manager.

    Parameters
    ----------
    settings : BenchSettings
    teacher : Teacher

    Raises
    ------
    WorkloadError, TransportError
        If a process cannot be set up, dies, or stalls.
    """

    def __init__(self, settings: BenchSettings, teacher: Teacher) -> None:
        self.settings, self.teacher = settings, teacher
        self.total_cores = settings.total_cores
        self._most_threads = settings.most_threads or len(settings.cores)
        self._context = process_context()
        self._children: list[Child] = []
        self._shares: list[Share] = []
        self._granted_mb: dict[int, tuple[float, float]] = {}
        self._split: tuple[int, int] | None = None
        self._busy_comp: str | None = None
        self._busy_batches = 1
        self._team: list[int] = []
        self._cycles = {"comm": 0, "forward": 0, "backward": 0}

    # -- life ---------------------------------------------------------------------------------

    def __enter__(self) -> Bench:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        context, settings = self._context, self.settings
        greeting = self.teacher.greeting
        chunk_floats = int(greeting["columns"]) * int(greeting["chunk_rows"])
        slots = max(2, math.ceil(settings.capacity_mb / self.teacher.chunk_mb))
        # Kept apart from the processes' objects: what they share is numbers, nothing else.
        self._shared = bench_processes.Shared(
            lock=context.Lock(),
            control=context.RawArray(ctypes.c_int64, len(bench_processes.CONTROL)),
            grant_end=context.RawArray(ctypes.c_int64, MAX_BATCHES),
            done=context.RawArray(ctypes.c_int64, MAX_BATCHES),
            store=context.RawArray(ctypes.c_float, slots * chunk_floats),
            slots=slots,
            columns=int(greeting["columns"]),
            chunk_rows=int(greeting["chunk_rows"]),
        )
        # Touched here once, so that no measurement pays for the first use of a page.
        np.frombuffer(self._shared.store, dtype=np.float32)[:] = 1.0 / int(greeting["columns"])
        student = (
            self._shared,
            settings.student,
            dict(settings.student_spec),
            self._most_threads,
            settings.yielding,
        )
        stream = {
            "address": self.teacher.address,
            "tls": settings.tls,
            "token": settings.token,
            "study_request": settings.study_request,
            "timeout_s": settings.timeout_s,
            "reconnect_s": settings.reconnect_s,
        }
        self._spawn(bench_processes.student_main, student, "student")
        for index in range(self.total_cores):
            receiver = (self._shared, index, stream, settings.decode, settings.temperature)
            self._spawn(bench_processes.receiver_main, receiver, f"receiver {index}")
        for child in self._children:
            said = read_message(child, settings.timeout_s)
            self._team = said.get("team", self._team)
        if settings.virtual_cores:
            self._start_shares()

    def _spawn(self, target: Any, arguments: tuple[Any, ...], name: str) -> None:
        self._children.append(Child(self._context, target, arguments, name))

    def _start_shares(self) -> None:
        settings = self.settings
        self._shares = make_shares(
            ["comm", "comp"], len(settings.cores), prefer_cgroup=settings.prefer_cgroup
        )
        comm, comp = self._shares
        for child in self._children[1:]:
            comm.add(child.pid)
        if self.teacher.pid is not None:
            comm.add(self.teacher.pid)
        comp.add(self._children[0].pid)
        for pid in self.device_pids:
            pin_process(pid, settings.cores)

    def close(self) -> None:
        """End every process of the bench; the teacher stays."""
        for share in self._shares:
            share.close()
        self._shares = []
        end_children(self._children)
        self._children = []

    # -- what runs where ------------------------------------------------------------------------

    @property
    def share_method(self) -> str:
        """How cores are given: by pinning, or by which kind of share."""
        return self._shares[0].method if self._shares else "pinned"

    @property
    def device_pids(self) -> list[int]:
        """Processes that belong to the device, a teacher on this machine included."""
        pids = [child.pid for child in self._children]
        return pids if self.teacher.pid is None else [*pids, self.teacher.pid]

    def sender_cpu_s(self) -> float:
        """CPU seconds used so far by a teacher on this machine; NaN for one elsewhere."""
        return math.nan if self.teacher.pid is None else process_cpu_s(self.teacher.pid)

    def set_split(self, comm_cores: int, comp_cores: int | None = None) -> None:
        """Give `comm_cores` cores to receiving and the others to training, from now on.

        Affinity changes at once; a running step keeps its number of threads until it ends.

        Parameters
        ----------
        comm_cores : int
        comp_cores : int, optional
            Fewer than all the others, to measure one side alone; more, to lend it the cores of
            communication as well.
        """
        comp_cores = self.total_cores - comm_cores if comp_cores is None else comp_cores
        if (comm_cores, comp_cores) == self._split:
            return
        self._split = (comm_cores, comp_cores)
        settings = self.settings
        if self._shares:
            threads = len(settings.cores) if comp_cores else 0
            self._shares[0].set(comm_cores * len(settings.cores) / self.total_cores)
            self._shares[1].set(comp_cores * len(settings.cores) / self.total_cores)
        else:
            comm, rest = split_cores(settings.cores, comm_cores)
            threads = comp_cores
            if comp_cores:
                pin_process(self._children[0].pid, (*rest, *comm)[:comp_cores], team=self._team)
            for core, child in zip(comm, self._children[1:], strict=False):
                pin_process(child.pid, [core])
            if comm and self.teacher.pid is not None:
                pin_process(self.teacher.pid, comm)
        self._apply(comm_cores, threads)

    def set_shared(self) -> None:
        """Give every core to both sides at once, unpinned: the operating system shares them."""
        self._split = None
        for share in self._shares:
            share.set(len(self.settings.cores))
        for pid in self.device_pids:
            pin_process(pid, self.settings.cores)
        self._apply(self.total_cores, len(self.settings.cores))

    def _apply(self, active_workers: int, threads: int) -> None:
        control = self._shared.control
        control[bench_processes.ACTIVE] = active_workers
        control[bench_processes.THREADS] = min(threads, self._most_threads)
        self._send(0, {"do": "wake"})
        for index in range(active_workers):
            self._send(1 + index, {"do": "wake"})

    @property
    def comms_begun(self) -> int:
        """Comm tasks begun so far: the number of the next one."""
        return self._cycles["comm"]

    # -- tasks ------------------------------------------------------------------------------------

    def chunks(self, mb: float) -> int:
        """Whole chunks that come nearest to `mb` (at least one)."""
        return max(1, round(mb / self.teacher.chunk_mb))

    def start_comm(self, mb: float) -> None:
        """Let the workers fetch the next batch of knowledge."""
        shared, batch = self._shared, self._cycles["comm"]
        if batch >= MAX_BATCHES:
            raise WorkloadError(f"a bench carries at most {MAX_BATCHES} Comm tasks")
        chunks = self.chunks(mb)
        self._cycles["comm"] += 1
        # Before the grant: on a busy machine the workers may be done before we run again.
        begun = time.perf_counter()
        with shared.lock:
            start = shared.grant_end[batch - 1] if batch else 0
            shared.grant_end[batch] = start + chunks
            shared.control[bench_processes.GRANTED] = start + chunks
        self._granted_mb[batch] = (chunks * self.teacher.chunk_mb, begun)
        for index in range(shared.control[bench_processes.ACTIVE]):
            self._send(1 + index, {"do": "wake"})

    def start_forward(self, batches: int) -> None:
        """Let the student run the forward half of its next cycle."""
        self._start_comp("forward", batches)

    def start_backward(self, batches: int) -> None:
        """Let the student run the backward half of its next cycle, and update its weights."""
        self._start_comp("backward", batches)

    def _start_comp(self, task: str, batches: int) -> None:
        if self._busy_comp is not None:
            raise WorkloadError(f"the student is busy with a {self._busy_comp}")
        self._busy_comp, self._busy_batches = task, batches
        self._shared.control[bench_processes.STEPS] = 0
        self._send(0, {"do": task, "cycle": self._cycles[task], "batches": batches})
        self._cycles[task] += 1

    def comm_progress(self) -> float:
        """Share of the running Comm that is done (0 when none runs)."""
        if not self._granted_mb:
            return 0.0
        batch, shared = min(self._granted_mb), self._shared
        first = shared.grant_end[batch - 1] if batch else 0
        return float(shared.done[batch] / (shared.grant_end[batch] - first))

    def comp_progress(self) -> float:
        """Share of the running Forward or Backward that is done."""
        done = self._shared.control[bench_processes.STEPS]
        return float(done / self._busy_batches) if self._busy_comp else 0.0

    def next_event(self, timeout_s: float | None = None) -> Event | None:
        """Wait for the next task to end.

        Parameters
        ----------
        timeout_s : float, optional
            Give None back after so long; without it, a stall of the settings' limit is an error.

        Returns
        -------
        Event or None

        Raises
        ------
        TransportError
            If the teacher is lost for good.
        WorkloadError
            If a process died, failed or stalled.
        """
        limit = self.settings.timeout_s if timeout_s is None else timeout_s
        ready = wait([child.pipe for child in self._children], timeout=limit)
        if not ready:
            if timeout_s is not None:
                return None
            raise WorkloadError(f"the bench stalled: no task ended within {limit:g} s")
        said = read_message(next(c for c in self._children if c.pipe is ready[0]), limit)
        if said["task"] == "comm":
            mb, start = self._granted_mb.pop(said["batch"])
            return Event("comm", mb, start, said["end"])
        self._busy_comp = None
        known = ("task", "work", "start", "end")
        rest = {k: v for k, v in said.items() if k not in known}
        return Event(said["task"], said["work"], said["start"], said["end"], rest)

    def ask_student(self, question: str, **values: Any) -> dict[str, Any]:
        """Put a question to an idle student (e.g. ``accuracy``) and wait for its answer."""
        self._send(0, {"do": question, **values})
        return read_message(self._children[0], self.settings.timeout_s)

    def _send(self, index: int, message: Mapping[str, Any]) -> None:
        send_message(self._children[index], message)
