"""Changes of a scenario by the dotted paths of its fields, and the fields that can be swept."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from kdsim._types import Record, RecordView
from kdsim.errors import ScenarioError
from kdsim.messages import shorten, whole_number
from kdsim.scenario.files.faults import Document, FaultyFileError, faults_of, unknown_field
from kdsim.scenario.parts.extensions import Extensions
from kdsim.scenario.parts.fields import StrictModel, plain_number
from kdsim.scenario.parts.link import without_trace
from kdsim.scenario.study import MAX_REPLICATIONS, MAX_SEED, Range, Scenario

_RATIO = re.compile(r"\s*\d+(\.\d+)?\s*:\s*\d+(\.\d+)?\s*", re.ASCII)


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


def with_fields(scenario: Scenario, changes: RecordView) -> Scenario:
    """Return the scenario with fields changed by dotted path, validated anew.

    Parameters
    ----------
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
    return _validated(data, scenario.files)


def _validated(data: RecordView, files: Mapping[str, str]) -> Scenario:
    try:
        scenario = Scenario.model_validate(data)
    except ValidationError as error:
        raise FaultyFileError(faults_of(error, Document("scenario"), Scenario)) from error
    # A device of the library, or a constant rate, takes the place of what a file held.
    named = (scenario.device.curves, scenario.workload.profile, scenario.link.trace)
    return scenario.with_files({name: files[name] for name in files if name in named})


#: Amounts of work, and which number of a ratio "x:y" multiplies each.
_RATIO_SIDE = {"forward": 0, "backward": 0, "comm": 1}


def multiply_work(amounts: RecordView, ratio: tuple[float, float]) -> Record:
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


def multiply_sweep(sweep: RecordView, ratio: tuple[float, float]) -> Record:
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


def _on_library_device(scenario: Scenario, changes: RecordView) -> Scenario:
    """Put a device of the library in the place of the scenario's, with all its cores.

    Of the scenario's own device only the permission to extrapolate stays.
    """
    device = {
        "library": changes["device.library"],
        "extrapolate": changes.get("device.extrapolate", scenario.device.extrapolate),
    }
    data = {name: getattr(scenario, name) for name in Scenario.model_fields}
    del data["sweep"], data["design"]
    return _validated({**data, "device": device}, scenario.files)


def with_run_counts(scenario: Scenario, seed: int | None, replications: int | None) -> Scenario:
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


def _as_count(value: object) -> Any:
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
