"""From files to scenarios: bundled names, paths, curve files and cost profiles."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from kdsim.curves import FloatArray
from kdsim.device import Device
from kdsim.errors import ScenarioError
from kdsim.faults import Document, Fault, FaultyFileError, did_you_mean, faults_of, shorten
from kdsim.reading import read_text, read_yaml
from kdsim.scenario import Scenario, scenario_from_data
from kdsim.workload import MAX_CYCLES

BUNDLE = "kdsim_scenarios"
CURVES_VERSION = 1
_MAX_PROFILE_BYTES = 256 * 1024 * 1024
#: What a cost profile must hold; it may hold more.
_WANTED = ("comm_bytes", "forward_s", "backward_s", "cores")
_MOST = 1e15


def bundled_scenarios() -> list[str]:
    """List the names of the scenarios that ship with kdsim."""
    folder = resources.files(BUNDLE)
    return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_scenario(source: str | Path | Scenario) -> Scenario:
    """Load a scenario by path, or one that ships with kdsim by its bare name.

    Parameters
    ----------
    source : str, Path or Scenario
        ``"paper-1to1"``, ``"my/device.yaml"``; a `Scenario` is returned as it is.

    Returns
    -------
    Scenario

    Raises
    ------
    FaultyFileError
        A `ScenarioError` that lists every fault of the file as
        ``file:line:column: field: reason (got ...)``.

    Examples
    --------
    >>> load_scenario("paper-1to1").workload.cycles
    50
    """
    if isinstance(source, Scenario):
        return source
    path, where = find_scenario(source)
    document = read_yaml(path, where=where)
    data = document.data
    if isinstance(data, dict):
        _insert_curves(data, document, path.parent)
        _insert_profile(data, document, path.parent)
    return scenario_from_data(data, document)


def find_scenario(source: str | Path) -> tuple[Path, str]:
    """Find a scenario's file; return its path and the name that messages give it."""
    text = str(source)
    path = Path(text)
    names = bundled_scenarios()
    bare = path.name == text
    # A folder of the same name does not hide a scenario that ships; a file of that name does.
    try:
        there = path.is_file() or (text not in names and (path.exists() or bool(path.suffix)))
    except (OSError, ValueError):  # no legal path, e.g. too long: whoever reads it says so
        return path, text
    if there or not bare:
        return path, text
    if text in names:
        return Path(str(resources.files(BUNDLE) / f"{text}.yaml")), f"{text}.yaml"
    hint = did_you_mean(text, names) or f"; scenarios that ship: {', '.join(names)}"
    raise ScenarioError(f"{text}: no such file, and no scenario of that name ships{hint}")


def _insert_curves(data: dict[str, Any], document: Document, folder: Path) -> None:
    """Put the curves of the file that ``device.curves`` names into the device."""
    device = data.get("device")
    if not isinstance(device, dict) or not isinstance(device.get("curves"), str):
        return
    place = ("device", "curves")
    both = [side for side in ("compute", "communication") if side in device]
    if both:
        document.faults.append(document.fault(place, f"cannot stand beside {' and '.join(both)}"))
        return
    try:
        fitted = read_curves(folder / device["curves"])
    except FaultyFileError as error:
        document.faults.extend(error.faults)
        document.faults.append(document.fault(place, f"cannot be used (got {device['curves']!r})"))
        # Legal stand-ins: one unusable file must not hide the other faults of the scenario.
        fitted = {"compute": {"a1": 1.0, "a2": 0.0}, "communication": {"b1": 1, "b2": 0, "b3": 1}}
    for key in ("reference_cores", "compute", "communication"):
        if key in fitted:
            device.setdefault(key, fitted[key])


def read_curves(path: Path) -> dict[str, Any]:
    """Read a curve file written by ``kdsim calibrate fit``.

    Returns
    -------
    dict
        ``reference_cores``, ``compute``, ``communication`` and ``provenance``.

    Raises
    ------
    FaultyFileError
        If it is not a curve file of a known version or its curves are not legal.
    """
    document = read_yaml(path)
    data = document.data
    if not isinstance(data, dict) or "kdsim_curves" not in data:
        raise FaultyFileError([document.fault((), "is not a curve file (no kdsim_curves)")])
    if data["kdsim_curves"] != CURVES_VERSION:
        reason = f"this kdsim reads version {CURVES_VERSION} (got {data['kdsim_curves']!r})"
        raise FaultyFileError([document.fault(("kdsim_curves",), reason)])
    if document.faults:
        raise FaultyFileError(document.faults)
    if "reference_cores" not in data:
        fault = document.fault(("reference_cores",), "required field is missing")
        raise FaultyFileError([fault])
    curves = {k: data[k] for k in ("reference_cores", "compute", "communication") if k in data}
    _check_curves(curves, document)
    return {**curves, "provenance": data.get("provenance", {})}


def _check_curves(curves: dict[str, Any], document: Document) -> None:
    try:
        Device.model_validate({"cores": curves.get("reference_cores"), **curves})
    except ValidationError as error:
        faults = faults_of(error, document, Device)
        raise FaultyFileError([f for f in faults if f.field != "cores"] or faults) from None


# --- cost profiles ------------------------------------------------------------------------------


def _insert_profile(data: dict[str, Any], document: Document, folder: Path) -> None:
    """Put the amounts of the cost profile that ``workload.profile`` names into the workload."""
    work = data.get("workload")
    if not isinstance(work, dict) or not isinstance(work.get("profile"), str):
        return
    place = ("workload", "profile")
    beside = [k for k in ("cycles", "comm", "forward", "backward") if k in work]
    if beside:
        document.faults.append(document.fault(place, f"cannot stand beside {', '.join(beside)}"))
        return
    try:
        amounts = _profile_amounts(folder / work["profile"], data)
    except FaultyFileError as error:
        document.faults.extend(error.faults)
        document.faults.append(document.fault(place, f"cannot be used (got {work['profile']!r})"))
        amounts = {"cycles": 1, "comm": 1.0, "forward": 1.0, "backward": 1.0}
    work.update(amounts)


def _profile_amounts(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    columns, lines = _read_rows(path)
    rate = data["workload"].get("profile_rate")
    if not isinstance(rate, int | float) or not 0 < rate < math.inf:
        try:
            device = Device.model_validate(data.get("device"))
        except ValueError:  # the device's own faults are reported with the scenario's
            rate = 1.0
        else:
            rates = device.compute_rates(device.reference_cores or device.cores)[::-1]
            cores = columns["cores"].astype(int)
            beyond = np.flatnonzero(cores >= rates.size)
            if beyond.size:
                reason = (
                    f"was recorded on {cores[beyond[0]]} compute cores, the curves know "
                    f"{rates.size - 1}; give workload.profile_rate"
                )
                raise FaultyFileError([Fault(str(path), lines[beyond[0]], 1, "cores", reason)])
            rate = rates[cores]
    return {
        "cycles": len(columns["comm_bytes"]),
        "comm": (columns["comm_bytes"] / 1e6).tolist(),
        "forward": (columns["forward_s"] * rate).tolist(),
        "backward": (columns["backward_s"] * rate).tolist(),
    }


def read_profile(path: Path) -> dict[str, FloatArray]:
    """Read a cost profile: one row a cycle of a real run.

    Parameters
    ----------
    path : Path
        CSV with a comment header and at least the columns ``comm_bytes``, ``forward_s``,
        ``backward_s`` and ``cores``.

    Returns
    -------
    dict of (N,) float array
        Those four columns; bytes, seconds, seconds, compute cores.

    Raises
    ------
    FaultyFileError
        With the line of every row that is not legal (at most 20 of them).
    """
    return _read_rows(path)[0]


def _read_rows(path: Path) -> tuple[dict[str, FloatArray], list[int]]:
    """Read a cost profile's wanted columns, and the line of each row."""
    where = str(path)
    text = read_text(path, where, max_bytes=_MAX_PROFILE_BYTES).splitlines()
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
    lines = [line for line, _ in numbered[1:]]
    if not lines:
        raise FaultyFileError([Fault(where, numbered[0][0], 1, "", "has no rows")])
    if len(lines) > MAX_CYCLES:
        reason = f"has {len(lines):,} rows; the limit is {MAX_CYCLES:,} cycles"
        raise FaultyFileError([Fault(where, lines[MAX_CYCLES], 1, "", reason)])
    at = [header.index(name) for name in _WANTED]
    faults: list[Fault] = []
    rows = []
    for line, row in numbered[1:]:
        cells = row.split(",")
        if len(cells) != len(header):
            reason = f"has {len(cells)} columns, the header has {len(header)}"
            faults.append(Fault(where, line, 1, "", reason))
        else:
            values = [_profile_number(cells[k]) for k in at]
            faults += _row_faults(where, line, values, [cells[k] for k in at])
            rows.append(values)
        if len(faults) >= 20:
            break
    if faults:
        raise FaultyFileError(faults)
    table = np.array(rows, dtype=float)
    return {name: table[:, i] for i, name in enumerate(_WANTED)}, lines


def _row_faults(
    where: str, line: int, values: list[float | None], cells: list[str]
) -> Iterator[Fault]:
    for name, value, cell in zip(_WANTED, values, cells, strict=True):
        if value is None:
            reason = f"must be a number from 0 to {_MOST:g} (got {shorten(cell)})"
            yield Fault(where, line, 1, name, reason)
        elif name == "cores" and (value < 1 or value != int(value)):
            yield Fault(where, line, 1, name, f"must be a whole number of at least 1 (got {cell})")


def _profile_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= _MOST else None
