"""The edge-KD study: methods against no distillation over paired seeds, and a run's cost profile.

Every run is the real loop of ``calibration.workloads.edge_kd.config``; the student computes on one
thread, so that the same seed gives the same weights whatever the policy's timing was. Finished
runs are kept in a ledger: a study that was stopped resumes where it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from calibration.bench.bench import Bench, BenchSettings
from calibration.bench.paced import Schedule
from calibration.bench.replay import LiveRun, replay
from calibration.bench.start import Teacher, TeacherProcess
from calibration.link.stream import RemoteTeacher
from calibration.machine.cores import take_cores
from calibration.machine.disturbance import Taken, read_cpu, taken_between
from calibration.workloads.data.datasets import Dataset, load
from calibration.workloads.edge_kd.cloud import make_study_request, prepare_teacher
from calibration.workloads.edge_kd.config import EdgeConfig, check_methods, parts_of, spec_of
from calibration.workloads.records.profile import CycleCost, write_profile
from calibration.workloads.records.results import RunLedger, claim_folder, manifest, write_json
from calibration.workloads.records.tables import compare_pairs, summarise
from calibration.workloads.training.loops import accuracy, predict
from kdsim._types import Record
from kdsim.errors import TransportError, WorkloadError
from kdsim.model.link import Link
from kdsim.model.plan import Plan
from kdsim.policies.resolve import make_policy

#: Header and shape of a knowledge frame on the wire.
_FRAME_OVERHEAD_BYTES = 24 + 8
#: Longest wait for a teacher's greeting (it may infer first) or for a task, seconds.
_PATIENCE_S = 120.0
#: Knowledge that the device holds at most, received and not yet used.
_MEMORY_MB = 128.0

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class EdgeRun:
    """A finished run.

    Attributes
    ----------
    accuracy : float
        On the test images, 0 to 1.
    live : LiveRun
        What ran when.
    comm_bytes : int
        Received in each cycle.
    accuracies : mapping of int to float
        Accuracy by cycles done, at ends of epochs.
    taken : Taken or None
        What others took of the device's cores while the loop ran.
    """

    accuracy: float
    live: LiveRun
    comm_bytes: int
    accuracies: Mapping[int, float] = field(default_factory=dict)
    taken: Taken | None = None


def run_once(
    config: EdgeConfig,
    method: str,
    seed: int,
    folder: Path,
    *,
    policy: str = "comm-priority",
    rates: tuple[np.ndarray, np.ndarray] | None = None,
    teacher: RemoteTeacher | None = None,
    link: Link | None = None,
) -> EdgeRun:
    """Run the real loop once.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    folder : path
        Holds the teacher's checkpoint.
    rates : (array, array), optional
        Fitted r(c) and q(c), for policies that plan; proportional to the cores by default.
    teacher : RemoteTeacher, optional
        A teacher elsewhere (`serve_study`); it refuses another configuration than its own.
    link : Link, optional
        Over which a teacher of our own sends; it holds knowledge back as the link would.

    Raises
    ------
    WorkloadError, TransportError
        If the loop cannot be carried through.
    """
    spec = spec_of(config, method, seed, folder)
    if teacher is not None and link is not None:
        raise WorkloadError("a link can be played by a teacher of one's own only, not by a remote")
    if teacher is not None:
        digest = load(config.data, config.data_dir).digest
        study_request = make_study_request(config, method, seed, digest)
        with teacher.stream(timeout_s=_PATIENCE_S, study_request=study_request) as stream:
            serving = Teacher(teacher.address, stream.greeting)
        access = {"tls": teacher.tls, "token": teacher.token, "study_request": study_request}
        return _loop(config, spec, serving, policy, rates, access)
    teaching = TeacherProcess("calibration.workloads.edge_kd.cloud:build_source", spec)
    with teaching as serving:
        return _loop(config, spec, serving, policy, rates, {}, link, teaching.pace)


def _loop(
    config: EdgeConfig, spec: Record, teacher: Teacher, policy: str,
    rates: tuple[np.ndarray, np.ndarray] | None, access: Record,
    link: Link | None = None, pace: Callable[[Schedule], object] | None = None,
) -> EdgeRun:  # fmt: skip
    cores = take_cores(None)
    total, n = len(cores), config.cycles
    # As much as the device's memory holds: prefetching ends there, so that nothing is overwritten
    # before it is used.
    held = max(2, min(n, int(_MEMORY_MB / teacher.chunk_mb)))
    settings = BenchSettings(
        cores=cores,
        student="calibration.workloads.edge_kd.student:build_student",
        student_spec=spec,
        decode="raw",
        most_threads=1,
        capacity_mb=held * teacher.chunk_mb,
        timeout_s=_PATIENCE_S,
        **access,
    )
    comm = 0.0 if spec["method"] == "none" else teacher.chunk_mb
    if rates is None:
        rates = (np.arange(total + 1.0), np.arange(total, -1.0, -1.0))
    plan = Plan(
        comm=np.full(n, comm), forward=np.full(n, 0.5), backward=np.full(n, 0.5),
        comm_rates=rates[0], comp_rates=rates[1], prefetch=held if held < n else 0, link=link,
    )  # fmt: skip
    with Bench(settings, teacher) as bench:
        before = read_cpu(bench.device_pids, cores)
        live = replay(bench, plan, [1] * n, policy, seed=spec["seed"], pace=pace)
        taken = taken_between(before, read_cpu(bench.device_pids, cores))
        judged = bench.ask_student("accuracy")
    received = round(comm * 1e6) + _FRAME_OVERHEAD_BYTES if comm else 0
    marks = {int(cycles): float(value) for cycles, value in judged["accuracies"]}
    return EdgeRun(float(judged["accuracy"]), live, received, marks, taken)


def save_profile(run: EdgeRun, config: EdgeConfig, method: str, seed: int, path: Path) -> None:
    """Write a run's cost profile, for a scenario to read.

    Its seconds are those of computing, without waiting for cores or knowledge: who waits how long
    is for the simulator to say.

    Raises
    ------
    ResultError
        If the file cannot be written.
    """
    last = len(run.live.reports) - 1
    cycles = [
        CycleCost(
            cycle=i + 1,
            epoch=i // config.cycles_per_epoch + 1,
            downlink_bytes=run.comm_bytes,
            uplink_bytes=None,  # requests alone
            forward_s=report["forward_s"],
            backward_s=report["backward_s"],
            cores=1,
            accuracy=run.accuracy if i == last else run.accuracies.get(i + 1),
        )
        for i, report in enumerate(run.live.reports)
    ]
    write_profile(
        path, cycles, workload="edge-kd", method=method, seed=seed,
        notes={"policy": run.live.policy, "data": config.data},
    )  # fmt: skip


def run_study(
    config: EdgeConfig,
    folder: Path,
    *,
    methods: Sequence[str] = ("none", "response", "feature", "relation"),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    policy: str = "comm-priority",
    teacher: RemoteTeacher | None = None,
    progress: Progress | None = None,
) -> Record:
    """Run every method over the seeds and compare each with no distillation.

    Parameters
    ----------
    folder : path
        Takes the teacher, the ledger of runs, the cost profiles and ``result.json``; made when
        absent.
    methods : sequence of str
        Different ones of `METHODS`.
    teacher : RemoteTeacher, optional
        A teacher elsewhere; without it one is trained and started here.

    Returns
    -------
    dict
        ``manifest``, ``rows`` (method, seed, accuracy), ``accuracy`` (mean and interval by
        method), ``differences`` (each method minus none, paired by seed), ``teacher_accuracy``.

    Raises
    ------
    WorkloadError
        If a method is unknown or comes twice, or the folder holds another study.
    PolicyError
        If the policy is unknown.
    WorkloadError, TransportError, ResultError
        If a run fails or a result cannot be written.
    """
    check_methods(methods)
    described = {**asdict(config), "data_dir": None}  # the same images, wherever they lie
    dataset = load(config.data, config.data_dir)
    # What can be known beforehand is, before the folder is claimed and the teacher trained.
    parts_of(config, dataset, seed=0)
    make_policy(policy)
    plan = [(method, seed) for seed in seeds for method in methods]
    ledger = RunLedger(folder / "runs.jsonl")
    reported = None
    if teacher is not None and "teacher" not in ledger:
        reported = _reported_accuracy(teacher, make_study_request(config, *plan[0], dataset.digest))
    claim_folder(folder, {**described, "policy": policy, "data_sha256": dataset.digest})
    if "teacher" not in ledger:
        known = _own_accuracy(config, dataset, folder) if reported is None else reported
        ledger.add("teacher", {"accuracy": known})
    for done, (method, seed) in enumerate(plan):
        key = f"{method}/{seed}"
        if progress is not None:
            progress(done, len(plan), key)
        if key in ledger:
            continue
        run = run_once(config, method, seed, folder, policy=policy, teacher=teacher)
        save_profile(run, config, method, seed, folder / f"profile-{method}-{seed}.csv")
        ledger.add(key, {"method": method, "seed": seed, "accuracy": run.accuracy})
    if progress is not None:
        progress(len(plan), len(plan), "done")
    rows = [ledger.runs[f"{method}/{seed}"] for method, seed in plan]
    others = [(method, "none") for method in methods if method != "none" and "none" in methods]
    result = {
        "manifest": manifest({**described, "policy": policy}, seeds=list(seeds), dataset=dataset),
        "teacher_accuracy": ledger.runs["teacher"]["accuracy"],
        "rows": rows,
        "accuracy": summarise(rows, "accuracy", ["method"]),
        "differences": compare_pairs(rows, "accuracy", [], treatment="method", pairs=others),
    }  # fmt: skip
    write_json(folder / "result.json", result)
    return result


def _own_accuracy(config: EdgeConfig, dataset: Dataset, folder: Path) -> float:
    """Train or load the teacher and return its test accuracy, 0 to 1."""
    teacher = prepare_teacher(config, folder)
    return accuracy(predict(teacher, dataset.images("test")), dataset.labels("test"))


def _reported_accuracy(teacher: RemoteTeacher, study_request: Record) -> float:
    """Return the test accuracy that a remote teacher reports, 0 to 1."""
    with teacher.stream(timeout_s=_PATIENCE_S, study_request=study_request) as stream:
        reported = stream.greeting.get("accuracy")
    if not isinstance(reported, float) or not 0 <= reported <= 1:
        host, port = teacher.address
        raise TransportError(f"teacher {host}:{port}: must report its accuracy, got {reported!r}")
    return reported
