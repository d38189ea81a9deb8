"""The device library: named real devices whose curve files ship with kdsim.

Each is an ordinary curve file in the package of scenarios, so that reading it needs neither the
harness nor the raw measurements that ``python -m calibration.devices`` makes it from.
"""

from __future__ import annotations

import json
from importlib import resources

from kdsim._types import Record
from kdsim.errors import ScenarioError
from kdsim.messages import did_you_mean, shorten

BUNDLE = "kdsim_scenarios"
#: What a curve file gives to a device.
CURVE_FIELDS = ("reference_cores", "compute", "communication", "measured_cores", "proxies", "draws")


def library_names() -> list[str]:
    """List the names of the library's devices."""
    folder = resources.files(BUNDLE) / "devices"
    return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".json"))


def library_device(name: str) -> Record:
    """Read a device of the library.

    Parameters
    ----------
    name : str
        E.g. ``"raspberry-pi-5"``; ``kdsim devices`` lists them.

    Returns
    -------
    dict
        A curve file's plain data, ``provenance`` included.

    Raises
    ------
    ScenarioError
        If there is no device of that name, with "did you mean".

    Examples
    --------
    >>> library_device("raspberry-pi-5")["measured_cores"]
    {'compute': [1, 4]}
    """
    known = library_names()
    if name not in known:
        hint = did_you_mean(name, known) or f"; `kdsim devices` lists the {len(known)} there are"
        raise ScenarioError(
            f"no device of the library is called {shorten(name)}{hint}", field="device.library"
        )
    text = (resources.files(BUNDLE) / "devices" / f"{name}.json").read_text(encoding="utf-8")
    data: Record = json.loads(text)
    return data
