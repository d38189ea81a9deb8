"""What leaves a store: a tidy DataFrame, CSV, Parquet; the same bytes however the sweep went.

Nothing in a table depends on when, where or in which order its runs ran: no wall times, no dates.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from kdsim.errors import StoreError
from kdsim.output_file import check_output, suffix_of, whole_file, write_output
from kdsim.results.comparison import SUMMARY_COLUMNS, Sample
from kdsim.sweeps.store import Failure, Store

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the expanded table after the swept fields.
EXPANDED_COLUMNS = ("policy", "replication", "makespan", "bound", "gap")


def columns(store: Store, *, expand: bool = False) -> list[str]:
    """Return the columns of a store's table: swept fields, results, status, error, run id."""
    swept = list(store.scenario().sweep) if store.manifest else []
    if expand:
        return [*swept, *EXPANDED_COLUMNS]
    return [*swept, *SUMMARY_COLUMNS, "status", "error", "run_id"]


def rows(store: Store, *, expand: bool = False) -> Iterator[dict[str, Any]]:
    """Yield one row a run, done or failed, in the order of the design; expanded, a replication."""
    for run_id, item in store.iterate():
        if isinstance(item, Failure):
            if not expand:
                # n is 0, not missing: the column stays one of whole numbers.
                facts = {"policy": item.policy, "n": 0, "status": "failed", "error": item.error}
                yield {**item.point, **facts, "run_id": run_id}
        elif expand:
            columns = {name: np.asarray(c).tolist() for name, c in _expanded(item).items()}
            for values in zip(*columns.values(), strict=True):
                yield dict(zip(columns, values, strict=True))
        else:
            yield {**item.summary(), "status": "done", "error": "", "run_id": run_id}


def frame(store: Store, *, expand: bool = False) -> pd.DataFrame:
    """Return a store's table.

    Parameters
    ----------
    store : Store
    expand : bool
        One row a replication instead of one a run; failed runs are left out then.

    Returns
    -------
    DataFrame
        The swept fields, `kdsim.results.run.SUMMARY_COLUMNS`, ``status``, ``error`` and ``run_id``;
        expanded: the swept fields and `EXPANDED_COLUMNS`.
    """
    import pandas as pd

    names = columns(store, expand=expand)
    if not expand:
        return pd.DataFrame(list(rows(store)), columns=names)
    parts = [
        pd.DataFrame(_expanded(item), columns=names)
        for _, item in store.iterate()
        if isinstance(item, Sample)
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)


def _expanded(sample: Sample) -> dict[str, Any]:
    n = sample.makespans.size
    return {
        **{name: [value] * n for name, value in sample.point.items()},
        "policy": [sample.policy] * n,
        "replication": np.arange(n),
        "makespan": sample.makespans,
        "bound": np.broadcast_to(sample.bounds, (n,)),
        "gap": sample.gaps,
    }


def export(store: Store, path: str | Path, *, expand: bool = False) -> None:
    """Write a store's table to a file.

    Parameters
    ----------
    store : Store
    path : str or Path
        Ends in ``.csv`` or, with pyarrow installed, in ``.parquet``. Written beside and moved
        into place, so that a table is there whole or not at all.
    expand : bool
        One row a replication.

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
                write_csv(store, file, expand=expand)
        else:
            _write_parquet(store, scratch, expand=expand)


def write_csv(store: Store, file: TextIO, *, expand: bool = False) -> None:
    """Write a store's table as CSV to an open text file, a run at a time."""
    names = columns(store, expand=expand)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_text(row.get(name)) for name in names] for row in rows(store, expand=expand))


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path | None) -> None:
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


def _text(value: Any) -> Any:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    return float(value) if isinstance(value, np.floating) else value


def _write_parquet(store: Store, path: Path, *, expand: bool) -> None:
    table = frame(store, expand=expand)
    for name in table.columns[: table.columns.get_loc("policy")]:
        if table[name].map(type).nunique() > 1:
            table[name] = table[name].map(str)  # e.g. ratios given as 1.5 and as "2:1"
    table.to_parquet(path, index=False)
