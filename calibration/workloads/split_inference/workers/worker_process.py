"""One worker process as its master sees it: where it runs, how it starts, how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import calibration
from calibration.workloads.split_inference.workers.wire import (
    Channel,
    ClosedError,
    LateError,
    deadline_in,
)
from kdsim._types import RecordView
from kdsim.messages import how_it_ended

#: glibc returns large blocks to the kernel at once and pays page faults for every feature map.
#: The fewer pages of half a map then fake a speed-up beyond the number of workers, so every
#: process, the baseline included, keeps its memory.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**26),
}


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Where a worker runs.

    Attributes
    ----------
    cores : tuple of int
        Cores it is pinned to; empty for no pinning.
    threads : int
        Compute threads.
    slowdown : float
        1 or more: makes every layer take this many times as long, to stand in for a slower
        device in a cluster of unequal ones.
    """

    cores: tuple[int, ...] = ()
    threads: int = 1
    slowdown: float = 1.0


def available_cores() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def one_core_each(workers: int) -> list[WorkerSpec]:
    """Return specs that pin each worker to a core of its own, as far as there are cores."""
    cores = available_cores()
    return [WorkerSpec((cores[i % len(cores)],)) for i in range(workers)]


@dataclass(slots=True)
class WorkerProcess:
    """A worker as its master sees it.

    Attributes
    ----------
    log : binary file
        What the worker writes on standard output and error.
    channel : Channel or None
        Its connection, once it has called.
    halo_port : int
        Where the other workers reach it.
    """

    process: subprocess.Popen[bytes]
    log: IO[bytes]
    channel: Channel | None = None
    halo_port: int = 0

    @classmethod
    def start(cls, spec: WorkerSpec, settings: RecordView) -> WorkerProcess:
        """Start a worker and hand it its settings.

        Parameters
        ----------
        settings : mapping
            JSON values; see
            :class:`calibration.workloads.split_inference.workers.worker.Worker`. Those of the spec
            are added.
        """
        threads = str(spec.threads)
        root = str(Path(calibration.__file__).parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | ALLOCATOR | {"PYTHONPATH": path}
        environment |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "calibration.workloads.split_inference.workers.worker"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
        )
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # found dead when it does not connect
                process.stdin.write(json.dumps({**settings, **asdict(spec)}).encode() + b"\n")
                process.stdin.close()
        return cls(process, log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def state(self) -> str:
        """State letter of the process (R: running, T: stopped), "?" where /proc does not say."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return "?"

    def fate(self) -> str | None:
        """Describe how the worker ended, with its last output; None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        return f"ended with {how_it_ended(code)}{self._last_words()}"

    def dismiss(self) -> None:
        """Ask the worker to end and close the connection."""
        if self.channel is not None:
            with contextlib.suppress(ClosedError, LateError):
                self.channel.send("stop", deadline=deadline_in(0.2))
            self.channel.close()

    def end(self, deadline: float) -> None:
        """Wait until the deadline for the process to end, then end it by force."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.01, deadline - time.monotonic()))
        if self.process.poll() is None:
            self.process.kill()  # ends a stopped process too
        self.process.wait(10.0)
        self.log.close()

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read()[-4000:].decode(errors="replace").strip().splitlines()
        return f" ({lines[-1][:300]})" if lines else ""
