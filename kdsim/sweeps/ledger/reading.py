"""What is read from a store: every row against its checksum, damage as one clear error."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from kdsim._types import Record
from kdsim.errors import StoreError
from kdsim.results.comparison import MissingRun, Sample
from kdsim.sweeps.ledger.export import BLOCK_ROWS, Block
from kdsim.sweeps.ledger.records import (
    FailureReason,
    StudyState,
    check_results,
    from_blob,
    parse_point,
)
from kdsim.sweeps.ledger.sqlite_file import (
    RUN_IS_SOUND,
    StoreFile,
    array_checksum,
    damaged,
    manifest_checksum,
    stored_array_checksum,
    translated,
)
from kdsim.sweeps.task import Piece

_STATUSES = ("done", "pending", "failed")


def read_manifest(file: StoreFile) -> Record:
    """Return what the runs were made of, by key; empty in a store without a sweep."""
    with translated(file.path):
        rows = dict(file.db.execute("SELECT key, value FROM manifest").fetchall())
    seal = rows.pop("checksum", None)
    if rows and file.sealed and seal != manifest_checksum(rows):
        raise damaged(file.path, "its manifest is not what was written")
    try:
        return {key: json.loads(rows[key]) for key in sorted(rows)}
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(file.path, f"its manifest: {error}") from None


# --- how far it is --------------------------------------------------------------------------------


def read_state(file: StoreFile, *, writing: bool, checkpoint_s: float) -> StudyState:
    """Count the runs; see `StudyState`.

    Parameters
    ----------
    writing : bool
        Whether this connection is that of a sweep under way.
    checkpoint_s : float
        How old results are at most when they leave the log.
    """
    expected = read_manifest(file).get("runs")
    sound = RUN_IS_SOUND if file.sealed else "1"
    with translated(file.path):
        groups = file.db.execute(
            "SELECT status, policy, CASE status WHEN 'failed' THEN error ELSE '' END AS why, "
            f"count(*), total(n), total(replications), total({sound}) "
            "FROM runs GROUP BY status, policy, why"
        ).fetchall()
    under_way = _replications_under_way(file)
    runs = dict.fromkeys(_STATUSES, 0)
    stored = wanted = 0
    for status, _, _, count, have, want, sound_ones in groups:
        if status not in runs or count != sound_ones:
            raise damaged(file.path, "a run is not what was written")
        runs[status] += count
        stored += _count(file, have) if status == "done" else 0
        wanted += _count(file, want) if status == "pending" else 0
    total = sum(runs.values())
    _check_count(file, total, expected)
    rate = _rate(file)
    writing = writing or file.is_being_written
    return StudyState(
        total=total,
        done=runs["done"],
        pending=runs["pending"],
        failed=runs["failed"],
        replications_done=stored + under_way,
        replications=stored + wanted,
        reasons=_reasons(groups),
        writing=writing,
        rate=rate,
        seconds_left=(wanted - under_way) / rate if rate else None,
        notes=_notes(file, checkpoint_s) if runs["pending"] and not writing else (),
    )


def _reasons(groups: list[Any]) -> tuple[FailureReason, ...]:
    """Put the failed runs together that failed alike, the most frequent first."""
    with_results = {policy for status, policy, *_ in groups if status == "done"}
    first: dict[tuple[str, str], str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for status, policy, error, count, *_ in groups:
        if status == "failed":
            # The engine ends its message with the state, which is another at every point.
            kind = policy, error.partition(" (state: ")[0]
            first.setdefault(kind, error)
            counts[kind] += count
    return tuple(
        FailureReason(kind[0], first[kind], count, kind[0] not in with_results)
        for kind, count in counts.most_common()
    )


def read_progress(file: StoreFile) -> tuple[int, int]:
    """Return (replications done, replications in all); cheaper than `read_state`."""
    with translated(file.path):
        rows = file.db.execute(
            "SELECT status, total(n), total(replications) FROM runs GROUP BY status"
        ).fetchall()
    sums = {status: (_count(file, have), _count(file, want)) for status, have, want in rows}
    stored, wanted = sums.get("done", (0, 0))[0], sums.get("pending", (0, 0))[1]
    return stored + _replications_under_way(file), stored + wanted


def _replications_under_way(file: StoreFile) -> int:
    with translated(file.path):
        total = file.db.execute("SELECT total(stop - start) FROM chunks").fetchone()[0]
    return _count(file, total)


def _count(file: StoreFile, total: float) -> int:
    if not 0 <= total < 2**62:
        raise damaged(file.path, f"it counts {total:g} replications")
    return int(total)


def _rate(file: StoreFile) -> float | None:
    """Return the replications per second of the latest sweep that gave any."""
    if not file.sealed:
        return None
    with translated(file.path):
        row = file.db.execute(
            "SELECT done / (updated - started) FROM sessions "
            "WHERE done > 0 AND updated > started ORDER BY rowid DESC LIMIT 1"
        ).fetchone()
    return row[0] if row is not None and isinstance(row[0], float) else None


def _notes(file: StoreFile, checkpoint_s: float) -> tuple[str, ...]:
    """Say when results may have stayed behind in the log of a sweep that did not end in order."""
    if not file.sealed or file.use is None:
        return ()
    with translated(file.path):
        last = file.db.execute("SELECT ended FROM sessions ORDER BY rowid DESC LIMIT 1").fetchone()
    if last is None or last[0] is not None or (file.log.exists() and file.log.stat().st_size):
        return ()
    return (
        f"its last sweep was killed, or was running when this copy was made; if {file.log.name} "
        f"stood beside it and was left behind, results of up to {checkpoint_s:g} s are missing: "
        "the same sweep makes them again",
    )


# --- the runs -------------------------------------------------------------------------------------


def read_runs(file: StoreFile, *, whole: bool) -> Iterator[Block]:
    """Yield the runs in the order of the design, each checked.

    Parameters
    ----------
    whole : bool
        Whether long runs come in one piece, or in blocks of `BLOCK_ROWS` replications.

    Raises
    ------
    StoreError
        If a run is not what was written, or one is missing.
    """
    expected = read_manifest(file).get("runs")
    query = (
        f"SELECT (SELECT value FROM manifest WHERE key = 'runs'), position, {_columns(file)} "
        "FROM runs ORDER BY position"
    )
    before, count = -1, 0
    with translated(file.path):
        for now, position, *columns in file.db.execute(query):
            row = _Row(*columns)
            try:
                if not isinstance(position, int) or position <= before:
                    raise ValueError("it is not in its place")
                before, count = position, count + 1
                expected = None if now is None else int(now)
                for start, item in _run(file, row, whole=whole):
                    yield row.run_id, start, item
            except (ValueError, TypeError, RecursionError) as fault:
                raise damaged(file.path, f"run {row.run_id}: {fault}") from None
    _check_count(file, count, expected)


def _check_count(file: StoreFile, count: int, expected: int | None) -> None:
    """Refuse a store that lacks runs, or the manifest that counts them."""
    if file.sealed and count != (expected or 0):
        raise damaged(file.path, f"it has {count} runs, {expected or 0} were entered")


class _Row(NamedTuple):
    """A row of the table of runs as SQLite holds it, which may be damaged."""

    is_sound: Any
    rowid: Any
    run_id: Any
    point: Any
    policy: Any
    status: Any
    error: Any
    replications: Any
    n: Any
    bound_kind: Any
    varies: Any
    arrays: Any


def _columns(file: StoreFile) -> str:
    """Return the SQL of a `_Row`."""
    sound, arrays = (RUN_IS_SOUND, "arrays") if file.sealed else ("1", "NULL")
    return (
        f"{sound}, rowid, run_id, point, policy, status, error, replications, n, bound_kind, "
        f"varies, {arrays}"
    )


def _run(file: StoreFile, row: _Row, *, whole: bool) -> Iterator[tuple[int, Sample | MissingRun]]:
    """Yield a run, or its blocks; ValueError says what is wrong with it."""
    if not row.is_sound or not isinstance(row.policy, str) or row.status not in _STATUSES:
        raise ValueError("it is not what was written")
    point = parse_point(row.point)
    if row.status != "done":
        error = str(row.error) if row.status == "failed" else ""
        yield 0, MissingRun(row.run_id, point, row.policy, row.status, error)
        return
    if not isinstance(row.n, int) or row.n < 1:
        raise ValueError(f"it has {row.n!r} replications")
    step = row.n if whole else min(row.n, BLOCK_ROWS)
    if step < row.n and file.sealed and stored_array_checksum(file.db, row.rowid) != row.arrays:
        raise ValueError("its makespans are not what was written")
    for start in range(0, row.n, step):
        stop = min(start + step, row.n)
        blobs = [_read(file, row, name, start, stop) for name in ("makespans", "bounds")]
        if step == row.n and file.sealed and array_checksum(*blobs) != row.arrays:
            raise ValueError("its makespans are not what was written")
        makespans, bounds = from_blob(blobs[0]), from_blob(blobs[1])
        if not file.sealed:
            check_results(makespans, bounds)
        yield start, Sample(point, row.policy, makespans, bounds, row.bound_kind, bool(row.varies))


def _read(file: StoreFile, row: _Row, column: str, start: int, stop: int) -> bytes:
    """Return values start..stop-1 of an array; of bounds that hold a single value, that."""
    with file.db.blobopen("runs", column, row.rowid, readonly=True) as blob:
        if len(blob) == 8 * row.n:
            blob.seek(8 * start)
            return blob.read(8 * (stop - start))
        if len(blob) == 8 and column == "bounds":
            return blob.read()
        raise ValueError(f"its {column} are not those of {row.n} replications")


def read_run(file: StoreFile, beginning: str) -> tuple[str, int, str, Sample | MissingRun]:
    """Return (run id, replications asked for, point as JSON, run) of the run with such an id.

    Raises
    ------
    StoreError
        If no run, or more than one, has an id that begins like this, or it is damaged.
    """
    with translated(file.path):
        rows = file.db.execute(
            f"SELECT {_columns(file)} FROM runs WHERE substr(run_id, 1, ?) = ? LIMIT 3",
            (len(beginning), beginning),
        ).fetchall()
        if len(rows) != 1 or not beginning:
            what = "no run has" if not rows else "several runs have"
            raise StoreError(f"{file.path}: {what} an id that begins with {beginning!r}")
        row = _Row(*rows[0])
        try:
            (item,) = (item for _, item in _run(file, row, whole=True))
        except (ValueError, TypeError, RecursionError) as fault:
            raise damaged(file.path, f"run {row.run_id}: {fault}") from None
    return row.run_id, row.replications, row.point, item


# --- what is to be run ----------------------------------------------------------------------------


def read_pending(file: StoreFile) -> Iterator[Piece]:
    """Yield the replications that are missing, in order, without those already in chunks."""
    last = -1
    while True:
        with translated(file.path):
            # In pages: results are written between two of them.
            rows = file.db.execute(
                f"SELECT {RUN_IS_SOUND}, position, run_id, point, policy, source, cycles, "
                "coalesce(error_at, replications) FROM runs "
                "WHERE status = 'pending' AND position > ? ORDER BY position LIMIT 1000",
                (last,),
            ).fetchall()
        if not rows:
            return
        last = rows[-1][1]
        for is_sound, _, run_id, point, policy, source, cycles, wanted in rows:
            if not is_sound:
                raise damaged(file.path, f"run {run_id} is not what was written")
            with translated(file.path):
                gaps = missing(file.db, run_id, wanted)
            for start, stop in gaps:
                yield Piece(run_id, point, policy, source, start, stop, cycles)


def read_pending_units(file: StoreFile) -> dict[str, float]:
    """Return replications x cycles of all that is missing, for each policy."""
    with translated(file.path):
        rows = file.db.execute(
            "SELECT policy, total(1.0 * replications * cycles) FROM runs "
            "WHERE status = 'pending' GROUP BY policy"
        ).fetchall()
    return dict(rows)


def missing(db: sqlite3.Connection, run_id: str, wanted: int) -> list[tuple[int, int]]:
    """Return the gaps in replications 0..wanted-1 of a run under way."""
    chunks = db.execute(
        "SELECT start, stop FROM chunks WHERE run_id = ? AND start < ? ORDER BY start",
        (run_id, wanted),
    ).fetchall()
    gaps, at = [], 0
    for start, stop in [*chunks, (wanted, wanted)]:
        if start > at:
            gaps.append((at, start))
        at = stop
    return gaps
