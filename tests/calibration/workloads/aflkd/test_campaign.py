"""Campaigns train on digits: worker processes read their data set by its name."""

import json
from dataclasses import replace

import pytest
import torch

from calibration.workloads.aflkd import campaign
from calibration.workloads.aflkd.campaign import Study, run_campaign
from calibration.workloads.aflkd.config import StudyConfig
from calibration.workloads.aflkd.methods import StudentConfig
from calibration.workloads.aflkd.study import finished_runs, planned_runs, run_study
from calibration.workloads.data.datasets import load
from calibration.workloads.training.loops import TrainingConfig
from calibration.workloads.training.placement import choose_device
from kdsim.errors import WorkloadError

SHORT = TrainingConfig(epochs=1, batch_size=16)
STUDY = StudyConfig(
    nets=("edge-1",),
    methods=("sslf", "aflkd-reverse"),
    sizes=(20, 40),
    seeds=2,
    teachers=2,
    teacher_images=64,
    teacher=SHORT,
    student=StudentConfig(training=SHORT),
)


def ledger(folder):
    lines = (folder / "runs.jsonl").read_text().splitlines()
    return {entry["run"]: entry["result"] for entry in map(json.loads, lines)}


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign")
    more = replace(STUDY, update="cumulative", seeds=1, short_seeds=1, short_size=20)
    studies = [Study(STUDY, folder / "new"), Study(more, folder / "cumulative")]
    return folder, studies, run_campaign(studies, device="cpu", workers=2)


def test_worker_processes_train_what_one_process_trains(side_by_side, tmp_path):
    folder, _, outcome = side_by_side
    assert (outcome.done, outcome.left) == (12, 0)
    run_study(STUDY, load("digits"), tmp_path)
    assert ledger(folder / "new") == ledger(tmp_path)


def test_studies_whose_teachers_are_trained_alike_share_them(side_by_side):
    folder = side_by_side[0]
    for k in (0, 1):
        one, other = ((folder / s / f"teacher-{k}.pt").read_bytes() for s in ("new", "cumulative"))
        assert one == other
    first, second = ((folder / "new" / f"teacher-{k}.pt").read_bytes() for k in (0, 1))
    assert first != second


def test_short_seeds_stop_early_and_go_on_when_asked_to(side_by_side):
    folder, (_, study), _ = side_by_side
    short = ledger(folder / "cumulative")["teacher-0/edge-1/sslf/seed-0"]
    assert [stage["size"] for stage in short["stages"]] == [20]
    assert finished_runs(study.config, study.folder) == 4
    assert finished_runs(replace(study.config, short_seeds=0), study.folder) == 0


def test_a_finished_campaign_does_nothing(side_by_side):
    _, studies, _ = side_by_side
    told = []
    outcome = run_campaign(studies, device="cpu", on_done=lambda *_: told.append(1))
    assert (outcome.done, outcome.left, told) == (0, 0, [])


def test_a_budget_that_is_too_short_leaves_the_rest_for_another_time(tmp_path):
    outcome = run_campaign([Study(STUDY, tmp_path)], device="cpu", workers=1, budget_s=0.01)
    assert (outcome.done, outcome.left) == (0, len(planned_runs(STUDY)))


def test_no_run_is_started_that_would_not_end_in_time():
    clock = campaign._Clock(100.0)
    job = campaign.Job(Study(STUDY, None), planned_runs(STUDY)[0])
    assert clock.fits(job)
    clock.note(job, 80.0)
    assert clock.fits(job)
    clock.begin -= 10.0  # ten seconds later: 90 left, 92 wanted
    assert not clock.fits(job)


def test_a_teacher_that_is_needed_and_lost_is_not_trained_anew(side_by_side, tmp_path):
    folder = side_by_side[0] / "new"
    for name in ("runs.jsonl", "study.json", "teacher-0.pt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    run_campaign([Study(STUDY, tmp_path)], device="cpu")  # nothing is missing
    with pytest.raises(WorkloadError, match=r"teacher-1\.pt is missing, but runs with"):
        run_campaign([Study(replace(STUDY, seeds=3), tmp_path)], device="cpu")


def test_a_failing_run_is_an_error_and_what_was_finished_is_kept(tmp_path):
    bad = replace(
        STUDY,
        methods=("sslf", "baseline"),
        student=StudentConfig(training=replace(SHORT, learning_rate=1e30)),
    )
    with pytest.raises(WorkloadError, match="the loss became"):
        run_campaign([Study(bad, tmp_path)], device="cpu", workers=1)
    assert set(ledger(tmp_path)) == {"teacher-0", "teacher-1"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be 1 or more"),
        ({"budget_s": 0.0}, "budget must be positive"),
        ({"device": "tpu"}, "device must be auto, cpu or cuda"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    with pytest.raises(WorkloadError, match=message):
        run_campaign([Study(STUDY, tmp_path)], **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="an accelerator is there")
def test_an_accelerator_that_is_not_there_is_said_so():
    assert choose_device("auto").type == "cpu"
    with pytest.raises(WorkloadError, match="torch finds no such accelerator"):
        choose_device("cuda")
