"""Any CSV table by a mapping: their columns, units and words become a trace's.

Delimiter and decimal comma are recognised where only one reading fits every row; where two do,
the message asks which. Whatever a row lacks or says in unknown words is a fault on its line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from calibration.importing.mapping import OWN_CORES, TIMES, TableMapping
from calibration.importing.units import TIME, WORK
from calibration.trace.columns import COLUMNS, TASKS, check_record, convert_record
from calibration.trace.listing import listing
from calibration.trace.text import TextFile
from kdsim._types import Record
from kdsim.errors import TraceError
from kdsim.messages import did_you_mean

_DELIMITERS = (",", ";", "\t", "|")
_DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
#: Whole numbers and reals; the other columns are words.
_NUMBERS = (
    "total_cores", "comm_cores", OWN_CORES, "work", "repeat", "seconds", "t_start", "trial",
    "streams", "changes", "foreign_cpu", "sender_cpu_s",
)  # fmt: skip
_WORDS = ("task", "condition", "phase", "status", "unit")
_COMMA_NUMBER = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}([.,]\d{3})+")


@dataclass(frozen=True, slots=True)
class TableRows:
    """A table's rows in the words of a trace: one record per row, each with its line."""

    records: list[Record]
    lines: list[int]


@dataclass(frozen=True, slots=True)
class _Table:
    where: str
    names: list[str]
    rows: list[tuple[int, list[str]]]
    first: int


def table_rows(source: TextFile, mapping: TableMapping) -> TableRows:
    """Read a table by its mapping.

    Returns
    -------
    TableRows
        Legal one by one; what they mean together is checked by ``calibration.trace.meaning``.

    Raises
    ------
    TraceError
        With every fault of the table, or with what the mapping must say first.
    """
    where = str(source.path)
    table = _parse(source.text, where, mapping)
    _ask(table, mapping)
    index = {
        ours: table.names.index(mapped.column)
        for ours in mapping.columns
        if (mapped := mapping.column(ours)) is not None
    }
    comma = _decimal_comma(table, index, mapping)
    faults: list[str] = []
    records: list[Record] = []
    lines: list[int] = []
    for line, fields in table.rows:
        texts = {ours: fields[i].strip() for ours, i in index.items()}
        if any(texts.get(column) in words for column, words in mapping.skip.items()):
            continue
        place = f"{where}:{line}"
        record = _record(texts, mapping, comma, place, faults)
        if record is not None:
            check_record(record, records[0] if records else record, place, faults)
            records.append(record)
            lines.append(line)
    if not records and not faults:
        faults.append(f"{where}: no measurement: the table has no row that is not skipped")
    if faults:
        raise TraceError(listing(faults))
    if not {"repeat", "trial"} & (set(mapping.columns) | set(mapping.set)):
        _number(records)
    return TableRows(records, lines)


# --- the table ------------------------------------------------------------------------------------


def _parse(text: str, where: str, mapping: TableMapping) -> _Table:
    wanted = {m.column for name in mapping.columns if (m := mapping.column(name)) is not None}
    lines = text.split("\n")
    above = 0
    while above < len(lines) and (not lines[above].strip() or lines[above].startswith("#")):
        above += 1
    if above == len(lines):
        raise TraceError(f"{where}: no table: the file has no line that is not a comment")
    body = "\n".join(lines[above:])
    candidates: list[str] = [mapping.delimiter] if mapping.delimiter else list(_DELIMITERS)
    tables = []
    reasons = []
    for delimiter in candidates:
        try:
            rows = _split(body, delimiter)
        except csv.Error as error:
            reasons.append(f"{where}: not CSV: {error}")
            continue
        names = [name.strip() for name in rows[0][1]]
        if len(names) > 1 and wanted <= set(names):
            tables.append((delimiter, names, rows[1:]))
        else:
            reasons.append(_missing_names(wanted, names, f"{where}:{above + 1}"))
    if not tables:
        widest = max(candidates, key=lambda d: len(next(csv.reader([lines[above]], delimiter=d))))
        raise TraceError(reasons[candidates.index(widest)])
    if len(tables) > 1:
        options = " or ".join(_DELIMITER_NAMES[d] for d, *_ in tables)
        raise TraceError(f"{where}: separated by {options}? say --delimiter")
    _, names, rows = tables[0]
    for name in sorted(wanted):
        if names.count(name) > 1:
            raise TraceError(f"{where}:{above + 1}: the column {name!r} is there twice")
    faults = [
        f"{where}:{above + line}: must have {len(names)} fields (got {len(fields)})"
        for line, fields in rows
        if fields and len(fields) != len(names)
    ]
    if faults:
        raise TraceError(listing(faults))
    return _Table(where, names, [(above + n, f) for n, f in rows if any(f)], above + 1)


def _split(body: str, delimiter: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True)
    return [(reader.line_num, fields) for fields in reader]


def _missing_names(wanted: set[str], names: Sequence[str], where: str) -> str:
    missing = sorted(wanted - set(names))
    if not missing:
        return f"{where}: one column only: which delimiter? (got {names[0][:60]!r})"
    shown = ", ".join(repr(name[:30]) for name in names[:20])
    return (
        f"{where}: no column {missing[0]!r}{did_you_mean(missing[0], names)}; the table has {shown}"
    )


# --- what must be said ----------------------------------------------------------------------------


def _ask(table: _Table, mapping: TableMapping) -> None:
    """Ask at once for everything that the mapping leaves open."""
    known = set(mapping.columns) | set(mapping.set)
    missing = []
    for name, example in (
        ("device", "--device my-board"), ("task", "--map task=COLUMN, or --set task=compute"),
        ("total_cores", "--set total_cores=8"), ("work", "--map work=COLUMN, or --set work=1"),
        ("seconds", "--map seconds=COLUMN:ms"),
    ):  # fmt: skip
        if name not in known:
            missing.append(f"{name}: which column, or which value? ({example})")
    if not {"comm_cores", OWN_CORES} & known:
        missing.append(
            "comm_cores: which column has the cores given to communication, or the row's own "
            "side's? (--map comm_cores=COLUMN, or --map own_cores=COLUMN)"
        )
    elif {"comm_cores", OWN_CORES} <= known:
        missing.append("comm_cores and own_cores: one follows from the other; map one")
    for name in TIMES:
        mapped = mapping.column(name)
        if mapped is not None and mapped.unit is None and mapped.column not in ("seconds", "s"):
            missing.append(
                f"{name}: in which unit is {mapped.column!r}? (--map {name}={mapped.column}:ms; "
                f"{', '.join(TIME)})"
            )
    if missing:
        names = ", ".join(repr(name[:30]) for name in table.names[:20])
        asked = "\n".join(f"{table.where}: {text}" for text in missing)
        raise TraceError(f"{asked}\n{table.where}:{table.first}: the table has the columns {names}")


def _decimal_comma(table: _Table, index: dict[str, int], mapping: TableMapping) -> bool:
    """Find out whether numbers have a decimal comma, if only one reading fits."""
    numbers = [
        (line, text)
        for ours, i in index.items()
        if ours in _NUMBERS
        for line, fields in table.rows
        if (text := fields[i].strip())
    ]
    commas = [(line, text) for line, text in numbers if "," in text]
    points = [(line, text) for line, text in numbers if "." in text]
    if mapping.decimal == "point" or (mapping.decimal is None and not commas):
        found, wrong, comma = "points", commas, False
    elif mapping.decimal == "comma" or not points:
        found, wrong, comma = "commas", points, True
    else:
        raise TraceError(
            f"{table.where}:{commas[0][0]}: {commas[0][1][:40]!r} has a comma, but "
            f"{points[0][1][:40]!r} (line {points[0][0]}) a point: numbers are read with decimal "
            "points or with decimal commas, without separators of thousands"
        )
    if wrong:
        line, text = wrong[0]
        raise TraceError(
            f"{table.where}:{line}: {text[:40]!r} in a table with decimal {found}: numbers are "
            "read without separators of thousands"
        )
    if comma and mapping.decimal is None:
        odd = next((c for c in commas if not _COMMA_NUMBER.fullmatch(c[1])), None)
        if odd is not None:
            raise TraceError(f"{table.where}:{odd[0]}: not a number (got {odd[1][:40]!r})")
        if all(_THOUSANDS.fullmatch(text) for _, text in commas):
            line, text = commas[0]
            raise TraceError(
                f"{table.where}:{line}: is {text[:40]!r} a number with a decimal comma? say "
                "--decimal comma (separators of thousands are not read)"
            )
    return comma


# --- one row --------------------------------------------------------------------------------------


def _record(
    texts: dict[str, str], mapping: TableMapping, comma: bool, place: str, faults: list[str]
) -> Record | None:
    fields = {name: str(value) for name, value in mapping.set.items()} | texts
    for column in [name for name in _WORDS if name in fields]:
        word = _word(column, fields[column], mapping, place, faults)
        if word is None:
            return None
        fields[column] = word
    if comma:
        for name in texts:
            if name in _NUMBERS:
                fields[name] = fields[name].replace(",", ".")
    own = fields.pop(OWN_CORES, None)
    unit = fields.get("unit", mapping.units.get(fields["task"]))
    fields["unit"] = TASKS.get(fields["task"], "")
    fields.setdefault("repeat", fields.get("trial", "0"))
    fields.setdefault("comm_cores", own or "0")
    for name in [n for n in ("t_start", "foreign_cpu", "sender_cpu_s") if not fields.get(n, "1")]:
        del fields[name]
    record = convert_record(fields, place, faults)
    if len(record) < len(fields):
        return None
    if own is not None and record["task"] == "compute":
        record["comm_cores"] = record["total_cores"] - record["comm_cores"]
    _scale(record, unit, mapping, place, faults)
    return record


def _word(
    column: str, text: str, mapping: TableMapping, place: str, faults: list[str]
) -> str | None:
    word = mapping.values.get(column, {}).get(text, text)
    if column == "unit":
        return word
    try:
        return str(COLUMNS[column].convert(word))
    except ValueError as error:
        _ask_once(
            f"{column}: {error} (got {text[:40]!r}); say what it means (--value "
            f"{column}:{text[:40]}=...) or leave such rows out (--skip {column}:{text[:40]})",
            place, faults,
        )  # fmt: skip
        return None


def _ask_once(question: str, place: str, faults: list[str]) -> None:
    """Ask on the first row that raises a question: its answer is that of all the others."""
    if not any(fault.endswith(question) for fault in faults):
        faults.append(f"{place}: {question}")


def _scale(
    record: Record, unit: str | None, mapping: TableMapping, place: str, faults: list[str]
) -> None:
    """Turn times into seconds and work into batches and MB."""
    task = record["task"]
    if unit not in WORK[task]:
        got = "" if unit is None else f" (got {unit[:40]!r})"
        _ask_once(
            f"work: in which unit is that of {task}? (--unit {task}={TASKS[task]}; one of "
            f"{', '.join(WORK[task])}){got}",
            place, faults,
        )  # fmt: skip
        return
    record["work"] *= WORK[task][unit]
    for name in TIMES:
        mapped = mapping.column(name)
        if mapped is not None and name in record:
            record[name] *= TIME[mapped.unit or "s"]


def _number(records: list[Record]) -> None:
    """Give each measurement of a point a number of its own, in the table's order."""
    seen: dict[tuple[Any, ...], int] = {}
    for record in records:
        key = tuple(record.get(name) for name in ("task", "comm_cores", "condition", "phase"))
        record["repeat"] = seen.get(key, 0)
        seen[key] = record["repeat"] + 1
