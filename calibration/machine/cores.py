"""The device at hand: its cores, and pinning to them.

Pinning needs Linux. What is not here: fractional shares of cores (``calibration.machine.shares``),
who else uses them (``calibration.machine.disturbance``), what the host is
(``calibration.machine.host``).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kdsim.errors import WorkloadError

#: Set before a measuring process starts. A thread that waits for a sibling must sleep: two
#: spinning threads that share one core make a step thirty times slower. Fixed malloc thresholds
#: keep page faults out of some measurements and in others.
MEASUREMENT_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "268435456",
    "MALLOC_ARENA_MAX": "2",
}


def available_cores() -> tuple[int, ...]:
    """Return the ids of the cores that this process may run on.

    Raises
    ------
    WorkloadError
        On a system without CPU affinity (anything but Linux).
    """
    if not hasattr(os, "sched_getaffinity"):
        raise WorkloadError(
            f"collecting and pinning need Linux, got {sys.platform}; collect on the device, then "
            "fit and simulate here"
        )
    return tuple(sorted(os.sched_getaffinity(0)))


def take_cores(count: int | None) -> tuple[int, ...]:
    """Choose `count` of the available cores (all of them by default).

    Raises
    ------
    WorkloadError
        If this device does not have that many.
    """
    cores = available_cores()
    if count is None:
        return cores
    if not 1 <= count <= len(cores):
        raise WorkloadError(
            f"cores: this device has {len(cores)} available core(s) "
            f"({', '.join(map(str, cores))}), got {count}; give 1 to {len(cores)}, or "
            "--virtual-cores for fractional shares"
        )
    return cores[:count]


def split_cores(cores: Sequence[int], comm_cores: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split cores into those of communication (the first `comm_cores`) and of computation.

    Raises
    ------
    WorkloadError
        If there are fewer cores than `comm_cores`.

    Examples
    --------
    >>> split_cores((0, 1, 2, 3), 1)
    ((0,), (1, 2, 3))
    """
    if not 0 <= comm_cores <= len(cores):
        raise WorkloadError(
            f"communication cores must lie in 0..{len(cores)} on {len(cores)} cores, "
            f"got {comm_cores}"
        )
    return tuple(cores[:comm_cores]), tuple(cores[comm_cores:])


def thread_ids(pid: int) -> list[int]:
    """Return the ids of a process's threads, oldest first (none if it has ended)."""
    try:
        return sorted(int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        return []


def pin_process(pid: int, cores: Sequence[int], *, team: Sequence[int] = ()) -> None:
    """Restrict every thread of a process to `cores`; threads it starts later inherit it.

    Parameters
    ----------
    team : sequence of int
        Threads that work in step: each gets a core of its own, in this order, and after the last
        core the first again.
        Threads that sleep and wake a thousand times per second must not be left to the scheduler:
        it wakes siblings on one core and keeps them there (steps on two cores took 24 ms instead
        of 11, for the whole life of one process in ten).

    Raises
    ------
    WorkloadError
        If a core does not exist or may not be used.
    """
    threads = thread_ids(pid)  # Whoever waits for the process reports its end.
    for thread in threads:
        mine = {cores[team.index(thread) % len(cores)]} if thread in team else set(cores)
        try:
            os.sched_setaffinity(thread, mine)
        except ProcessLookupError:
            continue  # The thread ended in between.
        except OSError as error:
            raise WorkloadError(
                f"cannot pin process {pid} to cores {list(cores)}: {error.strerror}; available "
                f"here: {list(available_cores())}"
            ) from error


@contextlib.contextmanager
def measurement_environment() -> Iterator[None]:
    """Set `MEASUREMENT_ENVIRONMENT` for processes started inside; restore it afterwards."""
    before = {name: os.environ.get(name) for name in MEASUREMENT_ENVIRONMENT}
    os.environ.update(MEASUREMENT_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
