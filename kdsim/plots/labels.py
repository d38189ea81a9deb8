"""Words and ticks of figures: fields with their units, values, settings, scales."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsim.results.gaps import NO_GAP

if TYPE_CHECKING:
    from kdsim.scenario.study import Scenario

_FIELD_LABELS = {
    "device.library": "device",
    "device.cores": "cores of the device",
    "device.reference_cores": "reference cores",
    "workload.ratio": "Comp : Comm work",
    "workload.cycles": "cycles N",
    "workload.comm": "communication work per cycle (data units)",
    "workload.forward": "Forward work per cycle (compute units)",
    "workload.backward": "Backward work per cycle (compute units)",
    "link.rate": "link rate (data units/s)",
    "link.starved": "starved communication cores",
    "extensions.prefetch": "prefetch (logit batches)",
    "extensions.noise": "noise (coefficient of variation)",
    "extensions.release": "release interval (s)",
    "extensions.reallocation_cost": "reallocation cost (s)",
    "device.compute.a1": "a1 (s per compute unit)",
    "device.compute.a2": "a2 (share of speed per core)",
    "device.communication.b1": "b1 (data units/s per core)",
    "device.communication.b2": "b2 (data units/s)",
    "device.communication.b3": "b3 (per core)",
}


def field_label(field: str) -> str:
    """Name a swept field on an axis, with its unit where it has one."""
    return _FIELD_LABELS.get(field, field)


def value_label(value: object) -> str:
    """Write the value of a swept field; one of a sampled design with four digits."""
    return f"{value:.4g}" if isinstance(value, float) and len(f"{value:g}") > 6 else _plain(value)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    """Write a share in percent, with rounding errors written as none."""
    return f"{0.0 if abs(share) < NO_GAP else 100.0 * share:.2f} %"


def point_label(field: str, value: object) -> str:
    """Write field and value, e.g. of a panel: ``8 cores``, ``Comp : Comm work = 2:1``."""
    if field == "device.cores":
        return f"{value} core" if value == 1 else f"{value} cores"
    name, _, unit = field_label(field).partition(" (")
    unit = f" {unit.rstrip(')')}" if unit in ("s)", "data units/s)") else ""
    return f"{name} = {value_label(value)}{unit}"


def setting(scenario: Scenario, varying: Iterable[str] = ()) -> str:
    """Say on what device and work a figure's numbers were made: the fields that do not vary.

    Parameters
    ----------
    varying : iterable of str
        Fields along an axis, or named in a panel's title.
    """
    moving = set(varying)
    work = scenario.workload
    parts = []
    if scenario.device.library and "device.library" not in moving:
        parts.append(scenario.device.library)
    if not moving & {"device.cores", "device.library"}:  # each device has cores of its own
        parts.append(point_label("device.cores", scenario.device.cores))
    if "workload.cycles" not in moving:
        parts.append(f"N = {work.cycles:,}")
    amounts = {name: getattr(work, name) for name in ("comm", "forward", "backward")}
    if "workload.ratio" not in moving:
        parts += [
            f"{name} {amount:g}" if isinstance(amount, float | int) else f"{name} varies"
            for name, amount in amounts.items()
            if f"workload.{name}" not in moving
        ]
    if scenario.link.rate is not None and "link.rate" not in moving:
        parts.append(point_label("link.rate", scenario.link.rate))
    elif scenario.link.times is not None:
        parts.append("link: a bandwidth trace")
    default = type(scenario.extensions)()
    parts += [
        point_label(f"extensions.{name}", value)
        for name, value in scenario.extensions
        if value != getattr(default, name) and f"extensions.{name}" not in moving
    ]
    return " · ".join(parts)


def axis_positions(values: Sequence[Any]) -> tuple[list[Any], dict[Any, float], bool]:
    """Order the distinct values of a swept field along an axis.

    Returns
    -------
    ordered : list
        Numbers by size; with any text among them, all in the order met.
    positions : dict
        Value -> position: the number itself, or 0, 1, 2, .. for text.
    numeric : bool
    """
    distinct = list(dict.fromkeys(values))
    numeric = all(
        isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in distinct
    )
    if numeric:
        ordered = sorted(distinct)
        return ordered, {v: float(v) for v in ordered}, True
    return distinct, {v: float(i) for i, v in enumerate(distinct)}, False


def is_log(values: Sequence[Any], spread: Any = None) -> bool:
    """Return whether a swept field belongs on a logarithmic axis.

    Parameters
    ----------
    spread : Range, optional
        The design's range of the field, which says on which scale it was sampled.

    Returns
    -------
    bool
        As the design says; of listed values, whether they span a factor of 10 or more and lie more
        evenly on a logarithmic axis than on a linear one.

    Examples
    --------
    >>> is_log([1, 2, 4, 8, 16]), is_log([1, 25, 50, 75, 100]), is_log([6, 8, 10, 12])
    (True, False, False)
    """
    scale = getattr(spread, "scale", None)
    ordered, _, numeric = axis_positions(values)
    if scale is not None or not numeric:
        return scale == "log" and numeric and min(ordered) > 0
    if len(ordered) < 3 or ordered[0] <= 0 or ordered[-1] < 10 * ordered[0]:
        return False
    return _unevenness(np.log(ordered)) < _unevenness(np.asarray(ordered, dtype=float))


def _unevenness(places: Any) -> float:
    steps = np.diff(places)
    return float(steps.std() / steps.mean())


def apart(places: Sequence[float], labels: Sequence[str], room: float) -> list[int]:
    """Choose ticks whose labels do not run into each other.

    Parameters
    ----------
    places : sequence of float
        In ascending order, in the units in which the axis is even.
    room : float
        Characters that fit along the whole axis.

    Returns
    -------
    list of int
        Indexes of the ticks that keep their label; always the first.
    """
    span = (places[-1] - places[0]) or 1.0
    kept = [0]
    for k in range(1, len(places)):
        needed = (len(labels[kept[-1]]) + len(labels[k])) / 2 + 1.0
        if (places[k] - places[kept[-1]]) / span * room >= needed:
            kept.append(k)
    return kept
