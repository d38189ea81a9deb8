"""Sweeps: run every policy at every point of a design, into a store that survives.

A sweep does exactly what its store still lacks, in tasks of about a second, on whatever executor
it is given. What fails is a row with its error and disturbs nothing else. Numbers never depend
on order, workers or interruptions, since each replication's randomness is a function of the seed
and its number alone.

The module is not called ``sweep``, because ``kdsim.sweep`` is the function.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdsim._types import Record
from kdsim.engines.curve_uncertainty import over_curve_draws
from kdsim.errors import ScenarioError, SweepError
from kdsim.messages import seconds_allowed, whole_number
from kdsim.scenario.drawn import check_draws
from kdsim.scenario.study import Scenario
from kdsim.scenario.validate import scenario_from_data
from kdsim.sweeps.chunker import Chunker
from kdsim.sweeps.ledger.store import Store
from kdsim.sweeps.task import Outcome, Piece, Task, execute
from kdsim.sweeps.workers.executors import (
    TASK_TIMEOUT_S,
    Borrowed,
    InProcess,
    Team,
    TookTooLongError,
    WorkerLostError,
)
from kdsim.sweeps.workers.worker_processes import Processes

if TYPE_CHECKING:
    import pandas as pd

#: Called with (replications done, replications in all), those of earlier sweeps included.
Progress = Callable[[int, int], None]

#: A run has failed once it has ended this many workers. Once this many runs of a policy have failed
#: so, the first worker ended by any further run of it is enough.
_MAX_DEATHS = 3
#: Worker processes that one sweep may be asked for.
MAX_WORKERS = 4096
_TICK_SECONDS = 0.25


def sweep(
    scenario: Scenario,
    store: Store | str | Path | None = None,
    executor: Executor | None = None,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    policies: Sequence[str] | None = None,
    replications: int | None = None,
    curve_draws: int | None = None,
    retry: bool = False,
    task_timeout_s: float = TASK_TIMEOUT_S,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Run a scenario's design, or what a store still lacks of it.

    See `kdsim.api.sweep`.
    """
    chosen = _chosen(scenario, policies, replications)
    limit_s = seconds_allowed(task_timeout_s, "task_timeout_s")
    workers = whole_number(workers or 0, "workers", 0, MAX_WORKERS)
    if curve_draws is not None:
        curve_draws = check_draws(chosen, curve_draws)
    with opened(store) as ledger:
        ledger.enter(chosen)
        if retry:
            ledger.retry_failed()
        if next(ledger.pending(), None) is not None:
            with _assembled(executor, workers, cluster) as team:
                run_pending(ledger, team, task_timeout_s=limit_s, progress=progress)
        if curve_draws is None:
            return ledger.frame()
        curves = over_curve_draws(chosen, chosen.policies, curve_draws)
        return ledger.frame(curves=curves)


def _chosen(
    scenario: Scenario, policies: Sequence[str] | None, replications: int | None
) -> Scenario:
    changes: Record = {}
    if isinstance(policies, str):
        raise ScenarioError(f"must be a list of policies (got {policies!r})", field="policies")
    if policies:
        for policy in policies:
            if not isinstance(policy, str):
                raise ScenarioError(
                    "a sweep takes policies by name, since others may have to import them: "
                    f"'module:Class' (got {policy!r})",
                    field="policies",
                )
        changes["policies"] = list(dict.fromkeys(policies))
    if replications is not None:
        changes["replications"] = replications
    # Validated anew: a misspelt policy or a negative count is refused as in a file.
    if not changes:
        return scenario
    return scenario_from_data({**scenario.model_dump(), **changes}, files=scenario.files)


@contextmanager
def opened(store: Store | str | Path | None) -> Iterator[Store]:
    """Open a store for writing: one in memory by default; one that is open stays open."""
    if isinstance(store, Store):
        yield store
        return
    with Store.open(store if store is not None else ":memory:", "w") as ledger:
        yield ledger


@contextmanager
def _assembled(
    executor: Executor | None, workers: int | None, cluster: str | None
) -> Iterator[Team]:
    if sum((executor is not None, bool(workers), cluster is not None)) > 1:
        raise SweepError("give one of executor, workers and cluster")
    team: Team
    if executor is not None:
        team = executor if isinstance(executor, Processes) else Borrowed(executor)
    elif cluster is not None:
        from kdsim.sweeps.workers.dask_cluster import Cluster

        team = Cluster(cluster)
    else:
        team = Processes(workers) if workers else InProcess()
    try:
        yield team
    finally:
        if team is not executor:
            team.close()


def run_pending(
    store: Store,
    team: Team,
    *,
    task_timeout_s: float = TASK_TIMEOUT_S,
    progress: Progress | None = None,
) -> None:
    """Run what is pending in a store on a team.

    Raises
    ------
    StoreError
        If results cannot be written.
    SweepError
        If there is nobody left to work.
    """
    with store.session():
        drive = _Drive(store, team, task_timeout_s, progress)
        try:
            drive.run()
        except BaseException:
            # Interrupted or broken: keep what is complete before anything else happens.
            drive.salvage()
            raise


class _Drive:
    """One sweep under way: tasks in flight, runs that may have ended a worker, failed runs."""

    def __init__(
        self, store: Store, team: Team, task_timeout_s: float, progress: Progress | None
    ) -> None:
        self._store = store
        self._team = team
        self._timeout_s = task_timeout_s
        self._progress = progress
        self._done, self._total = store.progress()
        self._recount = False
        self._failed_at: dict[str, int] = {}
        self._flights: dict[Future[list[Outcome]], Task] = {}
        self._suspects: deque[Piece] = deque()
        self._trial: Task | None = None
        self._deaths: Counter[str] = Counter()
        self._failed_by_policy: Counter[str] = Counter()
        self._chunker = Chunker(
            store.manifest["scenario"],
            store.pending(),
            units=store.pending_units(),
            workers=team.capacity(),
            threads=team.threads,
            wanted=self._is_wanted,
        )

    def run(self) -> None:
        """Keep the team busy until all is done."""
        while self._fill():
            landed, _ = wait(self._flights, timeout=_TICK_SECONDS, return_when=FIRST_COMPLETED)
            for future in landed:
                self._land(future)
            # Now, not with the next result: that may be an hour away.
            self._store.commit()
            if not landed:
                self._team.check()
            self._team.end_overdue(self._timeout_s)

    def salvage(self) -> None:
        """Keep what has landed although the sweep ends."""
        for future, task in self._flights.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                self._keep(task, future.result())

    def _fill(self) -> bool:
        """Start tasks; return whether any is under way."""
        while len(self._flights) < self._team.capacity() and self._trial is None:
            if self._suspects:
                # Where several tasks share a worker a suspect runs alone: if the worker dies
                # again, that run caused it.
                if self._flights and not self._team.one_task_per_worker:
                    break
                task = self._chunker.task(self._suspects.popleft())
                self._trial = None if self._team.one_task_per_worker else task
            else:
                following = next(self._chunker, None)
                if following is None:
                    break
                task = following
            self._flights[self._team.submit(execute, task)] = task
        return bool(self._flights)

    def _land(self, future: Future[list[Outcome]]) -> None:
        task = self._flights.pop(future)
        trial = task is self._trial
        if trial:
            self._trial = None
        try:
            outcomes = future.result()
        except WorkerLostError as error:
            self._suspect(task, error, trial=trial)
        except SweepError:
            raise
        except Exception as error:  # whatever a worker of other versions or without kdsim raises
            raise SweepError(
                f"workers cannot run tasks: {type(error).__name__}: {error} "
                "(is kdsim installed there, in the same version?)"
            ) from error
        else:
            self._keep(task, outcomes)

    def _keep(self, task: Task, outcomes: list[Outcome]) -> None:
        for piece, outcome in zip(task.pieces, outcomes, strict=True):
            self._store.record(outcome)
            if outcome.error:
                self._count_out(piece)
            else:
                self._chunker.learn(piece, outcome.seconds)
                self._done += outcome.stop - outcome.start
        if self._progress is not None:
            if self._recount:
                self._done, self._total = self._store.progress()
                self._recount = False
            self._progress(min(self._done, self._total), self._total)

    def _suspect(self, task: Task, error: WorkerLostError, *, trial: bool) -> None:
        """Find out which run ended a worker."""
        alone = len(task.pieces) == 1 and (self._team.one_task_per_worker or trial)
        for piece in task.pieces:
            if not self._is_wanted(piece):
                continue
            self._deaths[piece.run_id] += error.workers if alone else 0
            allowed = 1 if self._failed_by_policy[piece.policy] >= _MAX_DEATHS else _MAX_DEATHS
            final = isinstance(error, TookTooLongError) or self._deaths[piece.run_id] >= allowed
            if alone and final:
                self._failed_by_policy[piece.policy] += 1
                nothing = np.zeros(0)
                self._store.record(
                    Outcome(piece.run_id, piece.start, piece.stop, nothing, nothing, str(error), 0)
                )
                self._count_out(piece)
            else:
                self._suspects.append(piece)

    def _is_wanted(self, piece: Piece) -> bool:
        """Whether no earlier replication of its run has failed."""
        return piece.start < self._failed_at.get(piece.run_id, piece.stop)

    def _count_out(self, piece: Piece) -> None:
        self._failed_at[piece.run_id] = min(
            piece.start, self._failed_at.get(piece.run_id, piece.start)
        )
        self._recount = True  # what is wanted no longer includes this run
