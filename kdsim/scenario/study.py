"""The scenario, which joins device, workload and extensions, and the design of its sweep.

Everything is validated where it is built; `scenario_from_data` reports every fault at once.
The parts are in ``device``, ``workload`` and ``extensions``, files in ``loading``,
the arrays that engines read in ``plan``, the JSON Schema for editors in ``schema``.
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

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from kdsim.errors import ScenarioError
from kdsim.messages import did_you_mean, shorten, whole_number
from kdsim.model.plan import Plan
from kdsim.policies.names import POLICY_NAMES, STATIC, is_policy_name
from kdsim.scenario.device import UNCOUNTED, Count, Device, Number, StrictModel, plain_number
from kdsim.scenario.extensions import Extensions
from kdsim.scenario.faults import Document, FaultyFileError, faults_of, unknown_field
from kdsim.scenario.link import LinkSettings, without_trace
from kdsim.scenario.workload import Workload

MAX_POINTS = 1_000_000
MAX_SEED = 2**63 - 1
MAX_REPLICATIONS = 100_000_000

_RATIO = re.compile(r"\s*\d+(\.\d+)?\s*:\s*\d+(\.\d+)?\s*", re.ASCII)


# --- the study -----------------------------------------------------------------------------------


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

    def facts(self) -> dict[str, Any]:
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


# --- changing a field by its dotted path ----------------------------------------------------------


def parse_ratio(value: float | str) -> tuple[float, float]:
    """Read a Comp:Comm ratio: ``"2:1"`` is (2, 1), the number r is (r, 1).

    Raises
    ------
    ScenarioError
        If it is neither.
    """
    if isinstance(value, str) and _RATIO.fullmatch(value):
        comp, comm = value.split(":")
        return float(comp), float(comm)
    value = plain_number(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value), 1.0
    raise ScenarioError(
        f"must be a number, or a ratio such as '2:1' (got {shorten(value)})", field="workload.ratio"
    )


def with_fields(scenario: Scenario, changes: Mapping[str, Any]) -> Scenario:
    """Return the scenario with fields changed by dotted path, validated anew.

    Parameters
    ----------
    scenario : Scenario
    changes : mapping
        E.g. ``{"device.cores": 6, "workload.ratio": "2:1"}``. A ``workload.ratio`` of "x:y"
        multiplies computation (forward and backward) by x and communication by y, after all other
        changes. ``link.rate`` takes the place of a bandwidth trace.

    Returns
    -------
    Scenario
        Without the sweep, which the changes replace.

    Raises
    ------
    ScenarioError
        If a path names no field (with "did you mean") or a value is not legal there.
    """
    if "device.library" in changes:
        scenario = _on_library_device(scenario, changes)
        changes = {k: v for k, v in changes.items() if k != "device.library"}
    if not changes:
        return scenario
    # Parts that stay go in as they are: validating a workload of many cycles anew takes long.
    data = {name: getattr(scenario, name) for name in Scenario.model_fields}
    for name in ("sweep", "design"):
        del data[name]
    known = [*sweepable_fields(scenario), *SWITCHES]
    for path, value in changes.items():
        if path not in known:
            raise ScenarioError(unknown_field(path, known), field=path)
        section = path.partition(".")[0]
        if isinstance(data[section], StrictModel):
            data[section] = data[section].model_dump()
        if path == "workload.ratio":
            continue
        if path == "link.rate" and value is not None:
            data["link"] = without_trace(data["link"])
        if path.startswith(("device.compute.", "device.communication.")):
            data["device"]["draws"] = None  # they are of the curves that were fitted
        *parents, leaf = path.split(".")
        target: Any = data
        for parent in parents:
            target = target[parent]
        target[leaf] = _as_count(value) if path in COUNT_FIELDS else plain_number(value)
    if "workload.ratio" in changes:
        data["workload"] = multiply_work(data["workload"], parse_ratio(changes["workload.ratio"]))
    return scenario_from_data(data, files=scenario.files)


#: Amounts of work, and which number of a ratio "x:y" multiplies each.
_RATIO_SIDE = {"forward": 0, "backward": 0, "comm": 1}


def multiply_work(amounts: Mapping[str, Any], ratio: tuple[float, float]) -> dict[str, Any]:
    """Return a workload's data with computation and communication multiplied by a ratio's numbers.

    Parameters
    ----------
    amounts : mapping
        Where it has ``forward``, ``backward`` or ``comm``, they are numbers or lists.
    ratio : (float, float)
        Comp and Comm; see `parse_ratio`.
    """
    return {
        name: _times(ratio[_RATIO_SIDE[name]], amount) if name in _RATIO_SIDE else amount
        for name, amount in amounts.items()
    }


def multiply_sweep(sweep: Mapping[str, Any], ratio: tuple[float, float]) -> dict[str, Any]:
    """Return a sweep with its amounts of work multiplied by a ratio's numbers."""
    changed = dict(sweep)
    for name, side in _RATIO_SIDE.items():
        swept = sweep.get(f"workload.{name}")
        if isinstance(swept, Range):
            bounds = {"low": ratio[side] * swept.low, "high": ratio[side] * swept.high}
            changed[f"workload.{name}"] = swept.model_copy(update=bounds)
        elif swept is not None:
            changed[f"workload.{name}"] = _times(ratio[side], swept)
    return changed


def _times(factor: float, amount: Any) -> Any:
    if isinstance(amount, list | tuple):
        return [_times(factor, value) for value in amount]
    return factor * amount if isinstance(amount, int | float) else amount


#: Fields whose values are text.
TEXT_FIELDS = frozenset({"device.library", "link.starved"})
#: Fields beside the numeric ones that a change may set.
SWITCHES = (*TEXT_FIELDS, "device.extrapolate")


def _on_library_device(scenario: Scenario, changes: Mapping[str, Any]) -> Scenario:
    """Put a device of the library in the place of the scenario's, with all its cores.

    Of the scenario's own device only the permission to extrapolate stays.
    """
    device = {
        "library": changes["device.library"],
        "extrapolate": changes.get("device.extrapolate", scenario.device.extrapolate),
    }
    data = {name: getattr(scenario, name) for name in Scenario.model_fields}
    del data["sweep"], data["design"]
    return scenario_from_data({**data, "device": device})


def with_run_counts(scenario: Scenario, seed: Any, replications: Any) -> Scenario:
    """Return the scenario with another seed or number of replications, where one is given."""
    changes = {}
    if seed is not None:
        changes["seed"] = whole_number(seed, "seed", 0, MAX_SEED)
    if replications is not None:
        changes["replications"] = whole_number(replications, "replications", 1, MAX_REPLICATIONS)
    # Checked here: a whole validation anew would cost more than many a run.
    return scenario.model_copy(update=changes) if changes else scenario


#: Swept fields that are whole numbers; a sampled design rounds them.
COUNT_FIELDS = frozenset(
    {"device.cores", "device.reference_cores", "workload.cycles", "extensions.prefetch", "seed"}
)


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
    fields.append("link.rate")
    return fields + [f"extensions.{name}" for name in Extensions.model_fields]


# --- every fault at once ---------------------------------------------------------------------


def scenario_from_data(
    data: Any, document: Document | None = None, *, files: Mapping[str, str] | None = None
) -> Scenario:
    """Build a scenario from plain data, reporting all its faults at once.

    Parameters
    ----------
    data : object
        What a scenario file holds: mappings, lists, numbers and strings.
    document : Document, optional
        Where the data was read, for positions in messages and the files that it names.
    files : mapping of str to str, optional
        See `Scenario.files`; the document's by default.

    Returns
    -------
    Scenario

    Raises
    ------
    FaultyFileError
        With one `Fault` for each thing that is wrong.
    """
    faults = list(document.faults) if document else []
    places = document or Document("scenario")
    broken: set[str] = set()
    scenario: Scenario | None = None
    rest: Scenario | None = None
    try:
        scenario = rest = Scenario.model_validate(data)
    except ValidationError as error:
        faults += faults_of(error, places, Scenario)
        rest, broken = _legal_rest(data, error)
    if rest is not None:
        known_design = "design" not in broken
        more = itertools.chain(
            _sweep_faults(rest, known_design=known_design), _static_faults(rest) if document else ()
        )
        faults += [
            places.fault(place, reason, at_key=len(place) == 1)
            for place, reason in more
            # A stand-in has the fields and limits of what it stands for, except a curve's, which
            # follow from its model.
            if len(place) == 1 or "device" not in broken or not _is_of_a_curve(place[1])
        ]
    if faults or scenario is None:
        raise FaultyFileError(faults)
    scenario._files.update(places.files if files is None else files)
    return scenario


def _is_of_a_curve(path: str | int) -> bool:
    return str(path).startswith(("device.compute.", "device.communication."))


#: Legal parts that stand in for faulty ones, so that a file's sweep is checked all the same.
_STAND_INS: dict[str, Any] = {
    "name": "scenario",
    "device": {
        "cores": 1,
        "compute": {"a1": 1.0, "a2": 0.0},
        "communication": {"b1": 1.0, "b2": 0.0, "b3": 1.0},
    },
    "workload": {"cycles": 1, "comm": 1.0, "forward": 1.0, "backward": 1.0},
    "policies": ["optimal"],
}


def _legal_rest(data: Any, error: ValidationError) -> tuple[Scenario | None, set[str]]:
    """Return what is legal of a faulty scenario, and the names of the parts that are not."""
    broken = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
    if not isinstance(data, Mapping):
        return None, broken
    rest = {**_STAND_INS, **data}
    for name in broken:
        rest.pop(name, None)
        if name in _STAND_INS:
            rest[name] = _STAND_INS[name]
    try:
        return Scenario.model_validate(rest), broken
    except ValidationError:
        return None, broken


def _static_faults(scenario: Scenario) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Find static policies that ask for more cores than a device of the study has."""
    swept = scenario.sweep.get("device.cores")
    if isinstance(swept, Range):
        counts: list[Any] = [math.floor(swept.low)]
    else:
        counts = swept or [scenario.device.cores]
    for i, name in enumerate(scenario.policies):
        static = STATIC.fullmatch(name)
        short = [c for c in counts if isinstance(c, int | float) and static and int(static[1]) > c]
        if short:
            reason = f"{name} asks for more cores than the device has ({min(short):g})"
            yield ("policies", i), reason


def _sweep_faults(
    scenario: Scenario, *, known_design: bool
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Find what is wrong with a sweep; of a faulty design nothing follows for it."""
    sampled = scenario.design.samples is not None
    known = [*sweepable_fields(scenario), *TEXT_FIELDS]
    for path, swept in scenario.sweep.items():
        place: tuple[str | int, ...] = ("sweep", path)
        if path not in known:
            yield place, unknown_field(path, known)
        elif known_design and sampled and not isinstance(swept, Range):
            yield place, f"method {scenario.design.method} needs a range {{low: .., high: ..}}"
        elif isinstance(swept, Range):
            if known_design and not sampled:
                yield place, f"method {scenario.design.method} needs a list of values, not a range"
            yield from _value_faults(scenario, path, {"low": swept.low, "high": swept.high})
        elif path == "device.library" or not (
            path.startswith("device.") and "device.library" in scenario.sweep
        ):  # what is legal on one of several devices shows at each point
            yield from _value_faults(scenario, path, dict(enumerate(swept)))
    if not known_design:
        return
    if sampled and not scenario.sweep:
        reason = f"method {scenario.design.method} needs a sweep of ranges {{low: .., high: ..}}"
        yield ("design",), reason
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
