"""Worker processes that may die, hang or be killed without harm to each other."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from multiprocessing.connection import wait as wait_for
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from kdsim.errors import SweepError
from kdsim.messages import how_it_ended
from kdsim.sweeps.workers.executors import RunningClock, TookTooLongError, WorkerLostError

#: A lane whose process dies this often before it is ready does not come back.
_MAX_FALSE_STARTS = 3


class Processes(Executor):
    """Worker processes, each in a pool of its own, so that a death has exactly one possible cause.

    A dead worker is replaced; the task that it ran, and no other, fails with `WorkerLostError`.

    Parameters
    ----------
    workers : int
        Number of processes.
    """

    one_task_per_worker = True
    threads: int | None = 1

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise SweepError(f"workers must be at least 1 (got {workers})")
        self._mutex = threading.RLock()
        self._waiting: deque[_Job] = deque()
        self._closed = False
        self._clock = RunningClock()
        # One thread handles all that happens to the lanes. The pools' own threads only report to
        # it: they hold locks while they do, and whoever acted on them there could wait for ever.
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lanes = [_Lane(self._free, self._events.put, self._clock) for _ in range(workers)]
        for lane in self._lanes:
            lane.start()
        threading.Thread(target=self._serve, name="kdsim-lanes", daemon=True).start()

    # The base class also takes keyword arguments; a task has none.
    def submit(  # type: ignore[override]
        self, function: Callable[..., Any], /, *arguments: Any
    ) -> Future[Any]:
        """Run ``function(*arguments)`` in the next free worker."""
        job = _Job(Future(), function, arguments)
        with self._mutex:
            if self._closed:
                raise RuntimeError("these workers have been shut down")
            self._waiting.append(job)
        self._events.put(self._dispatch)
        return job.future

    def _serve(self) -> None:
        while (event := self._events.get()) is not None:
            event()

    def capacity(self) -> int:
        """Take one task per worker and one more, so that no worker waits for the driver."""
        return len(self._lanes) + 1

    def check(self) -> None:
        """Raise `SweepError` once no worker process can be started."""
        if all(lane.dead for lane in self._lanes):
            raise self._no_workers()

    def end_overdue(self, limit_s: float) -> None:
        """Kill the workers whose tasks have run for longer."""
        now = self._clock.now()
        for lane in self._lanes:
            job = lane.job
            if job is not None and now - job.begin > limit_s:
                lane.kill(TookTooLongError(limit_s))

    def pids(self) -> list[int]:
        """Return the process ids of the workers that are ready."""
        return [lane.process.pid for lane in self._lanes if lane.process and lane.process.pid]

    def close(self) -> None:
        """Kill the workers."""
        self.shutdown(wait=False, cancel_futures=True)
        for lane in self._lanes:
            lane.kill(WorkerLostError("the sweep was stopped"))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers, by default after what they are doing."""
        with self._mutex:
            self._closed = True
            waiting = list(self._waiting) if cancel_futures else []
            if cancel_futures:
                self._waiting.clear()
        for job in waiting:
            job.future.cancel()
        for lane in self._lanes:
            lane.stop(wait=wait)
        self._events.put(None)

    def _free(self, lane: _Lane) -> None:
        self._dispatch()

    def _dispatch(self) -> None:
        for lane in self._lanes:
            while lane.ready and lane.job is None and (job := self._next_job()) is not None:
                if job.future.set_running_or_notify_cancel():
                    lane.run(job)
        if all(lane.dead for lane in self._lanes):
            while (job := self._next_job()) is not None:
                job.future.set_exception(self._no_workers())

    def _next_job(self) -> _Job | None:
        with self._mutex:
            return self._waiting.popleft() if self._waiting else None

    def _no_workers(self) -> SweepError:
        return SweepError(
            "no worker process can be started: they end before they are ready "
            f"({self._lanes[0].last_words}); without workers the sweep runs in this process"
        )


class _Job:
    def __init__(
        self, future: Future[Any], function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> None:
        self.future = future
        self.function = function
        self.arguments = arguments
        self.begin = 0.0


class _Lane:
    """One worker process and the task it runs."""

    def __init__(
        self,
        free: Callable[[_Lane], None],
        post: Callable[[Callable[[], None]], None],
        clock: RunningClock,
    ) -> None:
        self._free = free
        self._post = post
        self._clock = clock
        self._pool: ProcessPoolExecutor | None = None
        self._stopped = False
        self._false_starts = 0
        self._reason: WorkerLostError | None = None
        self.process: Any = None
        self.job: _Job | None = None
        self.ready = False
        self.dead = False
        self.last_words = "no reason known"

    def start(self) -> None:
        """Start the process; the lane is ready when it answers."""
        self.ready, self._reason = False, None
        self._pool = ProcessPoolExecutor(
            1,
            mp_context=_Context(self._keep),
            initializer=_begin_worker,
            initargs=(list(sys.path),),
        )
        self._report(self._pool.submit(_get_ready), self._started)

    def run(self, job: _Job) -> None:
        """Run a job in the process."""
        assert self._pool is not None
        self.job = job
        job.begin = self._clock.now()
        try:
            inner = self._pool.submit(job.function, *job.arguments)
        except BrokenExecutor as error:  # died while idle: no task caused it
            inner = Future()
            inner.set_exception(error)
        self._report(inner, self._finished)

    def kill(self, reason: WorkerLostError) -> None:
        """Kill the process; its task fails for this reason."""
        self._reason = reason
        if self.process is not None:
            self.process.kill()

    def stop(self, *, wait: bool) -> None:
        """Start no more."""
        self._stopped = True
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=True)

    def _report(self, future: Future[Any], handle: Callable[[Future[Any]], None]) -> None:
        future.add_done_callback(lambda done: self._post(lambda: handle(done)))

    def _keep(self, process: Any) -> None:
        self.process = process

    def _started(self, first: Future[None]) -> None:
        if first.cancelled():
            return
        error = first.exception()
        if error is not None:
            self._false_starts += 1
            self.last_words = str(error)
            self.dead = self._false_starts >= _MAX_FALSE_STARTS
            if not self.dead and not self._stopped:
                self.start()
        else:
            self._false_starts = 0
            self.ready = True
        self._free(self)

    def _finished(self, inner: Future[Any]) -> None:
        job, self.job = self.job, None
        assert job is not None
        if inner.cancelled():
            job.future.set_exception(WorkerLostError("the sweep was stopped"))
            return
        error = inner.exception()
        if isinstance(error, BrokenExecutor):
            lost = self._reason or WorkerLostError(f"its worker process died{self._how()}")
            old, self._pool, self.process, self.ready = self._pool, None, None, False
            if old is not None:
                old.shutdown(wait=False)
            if not self._stopped:
                self.start()
            job.future.set_exception(lost)
        elif error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(inner.result())
        self._free(self)

    def _how(self) -> str:
        # The pool's own thread may be reaping the process just now; until it has noted the exit
        # code, waiting here finds no child and returns at once without one.
        deadline = time.monotonic() + 5.0
        while (code := self.process.exitcode) is None and time.monotonic() < deadline:
            self.process.join(timeout=0.05)
            time.sleep(0.005)
        if code is None:
            return ""
        return f" ({how_it_ended(code)}{', out of memory?' if code == -signal.SIGKILL else ''})"


class _Worker(SpawnProcess):
    """A spawned process that does not import the caller's script again.

    Tasks name all they need, so that the script's own module is of no use to a worker; importing
    it would run a script without an ``if __name__ == "__main__"`` guard a second time.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing's name
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            return SpawnProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = main


class _Context(SpawnContext):
    """Make such processes and show each to its lane, which wants to know how it ended."""

    def __init__(self, keep: Callable[[_Worker], None]) -> None:
        super().__init__()
        self._keep = keep

    # The base class has a class attribute of this name.
    def Process(self, *args: Any, **kwargs: Any) -> _Worker:  # type: ignore[override]  # noqa: N802
        """Make a process."""
        process = _Worker(*args, **kwargs)
        self._keep(process)
        return process


def _begin_worker(path: list[str]) -> None:
    """Prepare a worker: Ctrl-C is the driver's business, and so is the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:] = path
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _get_ready() -> None:
    # Imports are no part of the first task, whose time is measured and limited.
    importlib.import_module("kdsim.sweeps.task")


def _end_with_parent() -> None:
    # A killed driver closes nothing in order; without this its workers would wait for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
