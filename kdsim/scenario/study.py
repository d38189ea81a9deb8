"""The scenario, which joins device, workload and extensions, and the design of its sweep.

The parts are in ``device``, ``workload``, ``link`` and ``extensions``. Changes of single fields are
in ``changes``, the report of every fault at once in ``validate``, files in ``load``.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from kdsim._types import Record
from kdsim.errors import ScenarioError
from kdsim.messages import did_you_mean, shorten
from kdsim.model.plan import Plan
from kdsim.policies.names import POLICY_NAMES, is_policy_name
from kdsim.scenario.parts.device import UNCOUNTED, Device
from kdsim.scenario.parts.extensions import Extensions
from kdsim.scenario.parts.fields import Count, Number, StrictModel
from kdsim.scenario.parts.link import LinkSettings
from kdsim.scenario.parts.workload import Workload

MAX_POINTS = 1_000_000
MAX_SEED = 2**63 - 1
MAX_REPLICATIONS = 100_000_000


class Design(StrictModel):
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


class Range(StrictModel):
    """The range of a swept field in a sampled design."""

    low: Number = Field(description="least value")
    high: Number = Field(description="largest value")
    scale: Literal["linear", "log"] = Field(
        default="linear", description="whether the samples spread over the value or its logarithm"
    )

    @model_validator(mode="after")
    def _check_order(self) -> Range:
        if not self.low < self.high:
            raise PydanticCustomError("range", "low must lie below high", {"field": "low"})
        if self.scale == "log" and self.low <= 0:
            raise PydanticCustomError("range", "a log range must be positive", {"field": "low"})
        return self


Swept = Annotated[
    Annotated[list[Any], Field(min_length=1), Tag("list")] | Annotated[Range, Tag("range")],
    Discriminator(lambda value: "list" if isinstance(value, list | tuple) else "range"),
]


def _known_policy(name: str) -> str:
    if not is_policy_name(name):
        reason = (
            f"unknown policy {shorten(name)}{did_you_mean(name, POLICY_NAMES)}; "
            f"known: {', '.join(POLICY_NAMES)}, static:c, module:Class"
        )
        raise PydanticCustomError("policy", "{reason}", {"reason": reason})
    return name


def _one_line(name: str) -> str:
    if not name.isprintable():
        raise PydanticCustomError("name", "must be one line of printable text", {})
    return name


class Scenario(StrictModel):
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

    name: Annotated[str, AfterValidator(_one_line)] = Field(
        min_length=1, max_length=200, description="shown in tables and figures"
    )
    description: str = Field(default="", description="what is modelled, and what is assumed")
    device: Device = Field(description="the cores, and how fast each side works on them")
    workload: Workload = Field(description="the work of the cycles")
    policies: list[Annotated[str, AfterValidator(_known_policy)]] = Field(
        default=["random", "comm-priority", "comp-priority", "greedy", "optimal"],
        min_length=1,
        description="built-in names, static:c, or module:Class",
    )
    replications: Count = Field(
        default=1000,
        ge=1,
        le=MAX_REPLICATIONS,
        description="runs of each policy that draws at random",
    )
    seed: Count = Field(default=0, ge=0, le=MAX_SEED, description="root of all randomness")
    link: LinkSettings = Field(default=LinkSettings(), description="how the data reach the device")
    extensions: Extensions = Field(
        default=Extensions(), description="departures from the paper's model"
    )
    sweep: dict[str, Swept] = Field(
        default={}, description="dotted field -> values (or a range, in a sampled design)"
    )
    design: Design = Field(default=Design(), description="how the swept fields are combined")

    _files: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def files(self) -> Mapping[str, str]:
        """SHA-256 of each file that the scenario's file names, as it was read; by that name."""
        return self._files

    def with_files(self, files: Mapping[str, str]) -> Scenario:
        """Record the files that completed this scenario, see `files`, and return it."""
        self._files.update(files)
        return self

    @field_validator("policies")
    @classmethod
    def _check_policies(cls, names: list[str]) -> list[str]:
        for i, name in enumerate(names):
            if name in names[:i]:
                raise PydanticCustomError(
                    "policy", "policy {name} is listed twice", {"name": name, "index": i}
                )
        return names

    @model_validator(mode="after")
    def _check_arrival(self) -> Scenario:
        link = self.link.link()
        if link is not None:
            try:
                link.check_reach(float(self.workload.amounts("comm").sum()))
            except ScenarioError as error:
                place = "link.rate" if self.link.rate is not None else "link.trace"
                reason = f"{self.link.trace or 'the link'}: {error.reason}"
                context = {"reason": reason, "field": place}
                raise PydanticCustomError("link", "{reason}", context) from None
        return self

    @functools.cached_property
    def _plan(self) -> Plan:
        device, work = self.device, self.workload
        return Plan(
            comm=work.amounts("comm"),
            forward=work.amounts("forward"),
            backward=work.amounts("backward"),
            comm_rates=device.communication_rates(device.cores),
            comp_rates=device.compute_rates(device.cores),
            prefetch=self.extensions.prefetch or 0,
            release=self.extensions.release,
            reallocation_cost=self.extensions.reallocation_cost,
            link=self.link.link(),
        )

    def marks(self) -> tuple[str, ...]:
        """Return what every result of this scenario must say of its device; see `Device.marks`."""
        return self.device.marks()

    def plan(self) -> Plan:
        """Return the numbers that engines and policies read."""
        return self._plan

    def facts(self) -> Record:
        """Return everything that determines a run's result, except policy and replication."""
        return self.model_dump(
            mode="json",
            include={"device", "workload", "link", "extensions", "seed"},
            exclude={
                "device": UNCOUNTED,
                "workload": {"profile", "profile_rate"},
                "link": {"trace", "repeat"},
            },
        )

    def digest(self) -> str:
        """Return a hash of `facts`."""
        facts = self.facts()
        if facts["device"]["measured_cores"] is None:  # as before there were ranges
            del facts["device"]["measured_cores"]
        if self.plan().link is None:  # as before there were links
            del facts["link"]
            facts["extensions"]["link_rate"] = None
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
