"""One trial: which points there are, and how one is measured on a fresh bench.

A *point* is a core split in one of four conditions (see `calibration.trace.CONDITIONS`). The
order of trials, the guard and the file are in ``calibration.bench.collect``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from calibration.bench.bench import Bench, Event
from calibration.machine.disturbance import read_cpu, taken_between

#: A task's time in a fresh process settles within its first few batches (allocator, OpenMP team),
#: once the largest task's memory has been touched.
_WARM_UP_BATCHES = 6
_WARM_UP_MB = 12.8
#: Spells of a window whose split alternates: even, so that both splits last equally long.
_SPELLS = 16


@dataclass(frozen=True, slots=True)
class CollectSettings:
    """How a device is measured.

    Attributes
    ----------
    rounds : int
        Trials of each point.
    extra_rounds : int
        Further trials of points that vary too much, before they are marked noisy.
    window_s : float
        Length of a trial.
    batches, mb : tuple of float
        Workloads, taken in turn within a trial.
    full : bool
        Measure each side alone at every split as well, not only where the other has no core and
        where the split is switched.
    guard : float
        TextFile CPU share above which a trial is repeated; 1 accepts every trial.
    patience_s : float
        How long to wait, before each trial, for others to leave the CPU alone.
    noisy_cv : float
        Trial-to-trial coefficient of variation above which a point is marked.
    cores, virtual_cores : int or None
        Cores to use; fractional shares that stand in for cores.
    device : str or None
        Name in the trace; the processor's by default.
    seed : int
        Of the order of the points.
    """

    rounds: int = 5
    extra_rounds: int = 2
    window_s: float = 0.7
    batches: tuple[int, ...] = (2, 4, 8)
    mb: tuple[float, ...] = (6.4, 12.8, 25.6)
    full: bool = False
    guard: float = 0.12
    patience_s: float = 10.0
    noisy_cv: float = 0.05
    cores: int | None = None
    virtual_cores: int | None = None
    prefer_cgroup: bool = True
    device: str | None = None
    seed: int = 0


def quick_settings(**changes: Any) -> CollectSettings:
    """About a minute on two cores."""
    settings = CollectSettings(**changes)
    if settings.virtual_cores:
        # Shares show in throughput only, so windows are longer; a small share still has to end a
        # training task within one. Receiving tasks stay as large as a real cycle's: starting one
        # takes half a millisecond, a quarter of what 2.56 MB take on every core (0.71 ms per MB
        # instead of 0.57).
        settings = replace(settings, rounds=3, window_s=1.2, batches=(1, 2), mb=(25.6, 51.2))
    return settings


def full_settings(**changes: Any) -> CollectSettings:
    """Under four minutes on two cores: every condition, more trials."""
    settings = replace(quick_settings(**changes), full=True)
    if settings.virtual_cores:
        return replace(settings, rounds=4)
    return replace(settings, rounds=10, window_s=1.0, batches=(2, 4, 8, 12))


@dataclass(frozen=True, slots=True)
class Point:
    """A condition at a core split; `sides` are the tasks that run.

    For ``switching`` the split alternates between `comm_cores` and one core more; for ``shared``
    there is no split, and `comm_cores` is None.
    """

    condition: str
    comm_cores: int | None
    sides: tuple[str, ...]

    @property
    def label(self) -> str:
        """What a progress bar says."""
        split = "" if self.comm_cores is None else f", c = {self.comm_cores}"
        return f"{' + '.join(self.sides)} {self.condition}{split}"

    def recorded_cores(self, task: str, total: int) -> int:
        """Return the `comm_cores` that a row of this point carries."""
        if self.comm_cores is not None:
            return self.comm_cores
        return total if task == "comm" else 0


def plan_points(total_cores: int, *, full: bool) -> list[Point]:
    """List the points of a device.

    Parameters
    ----------
    total_cores : int
    full : bool
        Also each side alone at the splits where the other side runs too.

    Returns
    -------
    list of Point
        Computation is feasible at 0..total-1 communication cores, communication at 1..total.

    Examples
    --------
    >>> [p.label for p in plan_points(2, full=False)][:3]
    ['compute alone, c = 0', 'comm alone, c = 2', 'compute + comm contended, c = 1']
    """
    points = [
        Point("alone", 0, ("compute",)),
        Point("alone", total_cores, ("comm",)),
    ]
    inner = range(1, total_cores)
    points += [Point("contended", c, ("compute", "comm")) for c in inner]
    points.append(Point("shared", None, ("compute", "comm")))
    switched = {"compute": total_cores // 2 - 1, "comm": total_cores // 2} if inner else {}
    points += [Point("switching", c, (side,)) for side, c in switched.items()]
    # The cost of a change is computed from the two splits it lies between, so both are measured.
    points += [
        Point("alone", c, (side,))
        for c in inner
        for side in ("compute", "comm")
        if full or c - switched[side] in {0, 1}
    ]
    return points


# --- one trial ------------------------------------------------------------------------------------


def measure_point(
    bench: Bench, point: Point, settings: CollectSettings, *, trial: int, t_zero: float
) -> list[dict[str, Any]]:
    """Measure one trial of a point on a fresh bench.

    Returns
    -------
    list of dict
        Rows of a trace, without the device's name.
    """
    _set_point(bench, point)
    _warm_up(bench, point, max(settings.batches))
    cores = bench.settings.cores
    cpu_before = read_cpu(bench.device_pids, cores)
    sender_before = bench.sender_cpu_s()
    events, changes, done_mb = _window(bench, point, settings)
    sender_per_mb = (bench.sender_cpu_s() - sender_before) / done_mb if done_mb else math.nan
    taken = taken_between(cpu_before, read_cpu(bench.device_pids, cores))
    foreign = taken.share_of(len(cores))
    total = bench.total_cores
    common = {
        "total_cores": total,
        "condition": point.condition,
        "trial": trial,
        "changes": changes,
        "status": "ok" if foreign <= settings.guard else "foreign",
        "foreign_cpu": round(foreign, 4),
    }
    windowed = bench.settings.virtual_cores is not None or point.condition == "switching"
    rows = []
    for side in point.sides:
        mine = [e for e in events if (e.task == "comm") == (side == "comm")]
        described = _throughput(mine) if windowed else _single_tasks(mine)
        for repeat, phase, work, start, seconds in described:
            rows.append(
                {
                    **common,
                    "task": side,
                    "comm_cores": point.recorded_cores(side, total),
                    "work": work,
                    "unit": "MB" if side == "comm" else "batch",
                    "repeat": repeat,
                    "seconds": seconds,
                    "t_start": start - t_zero,
                    "phase": phase,
                    "streams": point.recorded_cores("comm", total) if "comm" in point.sides else 0,
                    "sender_cpu_s": sender_per_mb * work if side == "comm" else math.nan,
                }
            )
    return rows


def _set_point(bench: Bench, point: Point) -> None:
    if point.comm_cores is None:
        bench.set_shared()
    elif point.sides == ("compute",):
        bench.set_split(0, bench.total_cores - point.comm_cores)
    elif point.sides == ("comm",):
        bench.set_split(point.comm_cores, 0)
    else:
        bench.set_split(point.comm_cores)


def _warm_up(bench: Bench, point: Point, largest: int) -> None:
    if "compute" in point.sides:
        batches = max(2 if bench.settings.virtual_cores else _WARM_UP_BATCHES, largest)
        bench.start_forward(batches)
        bench.next_event()
        bench.start_backward(batches)
        bench.next_event()
    if "comm" in point.sides:
        bench.start_comm(_WARM_UP_MB / (4 if bench.settings.virtual_cores else 1))
        bench.next_event()


def _window(
    bench: Bench, point: Point, settings: CollectSettings
) -> tuple[list[Event], int, float]:
    """Keep the point's sides busy for a window.

    Returns
    -------
    (list of Event, int, float)
        Tasks that ended inside (and each side's first when none did), changes of the split, and
        MB received in all.
    """
    feed = {side: _feed(bench, side, settings) for side in point.sides}
    end = time.perf_counter() + settings.window_s
    for side in point.sides:
        next(feed[side])
    running, changes, done_mb = set(point.sides), 0, 0.0
    kept: list[Event] = []
    seen: set[str] = set()
    spell_s = settings.window_s / _SPELLS
    next_change = time.perf_counter() + spell_s
    while running:
        patience = None
        if point.condition == "switching":
            patience = max(next_change - time.perf_counter(), 0.0)
        event = bench.next_event(patience)
        now = time.perf_counter()
        if point.condition == "switching" and now >= next_change:
            changes += 1
            _switch(bench, point, changes % 2)
            next_change += spell_s
        if event is None:
            continue
        side = "comm" if event.task == "comm" else "compute"
        done_mb += event.work if side == "comm" else 0.0
        if event.end <= end or side not in seen or event.task == "backward":
            kept.append(event)
        # A cycle ends with its Backward; one that overran the window beside a side that has
        # stopped is dropped below.
        whole = event.task != "forward"
        if whole:
            seen.add(side)
        if whole and now >= end:
            running.discard(side)
        else:
            next(feed[side])
    return _within(kept, end), changes, done_mb


def _within(events: list[Event], end: float) -> list[Event]:
    """Keep tasks (and whole cycles) that ended in time, and at least one of each side."""
    units: list[tuple[Event, ...]] = [(e,) for e in events if e.task == "comm"]
    comp = [e for e in events if e.task != "comm"]
    units += list(zip(comp[::2], comp[1::2], strict=False))
    kept: list[Event] = []
    for is_comm in (True, False):
        side = [unit for unit in units if (unit[0].task == "comm") == is_comm]
        inside = [unit for unit in side if unit[-1].end <= end]
        kept += [event for unit in inside or side[:1] for event in unit]
    return kept


def _switch(bench: Bench, point: Point, more: int) -> None:
    comm_cores = (point.comm_cores or 0) + more
    if point.sides == ("compute",):
        bench.set_split(0, bench.total_cores - comm_cores)
    else:
        bench.set_split(comm_cores, 0)


def _feed(bench: Bench, side: str, settings: CollectSettings) -> Iterator[None]:
    """Start the side's next task at each `next`, going through the workloads in turn."""
    while True:
        if side == "comm":
            for mb in settings.mb:
                bench.start_comm(mb)
                yield
        else:
            for batches in settings.batches:
                bench.start_forward(batches)
                yield
                bench.start_backward(batches)
                yield


def _single_tasks(events: Sequence[Event]) -> Iterator[tuple[int, str, float, float, float]]:
    """Describe each task; a cycle's Forward and Backward carry the same repeat."""
    for number, event in enumerate(events):
        if event.task == "comm":
            yield number, "", event.work, event.start, event.end - event.start
        else:
            yield number // 2, event.task, event.work, event.start, event.end - event.start


def _throughput(events: Sequence[Event]) -> Iterator[tuple[int, str, float, float, float]]:
    """Describe all tasks as one measurement from the first start to the last end."""
    if events:
        comm = events[0].task == "comm"
        work = sum(e.work for e in events) / (1 if comm else 2)
        start = events[0].start
        yield 0, "" if comm else "step", work, start, events[-1].end - start
