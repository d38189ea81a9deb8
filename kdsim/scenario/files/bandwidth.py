"""Bandwidth traces: what a link carried over time, read from CSV or from the public JSON format.

CSV has the columns ``time_s`` and ``rate`` (data units per second), one row per change of the
rate; times count from the first row. JSON is a list of ``{"duration_ms", "bandwidth_kbps",
"latency_ms"}`` (the traces of Sabre and of the 3G and 4G data sets behind it): kbit/s become MB/s
(1 MB = 8,000 kbit), so the scenario's data unit must be MB; latency is not modelled.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from kdsim.messages import shorten
from kdsim.scenario.files.faults import Fault, FaultyFileError
from kdsim.scenario.files.yaml_document import read_text

_MAX_BYTES = 64 * 1024 * 1024
_MAX_FAULTS = 20
#: Data units per second beyond which a rate says nothing about a link.
MAX_RATE = 1e15
#: Seconds beyond which a time says nothing about a link.
_MOST_SECONDS = 1e12
#: kbit in a MB.
_KBIT_PER_MB = 8000.0


class BandwidthTrace(NamedTuple):
    """Stretches of constant rate, and how long the trace is.

    Attributes
    ----------
    times : list of float
        Beginnings of the stretches in seconds, from 0 on.
    rates : list of float
        Data units per second.
    period : float
        Seconds from the beginning to the end of the last stretch.
    """

    times: list[float]
    rates: list[float]
    period: float


def read_bandwidth(path: str | Path) -> BandwidthTrace:
    """Read a bandwidth trace: ``.json`` in the public format, anything else as CSV.

    Returns
    -------
    BandwidthTrace
        Neighbours of one rate joined. The last row of a CSV file lasts as long as the row before
        it; JSON says how long each stretch lasts.

    Raises
    ------
    FaultyFileError
        If the trace is empty, goes back in time, has a rate that is not a number from 0 to 1e15,
        or no rate above 0; each fault with its line, 20 at most.
    """
    path = Path(path)
    where = str(path)
    text = read_text(path, where, max_bytes=_MAX_BYTES)
    read = _json_rows if path.suffix.lower() == ".json" else _csv_rows
    faults: list[Fault] = []
    rows = list(read(text, where, faults))
    if faults:
        raise FaultyFileError(faults[:_MAX_FAULTS])
    if not rows:
        raise FaultyFileError([Fault(where, 1, 1, "", "is empty: a bandwidth trace has rows")])
    if not any(row.rate > 0 for row in rows):
        reason = "all rates are 0: no data would ever arrive"
        raise FaultyFileError([Fault(where, rows[0].line, 1, "rate", reason)])
    begin = rows[0].time
    joined = [rows[0], *(row for before, row in pairwise(rows) if row.rate != before.rate)]
    end = rows[-1].time + rows[-1].duration
    return BandwidthTrace([r.time - begin for r in joined], [r.rate for r in joined], end - begin)


class _Row(NamedTuple):
    line: int
    time: float
    duration: float
    rate: float


def _csv_rows(text: str, where: str, faults: list[Fault]) -> Iterator[_Row]:
    lines = enumerate(text.splitlines(), 1)
    numbered = [(i, line) for i, line in lines if line.strip() and not line.startswith("#")]
    if not numbered:
        return
    names = [name.strip() for name in next(csv.reader([numbered[0][1]]), [])]
    missing = [name for name in ("time_s", "rate") if name not in names]
    if missing:
        reason = (
            "a bandwidth trace needs the columns time_s and rate, in data units per second "
            f"(missing: {', '.join(missing)})"
        )
        faults.append(Fault(where, numbered[0][0], 1, "", reason))
        return
    at = names.index("time_s"), names.index("rate")
    read: list[tuple[int, float, float]] = []
    for line, row in numbered[1:]:
        cells = next(csv.reader([row]), [])
        if len(cells) != len(names):
            reason = f"has {len(cells)} columns, the header has {len(names)}"
            faults.append(Fault(where, line, 1, "", reason))
        else:
            time = _number(cells[at[0]], "time_s", _MOST_SECONDS, where, line, faults)
            rate = _number(cells[at[1]], "rate", MAX_RATE, where, line, faults)
            if read and time is not None and not time > read[-1][1]:
                reason = f"must be later than in the row before, {read[-1][1]:g} (got {time:g})"
                faults.append(Fault(where, line, 1, "time_s", reason))
            if time is not None and rate is not None:
                read.append((line, time, rate))
        if len(faults) >= _MAX_FAULTS:
            return
    lengths = [b[1] - a[1] for a, b in pairwise(read)]
    lengths += lengths[-1:] or [1.0] * len(read)
    for (line, time, rate), length in zip(read, lengths, strict=True):
        yield _Row(line, time, length, rate)


def _json_rows(text: str, where: str, faults: list[Fault]) -> Iterator[_Row]:
    now = 0.0
    for line, entry in _json_entries(text, where, faults):
        if not isinstance(entry, dict) or not {"duration_ms", "bandwidth_kbps"} <= entry.keys():
            reason = (
                "each entry needs duration_ms and bandwidth_kbps, "
                f'e.g. {{"duration_ms": 1000, "bandwidth_kbps": 800}} (got {shorten(entry)})'
            )
            faults.append(Fault(where, line, 1, "", reason))
        else:
            most_ms, most_kbps = _MOST_SECONDS * 1e3, MAX_RATE * _KBIT_PER_MB
            length = _number(entry["duration_ms"], "duration_ms", most_ms, where, line, faults)
            speed = _number(
                entry["bandwidth_kbps"], "bandwidth_kbps", most_kbps, where, line, faults
            )
            if length == 0:
                reason = "must be greater than 0 (got 0)"
                faults.append(Fault(where, line, 1, "duration_ms", reason))
            elif length is not None and speed is not None:
                yield _Row(line, now, length / 1e3, speed / _KBIT_PER_MB)
                now += length / 1e3
        if len(faults) >= _MAX_FAULTS:
            return


def _json_entries(text: str, where: str, faults: list[Fault]) -> Iterator[tuple[int, Any]]:
    """Yield the entries of a JSON list with their lines."""
    decoder, at, line, counted = json.JSONDecoder(), _after_blanks(text, 0), 1, 0
    if not text[at : at + 1]:
        return
    if text[at] != "[":
        faults.append(Fault(where, 1, 1, "", "a bandwidth trace in JSON is a list of entries"))
        return
    at = _after_blanks(text, at + 1)
    closing = text[at : at + 1] == "]"
    at = _after_blanks(text, at + 1) if closing else at
    while not closing:
        line, counted = line + text.count("\n", counted, at), at
        try:
            entry, at = decoder.raw_decode(text, at)
        except RecursionError:
            faults.append(Fault(where, line, 1, "", "is not JSON: nested too deeply"))
            return
        except ValueError as error:  # of JSON itself, or of a number with thousands of digits
            reason = f"is not JSON: {getattr(error, 'msg', 'a number is too large')}"
            faults.append(Fault(where, line, 1, "", reason))
            return
        yield line, entry
        at = _after_blanks(text, at)
        mark = text[at : at + 1]
        if mark not in (",", "]"):
            faults.append(Fault(where, line, 1, "", "is not JSON: ',' or ']' expected after this"))
            return
        closing, at = mark == "]", _after_blanks(text, at + 1)
    if at < len(text):
        faults.append(Fault(where, line, 1, "", "is not JSON: text follows the list"))


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _number(
    value: Any, field: str, most: float, where: str, line: int, faults: list[Fault]
) -> float | None:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if 0 <= number <= most:
        return number
    reason = f"must be a number from 0 to {most:g} (got {shorten(value)})"
    faults.append(Fault(where, line, 1, field, reason))
    return None
