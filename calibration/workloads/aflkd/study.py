"""A study of AFLKD: every method on every edge network, over paired seeds and teachers, resumable.

A study lives in a folder: ``teacher-0.pt`` and so on, ``runs.jsonl`` (one line a finished run),
checkpoints of the run in progress, cost profiles. Asking for the same study again does what is
missing, also with more seeds, teachers, networks or methods. What is not here: runs side by side
(``campaign``), cost profiles (``profiles``), tables and figures (``report``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from calibration.workloads.aflkd.config import StudyConfig
from calibration.workloads.aflkd.incremental import Lesson, make_lessons
from calibration.workloads.aflkd.methods import EpochRecord, StudentConfig
from calibration.workloads.aflkd.profiles import write_run_profile
from calibration.workloads.aflkd.student import train_student
from calibration.workloads.data.datasets import Dataset
from calibration.workloads.data.splits import Split, split
from calibration.workloads.records.results import RunLedger, claim_folder
from calibration.workloads.training.loops import EpochMeasure, accuracy, predict, state_digest
from calibration.workloads.training.networks import ConvNet
from calibration.workloads.training.placement import device_of
from calibration.workloads.training.teacher import train_teacher
from kdsim._types import Record
from kdsim.errors import WorkloadError


@dataclass(frozen=True, slots=True)
class Watcher:
    """What a study calls as it progresses; each callable may be left out.

    Attributes
    ----------
    teacher_epoch : callable
        ``(epoch, epochs, measure)`` after each epoch of a cloud network.
    run_started : callable
        ``(label)`` before each run.
    student_epoch : callable
        ``(label, record)`` after each epoch of an edge network.
    """

    teacher_epoch: Callable[[int, int, EpochMeasure], None] = lambda *_: None
    run_started: Callable[[str], None] = lambda *_: None
    student_epoch: Callable[[str, EpochRecord], None] = lambda *_: None


class Run(NamedTuple):
    """One training of one edge network: a cell of the study."""

    teacher: int
    net: str
    method: str
    seed: int

    @property
    def label(self) -> str:
        """The name of the run in the ledger."""
        return f"teacher-{self.teacher}/{self.net}/{self.method}/seed-{self.seed}"


class Taught(NamedTuple):
    """What the runs of one teacher share.

    Attributes
    ----------
    teacher : ConvNet
        In eval mode.
    test : (images, labels)
        All test images, normalised, and their labels, where the teacher is.
    """

    teacher: ConvNet
    test: tuple[Tensor, Tensor]


def planned_runs(config: StudyConfig) -> list[Run]:
    """Return every run, whole seeds first so that pairs stay complete."""
    return [
        Run(teacher, net, method, seed)
        for seed in range(config.seeds)
        for teacher in range(config.teachers)
        for net in config.nets
        for method in config.methods
    ]


def missing_runs(config: StudyConfig, ledger: RunLedger) -> list[Run]:
    """Return the planned runs that are not finished, or were stopped at a smaller size."""
    return [
        run
        for run in planned_runs(config)
        if run.label not in ledger
        or len(ledger.runs[run.label]["stages"]) < len(config.sizes_of(run.seed))
    ]


def open_study(
    config: StudyConfig, dataset: Dataset, folder: Path, device: torch.device
) -> RunLedger:
    """Claim a study's folder, or make sure that it is this study's, and read what is done.

    Raises
    ------
    DataError
        If the sizes exceed the training images.
    WorkloadError
        If the folder holds another study, or lacks a teacher that is still needed.
    """
    # Before the folder is claimed and a teacher trained: sizes that do not fit are known now.
    draw_split(config, dataset, 0)
    identity = {**config.identity(), "data_sha256": dataset.digest, "device": device.type}
    claim_folder(folder, identity)
    ledger = RunLedger(folder / "runs.jsonl")
    for number in {run.teacher for run in missing_runs(config, ledger)}:
        path = _teacher_path(folder, number)
        if teacher_label(number) in ledger and not path.exists():
            raise WorkloadError(
                f"{path} is missing, but runs with this teacher are recorded; put it back, or name "
                "another folder to start anew"
            )
    return ledger


def run_study(
    config: StudyConfig,
    dataset: Dataset,
    folder: Path,
    *,
    device: torch.device | None = None,
    watcher: Watcher | None = None,
) -> list[Record]:
    """Do every run of a study that is not done yet, one after the other.

    Parameters
    ----------
    folder : path
        Where the study lives; made when absent.
    device : torch.device, optional
        Where to train; the CPU by default.

    Returns
    -------
    list of dict
        One entry per run of this configuration, in planned order; see :func:`do_run`.

    Raises
    ------
    DataError
        If the sizes exceed the training images.
    WorkloadError
        If the folder holds another study, or a checkpoint is damaged.
    """
    device = device or torch.device("cpu")
    watcher = watcher or Watcher()
    ledger = open_study(config, dataset, folder, device)
    missing = missing_runs(config, ledger)
    taught: dict[int, Taught] = {}
    for number in range(config.teachers):
        if missing or teacher_label(number) not in ledger:
            taught[number] = prepare(config, dataset, folder, number, device, watcher=watcher)
            if teacher_label(number) not in ledger:
                ledger.add(teacher_label(number), {"accuracy": test_accuracy(taught[number])})
    for run in missing:
        watcher.run_started(run.label)
        teacher = taught[run.teacher]
        ledger.add(
            run.label,
            do_run(config, dataset, folder, teacher, run, alone=True, watcher=watcher),
        )
        _checkpoint(folder, run).unlink(missing_ok=True)
    return [ledger.runs[run.label] for run in planned_runs(config)]


def teacher_label(number: int) -> str:
    """Return the name of a teacher in the ledger."""
    return f"teacher-{number}"


def prepare(
    config: StudyConfig,
    dataset: Dataset,
    folder: Path,
    number: int,
    device: torch.device,
    *,
    watcher: Watcher | None = None,
) -> Taught:
    """Train a study's teacher, or load it, and put the test images where it is.

    Raises
    ------
    WorkloadError
        If its checkpoint is damaged or belongs to another study.
    """
    watcher = watcher or Watcher()
    seen, indices = dataset, draw_split(config, dataset, 0).teacher
    if config.teacher_sees == "everything":
        seen = _everything(dataset)
        indices = np.arange(len(seen.train_labels))
    epochs = config.teacher.epochs
    teacher = train_teacher(
        seen,
        indices,
        config.teacher,
        seed=number,
        checkpoint=_teacher_path(folder, number),
        device=device,
        on_epoch=lambda epoch, measure: watcher.teacher_epoch(epoch, epochs, measure),
    )
    return Taught(teacher, (dataset.images("test").to(device), dataset.labels("test").to(device)))


def test_accuracy(taught: Taught) -> float:
    """Return a teacher's share of test images classified correctly, 0 to 1."""
    return accuracy(predict(taught.teacher, taught.test[0]), taught.test[1])


def do_run(
    config: StudyConfig,
    dataset: Dataset,
    folder: Path,
    taught: Taught,
    run: Run,
    *,
    alone: bool = False,
    watcher: Watcher | None = None,
) -> Record:
    """Train one edge network.

    A run that has the machine to itself (`alone`) keeps its state in the study's folder every half
    minute and resumes from it; that of seed 0 and teacher 0 also leaves a cost profile, unless it
    takes place on an accelerator, whose seconds say nothing about an edge device.

    Returns
    -------
    dict
        ``teacher``, ``net``, ``method``, ``seed``, ``stages`` (size, accuracy,
        distillation_weight, bytes_up, bytes_down) and the ``course`` of loss, training accuracy,
        T and n over the epochs.
    """
    watcher = watcher or Watcher()
    first = run.seed == run.teacher == 0
    profiled = alone and first and device_of(taught.teacher).type == "cpu"
    # A profile records the accuracy after every epoch; nothing but the record depends on it.
    student = replace(config.student, method=run.method, curve=config.student.curve or profiled)
    lessons = _lessons(config, dataset, taught.teacher, student, run)
    trained = train_student(
        run.net,
        taught.teacher,
        lessons,
        taught.test,
        student,
        seed=run.seed,
        checkpoint=_checkpoint(folder, run) if alone else None,
        identity={"study": config.identity(), "teacher": state_digest(taught.teacher)},
        on_epoch=lambda record: watcher.student_epoch(run.label, record),
    )
    if profiled:
        write_run_profile(config, dataset, folder, run.net, student, trained)
    return {
        **run._asdict(),
        "stages": [
            {
                "size": lesson.size,
                "accuracy": trained.test_accuracy(lesson.size),
                "distillation_weight": weight,
                "bytes_up": int(lesson.bytes_up.sum()),
                "bytes_down": int(lesson.bytes_down.sum()),
            }
            for lesson, weight in zip(lessons, trained.weights, strict=True)
        ],
        "course": _course(trained.epochs),
    }


def _lessons(
    config: StudyConfig, dataset: Dataset, teacher: ConvNet, student: StudentConfig, run: Run
) -> list[Lesson]:
    lessons = make_lessons(
        dataset,
        draw_split(config, dataset, run.seed),
        teacher,
        config.lessons(distil=student.switches.distils),
        seed=run.seed,
    )
    return lessons[: len(config.sizes_of(run.seed))]


def _course(epochs: Sequence[EpochRecord]) -> dict[str, list[Any]]:
    """Return epochs as columns: short to write, and what a plot takes."""

    def short(value: float | None) -> float | None:
        return None if value is None else float(f"{value:.6g}")

    course: dict[str, list[Any]] = {
        key: [short(getattr(epoch, key)) for epoch in epochs]
        for key in ("loss", "train_accuracy", "temperature")
    }
    course["frozen_layers"] = [epoch.frozen_layers for epoch in epochs]
    return course


def finished_runs(config: StudyConfig, folder: Path) -> int:
    """Return how many runs of a study are done already."""
    ledger = RunLedger(folder / "runs.jsonl")
    return len(planned_runs(config)) - len(missing_runs(config, ledger))


def teacher_accuracies(config: StudyConfig, folder: Path) -> list[float]:
    """Return the test accuracy of each teacher of a finished study, 0 to 1."""
    ledger = RunLedger(folder / "runs.jsonl")
    return [float(ledger.runs[teacher_label(k)]["accuracy"]) for k in range(config.teachers)]


def _teacher_path(folder: Path, number: int) -> Path:
    return folder / f"{teacher_label(number)}.pt"


def _checkpoint(folder: Path, run: Run) -> Path:
    """Return where the run in progress keeps its state, until it is in the ledger."""
    return folder / "checkpoints" / f"{run.label.replace('/', '-')}.pt"


def draw_split(config: StudyConfig, dataset: Dataset, seed: int) -> Split:
    """Draw the teacher's, the student's and the stream's images of a seed."""
    first, last = config.sizes[0], config.sizes[-1]
    return split(
        dataset,
        teacher=config.teacher_images,
        student=first,
        stream=last - first,
        seed=seed,
    )


def _everything(dataset: Dataset) -> Dataset:
    """Return a data set that trains on all images, as the paper's cloud does."""
    joined = replace(
        dataset,
        name=f"{dataset.name}, training and test",
        train_images=np.concatenate([dataset.train_images, dataset.test_images]),
        train_labels=np.concatenate([dataset.train_labels, dataset.test_labels]),
    )
    # What a teacher is asked is normalised by the training images alone.
    joined.__dict__["normalisation"] = dataset.normalisation
    return joined
