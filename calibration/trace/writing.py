"""Writing a device trace."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pandas as pd

from calibration.trace.columns import COLUMNS, FORMAT_VERSION, check_names
from calibration.trace.listing import listing
from kdsim._types import RecordView
from kdsim.errors import PlotError, TraceError
from kdsim.output_file import write_output


def write_trace(
    path: str | os.PathLike[str], rows: pd.DataFrame, header: RecordView | None = None
) -> None:
    """Write a trace atomically: a reader sees the old file or the whole new one.

    Parameters
    ----------
    path : path-like
        The file to write.
    rows : DataFrame
        Measurements; required columns of `COLUMNS` must be there, optional ones may be.
    header : mapping, optional
        JSON values for the comment header (fingerprint, settings).

    Raises
    ------
    TraceError
        If a column is missing or unknown, or the file cannot be written.
    """
    path = Path(path)
    faults: list[str] = []
    check_names(list(rows.columns), str(path), faults)
    if faults:
        raise TraceError(listing(faults))
    buffer = io.StringIO()
    buffer.write(f"# kdsim-trace: {FORMAT_VERSION}\n")
    for key, value in (header or {}).items():
        buffer.write(f"# {key}: {json.dumps(value, sort_keys=True)}\n")
    columns = [name for name in COLUMNS if name in rows.columns]
    rows[columns].to_csv(buffer, index=False, float_format="%.9g", lineterminator="\n")
    try:
        write_output(path, buffer.getvalue().encode())
    except PlotError as error:
        raise TraceError(str(error)) from error


def check_place(path: Path) -> None:
    """Find out, before minutes of measuring, whether a trace can be written; leave `path` as it is.

    Raises
    ------
    TraceError
        If the folder does not exist or cannot be written, or something is there that is no file.
    """
    if not path.parent.is_dir():
        reason = f"there is no folder {path.parent}"
    elif path.exists() and not path.is_file():
        reason = "something is there that is not a file"
    elif not os.access(path.parent, os.W_OK):
        reason = f"the folder {path.parent} is not writable"
    else:
        return
    raise TraceError(f"{path}: cannot be written: {reason}")
