"""The nouns of a study: workload, extensions, design and the scenario that joins them.

Everything is validated where it is built; `scenario_from_data` reports every fault at once.
The device is in ``device``, files are in ``loading``, the arrays engines read are in ``plan``.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from kdsim.curves import FloatArray
from kdsim.device import Count, Device, Noun, Number, plain_number
from kdsim.errors import ScenarioError
from kdsim.faults import Document, FaultyFileError, did_you_mean, faults_of
from kdsim.plan import Plan

#: Names of the built-in policies; `static:c` and `module:Class` are legal beside them.
POLICY_NAMES = ("random", "comm-priority", "comp-priority", "greedy", "greedy-full", "optimal")
MAX_CYCLES = 1_000_000
MAX_POINTS = 1_000_000

_STATIC = re.compile(r"static:(\d+)")
_USER_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


WorkAmount = Annotated[Number, Field(ge=0.0, le=1e15)]


def _one_or_many(value: Any) -> str:
    return "list" if isinstance(value, list | tuple | np.ndarray) else "number"


Work = Annotated[
    Annotated[WorkAmount, Tag("number")]
    | Annotated[list[WorkAmount], BeforeValidator(plain_number), Field(min_length=1), Tag("list")],
    Discriminator(_one_or_many),
]


# --- the workload, the extensions, the study ---------------------------------------------------


class Workload(Noun):
    """The work of N distillation cycles; each amount a number or a list of N numbers."""

    cycles: Count = Field(ge=1, le=MAX_CYCLES, description="number of cycles, N")
    comm: Work = Field(description="data of Comm_i (data units, e.g. MB of teacher logits)")
    forward: Work = Field(description="work of Forward_i (compute units, e.g. batches)")
    backward: Work = Field(description="work of Backward_i (compute units)")
    profile: str | None = Field(
        default=None, description="cost profile (CSV) of a real run, in place of the four above"
    )
    profile_rate: Number | None = Field(
        default=None,
        gt=0,
        description="compute units a second of the host that the profile was recorded on; "
        "by default the device's own curve at the profile's core count",
    )

    @model_validator(mode="after")
    def _check_lengths(self) -> Workload:
        total = 0.0
        for name in ("comm", "forward", "backward"):
            value = getattr(self, name)
            if isinstance(value, list) and len(value) != self.cycles:
                raise PydanticCustomError(
                    "length",
                    "a list needs one number a cycle, {cycles} (got {got})",
                    {"cycles": self.cycles, "got": len(value), "field": name},
                )
            total += sum(value) if isinstance(value, list) else value
        if total <= 0:
            raise PydanticCustomError("work", "there is no work: comm, forward, backward are 0", {})
        return self

    def amounts(self, name: Literal["comm", "forward", "backward"]) -> FloatArray:
        """Return one kind of work as an (N,) array."""
        value = getattr(self, name)
        if isinstance(value, list):
            return np.array(value, dtype=float)
        return np.full(self.cycles, value, dtype=float)


class Extensions(Noun):
    """Departures from the paper's model; each is off by default."""

    prefetch: Count | None = Field(
        default=None, ge=1, description="logit batches that the device can hold, B"
    )
    noise: Number = Field(
        default=0.0, ge=0, le=10, description="coefficient of variation of each task's work"
    )
    link_rate: Number | None = Field(
        default=None, gt=0, description="data units a second that the link carries at most"
    )
    release: Number = Field(
        default=0.0, ge=0, description="logits i are ready at the teacher after i*release seconds"
    )
    reallocation_cost: Number = Field(
        default=0.0, ge=0, description="seconds without progress at each change of the core split"
    )


class Design(Noun):
    """How the swept fields are combined into points."""

    method: Literal["grid", "zip", "latin-hypercube", "sobol"] = Field(
        default="grid", description="all combinations, in step, or a space-filling sample"
    )
    samples: Count | None = Field(
        default=None, ge=1, le=MAX_POINTS, description="number of points of a sampled design"
    )

    @model_validator(mode="after")
    def _check_samples(self) -> Design:
        sampled = self.method in ("latin-hypercube", "sobol")
        if sampled != (self.samples is not None):
            raise PydanticCustomError(
                "design",
                "samples is needed by the methods latin-hypercube and sobol, and only by them",
                {"field": "samples"},
            )
        return self


class Range(Noun):
    """The range of a swept field in a sampled design."""

    low: Number
    high: Number
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _check_order(self) -> Range:
        if not self.low < self.high:
            raise PydanticCustomError("range", "low must lie below high", {"field": "low"})
        if self.scale == "log" and self.low <= 0:
            raise PydanticCustomError("range", "a log range must be positive", {"field": "low"})
        return self


SweptValue = Number | Annotated[str, Field(pattern=r"^\s*\d+(\.\d+)?\s*:\s*\d+(\.\d+)?\s*$")]
Swept = Annotated[
    Annotated[list[Any], Field(min_length=1), Tag("list")] | Annotated[Range, Tag("range")],
    Discriminator(lambda value: "list" if isinstance(value, list | tuple) else "range"),
]


class Scenario(Noun):
    """One question: this device, this workload, these policies.

    Examples
    --------
    >>> scenario = Scenario(
    ...     name="two-cores",
    ...     device={"cores": 2, "compute": {"a1": 1.0, "a2": 0.5},
    ...             "communication": {"b1": 1.0, "b2": 0.0, "b3": 1.0}},
    ...     workload={"cycles": 3, "comm": 1.0, "forward": 1.0, "backward": 1.0},
    ... )
    >>> scenario.plan().comm_rates
    array([0., 1., 2.])
    """

    name: str = Field(min_length=1, max_length=200, description="shown in tables and figures")
    description: str = Field(default="", description="what is modelled, and what is assumed")
    device: Device
    workload: Workload
    policies: list[str] = Field(
        default=["random", "comm-priority", "comp-priority", "greedy", "optimal"],
        min_length=1,
        description="built-in names, static:c, or module:Class",
    )
    replications: Count = Field(
        default=1000, ge=1, le=100_000_000, description="runs of each policy that draws at random"
    )
    seed: Count = Field(default=0, ge=0, le=2**63 - 1, description="root of all randomness")
    extensions: Extensions = Extensions()
    sweep: dict[str, Swept] = Field(
        default={}, description="dotted field -> values (or a range, in a sampled design)"
    )
    design: Design = Design()

    @field_validator("policies")
    @classmethod
    def _check_policies(cls, names: list[str]) -> list[str]:
        for i, name in enumerate(names):
            if not is_policy_name(name):
                reason = (
                    f"unknown policy {name!r}{did_you_mean(name, POLICY_NAMES)}; "
                    f"known: {', '.join(POLICY_NAMES)}, static:c, module:Class"
                )
                raise PydanticCustomError("policy", "{reason}", {"reason": reason, "index": i})
            if name in names[:i]:
                raise PydanticCustomError(
                    "policy", "policy {name} is listed twice", {"name": name, "index": i}
                )
        return names

    @functools.cached_property
    def _plan(self) -> Plan:
        device, work = self.device, self.workload
        comm_rates = device.communication_rates(device.cores)
        if self.extensions.link_rate is not None:
            comm_rates = np.minimum(comm_rates, self.extensions.link_rate)
        return Plan(
            comm=work.amounts("comm"),
            forward=work.amounts("forward"),
            backward=work.amounts("backward"),
            comm_rates=comm_rates,
            comp_rates=device.compute_rates(device.cores),
            prefetch=self.extensions.prefetch or 0,
            release=self.extensions.release,
            reallocation_cost=self.extensions.reallocation_cost,
        )

    def plan(self) -> Plan:
        """Return the numbers that engines and policies read."""
        return self._plan

    def digest(self) -> str:
        """Return a hash of everything that determines a run's result but policy and replication."""
        facts = self.model_dump(
            mode="json",
            include={"device", "workload", "extensions", "seed"},
            exclude={"device": {"curves"}, "workload": {"profile", "profile_rate"}},
        )
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def is_policy_name(name: str) -> bool:
    """Tell whether a name is built in, ``static:c`` or of the form ``module:Class``."""
    return name in POLICY_NAMES or bool(_STATIC.fullmatch(name) or _USER_CLASS.fullmatch(name))


# --- changing a field by its dotted path ----------------------------------------------------------


def parse_ratio(value: float | str) -> tuple[float, float]:
    """Read a Comp:Comm ratio: ``"2:1"`` is (2, 1), the number r is (r, 1)."""
    if isinstance(value, str):
        comp, comm = value.split(":")
        return float(comp), float(comm)
    return float(value), 1.0


def with_fields(scenario: Scenario, changes: Mapping[str, Any]) -> Scenario:
    """Return the scenario with fields changed by dotted path, validated anew.

    Parameters
    ----------
    scenario : Scenario
    changes : mapping
        E.g. ``{"device.cores": 6, "workload.ratio": "2:1"}``. ``workload.ratio`` is Comp : Comm
        and sets forward = backward = x, comm = y.

    Returns
    -------
    Scenario
        Without the sweep, which the changes replace.

    Raises
    ------
    ScenarioError
        If a path names no field (with "did you mean") or a value is not legal there.
    """
    if not changes:
        return scenario
    data = scenario.model_dump(exclude={"sweep", "design"})
    for path, value in changes.items():
        if path not in sweepable_fields(scenario):
            hint = did_you_mean(path, sweepable_fields(scenario))
            raise ScenarioError(f"no numeric field of a scenario is called that{hint}", field=path)
        if path == "workload.ratio":
            comp, comm = parse_ratio(value)
            data["workload"].update(forward=comp, backward=comp, comm=comm)
            continue
        *parents, leaf = path.split(".")
        target = data
        for parent in parents:
            target = target[parent]
        target[leaf] = _as_count(value) if path in COUNT_FIELDS else plain_number(value)
    return scenario_from_data(data)


#: Swept fields that are whole numbers; a sampled design rounds them.
COUNT_FIELDS = frozenset({"device.cores", "workload.cycles", "extensions.prefetch", "seed"})


def _as_count(value: Any) -> Any:
    value = plain_number(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def sweepable_fields(scenario: Scenario) -> list[str]:
    """List the dotted paths of all numeric fields of this scenario, and ``workload.ratio``."""
    fields = ["seed", "workload.ratio", "device.cores", "device.reference_cores"]
    for side in ("compute", "communication"):
        curve = getattr(scenario.device, side)
        fields += [
            f"device.{side}.{name}"
            for name in type(curve).model_fields
            if isinstance(getattr(curve, name), float | int)
        ]
    fields += [f"workload.{name}" for name in ("cycles", "comm", "forward", "backward")]
    return fields + [f"extensions.{name}" for name in Extensions.model_fields]


# --- every fault at once ---------------------------------------------------------------------


def scenario_from_data(data: Any, document: Document | None = None) -> Scenario:
    """Build a scenario from plain data, reporting all its faults at once.

    Parameters
    ----------
    data : object
        What a scenario file holds: mappings, lists, numbers and strings.
    document : Document, optional
        Where the data was read, for positions in messages.

    Returns
    -------
    Scenario

    Raises
    ------
    FaultyFileError
        With one `Fault` for each thing that is wrong.
    """
    document = document or Document("scenario")
    faults = list(document.faults)
    scenario = None
    try:
        scenario = Scenario.model_validate(data)
    except ValidationError as error:
        faults += faults_of(error, document, Scenario)
    if scenario is not None:
        faults += [document.fault(place, reason) for place, reason in _sweep_faults(scenario)]
    if faults or scenario is None:
        raise FaultyFileError(faults)
    return scenario


def _sweep_faults(scenario: Scenario) -> Iterator[tuple[tuple[str | int, ...], str]]:
    sampled = scenario.design.samples is not None
    known = sweepable_fields(scenario)
    for path, swept in scenario.sweep.items():
        place: tuple[str | int, ...] = ("sweep", path)
        if path not in known:
            yield place, f"no numeric field is called that{did_you_mean(path, known)}"
        elif sampled and not isinstance(swept, Range):
            yield place, f"method {scenario.design.method} needs a range {{low: .., high: ..}}"
        elif isinstance(swept, Range):
            if not sampled:
                yield place, f"method {scenario.design.method} needs a list of values, not a range"
            yield from _value_faults(scenario, path, {"low": swept.low, "high": swept.high})
        else:
            yield from _value_faults(scenario, path, dict(enumerate(swept)))
    lengths = [len(v) for v in scenario.sweep.values() if isinstance(v, list)]
    if scenario.design.method == "zip" and len(set(lengths)) > 1:
        yield ("sweep",), f"method zip needs lists of one length (got {lengths})"
    if scenario.design.method == "grid" and math.prod(lengths) > MAX_POINTS:
        yield (
            ("sweep",),
            f"too many points: {math.prod(lengths):,}; the limit is {MAX_POINTS:,}",
        )


def _value_faults(
    scenario: Scenario, path: str, values: Mapping[Any, Any]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    # Each value on its own, beside the scenario's other fields: a faulty one is named on its line.
    for key, value in itertools.islice(values.items(), 1000):
        if path in COUNT_FIELDS and isinstance(key, str):
            value = round(value)
        try:
            with_fields(scenario, {path: value})
        except ScenarioError as error:
            reason = "; ".join(f.reason for f in getattr(error, "faults", ())) or error.reason
            yield ("sweep", path, key), reason
