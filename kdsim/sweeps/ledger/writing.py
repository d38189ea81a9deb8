"""What a sweep writes into its store: the runs of a design, and results as they come."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence

from kdsim._types import RecordView
from kdsim.errors import StoreError
from kdsim.sweeps.ledger.reading import missing
from kdsim.sweeps.ledger.records import to_blob
from kdsim.sweeps.ledger.sqlite_file import (
    CHUNK_IS_SOUND,
    RUN_IS_SOUND,
    SEAL_CHUNKS,
    SEAL_RUNS,
    array_checksum,
    damaged,
    manifest_checksum,
    row_checksum,
    stored_array_checksum,
)
from kdsim.sweeps.runs import PlannedRun
from kdsim.sweeps.task import Outcome

#: Rows of an earlier design stand behind those of the present one.
_BEHIND = 2**40


def write_manifest(db: sqlite3.Connection, entries: RecordView) -> None:
    """Replace the manifest."""
    rows = {key: json.dumps(value) for key, value in entries.items()}
    db.execute("DELETE FROM manifest")
    db.executemany(
        "INSERT INTO manifest VALUES (?, ?)",
        [*rows.items(), ("checksum", manifest_checksum(rows))],
    )


# --- the runs of a design -------------------------------------------------------------------------


def enter_runs(
    db: sqlite3.Connection,
    path: str,
    policies: Sequence[str],
    planned: Iterable[tuple[str, list[PlannedRun]]],
) -> int:
    """Enter runs in the order of points, then policies, those of earlier sweeps among them.

    Returns
    -------
    int
        How many runs the store has now.

    Raises
    ------
    StoreError
        If a run that is done was made of something else, or the store is damaged.
    """
    wrong = db.execute(f"SELECT run_id FROM runs WHERE NOT ({RUN_IS_SOUND}) LIMIT 1").fetchone()
    if wrong is not None:  # before its checksum is made anew
        raise damaged(path, f"run {wrong[0]} is not what was written")
    db.execute("UPDATE runs SET position = position + ?", (_BEHIND,))
    order = {policy: i for i, policy in enumerate(policies)}
    for index, (point, runs) in enumerate(planned):
        first = index * len(policies)
        for run in runs:
            _enter_run(db, path, first + order[run.policy], run)
        for policy in order.keys() - {run.policy for run in runs}:
            db.execute(
                "UPDATE runs SET position = ? WHERE point = ? AND policy = ? AND position >= ?",
                (first + order[policy], point, policy, _BEHIND),
            )
    db.execute(SEAL_RUNS)
    count: int = db.execute("SELECT count(*) FROM runs").fetchone()[0]
    return count


def _enter_run(db: sqlite3.Connection, path: str, position: int, run: PlannedRun) -> None:
    old = db.execute(
        "SELECT run_id, cell, replications, status, position FROM runs "
        "WHERE point = ? AND policy = ?",
        (run.point, run.policy),
    ).fetchone()
    if old is not None:
        run_id, cell, replications, status, old_position = old
        if old_position < _BEHIND:
            return  # the design names this point twice
        if cell == run.cell:
            db.execute("UPDATE runs SET position = ? WHERE run_id = ?", (position, run_id))
            if run.replications > replications and not run.error:
                _extend(db, path, run_id, run, done=status == "done")
            return
        if status == "done":
            what = f"the code of policy {run.policy}" if run.source else "its scenario or engine"
            raise StoreError(
                f"{path}: {what} has changed since run {run_id} was made; the old results stay "
                "as they are: use another store for the new ones"
            )
        db.execute("DELETE FROM chunks WHERE run_id = ?", (run_id,))
        db.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
    db.execute(
        "INSERT OR IGNORE INTO runs (run_id, cell, position, point, policy, source, cycles, "
        "replications, noisy, varies, bound_kind, status, error) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run.run_id, run.cell, position, run.point, run.policy, run.source, run.cycles,
            run.replications, run.noisy, run.varies, run.bound_kind,
            "failed" if run.error else "pending", run.error,
        ),
    )  # fmt: skip


def _extend(db: sqlite3.Connection, path: str, run_id: str, run: PlannedRun, *, done: bool) -> None:
    """Ask for more replications of a run; those that it has become its first chunk."""
    if done:
        row, arrays = db.execute(
            "SELECT rowid, arrays FROM runs WHERE run_id = ?", (run_id,)
        ).fetchone()
        if stored_array_checksum(db, row) != arrays:
            raise damaged(path, f"run {run_id}: its makespans are not what was written")
        db.execute(
            "INSERT INTO chunks (run_id, start, stop, makespans, bounds, seconds) "
            "SELECT run_id, 0, n, makespans, bounds, seconds FROM runs WHERE run_id = ?",
            (run_id,),
        )
    db.execute("UPDATE chunks SET run_id = ? WHERE run_id = ?", (run.run_id, run_id))
    db.execute(f"{SEAL_CHUNKS} WHERE run_id = ?", (run.run_id,))
    db.execute(
        "UPDATE runs SET run_id = ?, replications = ?, status = 'pending', error = '', "
        "error_at = NULL, n = 0, seconds = 0, makespans = NULL, bounds = NULL, arrays = NULL "
        "WHERE run_id = ?",
        (run.run_id, run.replications, run_id),
    )


def failed_points(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return (run id, point as JSON) of the failed runs."""
    return db.execute("SELECT run_id, point FROM runs WHERE status = 'failed'").fetchall()


def make_pending(db: sqlite3.Connection, run_ids: Iterable[str]) -> None:
    """Make failed runs pending again."""
    for run_id in run_ids:
        db.execute(
            "UPDATE runs SET status = 'pending', error = '', error_at = NULL WHERE run_id = ?",
            (run_id,),
        )
        db.execute(f"{SEAL_RUNS} WHERE run_id = ?", (run_id,))


# --- results --------------------------------------------------------------------------------------


def keep(db: sqlite3.Connection, path: str, outcome: Outcome) -> None:
    """Keep what a piece gave; a run is done when all its replications are there."""
    run_id = outcome.run_id
    row = db.execute(
        f"SELECT {RUN_IS_SOUND}, replications, noisy, error_at FROM runs "
        "WHERE run_id = ? AND status = 'pending'",
        (run_id,),
    ).fetchone()
    if row is None:
        return  # another piece of it has failed meanwhile
    is_sound, replications, noisy, error_at = row
    if not is_sound:
        raise damaged(path, f"run {run_id} is not what was written")
    blobs = to_blob(outcome.makespans), to_blob(outcome.bounds)
    # A policy may raise with text that is no legal UTF-8.
    error = outcome.error.encode(errors="backslashreplace").decode()
    if error:
        if error_at is None or outcome.start < error_at:
            error_at = outcome.start
            db.execute(
                "UPDATE runs SET error = ?, error_at = ? WHERE run_id = ?",
                (error, error_at, run_id),
            )
    elif outcome.start == 0 and outcome.stop == replications:
        db.execute(
            "UPDATE runs SET status = 'done', n = ?, seconds = ?, makespans = ?, bounds = ?, "
            "arrays = ? WHERE run_id = ?",
            (replications, outcome.seconds, *blobs, array_checksum(*blobs), run_id),
        )
        db.execute(f"{SEAL_RUNS} WHERE run_id = ?", (run_id,))
        return
    else:
        facts = run_id, outcome.start, outcome.stop, outcome.seconds, array_checksum(*blobs)
        db.execute(
            "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*facts[:3], *blobs, outcome.seconds, row_checksum(*facts)),
        )
    if error_at is None:
        if not missing(db, run_id, replications):
            _merge(db, path, run_id, replications, noisy=bool(noisy))
    elif not missing(db, run_id, error_at):
        # Only now, when all before it went well, is this error the run's first: what a
        # failed run says must not depend on the order in which its pieces came in.
        db.execute("UPDATE runs SET status = 'failed' WHERE run_id = ?", (run_id,))
        db.execute("DELETE FROM chunks WHERE run_id = ?", (run_id,))
    db.execute(f"{SEAL_RUNS} WHERE run_id = ?", (run_id,))


def _merge(db: sqlite3.Connection, path: str, run_id: str, n: int, *, noisy: bool) -> None:
    """Join the chunks of a complete run, one at a time in memory."""
    db.execute(
        "UPDATE runs SET status = 'done', n = ?, makespans = zeroblob(?), bounds = zeroblob(?),"
        " seconds = (SELECT sum(seconds) FROM chunks WHERE run_id = ?) WHERE run_id = ?",
        (n, 8 * n, 8 * (n if noisy else 1), run_id, run_id),
    )
    row = db.execute("SELECT rowid FROM runs WHERE run_id = ?", (run_id,)).fetchone()[0]
    chunks = db.execute(
        f"SELECT {CHUNK_IS_SOUND} AND length(makespans) = 8 * (stop - start), start, makespans, "
        "bounds FROM chunks WHERE run_id = ?",
        (run_id,),
    )
    with (
        db.blobopen("runs", "makespans", row) as all_makespans,
        db.blobopen("runs", "bounds", row) as all_bounds,
    ):
        for is_sound, start, makespans, bounds in chunks:
            if not is_sound:
                raise damaged(path, f"a part of run {run_id} is not what was written")
            all_makespans.seek(8 * start)
            all_makespans.write(makespans)
            all_bounds.seek(8 * start if noisy else 0)
            all_bounds.write(bounds)
    db.execute("DELETE FROM chunks WHERE run_id = ?", (run_id,))
    db.execute("UPDATE runs SET arrays = ? WHERE rowid = ?", (stored_array_checksum(db, row), row))


# --- sessions -------------------------------------------------------------------------------------


def begin_session(db: sqlite3.Connection) -> int:
    """Note that a sweep begins; return its number."""
    now = time.time()
    cursor = db.execute("INSERT INTO sessions VALUES (?, ?, NULL, 0)", (now, now))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def update_session(db: sqlite3.Connection, number: int, done: int) -> None:
    """Note how many replications a sweep has made."""
    db.execute(
        "UPDATE sessions SET updated = ?, done = ? WHERE rowid = ?", (time.time(), done, number)
    )


def end_session(db: sqlite3.Connection, number: int) -> None:
    """Note that a sweep ended in order."""
    db.execute("UPDATE sessions SET ended = ? WHERE rowid = ?", (time.time(), number))
