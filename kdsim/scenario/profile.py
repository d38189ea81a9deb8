"""Cost profiles: what each cycle of a real run cost, read as the work of a scenario.

A workload writes one CSV row a training cycle: bytes over the link, seconds of the forward and the
backward pass, the cores that computed, and at the ends of epochs the accuracy reached. Bytes
become data units (MB); seconds become compute units by the rate of the host that recorded them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdsim.messages import shorten
from kdsim.model.curves import FloatArray
from kdsim.scenario.device import Device
from kdsim.scenario.faults import Fault, FaultyFileError
from kdsim.scenario.workload import MAX_CYCLES
from kdsim.scenario.yaml_document import read_text

_MAX_BYTES = 256 * 1024 * 1024
#: What a cost profile must hold; it may hold more.
_WANTED = ("comm_bytes", "forward_s", "backward_s", "cores")
_MOST = 1e15


@dataclass(frozen=True, eq=False)
class Profile:
    """A cost profile as read.

    Attributes
    ----------
    path : Path
    header : dict of str to str
        Its comment lines, ``# key: value``.
    comm_bytes, forward_s, backward_s : (N,) float array
        Of each cycle: bytes, seconds, seconds.
    cores : (N,) int array
        Compute cores that the seconds were measured on.
    lines : tuple of int
        Where in the file each cycle stands.
    marks : (E,) int array
        Cycles, counted from 1, after which the accuracy is known, increasing.
    accuracies : (E,) float array
        The accuracy after each of them, in [0, 1].
    """

    path: Path
    header: dict[str, str]
    comm_bytes: FloatArray
    forward_s: FloatArray
    backward_s: FloatArray
    cores: NDArray[np.int64]
    lines: tuple[int, ...]
    marks: NDArray[np.int64]
    accuracies: FloatArray

    def work(self, device: Device, rate: float | None = None) -> dict[str, Any]:
        """Return the amounts of a workload: ``cycles``, ``comm``, ``forward``, ``backward``.

        Parameters
        ----------
        device : Device
            Whose own curve tells the rate at the profile's core count, if none is given.
        rate : float, optional
            Compute units a second of the host that the profile was recorded on.

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
            "comm": (self.comm_bytes / 1e6).tolist(),
            "forward": (self.forward_s * rates).tolist(),
            "backward": (self.backward_s * rates).tolist(),
        }


def read_profile(path: str | Path) -> Profile:
    """Read a cost profile.

    Parameters
    ----------
    path : str or Path
        CSV with a comment header and at least the columns ``comm_bytes``, ``forward_s``,
        ``backward_s`` and ``cores``; ``accuracy`` may be empty.

    Returns
    -------
    Profile

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
    missing = [name for name in _WANTED if name not in header]
    if missing:
        line = numbered[0][0] if numbered else 1
        reason = (
            f"a cost profile needs the columns {', '.join(_WANTED)} (missing: {', '.join(missing)})"
        )
        raise FaultyFileError([Fault(where, line, 1, "", reason)])
    lines = tuple(line for line, _ in numbered[1:])
    if not lines:
        raise FaultyFileError([Fault(where, numbered[0][0], 1, "", "has no rows")])
    if len(lines) > MAX_CYCLES:
        reason = f"has {len(lines):,} rows; the limit is {MAX_CYCLES:,} cycles"
        raise FaultyFileError([Fault(where, lines[MAX_CYCLES], 1, "", reason)])
    table, marks = _rows(where, header, numbered[1:])
    return Profile(
        path=path,
        header=_comments(text),
        **{name: table[:, i] for i, name in enumerate(_WANTED[:3])},
        cores=table[:, 3].astype(np.int64),
        lines=lines,
        marks=np.array([cycle for cycle, _ in marks], dtype=np.int64),
        accuracies=np.array([accuracy for _, accuracy in marks], dtype=float),
    )


def _comments(text: list[str]) -> dict[str, str]:
    pairs = [x.lstrip("# ").partition(":") for x in text if x.startswith("#")]
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _rows(
    where: str, header: list[str], numbered: list[tuple[int, str]]
) -> tuple[FloatArray, list[tuple[int, float]]]:
    """Return the wanted columns, and (cycle, accuracy) where the accuracy is told."""
    at = [header.index(name) for name in _WANTED]
    told = header.index("accuracy") if "accuracy" in header else None
    faults: list[Fault] = []
    rows: list[list[float | None]] = []
    marks: list[tuple[int, float]] = []
    for cycle, (line, row) in enumerate(numbered, 1):
        cells = row.split(",")
        if len(cells) != len(header):
            reason = f"has {len(cells)} columns, the header has {len(header)}"
            faults.append(Fault(where, line, 1, "", reason))
        else:
            values = [_number(cells[k]) for k in at]
            faults += _row_faults(where, line, values, [cells[k] for k in at])
            rows.append(values)
            cell = "" if told is None else cells[told].strip()
            if cell:
                accuracy = _number(cell, most=1.0)
                marks.append((cycle, accuracy or 0.0))
                if accuracy is None:
                    reason = f"must be empty or a number from 0 to 1 (got {shorten(cell)})"
                    faults.append(Fault(where, line, 1, "accuracy", reason))
        if len(faults) >= 20:
            break
    if faults:
        raise FaultyFileError(faults)
    return np.array(rows, dtype=float), marks


def _row_faults(
    where: str, line: int, values: list[float | None], cells: list[str]
) -> Iterator[Fault]:
    for name, value, cell in zip(_WANTED, values, cells, strict=True):
        if value is None:
            reason = f"must be a number from 0 to {_MOST:g} (got {shorten(cell)})"
            yield Fault(where, line, 1, name, reason)
        elif name == "cores" and (value < 1 or value != int(value)):
            yield Fault(where, line, 1, name, f"must be a whole number of at least 1 (got {cell})")


def _number(text: str, *, most: float = _MOST) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= most else None
