"""Which inference times describe one device on identical cores.

``catalogue.yaml`` names the devices and the parts of the log that belong to them; the times come
from the log alone. A device's times are a table of networks by core counts. The networks differ
in size, and not every device ran all of them, so each has a size in common units, estimated over
all devices at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.importing.ncnn import NcnnDevice, NcnnLog
from kdsim.errors import FitError
from kdsim.model.curves import FloatArray
from kdsim.scenario.files.yaml_document import read_yaml

HERE = Path(__file__).parent
CATALOGUE = HERE / "catalogue.yaml"
NCNN_LOG = HERE / "raw" / "ncnn" / "README.md"
#: A network that some device runs faster than this on one thread measures the cost of starting
#: threads rather than how work scales over them.
OVERHEAD_MS = 2.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One device of the catalogue, and the place of its runs in the log."""

    name: str
    heading: str
    powersave: tuple[int, ...]
    cores: int
    variant: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredDevice:
    """The inference times of one device on identical cores.

    Attributes
    ----------
    heading : str
        As the log has it.
    counts : tuple of int
        Numbers of threads measured, each on a core of its own; increasing.
    networks : tuple of str
        Those measured at every count.
    seconds : (networks, counts) float array
        Mean time of an inference.
    lines : tuple of int
        Where the runs begin in the log, one per count.
    oversubscribed : tuple of int
        Numbers of threads that were measured too, but exceed the cores.
    """

    entry: Entry
    heading: str
    counts: tuple[int, ...]
    networks: tuple[str, ...]
    seconds: FloatArray
    lines: tuple[int, ...]
    oversubscribed: tuple[int, ...]


def read_catalogue(path: str | os.PathLike[str] = CATALOGUE) -> list[Entry]:
    """Read the names of the devices.

    Raises
    ------
    FaultyFileError
        If the file cannot be read.
    FitError
        If two devices have one name.
    """
    data: Any = read_yaml(Path(path)).data
    entries = [Entry(**{**d, "powersave": tuple(d["powersave"])}) for d in data["devices"]]
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FitError(f"{path}: devices listed twice: {', '.join(twice)}")
    return entries


def measured_devices(log: NcnnLog, entries: Iterable[Entry]) -> list[MeasuredDevice]:
    """Gather the times of each catalogued device.

    Raises
    ------
    FitError
        If a heading is not in the log, or not only once, or a device has no usable run.
    """
    usable = scaling_networks(log)
    return [_measured(log, entry, usable) for entry in entries]


def scaling_networks(log: NcnnLog) -> set[str]:
    """Return the networks whose times say how float32 work scales.

    Left out are quantised networks (``_int8``), which training does not resemble, networks that
    some device runs in under `OVERHEAD_MS` on one thread, and those that fewer than half of the
    devices ran: their sizes would rest on a few.
    """
    fastest: dict[str, float] = {}
    devices: dict[str, int] = {}
    cpu = [device for device in log.devices if device.cpu_runs]
    for device in cpu:
        for name in {t.network for run in device.cpu_runs for t in run.timings}:
            devices[name] = devices.get(name, 0) + 1
        for run in device.cpu_runs:
            for timing in run.timings if run.threads == 1 else ():
                fastest[timing.network] = min(timing.avg_ms, fastest.get(timing.network, np.inf))
    return {
        name
        for name, least in fastest.items()
        if least >= OVERHEAD_MS and "int8" not in name and 2 * devices[name] >= len(cpu)
    }


def _measured(log: NcnnLog, entry: Entry, usable: set[str]) -> MeasuredDevice:
    device = _named(log, entry)
    runs = {
        run.threads: run
        for run in device.cpu_runs
        if run.powersave in entry.powersave and entry.variant.lower() in run.variant.lower()
    }
    counts = tuple(sorted(n for n in runs if n <= entry.cores))
    if not counts:
        raise FitError(f"{entry.name}: no run of {device.name!r} fits the catalogue")
    times = [{t.network: t.avg_ms for t in runs[n].timings} for n in counts]
    networks = tuple(n for n in times[0] if n in usable and all(n in t for t in times))
    return MeasuredDevice(
        entry,
        device.name,
        counts,
        networks,
        np.array([[t[name] for t in times] for name in networks]) / 1000.0,
        tuple(runs[n].line for n in counts),
        tuple(sorted(n for n in runs if n > entry.cores)),
    )


def _named(log: NcnnLog, entry: Entry) -> NcnnDevice:
    found = [
        device
        for device in log.devices
        if device.name.startswith(entry.heading) and device.cpu_runs
    ]
    if len(found) != 1:
        raise FitError(
            f"{entry.name}: {len(found)} devices with runs on the CPU have a heading that begins "
            f"with {entry.heading!r}; there must be one"
        )
    return found[0]


def network_sizes(devices: Sequence[MeasuredDevice]) -> dict[str, float]:
    """Estimate each network's size, in inferences of an average network.

    The times of all devices are taken apart into a size of the network and a pace of the device at
    a core count, by least squares in log time; the geometric mean of the sizes is 1.

    Returns
    -------
    dict
        Network -> size.
    """
    names = sorted({name for device in devices for name in device.networks})
    paces = [(d, c) for d in range(len(devices)) for c in range(len(devices[d].counts))]
    column = {pace: len(names) + i for i, pace in enumerate(paces)}
    rows: list[tuple[int, int]] = []
    target: list[float] = []
    for d, device in enumerate(devices):
        for n, name in enumerate(device.networks):
            for c in range(len(device.counts)):
                rows.append((names.index(name), column[d, c]))
                target.append(float(np.log(device.seconds[n, c])))
    design = np.zeros((len(rows) + 1, len(names) + len(paces)))
    for i, (size, pace) in enumerate(rows):
        design[i, size] = design[i, pace] = 1.0
    design[-1, : len(names)] = 1.0  # the sizes' logarithms sum to 0
    found, *_ = np.linalg.lstsq(design, np.array([*target, 0.0]), rcond=None)
    return {name: float(np.exp(found[i])) for i, name in enumerate(names)}
