"""Fractional shares of a machine's cores: many virtual cores on few real ones.

Two ways, the first where it is allowed: a quota of the kernel's scheduler (control groups, v1,
as root), or stopping and continuing a process by turns. Either way a share shows in throughput
over tens of milliseconds, never in a single step's time. A trace says which one it was.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Protocol

from kdsim.errors import WorkloadError

#: Short against a task (hundreds of milliseconds), long against a context switch.
PERIOD_S = 0.020
_CPU_CONTROLLER = Path("/sys/fs/cgroup/cpu")
#: The kernel grants no quota below this.
_LEAST_QUOTA_US = 1000
#: Shares into which a core can be divided, none below the least quota.
MOST_SHARES = round(PERIOD_S * 1e6 / _LEAST_QUOTA_US)


class Share(Protocol):
    """Limits a set of processes to a number of cores that need not be whole."""

    #: How it is done, as a trace reports it.
    method: str

    def add(self, pid: int) -> None:
        """Put a process under the limit."""

    def set(self, cores: float) -> None:
        """Change the limit."""

    def close(self) -> None:
        """Lift the limit; leaves nothing behind."""


class CgroupShare:
    """A share enforced by a v1 control group's CFS quota.

    Parameters
    ----------
    name : str
        Distinguishes the groups of one process.

    Raises
    ------
    WorkloadError
        If the group cannot be made.
    """

    method = "cgroup-v1 cfs quota"

    def __init__(self, name: str) -> None:
        self._group = _own_group() / f"{_prefix(os.getpid())}-{name}"
        try:
            self._group.mkdir()
            self._write("cpu.cfs_period_us", int(PERIOD_S * 1e6))
        except OSError as error:
            raise WorkloadError(
                f"cannot make the control group {self._group}: {error.strerror}"
            ) from error

    def _write(self, name: str, value: int) -> None:
        (self._group / name).write_text(str(value))

    def add(self, pid: int) -> None:
        """Move a process, with its threads, into the group."""
        self._write("cgroup.procs", pid)

    def set(self, cores: float) -> None:
        """Set the quota to `cores` cores' worth of each period."""
        self._write("cpu.cfs_quota_us", max(int(cores * PERIOD_S * 1e6), _LEAST_QUOTA_US))

    def close(self) -> None:
        """Move what is left back to the parent group and remove this one."""
        with contextlib.suppress(OSError):
            for pid in (self._group / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    (self._group.parent / "cgroup.procs").write_text(pid)
        _remove(self._group)


class DutyCycleShare:
    """A share by stopping and continuing processes: running for a part of every period.

    Parameters
    ----------
    name : str
        Name of the thread that does it.
    full_cores : int
        Cores that the processes use while they run; a share of `cores` lets them run for
        ``cores / full_cores`` of the time.
    """

    method = "SIGSTOP/SIGCONT duty cycle"

    def __init__(self, name: str, full_cores: int) -> None:
        self._full = full_cores
        self._duty = 1.0
        self._pids: list[int] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._cycle, name=f"share-{name}", daemon=True)
        self._thread.start()

    def add(self, pid: int) -> None:
        """Stop and continue this process too."""
        self._pids.append(pid)

    def set(self, cores: float) -> None:
        """Set the share of the time in which the processes run."""
        self._duty = min(max(cores / self._full, 0.0), 1.0)

    def close(self) -> None:
        """Let the processes run for good."""
        self._closing.set()
        self._thread.join(timeout=5.0)
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in list(self._pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _cycle(self) -> None:
        while not self._closing.is_set():
            duty = self._duty
            if duty > 0:
                self._signal(signal.SIGCONT)
                self._closing.wait(duty * PERIOD_S)
            if duty < 1:
                self._signal(signal.SIGSTOP)
                self._closing.wait((1 - duty) * PERIOD_S)


def make_shares(names: list[str], full_cores: int, *, prefer_cgroup: bool = True) -> list[Share]:
    """Make one share for each name, by control groups where they can be made.

    Parameters
    ----------
    full_cores : int
        Real cores of the device.
    prefer_cgroup : bool
        Whether to try control groups at all.

    Returns
    -------
    list of Share
        All of one method.
    """
    if prefer_cgroup:
        remove_leftovers(_own_group())
        made: list[Share] = []
        try:
            for name in names:
                made.append(CgroupShare(name))
        except WorkloadError:
            for share in made:
                share.close()
        else:
            return made
    return [DutyCycleShare(name, full_cores) for name in names]


def remove_leftovers(folder: Path) -> list[str]:
    """Remove the control groups of runs that were killed, with whatever still runs in them.

    A group is removed only if its name shows that a process of this system made it (same process
    namespace) that is there no more (no process has its number and its start time).

    Parameters
    ----------
    folder : path
        The control group in which shares are made.

    Returns
    -------
    list of str
        Names of the groups removed.
    """
    removed = []
    for group in folder.glob("kdsim-*-*"):
        found = _GROUP_NAME.fullmatch(group.name)
        if found is None or found["namespace"] != _namespace():
            continue
        if _start_time(int(found["pid"])) == found["start"]:
            continue  # its run is going on
        with contextlib.suppress(OSError):
            for pid in (group / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        if _remove(group):
            removed.append(group.name)
    return removed


#: Which process made a group: its namespace, number and start time; and what the group is for.
_GROUP_NAME = re.compile(r"kdsim-(?P<namespace>\d+)-(?P<pid>\d+)-(?P<start>\d+)-\w+")


def _prefix(pid: int) -> str:
    return f"kdsim-{_namespace()}-{pid}-{_start_time(pid)}"


def _namespace() -> str:
    """Identify the process namespace: process numbers mean nothing outside of it."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return "0"


def _start_time(pid: int) -> str:
    """Return when a process started, in clock ticks since the system did; empty if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _remove(group: Path) -> bool:
    """Remove an empty control group; a process that is just exiting is a member for a moment."""
    for _ in range(50):
        try:
            group.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False


def _own_group() -> Path:
    """Return the CPU control group that this process is in (the root if it is unknown)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "cpu" in controllers.split(","):
                return _CPU_CONTROLLER / path.lstrip("/")
    return _CPU_CONTROLLER
