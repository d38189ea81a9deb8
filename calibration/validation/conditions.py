"""Under which conditions predictions are tested, and each condition as a scenario.

A condition says how long receiving takes beside computing, over which link, and what else holds
the receiving back: bounded prefetch, a teacher that releases its logits one by one. What that
means in MB and seconds follows from the curves fitted to the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from calibration.fit import Fit
from kdsim.errors import WorkloadError
from kdsim.scenario.files.bandwidth import read_bandwidth
from kdsim.scenario.study import Scenario


@dataclass(frozen=True, slots=True)
class Scaled:
    """A quantity as it is (``3``), or as a multiple of what the device does (``0.2x``)."""

    value: float
    relative: bool = False

    def of(self, unit: float) -> float:
        """Return the quantity where the device's own is `unit`."""
        return self.value * unit if self.relative else self.value

    def __str__(self) -> str:
        return f"{self.value:g}{'x' if self.relative else ''}"


@dataclass(frozen=True, slots=True)
class Condition:
    """A workload to run for real, and what it is run under.

    Attributes
    ----------
    time_ratio : str
        ``"x:y"``, the time of computation to that of receiving, each with every core and, where
        there is one, over the link.
    link : Scaled or None
        Rate of a shaped link in MB/s, or as a multiple of what all cores together can receive.
    link_trace : str or None
        File of a bandwidth trace (``kdsim.scenario.files.bandwidth``); its rates are scaled so that
        their mean is `link`.
    trace_speed : float
        How many seconds of the trace go by per second: a run is short.
    starved : {"idle", "shared"}
        What communication cores do while no data has arrived.
    prefetch : int or None
        Logit batches that may be received ahead.
    release : Scaled or None
        The teacher has the logits of cycle i (from 1) ready after i times this; in seconds, or as
        a multiple of the time that computing a cycle takes with every core.
    cycles : int
    batches : int
        Batches of a cycle.
    """

    time_ratio: str = "1:1"
    link: Scaled | None = None
    link_trace: str | None = None
    trace_speed: float = 1.0
    starved: str = "idle"
    prefetch: int | None = None
    release: Scaled | None = None
    cycles: int = 8
    batches: int = 6

    def __post_init__(self) -> None:
        times = self.times
        if len(times) != 2 or not all(0 < t < 1e6 for t in times):
            raise WorkloadError(
                f"a condition begins with a ratio of times like 2:1, got {self.time_ratio!r}"
            )
        if self.starved not in {"idle", "shared"}:
            raise WorkloadError(f"starved must be idle or shared, got {self.starved!r}")
        for name in ("link", "release", "trace_speed"):
            given = getattr(self, name)
            value = given.value if isinstance(given, Scaled) else given
            if value is not None and not 0 < value < math.inf:
                raise WorkloadError(f"{name} must be positive, got {given}")
        for name in ("cycles", "batches", "prefetch"):
            given = getattr(self, name)
            if given is not None and given < 1:
                raise WorkloadError(f"{name} must be at least 1, got {given}")
        if self.link is None and (self.link_trace or self.starved == "shared"):
            raise WorkloadError("a bandwidth trace and starved=shared need link=RATE beside them")

    @property
    def times(self) -> tuple[float, ...]:
        """The two numbers of the ratio (empty where it is none)."""
        try:
            return tuple(float(part) for part in self.time_ratio.split(":"))
        except ValueError:
            return ()

    @property
    def label(self) -> str:
        """The condition as a command takes it, e.g. ``"2:1 link=0.2x prefetch=1"``."""
        plain = Condition()
        parts = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if field.name not in {"time_ratio", "cycles", "batches"}
            and getattr(self, field.name) != getattr(plain, field.name)
        ]
        return " ".join([self.time_ratio, *parts])

    def cycle_s(self, fit: Fit) -> float:
        """Seconds that computing a cycle takes with every core."""
        return self.batches / float(fit.compute.rates[0])

    def link_rate(self, fit: Fit) -> float | None:
        """MB/s of the link (of a trace: on average); None without one."""
        return None if self.link is None else self.link.of(float(fit.communication.rates[-1]))

    def release_s(self, fit: Fit) -> float:
        """Seconds between two releases; 0 when everything is there from the start."""
        return 0.0 if self.release is None else self.release.of(self.cycle_s(fit))

    def comm_mb(self, fit: Fit) -> float:
        """MB per cycle that give the ratio on the fitted device."""
        comp, comm = self.times
        rate = float(fit.communication.rates[-1])
        link = self.link_rate(fit)
        return self.cycle_s(fit) * comm / comp * (rate if link is None else min(rate, link))


def parse_condition(text: str, *, cycles: int = 8, batches: int = 6) -> Condition:
    """Read a condition: a ratio of times, then ``name=value`` for what differs from the default.

    Raises
    ------
    WorkloadError
        Names what cannot be read, and what would be right.

    Examples
    --------
    >>> parse_condition("2:1 link=0.2x prefetch=1").label
    '2:1 link=0.2x prefetch=1'
    """
    ratio, *settings = text.split() or [""]
    Condition(ratio)  # a fault of the ratio is reported first
    values: dict[str, Any] = {}
    known: dict[str, Callable[[str], object]]
    known = {"link": _scaled, "link_trace": str, "trace_speed": float, "starved": str,
             "prefetch": int, "release": _scaled}  # fmt: skip
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in known:
            raise WorkloadError(
                f"condition {text!r}: {setting!r} is none of {', '.join(f'{k}=..' for k in known)}"
            )
        if name in values:
            raise WorkloadError(f"condition {text!r}: {name} is given twice")
        try:
            values[name] = known[name](value)
        except ValueError:
            raise WorkloadError(
                f"condition {text!r}: {name} must be a number, got {value!r}"
            ) from None
    return Condition(ratio, cycles=cycles, batches=batches, **values)


def _scaled(text: str) -> Scaled:
    relative = text.endswith("x")
    return Scaled(float(text.removesuffix("x")), relative)


def scenario_of(
    fit: Fit,
    condition: Condition,
    chunk_mb: float,
    *,
    compute: Any = None,
    communication: Any = None,
) -> Scenario:
    """Describe a condition on the fitted device as a scenario.

    Parameters
    ----------
    fit : Fit
    condition : Condition
    chunk_mb : float
        Payloads are whole chunks of so many MB.
    compute, communication : (total + 1,) float array, optional
        Other rates than the fit's own, e.g. those of a resample.

    Returns
    -------
    Scenario
        Amounts are batches (of forward and backward together) and MB.
    """
    total = fit.trace.total_cores
    q = fit.compute.rates if compute is None else compute
    r = fit.communication.rates if communication is None else communication
    share = forward_share(fit)
    own = list(range(1, total + 1))
    document: dict[str, Any] = {
        "name": f"{fit.trace.device} {condition.label}",
        "device": {
            "cores": total,
            "compute": {"model": "table", "cores": own, "rates": q[::-1][1:].tolist()},
            "communication": {"model": "table", "cores": own, "rates": r[1:].tolist()},
        },
        "workload": {
            "cycles": condition.cycles,
            "comm": max(1, round(condition.comm_mb(fit) / chunk_mb)) * chunk_mb,
            "forward": condition.batches * share,
            "backward": condition.batches * (1 - share),
        },
        "extensions": {
            "prefetch": condition.prefetch,
            "release": condition.release_s(fit),
            "reallocation_cost": reallocation_cost(fit),
        },
    }
    mean_rate = condition.link_rate(fit)
    if mean_rate is not None:
        document["link"] = {**_link_of(mean_rate, condition), "starved": condition.starved}
    return Scenario.model_validate(document)


def _link_of(mean: float, condition: Condition) -> dict[str, Any]:
    """Return the link of a scenario: a constant rate, or a trace at its scale and speed."""
    if condition.link_trace is None:
        return {"rate": mean}
    trace = read_bandwidth(condition.link_trace)
    times, rates = np.array(trace.times), np.array(trace.rates)
    lengths = np.diff(np.append(times, trace.period))
    scale = mean / float(rates @ lengths / trace.period)
    speed = condition.trace_speed
    return {
        "times": (times / speed).tolist(),
        "rates": (rates * scale).tolist(),
        "period": trace.period / speed,
    }


def forward_share(fit: Fit) -> float:
    """Return the forward half's share of a batch's time, averaged over the measured splits."""
    shares = list(fit.extras.get("forward_share", {}).values())
    return float(np.mean(shares)) if shares else 0.5


def reallocation_cost(fit: Fit) -> float:
    """Return the seconds that a change of the split costs both sides (0 if it is unknown)."""
    costs = [c for c in fit.extras.get("reallocation_cost_s", {}).values() if c["low"] > 0]
    # The model stalls both sides, the device mostly the one that changes its threads: half each.
    return float(sum(c["mean"] for c in costs) / 2)
