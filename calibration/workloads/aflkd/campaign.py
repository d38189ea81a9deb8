"""Several AFLKD studies side by side: worker processes on one machine, within a time budget.

The networks are small: one run cannot fill an accelerator, nor can it use a second core well.
Sixteen processes that share one do both. The driver alone writes the ledgers; a campaign that ran
out of time, or was stopped, resumes where it ended when it is started again.

What is not here: what a run is (``study``), tables and figures.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

import torch

from calibration.workloads.aflkd.config import StudyConfig
from calibration.workloads.aflkd.study import (
    Run,
    Taught,
    do_run,
    missing_runs,
    open_study,
    prepare,
    teacher_label,
    test_accuracy,
)
from calibration.workloads.data.datasets import Dataset, load
from calibration.workloads.records.results import RunLedger
from calibration.workloads.training.placement import choose_device
from kdsim._types import Record
from kdsim.errors import WorkloadError

#: Without a budget, a campaign in which nothing finishes for so long has come to a standstill.
_STANDSTILL_S = 3600.0

#: A run is started if this many times the longest of its kind fits into what is left.
_MARGIN = 1.15


class WorkerDiedError(WorkloadError):
    """A worker process died; what the others had finished is kept."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Study:
    """A study and where it lives."""

    config: StudyConfig
    folder: Path


@dataclass(frozen=True, slots=True)
class Job:
    """What one worker does at a time: train a teacher (``run`` is its number), or a run."""

    study: Study
    run: Run | int

    @property
    def label(self) -> str:
        """The name of the job in the study's ledger."""
        return teacher_label(self.run) if isinstance(self.run, int) else self.run.label

    @property
    def kind(self) -> tuple[Any, ...]:
        """What jobs of about the same length have in common."""
        if isinstance(self.run, int):
            return (self.study.folder, "teacher")
        length = len(self.study.config.sizes_of(self.run.seed))
        return (self.study.folder, self.run.net, self.run.method, length)


@dataclass(slots=True)
class Outcome:
    """How far a campaign came.

    Attributes
    ----------
    done, left : int
        Runs finished by this call, and runs still to do.
    seconds : float
        How long this call took.
    """

    done: int = 0
    left: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Clock:
    """The time budget, and how long jobs of each kind took."""

    budget_s: float | None
    begin: float = field(default_factory=time.monotonic)
    longest: dict[tuple[Any, ...], float] = field(default_factory=dict)

    def left(self) -> float:
        return float("inf") if self.budget_s is None else self.budget_s - self.spent()

    def spent(self) -> float:
        return time.monotonic() - self.begin

    def fits(self, job: Job) -> bool:
        """Whether a job can be expected to end in time; one of an unknown kind as the longest."""
        if isinstance(job.run, int):  # resumes from its checkpoint another time
            return self.left() > 0
        runs = [s for kind, s in self.longest.items() if kind[-1] != "teacher"]
        expected = self.longest.get(job.kind, max(runs, default=0.0))
        return _MARGIN * expected < self.left()

    def note(self, job: Job, seconds: float) -> None:
        self.longest[job.kind] = max(seconds, self.longest.get(job.kind, 0.0))


def run_campaign(
    studies: Sequence[Study],
    *,
    data_dir: Path | None = None,
    device: str = "auto",
    workers: int = 1,
    budget_s: float | None = None,
    on_done: Callable[[str, Outcome], None] | None = None,
) -> Outcome:
    """Do what is missing of several studies, in worker processes.

    Teachers come first; studies whose teachers are trained alike share them. Then whole seeds of
    each study in turn.

    Parameters
    ----------
    studies : sequence of Study
        Each in a folder of its own.
    data_dir : path, optional
        Where the data sets are; see ``datasets.load``. Nothing is downloaded.
    device : {"auto", "cpu", "cuda"}
        Where to train; all workers share one accelerator.
    budget_s : float, optional
        Start no run that cannot be expected to end within so many seconds from now, and abandon
        at that time what is still running.
    on_done : callable, optional
        Called with the label of each finished job and how far the campaign is.

    Raises
    ------
    WorkloadError
        If a study cannot be opened or a run fails.
    WorkerDiedError
        If a worker died, or nothing finished for an hour.
    """
    if workers < 1:
        raise WorkloadError(f"workers must be 1 or more, got {workers}")
    if budget_s is not None and not budget_s > 0:
        raise WorkloadError(f"budget must be positive, got {budget_s:g}")
    clock = _Clock(budget_s)
    kind = choose_device(device)
    ledgers = {
        study: open_study(study.config, _dataset(study.config.data, data_dir), study.folder, kind)
        for study in studies
    }
    left = sum(len(missing_runs(study.config, ledger)) for study, ledger in ledgers.items())
    outcome = Outcome(left=left)

    def finish(jobs: Sequence[Job]) -> None:
        for job, result in _finish(jobs, submit, workers, clock):
            ledgers[job.study].add(job.label, result)
            if isinstance(job.run, Run):
                outcome.done += 1
                outcome.left -= 1
            outcome.seconds = clock.spent()
            if on_done is not None:
                on_done(f"{job.study.folder.name}/{job.label}", outcome)

    with _workers(workers, kind.type, data_dir, clock) as submit:
        finish(_teacher_jobs(ledgers))
        _share_teachers(ledgers)
        finish(_run_jobs(ledgers))
    outcome.seconds = clock.spent()
    return outcome


def _teacher_jobs(ledgers: dict[Study, RunLedger]) -> list[Job]:
    """Return the teachers to train: one of each way of training it."""
    jobs: dict[tuple[Any, ...], Job] = {}
    trained = {
        key
        for study, ledger in ledgers.items()
        for number, key in _teacher_keys(study)
        if teacher_label(number) in ledger
    }
    for study in ledgers:
        for number, key in _teacher_keys(study):
            if key not in trained:
                jobs.setdefault(key, Job(study, number))
    return list(jobs.values())


def _share_teachers(ledgers: dict[Study, RunLedger]) -> None:
    """Give every study the teachers that another one has trained for it."""
    trained = {
        key: (study, number)
        for study, ledger in ledgers.items()
        for number, key in _teacher_keys(study)
        if teacher_label(number) in ledger
    }
    for study, ledger in ledgers.items():
        for number, key in _teacher_keys(study):
            label = teacher_label(number)
            if label not in ledger and key in trained:
                source, other = trained[key]
                shutil.copyfile(
                    source.folder / f"{teacher_label(other)}.pt", study.folder / f"{label}.pt"
                )
                ledger.add(label, ledgers[source].runs[teacher_label(other)])


def _teacher_keys(study: Study) -> list[tuple[int, tuple[Any, ...]]]:
    """Return each teacher's number, and all that its weights depend on."""
    config = study.config
    return [
        (k, (config.data, config.teacher_images, config.teacher_sees, config.teacher, k))
        for k in range(config.teachers)
    ]


def _run_jobs(ledgers: dict[Study, RunLedger]) -> list[Job]:
    """Return the missing runs of studies whose teachers are there."""
    return [
        Job(study, run)
        for study, ledger in ledgers.items()
        for run in missing_runs(study.config, ledger)
        if teacher_label(run.teacher) in ledger
    ]


# --- the driver's side ---------------------------------------------------------------------------


def _finish(
    jobs: Sequence[Job],
    submit: Callable[[Job], Future[tuple[Record, float]]],
    workers: int,
    clock: _Clock,
) -> Iterator[tuple[Job, Record]]:
    """Do jobs in their order, as many at a time as there are workers, and yield their results."""
    waiting = list(jobs)
    running: dict[Future[tuple[Record, float]], Job] = {}
    while True:
        while len(running) < workers:
            job = next((job for job in waiting if clock.fits(job)), None)
            if job is None:
                break
            waiting.remove(job)
            running[submit(job)] = job
        if not running:
            return
        limit = min(clock.left(), _STANDSTILL_S)
        finished, _ = wait(running, timeout=max(limit, 0.0), return_when=FIRST_COMPLETED)
        if not finished:
            if clock.left() <= 0:
                return  # what still runs is abandoned
            raise WorkerDiedError(
                f"no run finished within {_STANDSTILL_S:g} s; what was finished is kept"
            )
        for future in finished:
            job = running.pop(future)
            try:
                result, seconds = future.result()
            except BrokenExecutor as error:
                if clock.left() <= 0:  # the workers ended themselves
                    return
                raise WorkerDiedError(
                    f"a worker process died ({error}); what was finished is kept and the same "
                    "call resumes from there, perhaps with fewer workers"
                ) from error
            clock.note(job, seconds)
            yield job, result


@contextmanager
def _workers(
    count: int, device: str, data_dir: Path | None, clock: _Clock
) -> Iterator[Callable[[Job], Future[tuple[Record, float]]]]:
    """Start worker processes, and end them at once when the block is left."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    limit = None if clock.budget_s is None else clock.left()
    pool = ProcessPoolExecutor(
        count, mp_context=context, initializer=_begin, initargs=(device, theirs, limit)
    )
    try:
        yield lambda job: pool.submit(_work, job, device, data_dir)
    finally:
        ours.close()
        theirs.close()
        pool.shutdown(wait=True, cancel_futures=True)


# --- the workers' side ---------------------------------------------------------------------------


def _begin(device: str, driver: Connection, limit_s: float | None) -> None:
    """Prepare a worker: Ctrl-C is the driver's business, and so is the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    choose_device(device)
    threading.Thread(target=_end_with, args=(driver, limit_s), daemon=True).start()


def _end_with(driver: Connection, limit_s: float | None) -> None:
    """End this process when the driver closes its connection or ends, or the time is up."""
    wait_for([driver], timeout=limit_s)
    os._exit(0)


def _work(job: Job, device: str, data_dir: Path | None) -> tuple[Record, float]:
    """Do a job; return its result and how long it took."""
    begin = time.monotonic()
    config, folder = job.study.config, job.study.folder
    number = job.run if isinstance(job.run, int) else job.run.teacher
    taught = _taught(config, folder, number, device, data_dir)
    if isinstance(job.run, int):
        result: Record = {"accuracy": test_accuracy(taught)}
    else:
        result = do_run(config, _dataset(config.data, data_dir), folder, taught, job.run)
        if device != "cpu":
            torch.cuda.synchronize()
    return result, time.monotonic() - begin


@lru_cache(maxsize=2)
def _dataset(name: str, data_dir: Path | None) -> Dataset:
    return load(name, data_dir, download=False)


@lru_cache(maxsize=8)
def _taught(
    config: StudyConfig, folder: Path, number: int, device: str, data_dir: Path | None
) -> Taught:
    dataset = _dataset(config.data, data_dir)
    return prepare(config, dataset, folder, number, torch.device(device))
