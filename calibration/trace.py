"""The device-trace format: read, validate, write.

A trace is a CSV file with one row a measurement under a comment header. The header's first line
is ``# kdsim-trace: 1``; every further comment line is ``# key: <JSON value>`` (fingerprint,
settings). Reading is strict: every fault of the file is reported at once, each with its line.

What is not here: taking the measurements (``collect``), curves from them (``fit``). This module
needs no torch.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdsim.errors import PlotError, TraceError
from kdsim.output_file import write_output

FORMAT_VERSION = 1

#: A day of measuring writes a few MB; anything far beyond is not a trace.
_MAX_BYTES = 200 * 2**20
_MAX_FAULTS_SHOWN = 25

TASKS = {"compute": "batch", "comm": "MB"}
#: alone: only this side runs. contended: both sides run, each on its own cores. shared: both
#: sides run on all cores, unpinned. switching: the core split changes `changes` times meanwhile.
CONDITIONS = ("alone", "contended", "shared", "switching")
#: step is forward and backward as one measurement (a throughput window).
PHASES = ("", "forward", "backward", "step")
#: ok: counts. foreign: other processes used the CPU, the trial was repeated. noisy: the point
#: kept varying from trial to trial; it is shown, but curves are not fitted to it.
STATUSES = ("ok", "foreign", "noisy")
#: What others rely on in the header, where it is there; any further key is free.
_HEADER_VALUES: dict[str, tuple[type, str]] = {
    "host": (dict, "a JSON object"),
    "settings": (dict, "a JSON object"),
    "cores": (list, "a JSON list"),
}


@dataclass(frozen=True, slots=True)
class Trace:
    """A validated device trace.

    Attributes
    ----------
    rows : DataFrame
        One row a measurement, the columns of `COLUMNS`; optional columns that the file lacks
        hold their defaults.
    header : dict
        The comment header: host fingerprint and collection settings, as JSON values.
    path : Path or None
        Where it was read from.
    sha256 : str
        Digest of the file's bytes (empty when not read from a file).
    """

    rows: pd.DataFrame
    header: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    sha256: str = ""

    @property
    def device(self) -> str:
        """Name of the device measured."""
        return str(self.rows["device"].iloc[0])

    @property
    def total_cores(self) -> int:
        """Cores of the device (virtual ones, if it was measured in fractional shares)."""
        return int(self.rows["total_cores"].iloc[0])


# --- columns ----------------------------------------------------------------------------------


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _whole(low: int) -> Callable[[str], int]:
    def convert(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            raise ValueError("must be a whole number") from None
        if number < low:
            raise ValueError(f"must be at least {low}")
        return number

    return convert


def _real(*, positive: bool = False, optional: bool = False) -> Callable[[str], float]:
    def convert(value: str) -> float:
        if optional and value == "":
            return math.nan
        try:
            number = float(value)
        except ValueError:
            raise ValueError("must be a number") from None
        if not math.isfinite(number):
            raise ValueError("must be finite")
        if number < 0 or (positive and number == 0):
            raise ValueError("must be positive" if positive else "must be zero or positive")
        return number

    return convert


def _one_of(options: Iterable[str]) -> Callable[[str], str]:
    allowed = tuple(options)

    def convert(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(repr(o) for o in allowed)}")
        return value

    return convert


@dataclass(frozen=True, slots=True)
class Column:
    """A column: how its text is read, and the default that makes it optional."""

    convert: Callable[[str], Any]
    required: bool = True
    default: Any = None


#: Every column a trace may have, in the order in which it is written.
COLUMNS: dict[str, Column] = {
    "device": Column(_text),
    "task": Column(_one_of(TASKS)),
    "total_cores": Column(_whole(1)),
    "comm_cores": Column(_whole(0)),
    "work": Column(_real(positive=True)),
    "unit": Column(_one_of(TASKS.values())),
    "repeat": Column(_whole(0)),
    "seconds": Column(_real(positive=True)),
    "t_start": Column(_real()),
    "phase": Column(_one_of(PHASES), required=False, default=""),
    "condition": Column(_one_of(CONDITIONS), required=False, default="alone"),
    "trial": Column(_whole(0), required=False, default=0),
    "streams": Column(_whole(0), required=False, default=0),
    "changes": Column(_whole(0), required=False, default=0),
    "status": Column(_one_of(STATUSES), required=False, default="ok"),
    "foreign_cpu": Column(_real(optional=True), required=False, default=math.nan),
    "sender_cpu_s": Column(_real(optional=True), required=False, default=math.nan),
}


# --- reading ----------------------------------------------------------------------------------


def read_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a device trace and validate it.

    Parameters
    ----------
    path : path-like
        A CSV file in the trace format.

    Returns
    -------
    Trace

    Raises
    ------
    TraceError
        If the file cannot be read or breaks the format; the message lists every fault as
        ``file:line: column: reason (got ...)``.
    """
    path = Path(path)
    raw = _read_bytes(path)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TraceError(
            f"{path}:{line}: not a device trace: the file is not UTF-8 text"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TraceError(f"{path}:{line}: not a device trace: the file holds NUL bytes")
    faults: list[str] = []
    header, body, first_line = _split_header(text, path, faults)
    records = _records(body, first_line, path, faults)
    if not records and not faults:
        faults.append(f"{path}:{first_line}: no measurement: the file has no data row")
    if faults:
        raise TraceError(_listing(faults))
    return Trace(_frame(records), header, path, hashlib.sha256(raw).hexdigest())


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise TraceError(f"{path}: a device trace is a CSV file, got a directory")
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)  # a device or a pipe has no size to ask for
        if len(raw) > _MAX_BYTES:
            raise TraceError(
                f"{path}: a device trace has at most {_MAX_BYTES // 2**20} MiB, got more"
            )
        return raw
    except OSError as error:
        raise TraceError(f"{path}: cannot read the trace: {error.strerror or error}") from error


def _split_header(
    text: str, path: Path, faults: list[str]
) -> tuple[dict[str, Any], list[str], int]:
    """Separate the comment header from the CSV body; give the body's first line number."""
    lines = text.splitlines()
    header: dict[str, Any] = {}
    for number, line in enumerate(lines, start=1):
        if not line.startswith("#"):
            break
        key, colon, value = line.lstrip("# ").partition(":")
        if not colon or not key.strip():
            faults.append(
                f"{path}:{number}: header: must be '# key: <JSON value>' (got {line[:60]!r})"
            )
            continue
        try:
            header[key.strip()] = json.loads(value)
        except json.JSONDecodeError:
            faults.append(
                f"{path}:{number}: header: {key.strip()}: must be a JSON value "
                f"(got {value.strip()[:60]!r})"
            )
    else:
        number = len(lines) + 1
    version = header.get("kdsim-trace")
    if version != FORMAT_VERSION and not faults:
        got = "no such line" if version is None else f"version {version!r}"
        faults.append(
            f"{path}:1: header: must begin with '# kdsim-trace: {FORMAT_VERSION}' (got {got})"
        )
    header.pop("kdsim-trace", None)
    faults.extend(
        f"{path}: header: {key}: must be {_HEADER_VALUES[key][1]} (got {json.dumps(value)[:60]})"
        for key, value in header.items()
        if key in _HEADER_VALUES and not isinstance(value, _HEADER_VALUES[key][0])
    )
    return header, lines[number - 1 :], number


def _records(
    body: list[str], first_line: int, path: Path, faults: list[str]
) -> list[dict[str, Any]]:
    reader = csv.reader(body)
    try:
        names = next(reader, [])
        _check_names(names, f"{path}:{first_line}", faults)
        if faults:
            return []
        records: list[dict[str, Any]] = []
        for fields in reader:
            if not fields:
                continue
            where = f"{path}:{first_line + reader.line_num - 1}"
            record = _record(names, fields, where, faults)
            if record is not None:
                _check_record(record, records[0] if records else record, where, faults)
                records.append(record)
    except csv.Error as error:
        faults.append(f"{path}:{first_line + reader.line_num - 1}: not CSV: {error}")
        return []
    return records


def _check_names(names: list[str], where: str, faults: list[str]) -> None:
    if not names:
        faults.append(f"{where}: no column names: the file has no table")
        return
    for name in names:
        if name not in COLUMNS:
            close = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            faults.append(f"{where}: unknown column {name[:40]!r}{hint}")
        elif names.count(name) > 1 and f"{where}: {name}: duplicate column" not in faults:
            faults.append(f"{where}: {name}: duplicate column")
    faults.extend(
        f"{where}: {name}: missing column"
        for name, column in COLUMNS.items()
        if column.required and name not in names
    )


def _record(
    names: list[str], fields: list[str], where: str, faults: list[str]
) -> dict[str, Any] | None:
    if len(fields) != len(names):
        faults.append(f"{where}: must have {len(names)} fields (got {len(fields)})")
        return None
    record: dict[str, Any] = {}
    for name, value in zip(names, fields, strict=True):
        try:
            record[name] = COLUMNS[name].convert(value)
        except ValueError as error:
            faults.append(f"{where}: {name}: {error} (got {value[:40]!r})")
    return record if len(record) == len(names) else None


def _check_record(
    record: Mapping[str, Any], first: Mapping[str, Any], where: str, faults: list[str]
) -> None:
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
            f"(got {comm})"
        )
    for name in ("device", "total_cores"):
        if record[name] != first[name]:
            faults.append(
                f"{where}: {name}: a trace describes one device; the first row says "
                f"{first[name]!r} (got {record[name]!r})"
            )


def _listing(faults: list[str]) -> str:
    shown = faults[:_MAX_FAULTS_SHOWN]
    if len(faults) > len(shown):
        shown.append(f"... and {len(faults) - len(shown)} more faults")
    return "\n".join(shown)


def _frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame.from_records(records)
    for name, column in COLUMNS.items():
        if name not in frame:
            frame[name] = column.default
    return frame[list(COLUMNS)]


# --- writing ----------------------------------------------------------------------------------


def write_trace(
    path: str | os.PathLike[str], rows: pd.DataFrame, header: Mapping[str, Any] | None = None
) -> None:
    """Write a trace atomically: a reader sees the old file or the whole new one.

    Parameters
    ----------
    path : path-like
        The file to write.
    rows : DataFrame
        Measurements; required columns of `COLUMNS` must be there, optional ones may be.
    header : mapping, optional
        JSON values for the comment header (fingerprint, settings).

    Raises
    ------
    TraceError
        If a column is missing or unknown, or the file cannot be written.
    """
    path = Path(path)
    faults: list[str] = []
    _check_names(list(rows.columns), str(path), faults)
    if faults:
        raise TraceError(_listing(faults))
    buffer = io.StringIO()
    buffer.write(f"# kdsim-trace: {FORMAT_VERSION}\n")
    for key, value in (header or {}).items():
        buffer.write(f"# {key}: {json.dumps(value, sort_keys=True)}\n")
    columns = [name for name in COLUMNS if name in rows.columns]
    rows[columns].to_csv(buffer, index=False, float_format="%.9g", lineterminator="\n")
    try:
        write_output(path, buffer.getvalue().encode())
    except PlotError as error:
        raise TraceError(str(error)) from error


def check_place(path: Path) -> None:
    """Find out, before minutes of measuring, whether a trace can be written; leave `path` as it is.

    Raises
    ------
    TraceError
        If the folder does not exist or cannot be written, or something is there that is no file.
    """
    if not path.parent.is_dir():
        reason = f"there is no folder {path.parent}"
    elif path.exists() and not path.is_file():
        reason = "something is there that is not a file"
    elif not os.access(path.parent, os.W_OK):
        reason = f"the folder {path.parent} is not writable"
    else:
        return
    raise TraceError(f"{path}: cannot be written: {reason}")


# --- summaries --------------------------------------------------------------------------------


def trial_times(rows: pd.DataFrame) -> pd.DataFrame:
    """Reduce measurements to one number a trial: the median time of a unit of work.

    Parameters
    ----------
    rows : DataFrame
        Rows of a trace. A cycle's forward and backward rows are added up.

    Returns
    -------
    DataFrame
        ``condition, task, comm_cores, trial, seconds_per_work``.
    """
    cycle = ["condition", "task", "comm_cores", "trial", "repeat"]
    tasks = rows.groupby(cycle, sort=True).agg(seconds=("seconds", "sum"), work=("work", "max"))
    tasks["seconds_per_work"] = tasks["seconds"] / tasks["work"]
    return tasks.groupby(cycle[:4], sort=True)["seconds_per_work"].median().reset_index()


def noisy_points(rows: pd.DataFrame, limit: float) -> set[tuple[str, str, int]]:
    """Find points whose trials vary by more than `limit`.

    The coefficient of variation is the robust one (1.4826 MAD / median): one disturbed trial
    among ten must not condemn a point, and the fit leaves it out anyway.

    Parameters
    ----------
    rows : DataFrame
        Rows of a trace.
    limit : float

    Returns
    -------
    set of (condition, task, comm_cores)
        From undisturbed trials; a point without any is noisy too.
    """
    key = ["condition", "task", "comm_cores"]
    everything = {(str(a), str(b), int(c)) for a, b, c in rows[key].itertuples(index=False)}
    good = rows[rows["status"] != "foreign"]
    calm = set()
    for (condition, task, cores), group in trial_times(good).groupby(key):
        times = group["seconds_per_work"].to_numpy()
        spread = 1.4826 * np.median(np.abs(times - np.median(times)))
        if spread <= limit * np.median(times):
            calm.add((str(condition), str(task), int(str(cores))))
    return everything - calm
