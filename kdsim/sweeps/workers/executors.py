"""Where tasks run: in this process, in worker processes, on a cluster.

The seam is `concurrent.futures.Executor`: whatever has ``submit`` will do. A `Team` is such an
executor with what a sweep needs to know of it: how many tasks it takes at once, which task ended
a dead worker, and whether any worker is left.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, Protocol

from kdsim.errors import SweepError

#: Seconds that one task may take in another process before it is given up.
TASK_TIMEOUT_S = 600.0


class WorkerLostError(Exception):
    """The worker that ran a task has died; the task may or may not be the cause.

    Parameters
    ----------
    workers : int
        How many workers the task has cost.
    """

    def __init__(self, reason: str, workers: int = 1) -> None:
        super().__init__(reason)
        self.workers = workers


class TookTooLongError(WorkerLostError):
    """A task was ended because it ran longer than allowed."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"took longer than {limit_s:g} s (task timeout)")


class RunningClock:
    """Seconds during which this process ran; while it is stopped (Ctrl-Z) they do not pass.

    The clock is to be looked at more often than every `longest_step_s`: a longer silence counts
    as that long.
    """

    def __init__(self, longest_step_s: float = 2.0) -> None:
        self._longest_step_s = longest_step_s
        self._mutex = threading.Lock()
        self._seen = time.monotonic()
        self._time = 0.0

    def now(self) -> float:
        """Return the seconds since the clock was made."""
        with self._mutex:
            seen = time.monotonic()
            self._time += min(seen - self._seen, self._longest_step_s)
            self._seen = seen
            return self._time


class Team(Protocol):
    """What a sweep asks of an executor.

    Attributes
    ----------
    one_task_per_worker : bool
        Whether each worker runs one task at a time, so that a lost worker identifies its task.
    threads : int or None
        Threads of the compiled engine in each task; None for all cores.
    """

    one_task_per_worker: bool
    threads: int | None

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Start a task; a lost worker shows as `WorkerLostError` in its future."""
        ...

    def capacity(self) -> int:
        """Return how many tasks may be under way at once."""
        ...

    def check(self) -> None:
        """Raise `SweepError` if no worker is left."""
        ...

    def end_overdue(self, limit_s: float) -> None:
        """End tasks that have run for longer; their futures show `TookTooLongError`."""
        ...

    def close(self) -> None:
        """Stop at once; what is under way is lost."""
        ...


# --- in this process, or on whatever executor the caller has ----------------------------------


class InProcess:
    """Run each task at once, in this process; the compiled engine uses all cores."""

    one_task_per_worker = True
    threads: int | None = None

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Run a task now."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001 - handed on in the future, as executors do
            future.set_exception(error)
        return future

    def capacity(self) -> int:
        """Take one task at a time."""
        return 1

    def check(self) -> None:
        """No-op: this process is always available."""

    def end_overdue(self, limit_s: float) -> None:
        """No-op: `submit` returns only when its task has ended."""

    def close(self) -> None:
        """No-op: nothing runs between calls."""


class Borrowed:
    """Any executor of the caller's, e.g. a thread pool or one over MPI; it is not shut down.

    Parameters
    ----------
    capacity : int, optional
        Tasks under way at once; twice the cores by default.
    """

    one_task_per_worker = False
    threads: int | None = 1

    def __init__(self, executor: Executor, capacity: int | None = None) -> None:
        self._executor = executor
        self._capacity = capacity or 2 * (os.cpu_count() or 1)
        self._futures: set[Future[Any]] = set()

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Hand a task on."""
        try:
            future = self._executor.submit(function, *arguments)
        except (BrokenExecutor, RuntimeError) as error:
            raise SweepError(f"the executor takes no more tasks: {error}") from error
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def capacity(self) -> int:
        """Return the number of tasks to keep under way."""
        return self._capacity

    def check(self) -> None:
        """No-op: only the owner of the executor knows its state."""

    def end_overdue(self, limit_s: float) -> None:
        """No-op: a borrowed executor offers no way to end a running task."""

    def close(self) -> None:
        """Cancel what has not begun."""
        for future in list(self._futures):
            future.cancel()
