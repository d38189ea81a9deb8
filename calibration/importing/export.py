"""A trace as a table in someone's own columns, units and words: an import the other way round."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from calibration.importing.mapping import OWN_CORES, TIMES, TableMapping
from calibration.importing.units import TIME, WORK
from calibration.trace import COLUMNS, Trace
from kdsim.errors import PlotError, TraceError
from kdsim.output_file import write_output


def export_table(trace: Trace, mapping: TableMapping) -> str:
    """Write a trace's rows by a mapping; importing the result by the same mapping gives them back.

    Parameters
    ----------
    mapping : TableMapping
        Whose columns are written, in its order; constants are not. Without any column, all of
        ours are.

    Returns
    -------
    str
        CSV text.
    """
    columns = {name: m for name in mapping.columns if (m := mapping.column(name)) is not None}
    names = {name: m.column for name, m in columns.items()} or {name: name for name in COLUMNS}
    words = {
        column: {ours: theirs for theirs, ours in table.items()}
        for column, table in mapping.values.items()
    }
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=mapping.delimiter or ",", lineterminator="\n")
    writer.writerow(names.values())
    for row in trace.rows.to_dict("records"):
        total, comm = row["total_cores"], row["comm_cores"]
        row[OWN_CORES] = total - comm if row["task"] == "compute" else comm
        row["work"] /= WORK[row["task"]][mapping.units.get(row["task"], row["unit"])]
        for name in TIMES:
            if name in columns:
                row[name] /= TIME[columns[name].unit or "s"]
        writer.writerow(
            _text(words.get(name, {}).get(str(row[name]), row[name]), mapping) for name in names
        )
    return buffer.getvalue()


def _text(value: object, mapping: TableMapping) -> str:
    if not isinstance(value, float):
        return str(value)
    text = "" if math.isnan(value) else f"{value:.12g}"
    return text.replace(".", ",") if mapping.decimal == "comma" else text


def write_table(trace: Trace, mapping: TableMapping, path: str | Path) -> None:
    """Write :func:`export_table`'s text to a file.

    Raises
    ------
    TraceError
        If the file cannot be written.
    """
    try:
        write_output(path, export_table(trace, mapping).encode())
    except PlotError as error:
        raise TraceError(str(error)) from error
