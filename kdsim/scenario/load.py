"""From files to scenarios: bundled names, paths; the curves, profiles and traces they name."""

from __future__ import annotations

import hashlib
import math
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from kdsim._types import Record
from kdsim.errors import ScenarioError
from kdsim.messages import did_you_mean
from kdsim.scenario.files.bandwidth import read_bandwidth
from kdsim.scenario.files.faults import Document, FaultyFileError, faults_of
from kdsim.scenario.files.library import BUNDLE, CURVE_FIELDS
from kdsim.scenario.files.yaml_document import read_yaml
from kdsim.scenario.parts.device import Device
from kdsim.scenario.parts.profile import Profile, read_profile
from kdsim.scenario.study import Scenario
from kdsim.scenario.validate import scenario_from_data

CURVES_VERSION = 1
#: Stands in for a device that is not legal.
_ANY_DEVICE = {
    "cores": 1,
    "compute": {"a1": 1.0, "a2": 0.0},
    "communication": {"b1": 1.0, "b2": 0.0, "b3": 1.0},
}


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
        _refuse_beside_library(data, document)
        _insert_curves(data, document, path.parent)
        _insert_profile(data, document, path.parent)
        _insert_trace(data, document, path.parent)
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


def _refuse_beside_library(data: Record, document: Document) -> None:
    """Refuse a second source of what a device of the library brings.

    Its communication may be replaced: of most devices it was not measured.
    """
    device = data.get("device")
    if not isinstance(device, dict) or not isinstance(device.get("library"), str):
        return
    both = [key for key in ("compute", "curves", "reference_cores") if key in device]
    if both:
        reason = f"cannot stand beside {' and '.join(both)}"
        document.faults.append(document.fault(("device", "library"), reason))
        for key in both:
            del device[key]


def _insert_curves(data: Record, document: Document, folder: Path) -> None:
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
        document.files[device["curves"]] = _sha256(folder / device["curves"])
    except FaultyFileError as error:
        document.faults.extend(error.faults)
        document.faults.append(document.fault(place, f"cannot be used (got {device['curves']!r})"))
        # Legal stand-ins: one unusable file must not hide the other faults of the scenario.
        fitted = {side: _ANY_DEVICE[side] for side in ("compute", "communication")}
    for key in CURVE_FIELDS:
        if key in fitted:
            device.setdefault(key, fitted[key])


def read_curves(path: Path) -> Record:
    """Read a curve file written by ``kdsim calibrate fit``.

    Returns
    -------
    dict
        ``reference_cores``, ``compute``, ``communication``, ``measured_cores`` (of a file that does
        not say it: 1 to the reference cores), ``proxies`` and ``draws`` where there are any,
        ``provenance``.

    Raises
    ------
    FaultyFileError
        If it is not a curve file of a known version or its curves are not legal.
    """
    return curves_of(read_yaml(path))


def curves_of(document: Document) -> Record:
    """Take the curves out of a curve file's document; see :func:`read_curves`.

    Whoever writes such a file checks it by this before it is there.
    """
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
    curves = {key: data[key] for key in CURVE_FIELDS if key in data}
    _check_curves(curves, document)
    if "measured_cores" not in curves:
        # Files of kdsim 0.1 have no range; a trace measured every split of its cores.
        every = [1, curves["reference_cores"]]
        curves["measured_cores"] = {"compute": every, "communication": every}
    return {**curves, "provenance": data.get("provenance", {})}


def _check_curves(curves: Record, document: Document) -> None:
    # A device of the library may lack the communication side, and a range may begin beyond one
    # core: what that means for a scenario is said where one uses it.
    stand_in: Record = {"extrapolate": True}
    if "proxies" in curves:
        stand_in["communication"] = _ANY_DEVICE["communication"]
    try:
        Device.model_validate({**stand_in, "cores": curves.get("reference_cores"), **curves})
    except ValidationError as error:
        faults = faults_of(error, document, Device)
        raise FaultyFileError([f for f in faults if f.field != "cores"] or faults) from None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- cost profiles ------------------------------------------------------------------------------


def _insert_profile(data: Record, document: Document, folder: Path) -> None:
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
        amounts = _profile_work(read_profile(folder / work["profile"]), data)
        document.files[work["profile"]] = _sha256(folder / work["profile"])
    except FaultyFileError as error:
        document.faults.extend(error.faults)
        document.faults.append(document.fault(place, f"cannot be used (got {work['profile']!r})"))
        amounts = {"cycles": 1, "comm": 1.0, "forward": 1.0, "backward": 1.0}
    work.update(amounts)


def _profile_work(profile: Profile, data: Record) -> Record:
    """Turn a profile into work for the device; faults of the device are reported elsewhere."""
    rate = data["workload"].get("profile_rate")
    legal = isinstance(rate, int | float) and 0 < rate < math.inf
    try:
        device = Device.model_validate(data.get("device"))
    except ValueError:
        device, rate, legal = Device.model_validate(_ANY_DEVICE), 1.0, True
    return profile.work(device, rate if legal else None)


# --- bandwidth traces ---------------------------------------------------------------------------


def _insert_trace(data: Record, document: Document, folder: Path) -> None:
    """Put the stretches of the bandwidth trace that ``link.trace`` names into the link."""
    link = data.get("link")
    if not isinstance(link, dict) or not isinstance(link.get("trace"), str):
        return
    place = ("link", "trace")
    beside = [k for k in ("rate", "times", "rates", "period") if link.get(k) is not None]
    if beside:
        document.faults.append(document.fault(place, f"cannot stand beside {', '.join(beside)}"))
        del link["trace"]
        for name in beside:
            del link[name]
        return
    try:
        trace = read_bandwidth(folder / link["trace"])
        document.files[link["trace"]] = _sha256(folder / link["trace"])
    except FaultyFileError as error:
        document.faults.extend(error.faults)
        document.faults.append(document.fault(place, f"cannot be used (got {link['trace']!r})"))
        del link["trace"]
        return
    link.update(times=trace.times, rates=trace.rates)
    if link.get("repeat", True) is True:
        link["period"] = trace.period
