"""What the columns of a foreign table mean: which is ours, in which unit, with which words.

A mapping comes from a small YAML file that can be kept, from the command line, or from both (the
command line then has the last word). Nothing in it is guessed: what it does not say is asked for
when the table is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from calibration.importing.units import TIME, WORK
from calibration.trace.columns import COLUMNS
from kdsim._types import Record, RecordView
from kdsim.errors import TraceError
from kdsim.messages import did_you_mean
from kdsim.scenario.files.faults import FaultyFileError, faults_of
from kdsim.scenario.files.yaml_document import read_yaml
from kdsim.scenario.parts.fields import StrictModel

#: Counts the cores of the row's own side; comm_cores follows from it and total_cores.
OWN_CORES = "own_cores"
#: What a mapping may name: the columns of a trace, and the side's own cores.
NAMES = (*COLUMNS, OWN_CORES)
#: Columns whose unit must be said.
TIMES = ("seconds", "t_start", "sender_cpu_s")


class Mapped(StrictModel):
    """Their column for one of ours, and its unit where ours has one."""

    column: str = Field(description="name of their column")
    unit: str | None = Field(default=None, description="unit of a time: s, ms, us, ns or min")


class TableMapping(StrictModel):
    """How a table's columns become a trace's."""

    columns: dict[str, str | Mapped] = Field(
        default_factory=dict, description="our column: theirs, or {column: theirs, unit: ms}"
    )
    values: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="our column: {their word: ours}"
    )
    set: dict[str, str | int | float] = Field(
        default_factory=dict, description="our column: a constant for all rows"
    )
    units: dict[str, str] = Field(
        default_factory=dict, description="unit of work per task: {compute: batch, comm: MB}"
    )
    skip: dict[str, list[str]] = Field(
        default_factory=dict, description="our column: their words whose rows are left out"
    )
    delimiter: Literal[",", ";", "\t", "|"] | None = None
    decimal: Literal["point", "comma"] | None = None

    def column(self, ours: str) -> Mapped | None:
        """Return their column for ours, if there is one."""
        theirs = self.columns.get(ours)
        return Mapped(column=theirs) if isinstance(theirs, str) else theirs


def read_mapping(path: str | Path) -> TableMapping:
    """Read a mapping file (YAML).

    Raises
    ------
    TraceError
        If the file cannot be read or a field of it is not legal; each fault on its line.
    """
    try:
        document = read_yaml(Path(path))
        if document.faults:
            raise FaultyFileError(document.faults)
        mapping = TableMapping.model_validate(document.data)
    except FaultyFileError as error:
        raise TraceError(str(error)) from error
    except ValidationError as error:
        faults = faults_of(error, document, TableMapping)
        raise TraceError(str(FaultyFileError(faults))) from error
    _check(mapping, str(path))
    return mapping


def mapping_of(
    base: TableMapping, *, maps: Iterable[str] = (), values: Iterable[str] = (),
    constants: Iterable[str] = (), units: Iterable[str] = (), skips: Iterable[str] = (),
    delimiter: str | None = None, decimal: str | None = None,
) -> TableMapping:  # fmt: skip
    """Add what the command line says to a mapping.

    Parameters
    ----------
    maps : iterable of str
        ``ours=theirs`` or ``ours=theirs:unit``.
    values : iterable of str
        ``ours:theirs=ours``, e.g. ``task:train=compute``.
    constants : iterable of str
        ``ours=value``.
    units : iterable of str
        ``task=unit``, e.g. ``comm=kB``.
    skips : iterable of str
        ``ours:theirs``: rows with that word are left out.

    Raises
    ------
    TraceError
        If an option is not of its form or names an unknown column or unit.
    """
    data: Record = base.model_dump()
    for text in maps:
        ours, theirs = _pair(text, "--map", "ours=theirs or ours=theirs:unit")
        data["columns"][ours] = _mapped(ours, theirs)
    for text in values:
        theirs, ours = _pair(text, "--value", "column:theirs=ours", last=True)
        column, word = _pair(theirs, "--value", "column:theirs=ours", separator=":")
        data["values"].setdefault(column, {})[word] = ours
    for text in constants:
        ours, value = _pair(text, "--set", "ours=value")
        data["set"][ours] = value
    for text in units:
        task, unit = _pair(text, "--unit", "task=unit")
        data["units"][task] = unit
    for text in skips:
        column, word = _pair(text, "--skip", "column:theirs", separator=":")
        data["skip"].setdefault(column, []).append(word)
    if delimiter is not None:
        data["delimiter"] = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    if decimal is not None:
        data["decimal"] = decimal
    try:
        mapping = TableMapping.model_validate(data)
    except ValidationError as error:
        item = error.errors()[0]
        name = ".".join(str(part) for part in item["loc"])
        raise TraceError(f"{name}: {item['msg']} (got {item['input']!r})") from error
    _check(mapping, "the mapping")
    return mapping


def _pair(
    text: str, option: str, form: str, *, separator: str = "=", last: bool = False
) -> tuple[str, str]:
    before, found, after = text.rpartition(separator) if last else text.partition(separator)
    if not found or not before.strip() or not after.strip():
        raise TraceError(f"{option} {text!r}: must be {form}")
    return before.strip(), after.strip()


def _mapped(ours: str, theirs: str) -> dict[str, str | None]:
    """Cut a unit off their column's name; a name with a colon of its own is left whole."""
    column, colon, unit = theirs.rpartition(":")
    if ours in TIMES and colon and unit in TIME:
        return {"column": column, "unit": unit}
    return {"column": theirs, "unit": None}


def _check(mapping: TableMapping, where: str) -> None:
    named: tuple[tuple[str, RecordView], ...] = (
        ("columns", mapping.columns), ("values", mapping.values), ("set", mapping.set),
        ("skip", mapping.skip),
    )  # fmt: skip
    for field, entries in named:
        for name in entries:
            if name not in NAMES:
                hint = did_you_mean(name, NAMES) or f"; known: {', '.join(NAMES)}"
                raise TraceError(f"{where}: {field}: unknown column {name[:40]!r}{hint}")
    for name in mapping.columns:
        mapped = mapping.column(name)
        if mapped is not None and mapped.unit is not None and (
            name not in TIMES or mapped.unit not in TIME
        ):  # fmt: skip
            legal = f"one of {', '.join(TIME)}" if name in TIMES else "absent: it is no time"
            raise TraceError(f"{where}: {name}: the unit must be {legal} (got {mapped.unit!r})")
    for both in sorted(set(mapping.columns) & set(mapping.set)):
        raise TraceError(f"{where}: {both}: is both a column and a constant; say one of them")
    for task, unit in mapping.units.items():
        if task not in WORK:
            raise TraceError(f"{where}: units: must be of compute or comm (got {task[:40]!r})")
        if unit not in WORK[task]:
            raise TraceError(
                f"{where}: units: {task}: must be one of {', '.join(WORK[task])} (got {unit!r})"
            )
