"""Faults with positions: everything that is wrong with an input, reported at once.

A `Document` is plain data that knows where each of its values stands; `faults_of` turns what the
validator found into `Fault`s on those lines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from kdsim.errors import ScenarioError
from kdsim.messages import did_you_mean, shorten
from kdsim.model.curves import MODELS

Location = tuple[str | int, ...]

#: Faults that a message lists: one wrong list can hold as many as it has entries.
MAX_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a file: where, which field, why."""

    where: str
    line: int
    column: int
    field: str
    reason: str

    def __str__(self) -> str:
        place = f"{self.where}:{self.line}:{self.column}" if self.line else self.where
        return f"{place}: {self.field}: {self.reason}" if self.field else f"{place}: {self.reason}"


class FaultyFileError(ScenarioError):
    """A file with faults, one per line; `faults` holds them all, the message the first 50."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda f: (f.where, f.line, f.column)))
        lines = [str(fault) for fault in self.faults[:MAX_SHOWN]]
        if len(self.faults) > MAX_SHOWN:
            lines.append(f"... and {len(self.faults) - MAX_SHOWN:,} more faults")
        super().__init__("\n".join(lines))


@dataclass(slots=True)
class Document:
    """The plain data of a YAML file with the position of each of its values.

    Attributes
    ----------
    where : str
        Name of the file as shown in messages.
    data : object
        Mappings, lists and scalars.
    positions : dict
        From a location (keys and indexes from the root) to (line, column), 1-based.
    key_positions : dict
        The same for the keys of mappings.
    faults : list of Fault
        Faults of form that leave the rest readable, e.g. duplicate keys.
    files : dict of str to str
        Other files that completed the data, by the name it gives them: SHA-256 as they were read.
    """

    where: str
    data: Any = None
    positions: dict[Location, tuple[int, int]] = field(default_factory=dict)
    key_positions: dict[Location, tuple[int, int]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def fault(self, location: Location, reason: str, *, at_key: bool = False) -> Fault:
        """Make the fault of the value at `location`, placed at its nearest known ancestor."""
        if at_key and location in self.key_positions:
            line, column = self.key_positions[location]
            return Fault(self.where, line, column, dotted(location), reason)
        known = location
        while known and known not in self.positions:
            known = known[:-1]
        line, column = self.positions.get(known, (0, 0))
        return Fault(self.where, line, column, dotted(location), reason)


def dotted(location: Iterable[str | int]) -> str:
    """Write a location as a dotted path, e.g. ``workload.comm[3]``."""
    out = ""
    for part in location:
        if isinstance(part, int):
            out += f"[{part}]"
            continue
        shown = part if len(part) <= 60 else part[:57] + "..."
        out += f".{shown}" if out else shown
    return out


# --- what the validator found, in our words -------------------------------------------------------

_REASONS = {
    "missing": "required field is missing",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "finite_number": "must be finite",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "must be a number, or a ratio such as '2:1'",
    "literal_error": "must be one of {expected}",
}
_TAGS = frozenset(
    {"paper", *MODELS, "table", "number", "list", "range"},
)


#: Fields of earlier versions, and what has taken their place.
_FORMER_FIELDS = {
    "extensions.link_rate": "is replaced by link.rate, e.g. link: {rate: 0.25}; it capped the rate "
    "of the cores, where a link only decides when data arrive",
}


def unknown_field(path: str, known: Iterable[str]) -> str:
    """Say that no field has that dotted path, what has replaced it or which one was meant."""
    names = list(known)
    hint = did_you_mean(path, names) or f"; known: {', '.join(names)}"
    return _FORMER_FIELDS.get(path) or f"no numeric field of a scenario is called that{hint}"


def faults_of(error: ValidationError, document: Document, root: type[BaseModel]) -> list[Fault]:
    """Turn what the validator found into faults with positions.

    Parameters
    ----------
    error : ValidationError
        From validating `document`'s data against `root`.
    root : type of BaseModel
        Whose field names are offered for unknown ones.
    """
    faults = []
    for item in error.errors(include_url=False):
        context = item.get("ctx", {})
        location = _data_location(item["loc"], document)
        if context.get("field"):
            location += tuple(p for p in str(context["field"]).split(".") if p not in location)
        if "index" in context:
            location += (context["index"],)
        kind, got = item["type"], item.get("input")
        if kind == "extra_forbidden":
            known = _known_fields(root, item["loc"][:-1])
            hint = did_you_mean(str(location[-1]), known) or f"; known: {', '.join(known)}"
            reason = _FORMER_FIELDS.get(dotted(location), f"unknown field{hint}")
            faults.append(document.fault(location, reason, at_key=True))
            continue
        if kind == "union_tag_invalid":
            tags = re.findall(r"'([\w-]+)'", str(context.get("expected_tags", "")))
            tag = str(context.get("tag", ""))
            reason = f"unknown model{did_you_mean(tag, tags)}; known: {', '.join(tags)}"
            location, got = (*location, "model"), tag
        elif isinstance(got, float) and not math.isfinite(got):
            reason = _REASONS["finite_number"]
        elif kind in _REASONS:
            numbers = {k: f"{v:g}" if isinstance(v, float) else v for k, v in context.items()}
            reason = _REASONS[kind].format(**numbers)
        else:
            reason = item["msg"]
        if (
            kind != "missing"
            and "(got" not in reason
            and kind not in ("policy", "work", "design", "library", "link")
        ):
            reason = f"{reason} (got {shorten(got)})"
        faults.append(document.fault(location, reason))
    return faults


def _data_location(loc: Location, document: Document) -> Location:
    """Drop the names of union members, which stand in the validator's path but not in the data."""
    out: Location = ()
    for i, part in enumerate(loc):
        is_tag = part in _TAGS and (*out, part) not in document.positions and i > 0
        if not (is_tag and loc[:i]):
            out += (part,)
    return out


def _known_fields(root: type[BaseModel], loc: Location) -> list[str]:
    """Names legal at a validator's location, which names the member of each union it went into."""
    models = [root]
    for part in loc:
        if isinstance(part, int):
            continue
        inner = [
            member
            for model in models
            if part in model.model_fields
            for member in _models_in(model.model_fields[part].annotation)
        ]
        models = inner or [m for m in models if _tag_of(m) == part] or models
    return list(dict.fromkeys(name for model in models for name in model.model_fields))


def _tag_of(model: type[BaseModel]) -> str:
    """Return the ``model`` that a curve's fields belong to; the paper's need not say theirs."""
    chosen = model.model_fields.get("model")
    return str(get_args(chosen.annotation)[0]) if chosen else "paper"


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]
