"""The ledger of a sweep: one SQLite file that survives whatever happens to the sweep.

A run is a point and a policy; its makespans stand in one row as an array, however many there
are. Results are written as they complete, so that an interrupted sweep continues where it was.
One writer at a time, readers at any time. What to run is decided in ``sweeps``; tables are made
in ``exporting``.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kdsim.errors import StoreError
from kdsim.model.curves import FloatArray
from kdsim.results.comparison import Comparison, Sample
from kdsim.scenario.study import Scenario, with_fields
from kdsim.sweeps.sqlite_file import (
    check_format,
    check_place,
    connect,
    roll_back,
    take_lock,
    translated,
)
from kdsim.sweeps.task import Outcome, Piece, run_piece, scenario_at

if TYPE_CHECKING:
    import pandas as pd

#: Results are at most this old when they reach the disk.
COMMIT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Status:
    """How far a store is.

    Attributes
    ----------
    done, failed, pending : int
        Runs, a run being a point and a policy.
    replications_done, replications : int
        Makespans that are stored, and those asked for in runs that did not fail.
    """

    done: int
    failed: int
    pending: int
    replications_done: int
    replications: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed, and why."""

    run_id: str
    point: dict[str, Any]
    policy: str
    error: str


@dataclass(frozen=True, slots=True, eq=False)
class Rerun:
    """A run repeated, beside what the store holds of it.

    Attributes
    ----------
    makespans, stored : (n,) float array
        Seconds, now and then; `stored` is empty for a run without a result.
    identical : bool
        Whether all bits agree.
    """

    run_id: str
    point: dict[str, Any]
    policy: str
    makespans: FloatArray
    stored: FloatArray
    identical: bool


class Store:
    """An open ledger; make one with `Store.open`, use it in a ``with`` statement.

    Examples
    --------
    >>> with Store.open(":memory:", "w") as store:
    ...     store.status().done
    0
    """

    def __init__(
        self, path: str, connection: sqlite3.Connection, lock: sqlite3.Connection | None
    ) -> None:
        self._path = path
        self._db = connection
        self._lock = lock
        self._uncommitted_since: float | None = None

    @classmethod
    def open(cls, path: str | Path, mode: Literal["r", "w"] = "r") -> Store:
        """Open a store.

        Parameters
        ----------
        path : str or Path
            The file; ``":memory:"`` keeps everything in memory.
        mode : {"r", "w"}
            Read an existing store, or write one, which is made if it does not exist.

        Raises
        ------
        StoreError
            If there is no such file (``"r"``), it is not a store, was written by a newer kdsim,
            another sweep is writing to it, or the disk does not allow it.
        """
        path = str(path)
        if mode not in ("r", "w"):
            raise StoreError(f"{path}: mode must be 'r' or 'w' (got {mode!r})")
        if path != ":memory:":
            check_place(Path(path), mode)
        lock = None
        if mode == "w" and path != ":memory:":
            lock = take_lock(path)
        try:
            with translated(path):
                connection = connect(path, mode)
                try:
                    check_format(connection, path, mode)
                except BaseException:
                    connection.close()
                    raise
        except BaseException:
            if lock is not None:
                lock.close()
            raise
        return cls(path, connection, lock)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is not yet written and close; idempotent."""
        try:
            self.commit()
        finally:
            self._db.close()
            if self._lock is not None:
                self._lock.close()

    @property
    def path(self) -> str:
        """Where the store is."""
        return self._path

    # -- what is in it -----------------------------------------------------------------------------

    @property
    def manifest(self) -> dict[str, Any]:
        """What the runs were made of: scenario, its hash, seed, versions, file hashes, created."""
        with translated(self._path):
            rows = self._db.execute("SELECT key, value FROM manifest ORDER BY key").fetchall()
        return {key: json.loads(value) for key, value in rows}

    def scenario(self) -> Scenario:
        """Return the scenario that the store belongs to.

        Raises
        ------
        StoreError
            If no sweep was ever begun in it.
        """
        text = self.manifest.get("scenario")
        if text is None:
            raise StoreError(f"{self._path}: is empty; no sweep was begun in it")
        return Scenario.model_validate_json(text)

    def status(self) -> Status:
        """Count the runs by status and their replications."""
        with translated(self._path):
            rows = self._db.execute(
                "SELECT status, count(*), sum(n), sum(replications) FROM runs GROUP BY status"
            ).fetchall()
            under_way = self._db.execute("SELECT sum(stop - start) FROM chunks").fetchone()[0] or 0
        runs = {status: (count, done, wanted) for status, count, done, wanted in rows}
        done, pending = runs.get("done", (0, 0, 0)), runs.get("pending", (0, 0, 0))
        return Status(
            done=done[0],
            failed=runs.get("failed", (0, 0, 0))[0],
            pending=pending[0],
            replications_done=done[1] + under_way,
            replications=done[2] + pending[2],
        )

    def progress(self) -> tuple[int, int]:
        """Return (replications done, replications in all)."""
        status = self.status()
        return status.replications_done, status.replications

    def iterate(self) -> Iterator[tuple[str, Sample | Failure]]:
        """Yield (run_id, sample or failure) in the order of the design; pending runs are left out.

        One run at a time is in memory.
        """
        with translated(self._path):
            rows = self._db.execute(
                "SELECT run_id, point, policy, status, error, makespans, bounds, bound_kind, "
                "varies FROM runs WHERE status != 'pending' ORDER BY position"
            )
            marks_at = self._marks_by_point()
            for run_id, point, policy, status, error, makespans, bounds, kind, varies in rows:
                place = json.loads(point)
                if status == "failed":
                    yield run_id, Failure(run_id, place, policy, error)
                    continue
                arrays = _array(makespans), _array(bounds)
                marks = marks_at(place)
                yield run_id, Sample(place, policy, *arrays, kind, bool(varies), marks)

    def _marks_by_point(self) -> Callable[[dict[str, Any]], tuple[str, ...]]:
        """Return what finds the marks of a point; points on one device share them."""
        scenario = self.scenario()
        known: dict[str, tuple[str, ...]] = {}

        def marks_at(point: dict[str, Any]) -> tuple[str, ...]:
            device = {k: v for k, v in point.items() if k.startswith("device.")}
            key = json.dumps(device)
            if key not in known:
                known[key] = with_fields(scenario, device).marks()
            return known[key]

        return marks_at

    def samples(self) -> list[Sample]:
        """Return the finished runs in the order of the design."""
        return [item for _, item in self.iterate() if isinstance(item, Sample)]

    def failed(self) -> list[Failure]:
        """Return the failed runs in the order of the design."""
        return [item for _, item in self.iterate() if isinstance(item, Failure)]

    def comparison(self) -> Comparison:
        """Return the finished runs as a comparison, e.g. for paired differences."""
        return Comparison(self.scenario(), self.samples())

    def frame(self, *, expand: bool = False) -> pd.DataFrame:
        """Return the finished and failed runs as a tidy table; see `kdsim.sweeps.export.frame`."""
        from kdsim.sweeps import export as exporting

        return exporting.frame(self, expand=expand)

    def export(self, path: str | Path, *, expand: bool = False) -> None:
        """Write the table to a .csv or .parquet file; see `kdsim.sweeps.export.export`."""
        from kdsim.sweeps import export as exporting

        exporting.export(self, path, expand=expand)

    def rerun(self, run_id: str) -> Rerun:
        """Repeat a run and compare it, bit for bit, with what is stored.

        Parameters
        ----------
        run_id : str
            The id, or the beginning of one.

        Raises
        ------
        StoreError
            If no run, or more than one, has an id that begins like this.
        KdsimError
            Whatever the run itself raises.
        """
        with translated(self._path):
            rows = self._db.execute(
                "SELECT run_id, point, policy, replications, makespans FROM runs "
                "WHERE substr(run_id, 1, ?) = ? LIMIT 3",
                (len(run_id), run_id),
            ).fetchall()
        if len(rows) != 1 or not run_id:
            what = "no run has" if not rows else "several runs have"
            raise StoreError(f"{self._path}: {what} an id that begins with {run_id!r}")
        full_id, point, policy, replications, blob = rows[0]
        scenario = scenario_at(self.manifest["scenario"], point)
        makespans, _ = run_piece(scenario, policy, 0, replications, threads=None)
        stored = _array(blob) if blob is not None else np.zeros(0)
        identical = stored.tobytes() == makespans.tobytes()
        return Rerun(full_id, json.loads(point), policy, makespans, stored, identical)

    # -- what a sweep writes -----------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for changes that are made all or not at all."""
        self.commit()
        with translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                roll_back(self._db)
                raise
            self._db.execute("COMMIT")

    def pending(self) -> Iterator[Piece]:
        """Yield the replications that are missing, in order, without those already in chunks."""
        last = -1
        while True:
            with translated(self._path):
                # In pages: results are written between two of them.
                rows = self._db.execute(
                    "SELECT position, run_id, point, policy, source, cycles, "
                    "coalesce(error_at, replications) FROM runs "
                    "WHERE status = 'pending' AND position > ? ORDER BY position LIMIT 1000",
                    (last,),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            for _, run_id, point, policy, source, cycles, wanted in rows:
                place = json.loads(point)
                for start, stop in self._missing(run_id, wanted):
                    yield Piece(run_id, place, policy, source, start, stop, cycles)

    def pending_units(self) -> dict[str, float]:
        """Return replications x cycles of all that is missing, for each policy."""
        with translated(self._path):
            rows = self._db.execute(
                "SELECT policy, total(1.0 * replications * cycles) FROM runs "
                "WHERE status = 'pending' GROUP BY policy"
            ).fetchall()
        return dict(rows)

    def _missing(self, run_id: str, wanted: int) -> list[tuple[int, int]]:
        """Return the gaps in replications 0..wanted-1 of a run under way."""
        with translated(self._path):
            chunks = self._db.execute(
                "SELECT start, stop FROM chunks WHERE run_id = ? AND start < ? ORDER BY start",
                (run_id, wanted),
            ).fetchall()
        gaps, at = [], 0
        for start, stop in [*chunks, (wanted, wanted)]:
            if start > at:
                gaps.append((at, start))
            at = stop
        return gaps

    def record(self, outcome: Outcome) -> None:
        """Keep what a piece gave; a run is done when all its replications are there."""
        with translated(self._path):
            if self._uncommitted_since is None:
                self._db.execute("BEGIN IMMEDIATE")
                self._uncommitted_since = time.monotonic()
            try:
                self._keep(outcome)
            except BaseException:
                # Costs what was recorded since the last commit, half a second's work.
                roll_back(self._db)
                self._uncommitted_since = None
                raise
        if time.monotonic() - (self._uncommitted_since or 0.0) >= COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Write what was recorded to disk."""
        if self._uncommitted_since is None:
            return
        self._uncommitted_since = None
        with translated(self._path):
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error:
                roll_back(self._db)
                raise

    def _keep(self, outcome: Outcome) -> None:
        run_id = outcome.run_id
        row = self._db.execute(
            "SELECT replications, noisy, error_at FROM runs "
            "WHERE run_id = ? AND status = 'pending'",
            (run_id,),
        ).fetchone()
        if row is None:
            return  # another piece of it has failed meanwhile
        replications, noisy, error_at = row
        blobs = _blob(outcome.makespans), _blob(outcome.bounds)
        if outcome.error:
            if error_at is None or outcome.start < error_at:
                error_at = outcome.start
                self._db.execute(
                    "UPDATE runs SET error = ?, error_at = ? WHERE run_id = ?",
                    (outcome.error, error_at, run_id),
                )
        elif outcome.start == 0 and outcome.stop == replications:
            self._db.execute(
                "UPDATE runs SET status = 'done', n = ?, seconds = ?, makespans = ?, bounds = ? "
                "WHERE run_id = ?",
                (replications, outcome.seconds, *blobs, run_id),
            )
            return
        else:
            self._db.execute(
                "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?)",
                (run_id, outcome.start, outcome.stop, *blobs, outcome.seconds),
            )
        if error_at is None:
            if not self._missing(run_id, replications):
                self._merge(run_id, replications, bool(noisy))
        elif not self._missing(run_id, error_at):
            # Only now, when all before it went well, is this error the run's first: what a
            # failed run says must not depend on the order in which its pieces came in.
            self._db.execute("UPDATE runs SET status = 'failed' WHERE run_id = ?", (run_id,))
            self._db.execute("DELETE FROM chunks WHERE run_id = ?", (run_id,))

    def _merge(self, run_id: str, n: int, noisy: bool) -> None:
        """Join the chunks of a complete run, one at a time in memory."""
        self._db.execute(
            "UPDATE runs SET status = 'done', n = ?, makespans = zeroblob(?), bounds = zeroblob(?),"
            " seconds = (SELECT sum(seconds) FROM chunks WHERE run_id = ?) WHERE run_id = ?",
            (n, 8 * n, 8 * (n if noisy else 1), run_id, run_id),
        )
        row = self._db.execute("SELECT rowid FROM runs WHERE run_id = ?", (run_id,)).fetchone()[0]
        chunks = self._db.execute(
            "SELECT start, makespans, bounds FROM chunks WHERE run_id = ?", (run_id,)
        )
        with (
            self._db.blobopen("runs", "makespans", row) as all_makespans,
            self._db.blobopen("runs", "bounds", row) as all_bounds,
        ):
            for start, makespans, bounds in chunks:
                all_makespans.seek(8 * start)
                all_makespans.write(makespans)
                all_bounds.seek(8 * start if noisy else 0)
                all_bounds.write(bounds)
        self._db.execute("DELETE FROM chunks WHERE run_id = ?", (run_id,))


def _blob(values: FloatArray) -> bytes:
    return np.asarray(values, dtype="<f8").tobytes()


def _array(blob: bytes) -> FloatArray:
    return np.frombuffer(blob, dtype="<f8").astype(np.float64, copy=False)
