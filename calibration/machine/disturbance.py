"""Whether others disturbed a measurement: the CPU taken by other processes and by the host.

A measurement is bracketed by two readings. What others took of the device's cores in between,
in CPU seconds per second, is the most by which they can have lengthened it: a reading of 0.05
means that a second of the measurement may really have needed only 0.95 s. A measurement is set
aside by this reading alone, never by its result, so that repeating it does not favour any result.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

#: CPU seconds per second, taken from the device's cores, above which a measurement is disturbed:
#: less than the 5 % that predictions are held to, well above the 1 to 2 % of an idle system.
GUARD = 0.05
_STAT = Path("/proc/stat")
#: How long one looks at the CPU to see whether it is calm.
_LOOK_S = 0.25
#: Clock ticks by which /proc/stat may lag behind a process's own clock.
_LAG_TICKS = 5


@dataclass(frozen=True, slots=True)
class Taken:
    """What others took during a measurement.

    Attributes
    ----------
    foreign_s : float
        CPU seconds that other processes used on the device's cores.
    stolen_s : float
        Seconds for which the host ran something else on the device's cores.
    elapsed_s : float
        Length of the measurement.
    known : bool
        Whether the system accounts for CPU time at all; without it nothing can be said.
    """

    foreign_s: float
    stolen_s: float
    elapsed_s: float
    known: bool = True

    @property
    def per_second(self) -> float:
        """CPU seconds taken per second of the measurement, by both together."""
        return (self.foreign_s + self.stolen_s) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def share_of(self, cores: int) -> float:
        """Share of so many cores that others took, 0 to 1."""
        return min(self.per_second / cores, 1.0)

    def disturbs(self, guard: float = GUARD) -> bool:
        """Whether others took more than `guard` CPU seconds per second."""
        return self.per_second > guard


@dataclass(frozen=True, slots=True)
class CpuReading:
    """CPU seconds used so far, at one instant.

    Attributes
    ----------
    at : float
        Seconds of `time.perf_counter`.
    machine_s : float
        By everything that runs on the cores of this system, interrupts included.
    stolen_s : float
        For which the host gave the cores to something else.
    own_s : float
        By the processes watched, and this one.
    """

    at: float
    machine_s: float
    stolen_s: float
    own_s: float


def read_cpu(pids: Iterable[int], cores: Sequence[int]) -> CpuReading:
    """Read how much CPU has been used so far on `cores`, and by the given processes anywhere.

    Parameters
    ----------
    pids : iterable of int
        The processes that count as one's own (this one is always among them).
    cores : sequence of int
        Ids of the device's cores.

    Returns
    -------
    CpuReading
        Resolution is a clock tick, 10 ms on most systems: meaningful over half a second and more.
    """
    tick = os.sysconf("SC_CLK_TCK")
    used = stolen = 0
    for line in _per_core_lines():
        name, *fields = line.split()
        if int(name.removeprefix("cpu")) not in cores:
            continue
        # user nice system idle iowait irq softirq steal: idle and iowait are not work
        ticks = [int(field) for field in fields[:8]]
        used += sum(ticks[:3]) + sum(ticks[5:7])
        stolen += ticks[7] if len(ticks) > 7 else 0
    own = sum(process_cpu_s(pid) for pid in {os.getpid(), *pids})
    return CpuReading(time.perf_counter(), used / tick, stolen / tick, own)


def taken_between(before: CpuReading, after: CpuReading) -> Taken:
    """Return what others took between two readings of the same processes and cores."""
    used, own = after.machine_s - before.machine_s, after.own_s - before.own_s
    lag = _LAG_TICKS / os.sysconf("SC_CLK_TCK")
    return Taken(
        foreign_s=max(used - own, 0.0),
        stolen_s=max(after.stolen_s - before.stolen_s, 0.0),
        elapsed_s=after.at - before.at,
        # Some sandboxes show a /proc/stat that stands still.
        known=used + lag >= 0.5 * own,
    )


def process_cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used (0 if it has ended)."""
    # Linux numbers a process's CPU clock this way (clock_getcpuclockid); /proc counts in 10 ms.
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def wait_for_calm(
    cores: Sequence[int], guard: float, patience_s: float, pids: Iterable[int] = ()
) -> bool:
    """Wait until others take less than `guard` CPU seconds per second, over a quarter of a second.

    Parameters
    ----------
    cores : sequence of int
        Ids of the device's cores.
    patience_s : float
        How long to wait at most.
    pids : iterable of int
        Processes of one's own that may be at work meanwhile, e.g. threads that poll.

    Returns
    -------
    bool
        Whether it became calm.
    """
    pids = tuple(pids)
    give_up = time.monotonic() + patience_s
    while True:
        before = read_cpu(pids, cores)
        time.sleep(_LOOK_S)
        if not taken_between(before, read_cpu(pids, cores)).disturbs(guard):
            return True
        if time.monotonic() >= give_up:
            return False


def _per_core_lines() -> list[str]:
    try:
        text = _STAT.read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if re.match(r"cpu\d+ ", line)]
