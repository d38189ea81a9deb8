"""Cost profiles: what each cycle of a real run cost, read as the work of a scenario.

A workload writes one CSV row per training cycle: the bytes that the device received and sent, the
seconds of the forward and the backward pass, the cores that computed, and at the ends of epochs the
accuracy reached. What was *received* becomes the scenario's communication, in data units (MB): the
model is about receiving and training on the same cores. What was sent is reported, not simulated.
Seconds become compute units by the rate of the host that recorded them.

Profiles of version 0.1 have one column, ``comm_bytes``, which is the sum of the two.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdsim._types import Record
from kdsim.messages import shorten
from kdsim.model.curves import FloatArray
from kdsim.scenario.files.faults import Fault, FaultyFileError
from kdsim.scenario.files.yaml_document import read_text
from kdsim.scenario.parts.device import Device
from kdsim.scenario.parts.workload import MAX_CYCLES

_MAX_BYTES = 256 * 1024 * 1024
#: What a cost profile must hold; it may hold more.
_WANTED = ("downlink_bytes", "forward_s", "backward_s", "cores")
#: What it may hold; an empty cell means unknown.
_OPTIONAL = ("uplink_bytes", "frozen_layers")
_COLUMNS = (*_WANTED, *_OPTIONAL, "accuracy")
#: How version 0.1 called the first of them, sent bytes included.
_OLD_NAME = "comm_bytes"
_MOST = 1e15


@dataclass(frozen=True, eq=False)
class Profile:
    """A cost profile as read.

    Attributes
    ----------
    header : dict of str to str
        Its comment lines, ``# key: value``.
    downlink_bytes, forward_s, backward_s : (N,) float array
        Of each cycle: bytes received (in a profile of version 0.1: received or sent), seconds,
        seconds.
    cores : (N,) int array
        Compute cores that the seconds were measured on.
    lines : tuple of int
        Where in the file each cycle stands.
    marks : (E,) int array
        Cycles, counted from 1, after which the accuracy is known, increasing.
    accuracies : (E,) float array
        The accuracy after each of them, in [0, 1].
    uplink_bytes : (N,) float array or None
        Bytes sent in each cycle; None if the profile does not say.
    frozen_layers : (N,) int array or None
        Layers that did not train in each cycle; None if the profile does not say.
    """

    path: Path
    header: dict[str, str]
    downlink_bytes: FloatArray
    forward_s: FloatArray
    backward_s: FloatArray
    cores: NDArray[np.int64]
    lines: tuple[int, ...]
    marks: NDArray[np.int64]
    accuracies: FloatArray
    uplink_bytes: FloatArray | None = None
    frozen_layers: NDArray[np.int64] | None = None

    def work(self, device: Device, rate: float | None = None) -> Record:
        """Return the amounts of a workload: ``cycles``, ``comm``, ``forward``, ``backward``.

        Parameters
        ----------
        device : Device
            Its compute curve gives the rate at the profile's core count, if `rate` is None.
        rate : float, optional
            Compute units per second of the host that the profile was recorded on.

        Raises
        ------
        FaultyFileError
            If the profile was recorded on more cores than the device's curve knows.
        """
        rates: Any = rate
        if rate is None:
            known = device.compute_rates(device.reference_cores or device.cores)[::-1]
            beyond = np.flatnonzero(self.cores >= known.size)
            if beyond.size:
                reason = (
                    f"was recorded on {self.cores[beyond[0]]} compute cores, the curves know "
                    f"{known.size - 1}; give profile_rate"
                )
                line = self.lines[beyond[0]]
                raise FaultyFileError([Fault(str(self.path), line, 1, "cores", reason)])
            rates = known[self.cores]
        return {
            "cycles": len(self.lines),
            "comm": (self.downlink_bytes / 1e6).tolist(),
            "forward": (self.forward_s * rates).tolist(),
            "backward": (self.backward_s * rates).tolist(),
        }


def read_profile(path: str | Path) -> Profile:
    """Read a cost profile.

    Parameters
    ----------
    path : str or Path
        CSV with a comment header and at least the columns ``downlink_bytes`` (or ``comm_bytes``, as
        version 0.1 wrote), ``forward_s``, ``backward_s`` and ``cores``; ``uplink_bytes``,
        ``frozen_layers`` and ``accuracy`` may be absent or empty.

    Raises
    ------
    FaultyFileError
        With the line of every row that is not legal (at most 20 of them).
    """
    path = Path(path)
    where = str(path)
    text = read_text(path, where, max_bytes=_MAX_BYTES).splitlines()
    numbered = [(i, x) for i, x in enumerate(text, 1) if x.strip() and not x.startswith("#")]
    header = next(csv.reader([numbered[0][1]]), []) if numbered else []
    header = [name.strip() for name in header]
    if _OLD_NAME in header and _WANTED[0] not in header:
        header[header.index(_OLD_NAME)] = _WANTED[0]
    wrong = [name for name in _WANTED if name not in header]
    twice = [name for name in _COLUMNS if header.count(name) > 1]
    if wrong or twice:
        line = numbered[0][0] if numbered else 1
        what = f"missing: {', '.join(wrong)}" if wrong else f"twice: {', '.join(twice)}"
        reason = f"a cost profile needs the columns {', '.join(_WANTED)} ({what})"
        raise FaultyFileError([Fault(where, line, 1, "", reason)])
    lines = tuple(line for line, _ in numbered[1:])
    if not lines:
        raise FaultyFileError([Fault(where, numbered[0][0], 1, "", "has no rows")])
    if len(lines) > MAX_CYCLES:
        reason = f"has {len(lines):,} rows; the limit is {MAX_CYCLES:,} cycles"
        raise FaultyFileError([Fault(where, lines[MAX_CYCLES], 1, "", reason)])
    table, marks = _rows(where, header, numbered[1:])
    uplink, frozen = (table[:, len(_WANTED) + i] for i in range(len(_OPTIONAL)))
    return Profile(
        path=path,
        header=_comments(text),
        **{name: table[:, i] for i, name in enumerate(_WANTED[:3])},
        cores=table[:, 3].astype(np.int64),
        lines=lines,
        marks=np.array([cycle for cycle, _ in marks], dtype=np.int64),
        accuracies=np.array([accuracy for _, accuracy in marks], dtype=float),
        uplink_bytes=None if np.isnan(uplink).any() else uplink,
        frozen_layers=None if np.isnan(frozen).any() else frozen.astype(np.int64),
    )


def _comments(text: list[str]) -> dict[str, str]:
    pairs = [x.lstrip("# ").partition(":") for x in text if x.startswith("#")]
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _rows(
    where: str, header: list[str], numbered: list[tuple[int, str]]
) -> tuple[FloatArray, list[tuple[int, float]]]:
    """Return the columns (NaN for empty cells), and (cycle, accuracy) where there is one."""
    faults: list[Fault] = []
    rows: list[list[float]] = []
    marks: list[tuple[int, float]] = []
    for cycle, (line, row) in enumerate(numbered, 1):
        cells = row.split(",")
        if len(cells) != len(header):
            reason = f"has {len(cells)} columns, the header has {len(header)}"
            faults.append(Fault(where, line, 1, "", reason))
        else:
            values, wrong = _values(dict(zip(header, map(str.strip, cells), strict=True)))
            faults += [Fault(where, line, 1, name, reason) for name, reason in wrong]
            *numbers, accuracy = values
            rows.append(numbers)
            if not math.isnan(accuracy):
                marks.append((cycle, accuracy))
        if len(faults) >= 20:
            break
    if faults:
        raise FaultyFileError(faults)
    return np.array(rows, dtype=float), marks


def _values(cells: dict[str, str]) -> tuple[list[float], list[tuple[str, str]]]:
    """Return what a row says of each known column, and (column, what is wrong) where it is."""
    values: list[float] = []
    wrong: list[tuple[str, str]] = []
    for name in _COLUMNS:
        cell, most = cells.get(name, ""), 1.0 if name == "accuracy" else _MOST
        may_lack = "" if name in _WANTED else "empty or "
        value = math.nan if may_lack and not cell else _number(cell, most=most)
        if value is None:
            wrong.append((name, f"must be {may_lack}a number from 0 to {most:g}"))
        elif name == "cores" and (value < 1 or value != int(value)):
            wrong.append((name, "must be a whole number of at least 1"))
        elif name in _OPTIONAL and not math.isnan(value) and value != int(value):
            wrong.append((name, "must be empty or a whole number"))
        values.append(math.nan if value is None else value)
    return values, [(name, f"{what} (got {shorten(cells[name])})") for name, what in wrong]


def _number(text: str, *, most: float = _MOST) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= most else None
