"""The cost profile: what each training cycle of a workload cost, for the simulator to replay.

One CSV row per training cycle (one batch): the bytes received and the bytes sent, in columns of
their own, the seconds of its forward and its backward pass, and the cores that computed them. A
comment header says which workload, method and seed, on which host and with which versions.

What is not here: reading a profile (``kdsim.scenario.parts.profile``, for tests and scenarios
alike), device traces (``calibration.trace``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from calibration.workloads.records.results import host, versions, write_text


@dataclass(frozen=True, slots=True)
class CycleCost:
    """The cost of one training cycle.

    Attributes
    ----------
    cycle, epoch : int
        Counted from 1; the count continues across epochs.
    downlink_bytes : int
        Bytes that the device received in this cycle: a scenario's communication.
    uplink_bytes : int or None
        Bytes that it sent; None where the workload does not count them.
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
    downlink_bytes: int
    uplink_bytes: int | None
    forward_s: float
    backward_s: float
    cores: int
    frozen_layers: int = 0
    accuracy: float | None = None


COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(CycleCost))


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
    workload, method : str
        For example ``"aflkd"`` and ``"aflkd-reverse"``.
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
        sent = "" if c.uplink_bytes is None else c.uplink_bytes
        lines.append(
            f"{c.cycle},{c.epoch},{c.downlink_bytes},{sent},{c.forward_s:.6g},{c.backward_s:.6g},"
            f"{c.cores},{c.frozen_layers},{shown}"
        )
    write_text(path, "\n".join(lines) + "\n")
