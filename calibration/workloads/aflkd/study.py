"""A study of AFLKD: every method on every edge network, over paired seeds, resumable.

A study lives in a folder: ``teacher.pt``, ``runs.jsonl`` (one line a finished run), checkpoints of
the run in progress, cost profiles. Asking for the same study again does what is missing, also with
more seeds, networks or methods. What is not here: tables and figures (``aflkd_report``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from calibration.workloads.aflkd.config import StudyConfig
from calibration.workloads.aflkd.depths import depth_costs
from calibration.workloads.aflkd.incremental import make_lessons
from calibration.workloads.aflkd.methods import EpochRecord, StudentConfig, StudentRun
from calibration.workloads.aflkd.student import train_student
from calibration.workloads.data.datasets import Dataset
from calibration.workloads.data.splits import Split, split
from calibration.workloads.records.profile import write_profile
from calibration.workloads.records.results import RunLedger, claim_folder
from calibration.workloads.training.loops import (
    EpochMeasure,
    accuracy,
    predict,
    state_digest,
)
from calibration.workloads.training.networks import ConvNet
from calibration.workloads.training.teacher import train_teacher


@dataclass(frozen=True, slots=True)
class Watcher:
    """Whom a study tells about its progress; each callable may be left out.

    Attributes
    ----------
    teacher_epoch : callable
        ``(epoch, epochs, measure)`` after each epoch of the cloud.
    run_started : callable
        ``(label)`` before each run.
    student_epoch : callable
        ``(label, record)`` after each epoch of an edge network.
    """

    teacher_epoch: Callable[[int, int, EpochMeasure], None] = lambda *_: None
    run_started: Callable[[str], None] = lambda *_: None
    student_epoch: Callable[[str, EpochRecord], None] = lambda *_: None


def planned_runs(config: StudyConfig) -> list[tuple[str, str, int]]:
    """Return (net, method, seed) of every run, whole seeds first so that pairs stay complete."""
    return [
        (net, method, seed)
        for seed in range(config.seeds)
        for net in config.nets
        for method in config.methods
    ]


def run_label(net: str, method: str, seed: int) -> str:
    """Return the name of a run in the ledger."""
    return f"{net}/{method}/seed-{seed}"


def run_study(
    config: StudyConfig, dataset: Dataset, folder: Path, *, watcher: Watcher | None = None
) -> list[dict[str, Any]]:
    """Do every run of a study that is not done yet.

    Parameters
    ----------
    config : StudyConfig
        What to compare.
    dataset : Dataset
        The data that ``config.data`` names.
    folder : path
        Where the study lives; made when absent.
    watcher : Watcher, optional
        Whom to tell.

    Returns
    -------
    list of dict
        One entry a run of this configuration, in planned order: ``net``, ``method``, ``seed``,
        ``stages`` (size, accuracy, distillation_weight, bytes_up, bytes_down) and ``epochs``.

    Raises
    ------
    DataError
        If the sizes exceed the training images.
    WorkloadError
        If the folder holds another study, or a checkpoint is damaged.
    """
    watcher = watcher or Watcher()
    # Before the folder is claimed and the teacher trained: sizes that do not fit are known now.
    _split(config, dataset, 0)
    claim_folder(folder, {**config.identity(), "data_sha256": dataset.digest})
    ledger = RunLedger(folder / "runs.jsonl")
    runs = planned_runs(config)
    missing = [run for run in runs if run_label(*run) not in ledger]
    if missing or "teacher" not in ledger:
        teacher = _teacher(config, dataset, folder, watcher)
        test = dataset.images("test"), dataset.labels("test")
        if "teacher" not in ledger:
            ledger.add("teacher", {"accuracy": accuracy(predict(teacher, test[0]), test[1])})
        for net, method, seed in missing:
            label = run_label(net, method, seed)
            watcher.run_started(label)
            ledger.add(label, _one_run(config, dataset, folder, teacher, test, label, watcher))
            _checkpoint(folder, label).unlink(missing_ok=True)
    return [ledger.runs[run_label(*run)] for run in runs]


def write_depth_profiles(config: StudyConfig, dataset: Dataset, folder: Path) -> list[Path]:
    """Measure every network of a study at every frozen depth and write the cost profiles.

    Returns
    -------
    list of path
        ``profiles/NET-depths.csv``; one epoch a depth, n from 0 to m.

    Raises
    ------
    ResultError
        If a file cannot be written.
    """
    paths = []
    for net in config.nets:
        path = folder / "profiles" / f"{net}-depths.csv"
        cycles = depth_costs(
            net,
            dataset.input_shape,
            dataset.classes,
            batch_size=max(config.student.training.batch_size, 2),
        )
        write_profile(
            path,
            cycles,
            workload=f"aflkd {dataset.name} {net}",
            method="depths",
            seed=0,
            notes={
                "epoch": "frozen layers + 1",
                "forward_s": "without the frozen layers, whose features are computed beforehand",
                "images": "synthetic: times do not depend on them",
            },
        )
        paths.append(path)
    return paths


def finished_runs(config: StudyConfig, folder: Path) -> int:
    """Return how many runs of a study are done already."""
    ledger = RunLedger(folder / "runs.jsonl")
    return sum(run_label(*run) in ledger for run in planned_runs(config))


def teacher_accuracy(folder: Path) -> float:
    """Return the test accuracy of a finished study's teacher, 0 to 1."""
    return float(RunLedger(folder / "runs.jsonl").runs["teacher"]["accuracy"])


def _one_run(
    config: StudyConfig,
    dataset: Dataset,
    folder: Path,
    teacher: ConvNet,
    test: tuple[Tensor, Tensor],
    label: str,
    watcher: Watcher,
) -> dict[str, Any]:
    net, method, seed_name = label.split("/")
    seed = int(seed_name.removeprefix("seed-"))
    profiled = seed == 0
    # A profile tells the accuracy after every epoch; nothing but the record depends on it.
    student = replace(config.student, method=method, curve=config.student.curve or profiled)
    lessons = make_lessons(
        dataset,
        _split(config, dataset, seed),
        teacher,
        config.lessons(distil=student.distils),
        seed=seed,
    )
    run = train_student(
        net,
        teacher,
        lessons,
        test,
        student,
        seed=seed,
        checkpoint=_checkpoint(folder, label),
        identity={"study": config.identity(), "teacher": state_digest(teacher)},
        on_epoch=lambda record: watcher.student_epoch(label, record),
    )
    if profiled:
        _write_profile(config, dataset, folder, net, student, run)
    return {
        "net": net,
        "method": method,
        "seed": seed,
        "stages": [
            {
                "size": lesson.size,
                "accuracy": run.test_accuracy(lesson.size),
                "distillation_weight": weight,
                "bytes_up": int(lesson.bytes_up.sum()),
                "bytes_down": int(lesson.bytes_down.sum()),
            }
            for lesson, weight in zip(lessons, run.weights, strict=True)
        ],
        "epochs": [asdict(record) for record in run.epochs],
    }


def _checkpoint(folder: Path, label: str) -> Path:
    """Return where the run in progress keeps its state, until it is in the ledger."""
    return folder / "checkpoints" / f"{label.replace('/', '-')}.pt"


def _write_profile(
    config: StudyConfig,
    dataset: Dataset,
    folder: Path,
    net: str,
    student: StudentConfig,
    run: StudentRun,
) -> None:
    write_profile(
        folder / "profiles" / f"{net}-{student.method}.csv",
        run.cycles,
        workload=f"aflkd {dataset.name} {net}",
        method=student.method,
        seed=0,
        notes={
            "comm_bytes": "raw pixels up, a label byte and float32 logits down, in the cycle in "
            "which an image travels",
            "image_bytes": dataset.train_images[0].nbytes,
            "logit_bytes": 4 * dataset.classes,
            "sizes": ",".join(map(str, config.sizes)),
            **(
                {"forward_s": "with the cloud's answer to each augmented batch, computed here"}
                if student.distils and student.training.augment
                else {}
            ),
        },
    )


def _split(config: StudyConfig, dataset: Dataset, seed: int) -> Split:
    first, last = config.sizes[0], config.sizes[-1]
    return split(
        dataset,
        teacher=config.teacher_images,
        student=first,
        stream=last - first,
        seed=seed,
    )


def _teacher(config: StudyConfig, dataset: Dataset, folder: Path, watcher: Watcher) -> ConvNet:
    epochs = config.teacher.epochs
    return train_teacher(
        dataset,
        _split(config, dataset, 0).teacher,
        config.teacher,
        checkpoint=folder / "teacher.pt",
        on_epoch=lambda epoch, measure: watcher.teacher_epoch(epoch, epochs, measure),
    )
