"""Tasks on a dask.distributed cluster that somebody else started."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from kdsim.errors import SweepError
from kdsim.sweeps.workers.executors import RunningClock, TookTooLongError, WorkerLostError

_CONNECT_SECONDS = 20
#: Between two questions to the scheduler.
_ASK_SECONDS = 1.0


class Cluster:
    """A client of a dask scheduler.

    Parameters
    ----------
    address : str
        Of the scheduler, e.g. ``"tcp://10.0.0.1:8786"``, or a path to its scheduler file.
    patience_s : float
        Seconds without any worker after which the sweep is given up.

    Raises
    ------
    SweepError
        If dask is not installed or no scheduler answers.
    """

    # A worker process runs as many tasks as it has threads; they die together.
    one_task_per_worker = False
    threads: int | None = 1

    def __init__(self, address: str, *, patience_s: float = 60.0) -> None:
        try:
            from distributed import Client, KilledWorker
        except ImportError:
            raise SweepError(
                "a cluster needs dask.distributed: pip install 'kdsim[cluster]'"
            ) from None
        where = {"scheduler_file": address} if Path(address).is_file() else {"address": address}
        client: Any = Client  # distributed is not typed
        try:
            self._client: Any = client(**where, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise SweepError(
                f"no dask scheduler answers at {address}: {error or type(error).__name__}; "
                "start one with `dask scheduler`, and workers with `dask worker ADDRESS`"
            ) from None
        self._killed = KilledWorker
        self._address = address
        self._clock = RunningClock()
        self._patience_s = patience_s
        self._under_way: dict[Future[Any], tuple[Future[Any], float]] = {}
        self._threads = 0
        self._asked = -_ASK_SECONDS
        self._seen_workers = time.monotonic()
        self._executor = self._client.get_executor(pure=False)
        self._refresh()

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Send a task."""
        outer: Future[Any] = Future()
        inner = self._executor.submit(function, *arguments)
        self._under_way[outer] = (inner, self._clock.now())

        def forward(done: Future[Any]) -> None:
            if self._under_way.pop(outer, None) is None:
                return  # ended meanwhile for running too long
            if done.cancelled():
                outer.set_exception(WorkerLostError("the cluster lost the task"))
                return
            error = done.exception()
            if isinstance(error, self._killed):
                # The scheduler has tried it on several workers before it says so.
                outer.set_exception(WorkerLostError("every worker that ran it died", 3))
            elif error is not None:
                outer.set_exception(error)
            else:
                outer.set_result(done.result())

        inner.add_done_callback(forward)
        return outer

    def capacity(self) -> int:
        """Take one task per thread.

        No task then waits at a worker behind another: dask would count the death of that worker
        against both.
        """
        self._refresh()
        return max(self._threads, 1)

    def check(self) -> None:
        """Raise `SweepError` if the scheduler, or for long all workers, cannot be reached."""
        self._refresh()
        silent = time.monotonic() - self._seen_workers
        if silent > self._patience_s:
            raise SweepError(
                f"the cluster at {self._address} has had no worker for {silent:.0f} s; what is "
                "done is in the store: start workers and run the same command again"
            )

    def end_overdue(self, limit_s: float) -> None:
        """Give up tasks that have run for longer; their threads cannot be stopped from here."""
        now = self._clock.now()
        for outer, (inner, begin) in list(self._under_way.items()):
            if now - begin > limit_s and self._under_way.pop(outer, None) is not None:
                inner.cancel()
                outer.set_exception(TookTooLongError(limit_s))

    def close(self) -> None:
        """Forget all tasks and the scheduler."""
        self._executor.shutdown(wait=False)
        self._client.close(timeout=5)

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._asked < _ASK_SECONDS:
            return
        self._asked = now
        if self._client.status not in ("running", "connecting"):
            raise SweepError(
                f"the dask scheduler at {self._address} no longer answers; what is done is in the "
                "store: run the same command again"
            )
        try:
            self._threads = sum(self._client.nthreads().values())
        except (OSError, TimeoutError, ValueError):
            self._threads = 0  # reconnecting: `check` gives it some time
        if self._threads:
            self._seen_workers = now
