"""The ledger of a sweep: one SQLite file that survives whatever happens to the sweep.

A run is a point and a policy; its makespans stand in one row as an array, however many there
are. Results are written as they complete, so that an interrupted sweep continues where it was.
Every row carries a checksum that is compared on each read. One writer at a time, readers at any
time. The SQL is in ``sqlite_file``, ``reading`` and ``writing`` and nowhere else; which runs
there are is decided in ``runs``; tables are made in ``export``.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import numpy as np

from kdsim._types import Record
from kdsim.errors import StoreError
from kdsim.output_file import suffix_of
from kdsim.policies.permission import refuse_unnamed
from kdsim.results.comparison import Comparison, MissingRun, Sample
from kdsim.scenario.changes import with_fields
from kdsim.scenario.study import Scenario
from kdsim.sweeps.ledger import export as tables
from kdsim.sweeps.ledger import reading, writing
from kdsim.sweeps.ledger.records import Rerun, StudyState, parse_point
from kdsim.sweeps.ledger.sqlite_file import (
    StoreFile,
    damaged,
    open_file,
    roll_back,
    translated,
    upgrade,
)
from kdsim.sweeps.runs import is_legal, plan_study
from kdsim.sweeps.task import Outcome, Piece, run_piece, scenario_at

if TYPE_CHECKING:
    import pandas as pd

    from kdsim.results.curve_uncertainty import CurveUncertainty

#: Results are at most this old when they reach the disk, and
COMMIT_SECONDS = 0.5
#: this old when they leave the log for the store's own file.
CHECKPOINT_SECONDS = 10.0


class Store:
    """An open ledger; make one with `Store.open`, use it in a ``with`` statement.

    Examples
    --------
    >>> with Store.open(":memory:", "w") as store:
    ...     print(store.state())
    0 of 0 runs done
    """

    def __init__(self, file: StoreFile) -> None:
        self._file = file
        self._db = file.db
        self._session: int | None = None
        self._session_done = 0
        self._uncommitted_since: float | None = None
        self._checkpointed = time.monotonic()

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
        path = os.fsdecode(path)
        if "\0" in path:
            raise StoreError(f"{path!r}: no file can have this name")
        if mode not in ("r", "w"):
            raise StoreError(f"{path}: mode must be 'r' or 'w' (got {mode!r})")
        file = open_file(path, mode)
        if mode == "r" or file.sealed:
            return cls(file)
        try:
            # What is damaged must not get a checksum that says it is sound.
            for _ in reading.read_runs(file, whole=False):
                pass
            with translated(path):
                return cls(upgrade(file))
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and self._file.is_new and not self.manifest:
            self._file.close(remove=True)  # the sweep was refused before it began
        else:
            self.close()

    def close(self) -> None:
        """Write what is not yet written and close; idempotent."""
        try:
            self.commit()
        finally:
            self._file.close()

    @property
    def path(self) -> str:
        """Where the store is."""
        return self._file.path

    # -- what is in it -----------------------------------------------------------------------------

    @property
    def manifest(self) -> Record:
        """What the runs were made of: scenario, its hash, seed, versions, file hashes, created."""
        return reading.read_manifest(self._file)

    def scenario(self) -> Scenario:
        """Return the scenario that the store belongs to.

        Raises
        ------
        StoreError
            If no sweep was ever begun in it.
        """
        text = self.manifest.get("scenario")
        if text is None:
            raise StoreError(f"{self.path}: is empty; no sweep was begun in it")
        try:
            return Scenario.model_validate_json(text)
        except (ValueError, TypeError) as error:
            raise damaged(self.path, f"its scenario: {error}") from None

    def state(self) -> StudyState:
        """Return how far the study is: runs done, pending and failed, why, and how fast."""
        return reading.read_state(
            self._file, writing=self._session is not None, checkpoint_s=CHECKPOINT_SECONDS
        )

    def progress(self) -> tuple[int, int]:
        """Return (replications done, replications in all); cheaper than `state`."""
        return reading.read_progress(self._file)

    def iterate(self) -> Iterator[tuple[str, Sample | MissingRun]]:
        """Yield (run_id, sample or run without a result) in the order of the design.

        One run at a time is in memory.

        Raises
        ------
        StoreError
            If a run is not what was written.
        """
        for run_id, _, item in self._blocks(expand=False):
            yield run_id, item

    def samples(self) -> list[Sample]:
        """Return the finished runs in the order of the design."""
        return [item for _, item in self.iterate() if isinstance(item, Sample)]

    def missing(self) -> list[MissingRun]:
        """Return the failed and the pending runs in the order of the design."""
        return [item for _, item in self.iterate() if isinstance(item, MissingRun)]

    def failed(self) -> list[MissingRun]:
        """Return the failed runs in the order of the design."""
        return [run for run in self.missing() if run.status == "failed"]

    def comparison(self) -> Comparison:
        """Return all runs as a comparison; those without a result are its `missing`."""
        samples: list[Sample] = []
        missing: list[MissingRun] = []
        for _, item in self.iterate():
            samples.append(item) if isinstance(item, Sample) else missing.append(item)
        return Comparison(self.scenario(), samples, missing)

    # -- tables ------------------------------------------------------------------------------------

    def frame(
        self, *, expand: bool = False, curves: CurveUncertainty | None = None
    ) -> pd.DataFrame:
        """Return all runs as a tidy table; see `kdsim.sweeps.ledger.export.frame`."""
        blocks = self._blocks(expand=expand)
        return tables.frame(self._swept(), blocks, expand=expand, curves=curves)

    def rows(self, *, expand: bool = False) -> Iterator[Record]:
        """Yield the table's rows; see `kdsim.sweeps.ledger.export.rows`."""
        return tables.rows(self._blocks(expand=expand), expand=expand)

    def write_csv(self, file: TextIO, *, expand: bool = False) -> None:
        """Write the table as CSV to an open text file."""
        tables.write_csv(file, self._swept(), self._blocks(expand=expand), expand=expand)

    def export(
        self, path: str | Path, *, expand: bool = False, curves: CurveUncertainty | None = None
    ) -> None:
        """Write the table to a .csv or .parquet file; see `kdsim.sweeps.ledger.export.write_table`.

        A .tex or .md file gets the table of `Comparison.to_latex` or `Comparison.to_markdown`.

        Raises
        ------
        StoreError
            If the suffix is another, a package is missing or the file cannot be written.
        """
        suffix = suffix_of(path, "table", failure=StoreError)
        if suffix in (".tex", ".md"):
            if expand:
                raise StoreError(f"{path}: a table of replications is written as .csv or .parquet")
            replace(self.comparison(), curves=curves).write(path, failure=StoreError)
            return
        points = (item.point for _, _, item in self._blocks(expand=True))
        types = tables.types_of(self._swept(), points if suffix == ".parquet" else ())
        blocks = self._blocks(expand=expand)
        tables.write_table(path, types, blocks, expand=expand, curves=curves)

    def _swept(self) -> list[str]:
        return list(self.scenario().sweep) if self.manifest else []

    def _blocks(self, *, expand: bool) -> Iterator[tables.Block]:
        """Yield the runs, long ones in parts if each replication is a row, with their marks."""
        scenario = self.scenario() if self.manifest else None
        known: dict[str, tuple[str, ...]] = {}
        for run_id, start, item in reading.read_runs(self._file, whole=not expand):
            if isinstance(item, Sample) and scenario is not None:
                # They follow from the device, which many points share.
                device = {k: v for k, v in item.point.items() if k.startswith("device.")}
                key = json.dumps(device)
                if key not in known:
                    known[key] = with_fields(scenario, device).marks()
                item = replace(item, marks=known[key])
            yield run_id, start, item

    def policy_of(self, run_id: str) -> str:
        """Return the policy of the run whose id begins with `run_id`; see `rerun`."""
        return reading.read_run(self._file, run_id)[3].policy

    def rerun(self, run_id: str, *, allow_policies: bool = False) -> Rerun:
        """Repeat a run and compare it, bit for bit, with what is stored.

        Parameters
        ----------
        run_id : str
            The id, or the beginning of one.
        allow_policies : bool
            Whether a policy of one's own may run because the store names it.

        Raises
        ------
        StoreError
            If no run, or more than one, has an id that begins like this.
        UnknownPolicyError
            If the run's policy is one's own and is not allowed.
        KdsimError
            Whatever the run itself raises.
        """
        full_id, replications, point, item = reading.read_run(self._file, run_id)
        refuse_unnamed(
            [item.policy], (), self.path, allow=allow_policies, remedy="give allow_policies=True"
        )
        scenario = scenario_at(self.manifest["scenario"], point)
        makespans, _ = run_piece(scenario, item.policy, 0, replications, threads=None)
        stored = item.makespans if isinstance(item, Sample) else np.zeros(0)
        identical = stored.tobytes() == makespans.tobytes()
        return Rerun(full_id, item.point, item.policy, makespans, stored, identical)

    # -- what a sweep writes -----------------------------------------------------------------------

    def enter(self, scenario: Scenario) -> Scenario:
        """Enter a scenario's runs, so that exactly what is missing is pending.

        Returns
        -------
        Scenario
            With the policies of earlier sweeps in this store before those that are new.

        Raises
        ------
        StoreError
            If the store belongs to another scenario, engine or version of a policy's code.
        UnknownPolicyError
            If a policy cannot be found.
        """
        plan = plan_study(scenario, self.manifest, self.path)
        if plan.is_entered:
            return plan.scenario
        with self._transaction() as db:
            count = writing.enter_runs(db, self.path, plan.scenario.policies, plan.runs())
            writing.write_manifest(db, {**plan.entries, "runs": count})
        return plan.scenario

    def retry_failed(self) -> int:
        """Make the failed runs of legal points pending again; return how many there are."""
        base = self.scenario()
        with self._transaction() as db:
            again = [
                run_id
                for run_id, point in writing.failed_points(db)
                if is_legal(base, parse_point(point))
            ]
            writing.make_pending(db, again)
        return len(again)

    def pending(self) -> Iterator[Piece]:
        """Yield the replications that are missing, in order, without those already in chunks."""
        return reading.read_pending(self._file)

    def pending_units(self) -> dict[str, float]:
        """Return replications x cycles of all that is missing, for each policy."""
        return reading.read_pending_units(self._file)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Note when a sweep begins and ends, so that its rate and its end are known."""
        with self._transaction() as db:
            self._session, self._session_done = writing.begin_session(db), 0
        self._checkpoint()
        try:
            yield
        finally:
            number, self._session = self._session, None
            # Where even this cannot be written, the error under way says why.
            with suppress(StoreError):
                with self._transaction() as db:
                    writing.end_session(db, number)
                self._checkpoint()

    def record(self, outcome: Outcome) -> None:
        """Keep what a piece gave; a run is done when all its replications are there."""
        with translated(self.path):
            if self._uncommitted_since is None:
                self._db.execute("BEGIN IMMEDIATE")
                self._uncommitted_since = time.monotonic()
            try:
                writing.keep(self._db, self.path, outcome)
                if self._session is not None:
                    self._session_done += outcome.makespans.size
                    writing.update_session(self._db, self._session, self._session_done)
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
        with translated(self.path):
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error:
                roll_back(self._db)
                raise
        if time.monotonic() - self._checkpointed >= CHECKPOINT_SECONDS:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Bring what is in the log into the file, as far as readers allow."""
        with translated(self.path):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self._checkpointed = time.monotonic()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Make changes all or not at all."""
        self.commit()
        with translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                roll_back(self._db)
                raise
            self._db.execute("COMMIT")
