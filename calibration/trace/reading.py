"""Reading a device trace: form first, then what every row says, then what they mean together."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from calibration.trace.columns import COLUMNS, check_names, check_record, convert_record
from calibration.trace.header import split_header
from calibration.trace.listing import listing
from calibration.trace.meaning import check_meaning
from calibration.trace.text import read_text_file
from kdsim._types import Record
from kdsim.errors import TraceError


@dataclass(frozen=True, slots=True)
class Trace:
    """A validated device trace.

    Attributes
    ----------
    rows : DataFrame
        One row per measurement, the columns of `COLUMNS`; optional columns that the file lacks
        hold their defaults. Without `trial`, each `repeat` is a trial.
    header : dict
        The comment header: host fingerprint and collection settings, as JSON values.
    path : Path or None
        Where it was read from.
    sha256 : str
        Digest of the file's bytes (empty when not read from a file).
    questions : tuple of str
        What is legal in the file but unlikely to be meant, each with its line.
    """

    rows: pd.DataFrame
    header: Record = field(default_factory=dict)
    path: Path | None = None
    sha256: str = ""
    questions: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """Name of the device measured."""
        return str(self.rows["device"].iloc[0])

    @property
    def total_cores(self) -> int:
        """Cores of the device (virtual ones, if it was measured in fractional shares)."""
        return int(self.rows["total_cores"].iloc[0])


def read_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a device trace and validate it, for form and for meaning.

    Parameters
    ----------
    path : path-like
        A CSV file in the trace format; the comment header is optional.

    Returns
    -------
    Trace
        What is legal but unlikely to be meant stands in its `questions`.

    Raises
    ------
    TraceError
        If the file cannot be read, breaks the format, or contradicts itself (a measurement
        twice, half of a step missing, two units in one column); the message lists every fault as
        ``file:line: column: reason (got ...)``.
    """
    source = read_text_file(path, "a device trace")
    where, lines = str(source.path), source.text.split("\n")
    faults: list[str] = []
    header, above = split_header(lines, where, faults)
    records, numbers = _records(lines[above:], above + 1, where, faults)
    if not records and not faults:
        faults.append(f"{where}:{above + 1}: no measurement: the file has no data row")
    if faults:
        raise TraceError(listing(faults))
    rows = frame(records)
    questions = check_meaning(rows, numbers, header, where)
    return Trace(rows, header, source.path, source.sha256, questions)


def frame(records: list[Record]) -> pd.DataFrame:
    """Make a table of all columns from rows of some; without `trial`, each `repeat` is a trial."""
    rows = pd.DataFrame.from_records(records)
    if "trial" not in rows:
        rows["trial"] = rows["repeat"]
    for name, column in COLUMNS.items():
        if name not in rows:
            rows[name] = column.default
    return rows[list(COLUMNS)]


def _records(
    body: list[str], first_line: int, where: str, faults: list[str]
) -> tuple[list[Record], list[int]]:
    reader = csv.reader(body)
    records: list[Record] = []
    numbers: list[int] = []
    try:
        names = next(reader, [])
        check_names(names, f"{where}:{first_line}", faults)
        if faults:
            return [], []
        for fields in reader:
            if not fields or fields[0].startswith("#"):
                continue
            number = first_line + reader.line_num - 1
            place = f"{where}:{number}"
            if len(fields) != len(names):
                faults.append(f"{place}: must have {len(names)} fields (got {len(fields)})")
                continue
            record = convert_record(dict(zip(names, fields, strict=True)), place, faults)
            if len(record) == len(names):
                check_record(record, records[0] if records else record, place, faults)
                records.append(record)
                numbers.append(number)
    except csv.Error as error:
        faults.append(f"{where}:{first_line + reader.line_num - 1}: not CSV: {error}")
    return records, numbers
