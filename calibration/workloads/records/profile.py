"""The cost profile: what each training cycle of a workload cost, for the simulator to replay.

One CSV row a training cycle (one batch): the bytes that arrived and left, the seconds of its
forward and its backward pass, and the cores that computed them. A comment header says which
workload, method and seed, on which host and with which versions.

What is not here: device traces (``calibration.trace``), the scenario that reads a profile.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from calibration.workloads.records.results import host, versions, write_text
from kdsim.errors import DataError


@dataclass(frozen=True, slots=True)
class CycleCost:
    """The cost of one training cycle.

    Attributes
    ----------
    cycle, epoch : int
        Counted from 1; the cycle goes on across epochs.
    comm_bytes : int
        Bytes over the link in this cycle.
    forward_s, backward_s : float
        Seconds, measured on `cores` cores.
    cores : int
        Cores that computed.
    frozen_layers : int
        Layers whose weights did not train.
    accuracy : float or None
        Share of test images classified correctly, 0 to 1; at epoch ends only, if at all.
    """

    cycle: int
    epoch: int
    comm_bytes: int
    forward_s: float
    backward_s: float
    cores: int
    frozen_layers: int = 0
    accuracy: float | None = None


COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(CycleCost))

_INTEGERS = ("cycle", "epoch", "comm_bytes", "cores", "frozen_layers")


@dataclass(frozen=True, slots=True)
class Profile:
    """A cost profile as read: its comment header and its cycles."""

    header: dict[str, str]
    cycles: tuple[CycleCost, ...]


def write_profile(
    path: Path,
    cycles: Sequence[CycleCost],
    *,
    workload: str,
    method: str,
    seed: int,
    notes: Mapping[str, object] | None = None,
) -> None:
    """Write a cost profile.

    Parameters
    ----------
    path : path
        The CSV file; absent folders are made.
    cycles : sequence of CycleCost
        In order.
    workload, method : str
        For example ``"aflkd"`` and ``"aflkd-reverse"``.
    seed : int
        Seed of the run.
    notes : mapping, optional
        More header entries; one line each.

    Raises
    ------
    ResultError
        If the file cannot be written.
    """
    machine = host()
    header = {
        "workload": workload,
        "method": method,
        "seed": seed,
        "host": f"{machine['cpu']}, {machine['cores']} cores, {machine['machine']}",
        "versions": ", ".join(f"{k} {v}" for k, v in versions().items()),
        **(notes or {}),
    }
    lines = [f"# {key}: {' '.join(str(value).split())}" for key, value in header.items()]
    lines.append(",".join(COLUMNS))
    for c in cycles:
        shown = "" if c.accuracy is None else f"{c.accuracy:.6g}"
        lines.append(
            f"{c.cycle},{c.epoch},{c.comm_bytes},{c.forward_s:.6g},{c.backward_s:.6g},"
            f"{c.cores},{c.frozen_layers},{shown}"
        )
    write_text(path, "\n".join(lines) + "\n")


def read_profile(path: Path) -> Profile:
    """Read a cost profile, as strictly as a scenario is read.

    Returns
    -------
    Profile

    Raises
    ------
    DataError
        If the file cannot be read, has no cycle, lacks or repeats a column, or a value is
        missing, negative or not a number; the line is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cost profile {path} cannot be read: {error}") from error
    header: dict[str, str] = {}
    start = 0
    while start < len(lines) and lines[start].startswith("#"):
        key, _, value = lines[start].lstrip("# ").partition(":")
        header[key.strip()] = value.strip()
        start += 1
    names = lines[start].split(",") if start < len(lines) else []
    if tuple(names) != COLUMNS:
        raise DataError(
            f"{path}:{start + 1}: the columns must be {','.join(COLUMNS)}; got "
            f"{','.join(names) or 'nothing'}"
        )
    cycles = []
    for number, fields_ in enumerate(csv.reader(lines[start + 1 :]), start + 2):
        if len(fields_) != len(COLUMNS):
            raise DataError(f"{path}:{number}: expected {len(COLUMNS)} values, got {len(fields_)}")
        cycles.append(_cycle(f"{path}:{number}", dict(zip(COLUMNS, fields_, strict=True))))
    if not cycles:
        raise DataError(f"cost profile {path} has no cycle")
    return Profile(header, tuple(cycles))


def _cycle(where: str, row: dict[str, str]) -> CycleCost:
    values: dict[str, int | float | None] = {}
    for name, text in row.items():
        if name == "accuracy" and not text:
            values[name] = None
            continue
        kind = "a whole number" if name in _INTEGERS else "a finite number"
        try:
            value = int(text) if name in _INTEGERS else float(text)
        except ValueError:
            raise DataError(f"{where}: {name} must be {kind}, got {text!r}") from None
        least = 1 if name in ("cycle", "epoch", "cores") else 0
        if not (math.isfinite(value) and value >= least):
            raise DataError(f"{where}: {name} must be {kind} of at least {least}, got {text!r}")
        values[name] = value
    if values["accuracy"] is not None and values["accuracy"] > 1:
        raise DataError(f"{where}: accuracy must lie in 0 to 1, got {row['accuracy']!r}")
    return CycleCost(**values)
