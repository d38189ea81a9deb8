"""A scenario from plain data: every fault of it at once, those of its sweep included."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from kdsim._types import Record
from kdsim.errors import ScenarioError
from kdsim.policies.names import STATIC
from kdsim.scenario.changes import COUNT_FIELDS, TEXT_FIELDS, sweepable_fields, with_fields
from kdsim.scenario.files.faults import Document, FaultyFileError, faults_of, unknown_field
from kdsim.scenario.study import MAX_POINTS, Range, Scenario


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
    return scenario.with_files(places.files if files is None else files)


def _is_of_a_curve(path: str | int) -> bool:
    return str(path).startswith(("device.compute.", "device.communication."))


#: Legal parts that stand in for faulty ones, so that a file's sweep is checked all the same.
_STAND_INS: Record = {
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
