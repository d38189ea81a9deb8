"""The columns of a device trace: how each is read, what is legal, what stands in for it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kdsim._types import Record, RecordView
from kdsim.messages import did_you_mean

FORMAT_VERSION = 1

#: Each side's task and the unit in which its work is counted.
TASKS = {"compute": "batch", "comm": "MB"}
#: alone: only this side runs. contended: both sides run, each on its own cores. shared: both
#: sides run on all cores, unpinned. switching: the core split changes `changes` times meanwhile.
CONDITIONS = ("alone", "contended", "shared", "switching")
#: step is forward and backward as one measurement (a throughput window).
PHASES = ("", "forward", "backward", "step")
#: ok: counts. foreign: other processes used the CPU, the trial was repeated. noisy: the point
#: kept varying from trial to trial; it is shown, but curves are not fitted to it.
STATUSES = ("ok", "foreign", "noisy")

#: As many cores as a scenario's device may have.
MAX_CORES = 1024
_MAX_COUNT = 10**9
#: Far beyond any measurement: a tenth of a nanosecond to three years, an amount to match.
_SECONDS = (1e-10, 1e8)
_WORK = (1e-9, 1e12)

_WHOLE = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = frozenset({"nan", "inf", "infinity"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column: how its text is read, and the default that makes it optional."""

    convert: Callable[[str], Any]
    required: bool = True
    default: Any = None


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    if not value.isprintable():
        raise ValueError("must be printable text")
    if len(value) > 200:
        raise ValueError("must have at most 200 characters")
    return value


def _whole(low: int, high: int = _MAX_COUNT) -> Callable[[str], int]:
    def convert(value: str) -> int:
        if not _WHOLE.fullmatch(value.strip()):
            raise ValueError("must be a whole number")
        # Leading zeros aside, a number of so many digits is beyond every bound.
        number = int(value) if len(value) < 40 else high + 1
        if number < low:
            raise ValueError(f"must be at least {low}")
        if number > high:
            raise ValueError(f"must be at most {high}")
        return number

    return convert


def _real(
    low: float = 0.0, high: float = 1e15, *, optional: bool = False
) -> Callable[[str], float]:
    def convert(value: str) -> float:
        text = value.strip()
        if optional and text == "":
            return math.nan
        if text.lower().lstrip("+-") in _NOT_FINITE:
            raise ValueError("must be finite")
        if not _REAL.fullmatch(text):
            raise ValueError("must be a number")
        number = float(text)
        if number < 0 or (low > 0 and number == 0):
            raise ValueError("must be positive" if low > 0 else "must be zero or positive")
        if not low <= number <= high:
            raise ValueError(f"must lie in {low:g}..{high:g}")
        return number

    return convert


def _one_of(options: Iterable[str]) -> Callable[[str], str]:
    allowed = tuple(options)

    def convert(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(repr(o) for o in allowed)}")
        return value

    return convert


#: Every column a trace may have, in the order in which it is written. Without `trial`, each
#: `repeat` is a trial (see `calibration.trace.reading`).
COLUMNS: dict[str, Column] = {
    "device": Column(_text),
    "task": Column(_one_of(TASKS)),
    "total_cores": Column(_whole(1, MAX_CORES)),
    "comm_cores": Column(_whole(0, MAX_CORES)),
    "work": Column(_real(*_WORK)),
    "unit": Column(_one_of(TASKS.values())),
    "repeat": Column(_whole(0)),
    "seconds": Column(_real(*_SECONDS)),
    "t_start": Column(_real(optional=True), required=False, default=math.nan),
    "phase": Column(_one_of(PHASES), required=False, default=""),
    "condition": Column(_one_of(CONDITIONS), required=False, default="alone"),
    "trial": Column(_whole(0), required=False, default=0),
    "streams": Column(_whole(0), required=False, default=0),
    "changes": Column(_whole(0), required=False, default=0),
    "status": Column(_one_of(STATUSES), required=False, default="ok"),
    "foreign_cpu": Column(_real(optional=True), required=False, default=math.nan),
    "sender_cpu_s": Column(_real(optional=True), required=False, default=math.nan),
}


def check_names(names: list[str], where: str, faults: list[str]) -> None:
    """Add a fault for each unknown, repeated or missing column name."""
    if not names:
        faults.append(f"{where}: no column names: the file has no table")
        return
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        faults.append(
            f"{where}: columns must be separated by commas (got {names[0][:60]!r}); "
            "`kdsim calibrate import` reads other tables"
        )
        return
    for name in names:
        if name not in COLUMNS:
            faults.append(f"{where}: unknown column {name[:40]!r}{did_you_mean(name, COLUMNS)}")
        elif names.count(name) > 1 and f"{where}: {name}: duplicate column" not in faults:
            faults.append(f"{where}: {name}: duplicate column")
    faults.extend(
        f"{where}: {name}: missing column"
        for name, column in COLUMNS.items()
        if column.required and name not in names
    )


def convert_record(fields: Mapping[str, str], where: str, faults: list[str]) -> Record:
    """Convert one row's texts by column name; what is not legal is a fault and left out."""
    record: Record = {}
    for name, value in fields.items():
        try:
            record[name] = COLUMNS[name].convert(value)
        except ValueError as error:
            faults.append(f"{where}: {name}: {error} (got {value[:40]!r})")
    return record


def check_record(record: RecordView, first: RecordView, where: str, faults: list[str]) -> None:
    """Check what one row says against itself and against the trace's first row."""
    task, total, comm = record["task"], record["total_cores"], record["comm_cores"]
    if record["unit"] != TASKS[task]:
        faults.append(
            f"{where}: unit: must be {TASKS[task]!r} for task {task!r} (got {record['unit']!r})"
        )
    low, high = (0, total - 1) if task == "compute" else (1, total)
    if not low <= comm <= high:
        faults.append(
            f"{where}: comm_cores: must lie in {low}..{high} for task {task!r} on {total} cores "
            f"(got {comm}); it is the number of cores given to communication, in rows of either "
            "task"
        )
    for name in ("device", "total_cores"):
        if record[name] != first[name]:
            faults.append(
                f"{where}: {name}: a trace describes one device; the first row says "
                f"{first[name]!r} (got {record[name]!r})"
            )
