"""Measure f and g on this device: which points, in which order, under which guard.

Every round visits all points in a new random order, each in fresh processes; a trial that others'
processes disturbed is repeated, a point that keeps varying is marked, and nothing is thrown
away. How one point is measured is in ``calibration.bench.measure``, what runs in
``calibration.bench.bench``, the file format in ``calibration.trace``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calibration.bench.bench import Bench, BenchSettings
from calibration.bench.measure import (
    CollectSettings,
    Point,
    measure_point,
    plan_points,
    quick_settings,
)
from calibration.bench.start import Teacher, TeacherProcess
from calibration.link.stream import RemoteTeacher
from calibration.machine.cores import (
    MEASUREMENT_ENVIRONMENT,
    take_cores,
)
from calibration.machine.disturbance import wait_for_calm
from calibration.machine.host import device_name, fingerprint
from calibration.machine.shares import MOST_SHARES, PERIOD_S
from calibration.trace import Trace, check_place, noisy_points, read_trace, write_trace
from kdsim.errors import TraceError, WorkloadError

_MOST_REPEATS_OF_A_TRIAL = 3
#: What may change when a collection is resumed: how long it runs, and what never repeats.
_FREE_TO_DIFFER = {"rounds", "extra_rounds", "patience_s", "date", "memory_gib"}

#: (done, all, what is being measured)
Progress = Callable[[int, int, str], None]


def collect(
    path: str | Path,
    settings: CollectSettings | None = None,
    *,
    teacher: RemoteTeacher | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    student_spec: Mapping[str, Any] | None = None,
) -> Trace:
    """Measure this device into a trace file.

    The file is complete after every trial; on Ctrl-C it keeps what is there. A file of an earlier
    collection is replaced when the first trial has ended.

    Parameters
    ----------
    path : path-like
        The trace to write.
    settings : CollectSettings, optional
        :func:`quick_settings` by default.
    teacher : RemoteTeacher, optional
        A teacher elsewhere; a process on this machine by default.
    resume : bool
        Continue the trace that exists.
    progress : callable, optional
        Told ``(done, all, what)`` before each trial and at the end.
    student_spec : mapping, optional
        Changes to the measured student (`calibration.bench.student.DEFAULT_SPEC`).

    Returns
    -------
    Trace

    Raises
    ------
    TraceError
        If the file cannot be written, or cannot be resumed with these settings.
    WorkloadError, TransportError
        If the device lacks the cores, or a process or the teacher fails.
    """
    settings, path = settings or quick_settings(), Path(path)
    cores = take_cores(settings.cores)
    total = settings.virtual_cores or len(cores)
    if total < 2 and not settings.virtual_cores:
        raise WorkloadError(
            "a single core cannot be split between communication and computation; give "
            "--virtual-cores N to measure fractional shares of it"
        )
    if total > MOST_SHARES * len(cores):
        raise WorkloadError(
            f"--virtual-cores: {len(cores)} core(s) can be shared out into at most "
            f"{MOST_SHARES * len(cores)} (a millisecond of each {1e3 * PERIOD_S:g}), got {total}"
        )
    header = {
        "host": fingerprint(),
        "settings": {**asdict(settings), "student": dict(student_spec or {})},
        "environment": MEASUREMENT_ENVIRONMENT,
        "cores": list(cores),
    }
    name = settings.device or device_name(len(cores))
    if not name.strip() or not name.isprintable():
        raise WorkloadError(f"a device's name must be printable and not blank, got {name!r}")
    if settings.virtual_cores and not settings.device:
        name = f"{name}-{settings.virtual_cores}virtual"
    rows = _resumable(path, header) if resume else []
    # Before minutes of measuring; what is there stays until there is something to replace it with.
    check_place(path)
    bench_settings = BenchSettings(
        cores=cores,
        virtual_cores=settings.virtual_cores,
        prefer_cgroup=settings.prefer_cgroup,
        tls=None if teacher is None else teacher.tls,
        token=None if teacher is None else teacher.token,
        student_spec=dict(student_spec or {}),
    )
    with _served_by(teacher) as serving:
        header["teacher"] = {
            "where": "elsewhere" if serving.pid is None else "this machine, communication cores",
            "chunk_mb": serving.chunk_mb,
            "tls": bench_settings.tls is not None,
        }
        _run_rounds(path, rows, header, settings, bench_settings, serving, name, progress)
    return read_trace(path)


@contextmanager
def _served_by(remote: RemoteTeacher | None) -> Iterator[Teacher]:
    """Start a teacher, or greet one elsewhere to learn what it serves."""
    if remote is None:
        with TeacherProcess() as teacher:
            yield teacher
    else:
        with remote.stream() as stream:
            greeting = stream.greeting
        yield Teacher(remote.address, greeting)


def _run_rounds(
    path: Path,
    rows: list[dict[str, Any]],
    header: dict[str, Any],
    settings: CollectSettings,
    bench_settings: BenchSettings,
    teacher: Teacher,
    name: str,
    progress: Progress | None,
) -> None:
    points = plan_points(bench_settings.total_cores, full=settings.full)
    t_zero = time.perf_counter() - max((r["t_start"] + r["seconds"] for r in rows), default=0.0)
    have = {_key(r) for r in rows if r["status"] != "foreign"}
    covered = _covered(points, have, bench_settings.total_cores)
    todo = [
        (trial, point)
        for trial in range(settings.rounds)
        for point in _shuffled(points, settings.seed, trial)
        if (point, trial) not in covered
    ]
    last = settings.rounds + settings.extra_rounds
    while todo:
        for done, (trial, point) in enumerate(todo):
            if progress is not None:
                progress(done, len(todo), point.label)
            rows += guarded_trial(bench_settings, teacher, point, settings, trial, t_zero, header)
            _save(path, name, rows, header)
        if progress is not None:
            progress(len(todo), len(todo), "done")
        trial = max(r["trial"] for r in rows) + 1
        noisy = noisy_points(pd.DataFrame(rows), settings.noisy_cv)
        todo = []
        if trial < last:
            again = [p for p in points if _point_keys(p, bench_settings.total_cores) & noisy]
            todo = [(trial, point) for point in _shuffled(again, settings.seed, trial)]
    _mark(rows, noisy_points(pd.DataFrame(rows), settings.noisy_cv))
    _save(path, name, rows, header)


def guarded_trial(
    bench_settings: BenchSettings,
    teacher: Teacher,
    point: Point,
    settings: CollectSettings,
    trial: int,
    t_zero: float,
    header: dict[str, Any],
    *,
    attempts: int = _MOST_REPEATS_OF_A_TRIAL,
) -> list[dict[str, Any]]:
    """Measure a trial, again while others disturb it; disturbed ones stay in the trace."""
    rows: list[dict[str, Any]] = []
    for _ in range(attempts):
        cores = bench_settings.cores
        if settings.guard < 1:  # 1 accepts every trial: nothing to wait for
            wait_for_calm(cores, len(cores) * settings.guard / 2, settings.patience_s)
        with Bench(bench_settings, teacher) as bench:
            header["cores_given_by"] = bench.share_method
            measured = measure_point(bench, point, settings, trial=trial, t_zero=t_zero)
        rows += measured
        if all(row["status"] == "ok" for row in measured):
            break
    return rows


def _shuffled(points: Sequence[Point], seed: int, trial: int) -> list[Point]:
    order = np.random.default_rng([seed, trial]).permutation(len(points))
    return [points[i] for i in order]


def _key(row: Mapping[str, Any]) -> tuple[str, str, int, int]:
    return row["condition"], row["task"], int(row["comm_cores"]), int(row["trial"])


def _point_keys(point: Point, total: int) -> set[tuple[str, str, int]]:
    return {(point.condition, side, point.recorded_cores(side, total)) for side in point.sides}


def _covered(
    points: Sequence[Point], have: set[tuple[str, str, int, int]], total: int
) -> set[tuple[Point, int]]:
    trials = {key[3] for key in have}
    return {
        (point, trial)
        for point in points
        for trial in trials
        if all((*key, trial) in have for key in _point_keys(point, total))
    }


def _mark(rows: list[dict[str, Any]], noisy: set[tuple[str, str, int]]) -> None:
    for row in rows:
        if row["status"] != "foreign":
            row["status"] = "noisy" if _key(row)[:3] in noisy else "ok"


def _save(path: Path, name: str, rows: list[dict[str, Any]], header: Mapping[str, Any]) -> None:
    write_trace(path, pd.DataFrame(rows).assign(device=name), header)


def _resumable(path: Path, header: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the rows of a trace to resume.

    Raises
    ------
    TraceError
        If it was collected on another device or with other settings.
    """
    if not path.exists():
        return []
    before = read_trace(path)
    differing = [
        f"{key} (the trace has {old.get(key)!r}, asked for {new.get(key)!r})"
        for old, new in [
            (before.header.get("settings", {}), _as_json(header["settings"])),
            (before.header.get("host", {}), header["host"]),
        ]
        for key in sorted({*old, *new} - _FREE_TO_DIFFER)
        if old.get(key) != new.get(key)
    ]
    if differing:
        raise TraceError(
            f"{path}: cannot be resumed: {'; '.join(differing)}; give the same settings, or "
            "collect into another file"
        )
    settings = header["settings"]
    header.update({**before.header, "settings": settings})
    records = before.rows.drop(columns="device").to_dict("records")
    return [{str(k): v for k, v in record.items()} for record in records]


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
