"""What leaves a store: a tidy DataFrame, CSV, Parquet; the same bytes however the sweep went.

Nothing in a table depends on when, where or in which order its runs ran: no wall times, no dates.
A run without a result is a row too, with its status. Tables are written while the store is read,
so that their length does not matter for memory.
"""

from __future__ import annotations

import csv
import importlib
import io
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from kdsim._types import Record, RecordView
from kdsim.errors import StoreError
from kdsim.output_file import check_output, suffix_of, whole_file, write_output
from kdsim.results.comparison import SUMMARY_COLUMNS, MissingRun, Sample, joined
from kdsim.results.curve_uncertainty import CURVE_COLUMNS, CurveUncertainty

if TYPE_CHECKING:
    import pandas as pd

#: Run id, number of the first replication, and the replications, or a run that has none.
Block = tuple[str, int, Sample | MissingRun]

#: Columns of the expanded table after the swept fields.
EXPANDED_COLUMNS = ("policy", "replication", "makespan", "bound", "gap", "marks", "status")
#: Rows that are in memory at a time.
BLOCK_ROWS = 2**16
_TEXT_COLUMNS = ("policy", "ci_method", "bound_kind", "marks", "status", "error", "run_id")
_WHOLE_COLUMNS = ("n", "replication", "curve_draws")


def columns(swept: Iterable[str], *, expand: bool = False, drawn: bool = False) -> list[str]:
    """Return the columns of a table: swept fields, results, status, error, run id; draws last."""
    if expand:
        return [*swept, *EXPANDED_COLUMNS]
    return [
        *swept,
        *SUMMARY_COLUMNS,
        "status",
        "error",
        "run_id",
        *(CURVE_COLUMNS if drawn else ()),
    ]


def rows(
    blocks: Iterable[Block], *, expand: bool = False, curves: CurveUncertainty | None = None
) -> Iterator[Record]:
    """Yield one row per run; expanded, one per replication and one per run without a result.

    Parameters
    ----------
    blocks : iterable of Block
        In the order of the design; whole runs unless `expand`.
    curves : CurveUncertainty, optional
        Draws of the curves at the same points: adds `CURVE_COLUMNS` to a row per run.
    """
    for run_id, start, item in blocks:
        if isinstance(item, MissingRun):
            facts = {**item.point, "policy": item.policy, "status": item.status}
            # n is 0, not missing: the column stays one of whole numbers.
            yield facts if expand else {**facts, "n": 0, "error": item.error, "run_id": run_id}
        elif expand:
            columns = {name: np.asarray(c).tolist() for name, c in _expanded(item, start).items()}
            for values in zip(*columns.values(), strict=True):
                yield dict(zip(columns, values, strict=True))
        else:
            drawn = curves.columns(item.point, item.policy) if curves else {}
            yield {**item.summary(), "status": "done", "error": "", "run_id": run_id, **drawn}


def frame(
    swept: Iterable[str],
    blocks: Iterable[Block],
    *,
    expand: bool = False,
    curves: CurveUncertainty | None = None,
) -> pd.DataFrame:
    """Return a table.

    Parameters
    ----------
    expand : bool
        One row per replication instead of one per run.

    Returns
    -------
    DataFrame
        The swept fields, `kdsim.results.SUMMARY_COLUMNS`, ``status`` (``done``, ``failed`` or
        ``pending``), ``error`` and ``run_id``, with `curves` `CURVE_COLUMNS`; expanded: the swept
        fields and `EXPANDED_COLUMNS`. A run without a result is one row whose numbers are missing.
    """
    import pandas as pd

    names = columns(swept, expand=expand, drawn=curves is not None)
    if not expand:
        return pd.DataFrame(list(rows(blocks, curves=curves)), columns=names)
    parts = []
    for _, start, item in blocks:
        if isinstance(item, Sample):
            part = pd.DataFrame(_expanded(item, start), columns=names)
        else:
            nothing = dict.fromkeys(("makespan", "bound", "gap"), np.nan)
            facts = {**item.point, "policy": item.policy, "status": item.status, **nothing}
            part = pd.DataFrame([{**facts, "replication": -1}], columns=names)
        parts.append(part)
    if not parts:
        return pd.DataFrame(columns=names)
    table = pd.concat(parts, ignore_index=True)
    holes = table["status"] != "done"
    if holes.any():
        table["replication"] = table["replication"].astype("Int64").mask(holes)
    return table


def _expanded(sample: Sample, start: int) -> Record:
    n = sample.makespans.size
    return {
        **{name: [value] * n for name, value in sample.point.items()},
        "policy": [sample.policy] * n,
        "replication": np.arange(start, start + n),
        "makespan": sample.makespans,
        "bound": np.broadcast_to(sample.bounds, (n,)),
        "gap": sample.gaps,
        "marks": [joined(sample.marks)] * n,
        "status": ["done"] * n,
    }


# --- files ----------------------------------------------------------------------------------------


def write_table(
    path: str | Path,
    swept: Mapping[str, set[type]],
    blocks: Iterable[Block],
    *,
    expand: bool = False,
    curves: CurveUncertainty | None = None,
) -> None:
    """Write a table to a file.

    Parameters
    ----------
    path : str or Path
        Ends in ``.csv`` or, with pyarrow installed, in ``.parquet``. Written beside and moved
        into place, so that a table is there whole or not at all.
    swept : mapping of str to set of types
        The swept fields, and the types of their values.
    expand : bool
        One row per replication.

    Raises
    ------
    StoreError
        If the ending is another, pyarrow is missing or the file cannot be written.
    """
    check_output(path, "table", failure=StoreError)
    suffix = suffix_of(path, "table")
    with whole_file(path, failure=StoreError) as scratch:
        if suffix == ".csv":
            with scratch.open("w", newline="", encoding="utf-8") as file:
                write_csv(file, swept, blocks, expand=expand, curves=curves)
        else:
            _write_parquet(scratch, swept, blocks, expand=expand, curves=curves)


def types_of(swept: Iterable[str], points: Iterable[RecordView]) -> dict[str, set[type]]:
    """Return the types of the values of each swept field."""
    types: dict[str, set[type]] = {name: set() for name in swept}
    for point in points:
        for name, value in point.items():
            types.setdefault(name, set()).add(type(value))
    return types


def write_csv(
    file: TextIO,
    swept: Iterable[str],
    blocks: Iterable[Block],
    *,
    expand: bool = False,
    curves: CurveUncertainty | None = None,
) -> None:
    """Write a table as CSV to an open text file; see `write_table`."""
    names = columns(swept, expand=expand, drawn=curves is not None)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    made = rows(blocks, expand=expand, curves=curves)
    writer.writerows([_text(row.get(name)) for name in names] for row in made)


def write_rows(rows: Sequence[RecordView], path: Path | None) -> None:
    """Write rows of one form, e.g. paired differences, as CSV; to standard output without a path.

    Raises
    ------
    StoreError
        If the ending is not .csv or the file cannot be written.
    """
    names = list(rows[0]) if rows else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_text(row[name]) for name in names] for row in rows)
    if path is None:
        sys.stdout.write(text.getvalue())
        return
    if path.suffix.lower() != ".csv":
        raise StoreError(f"{path}: differences are written as .csv (got {path.suffix!r})")
    write_output(path, text.getvalue().encode(), failure=StoreError)


def _text(value: object) -> Any:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    return float(value) if isinstance(value, np.floating) else value


def _write_parquet(
    path: Path,
    swept: Mapping[str, set[type]],
    blocks: Iterable[Block],
    *,
    expand: bool,
    curves: CurveUncertainty | None,
) -> None:
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    kinds = {
        name: _kind_of_values(swept[name]) if name in swept else _kind_of_column(name)
        for name in columns(swept, expand=expand, drawn=curves is not None)
    }
    types = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    schema = arrow.schema([(name, types[kind]) for name, kind in kinds.items()])
    stream = rows(blocks, expand=expand, curves=curves)
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(itertools.islice(stream, BLOCK_ROWS)):
            data = {
                name: [_as_kind(row.get(name), kind) for row in group]
                for name, kind in kinds.items()
            }
            writer.write_table(arrow.table(data, schema=schema))


def _kind_of_column(name: str) -> type:
    if name in _TEXT_COLUMNS:
        return str
    return int if name in _WHOLE_COLUMNS else float


def _kind_of_values(types: set[type]) -> type:
    types = types - {type(None)}
    if types <= {int}:
        return int
    # Text where types differ, e.g. for ratios given as 1.5 and as "2:1".
    return float if types <= {int, float} else str


def _as_kind(value: object, kind: type) -> Any:
    return None if value is None or value != value else kind(value)
