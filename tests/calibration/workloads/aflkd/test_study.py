import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from matplotlib.figure import Figure
from workload_data import stripes

from calibration.commands.aflkd import command
from calibration.workloads.aflkd.config import PRESETS, StudyConfig
from calibration.workloads.aflkd.figures import plot_accuracy, plot_forest, plot_temperature
from calibration.workloads.aflkd.methods import METHODS, StudentConfig
from calibration.workloads.aflkd.paper import paper_accuracy, paper_cloud_accuracy
from calibration.workloads.aflkd.report import build_result, tables, verdict, write_report
from calibration.workloads.aflkd.study import (
    Watcher,
    finished_runs,
    planned_runs,
    run_study,
    teacher_accuracies,
)
from calibration.workloads.aflkd.switches import references_of, switch_rows
from calibration.workloads.training.loops import TrainingConfig
from kdsim.errors import DataError, WorkloadError
from kdsim.scenario.parts.profile import read_profile

DATA = stripes()
SHORT = TrainingConfig(epochs=2, batch_size=16)
STUDY = StudyConfig(
    nets=("edge-1",),
    methods=("baseline", "sslf", "aflkd-reverse"),
    sizes=(24, 40),
    seeds=2,
    teacher_images=60,
    teacher=SHORT,
    student=StudentConfig(training=SHORT),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    runs = run_study(STUDY, DATA, folder)
    return folder, build_result(STUDY, DATA, runs, teacher_accuracies(STUDY, folder))


class StopHereError(Exception):
    pass


# --- studies -------------------------------------------------------------------------------------


def test_a_study_goes_on_where_it_was_stopped(finished, tmp_path):
    started = []

    def stop(label):
        started.append(label)
        if len(started) == 4:
            raise StopHereError

    with pytest.raises(StopHereError):
        run_study(STUDY, DATA, tmp_path, watcher=Watcher(run_started=stop))
    assert finished_runs(STUDY, tmp_path) == 3
    rest = []
    run_study(STUDY, DATA, tmp_path, watcher=Watcher(run_started=rest.append))
    assert len(rest) == 3
    whole = (finished[0] / "runs.jsonl").read_text()
    assert (tmp_path / "runs.jsonl").read_text() == whole


def test_a_finished_study_takes_more_seeds_and_methods_but_no_other_training(finished, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("runs.jsonl", "study.json", "teacher-0.pt"):
        (folder / name).write_bytes((finished[0] / name).read_bytes())
    started = []
    more = replace(STUDY, seeds=3, methods=("sslf",))
    run_study(more, DATA, folder, watcher=Watcher(run_started=started.append))
    assert started == ["teacher-0/edge-1/sslf/seed-2"]
    with pytest.raises(WorkloadError, match=r"another study: update was 'new', now 'cumulative'"):
        run_study(replace(STUDY, update="cumulative"), DATA, folder)
    with pytest.raises(WorkloadError, match="another study: data_sha256"):
        run_study(STUDY, stripes(seed=1), folder)


def test_runs_come_seed_by_seed_so_that_pairs_are_complete():
    assert [run.seed for run in planned_runs(STUDY)] == [0, 0, 0, 1, 1, 1]
    crossed = planned_runs(replace(STUDY, teachers=2))
    assert [(run.seed, run.teacher) for run in crossed[::3]] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_sizes_beyond_the_pool_are_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(DataError, match="but the training part holds 160"):
        run_study(replace(STUDY, sizes=(24, 140)), DATA, tmp_path)
    assert list(tmp_path.iterdir()) == []  # nor claimed: the same folder serves the mended sizes


def test_profiles_of_the_first_seed_are_written_for_the_simulator(finished):
    profile = read_profile(finished[0] / "profiles" / "edge-1-aflkd-reverse.csv")
    assert profile.header["method"] == "aflkd-reverse"
    assert len(profile.lines) == 2 * 2 + 2 * 1
    # Pixels that are sent are not received.
    assert (profile.downlink_bytes[0], profile.uplink_bytes[0]) == (16 * 12, 16 * 64)
    # After every epoch: two of two cycles, two of one.
    assert profile.marks.tolist() == [2, 4, 5, 6]


# --- results -------------------------------------------------------------------------------------


def test_a_result_has_every_cell_with_its_interval_and_every_paired_difference(finished):
    _, result = finished
    assert {(r["method"], r["size"]) for r in result["accuracy"]} == {
        (m, s) for m in STUDY.methods for s in STUDY.sizes
    }
    assert all(row["n"] == 2 for row in result["accuracy"] + result["differences"])
    names = [row["difference"] for row in result["differences"][:3]]
    assert names == ["aflkd-reverse - sslf", "aflkd-reverse - baseline", "sslf - baseline"]
    assert result["manifest"]["data"]["sha256"] == DATA.digest
    json.dumps(result, allow_nan=False)


def test_verdicts_read_the_interval():
    def row(low, high, n=5):
        return {"ci_low": low, "ci_high": high, "n": n}

    assert verdict(row(0.01, 0.02)) == "holds"
    assert verdict(row(-0.01, 0.02)) == "open"
    assert verdict(row(-0.02, -0.01)) == "contradicted"
    assert verdict(row(None, None, 1)) == "open"


def test_tables_stand_beside_the_papers_numbers(finished):
    _, result = finished
    result = json.loads(json.dumps(result))
    result["accuracy"][0]["paper"] = 0.773
    text = tables(result)
    assert "| network | method | 24 images | 40 images |" in text
    assert "paper 77.3" in text
    assert "| edge-1 | 24 | aflkd-reverse - sslf |" in text
    assert "| edge-1 | 3 |" in text
    assert "- sslf - baseline: holds in " in text
    assert " of 2 cells; means from " in text


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ("aflkd-descend", "sslf", "holds"),
        ("sslf", "baseline", "holds"),
        ("kd-half", "sslf", "gain"),
    ],
)
def test_only_what_the_paper_claims_is_judged_as_its_claim(finished, first, second, word):
    _, result = finished
    (row, *_) = result["differences"]
    row = {**row, "difference": f"{first} - {second}", "verdict": "holds"}
    text = tables({**result, "differences": [row]})
    assert f"| {row['n']} | {word} |" in text
    assert (f"- {first} - {second}: holds in 1" in text) == (word == "holds")


def test_a_study_is_compared_with_all_layers_frozen_at_whatever_temperature_it_has():
    assert references_of(["baseline", "kd-frozen-learned", "sslf"]) == [
        "kd-frozen-learned", "sslf", "baseline",
    ]  # fmt: skip
    assert references_of(["kd-frozen", "kd-frozen-learned"]) == ["kd-frozen"]


def test_the_papers_tables():
    assert paper_accuracy("fashion-mnist", "edge-2", "sslf", 1000) == 85.0
    assert paper_accuracy("cifar10-jpeg", "edge-3", "aflkd-descend", 5000) == 75.3
    assert paper_accuracy("fashion-mnist", "edge-2", "sslf", 3500) is None
    assert paper_accuracy("fashion-mnist", "edge-3", "sslf", 500) is None
    assert paper_accuracy("digits", "edge-1", "sslf", 500) is None
    assert paper_cloud_accuracy("cifar100") == 68.36


def test_a_report_is_the_same_twice(finished, tmp_path):
    _, result = finished
    first = [p.read_bytes() for p in write_report(result, tmp_path / "a")]
    second = [p.read_bytes() for p in write_report(result, tmp_path / "b")]
    assert first == second
    assert len(first) == 5


def test_figures_draw_into_the_axes_given_with_intervals_and_units(finished):
    _, result = finished
    ax = Figure().add_subplot()
    assert plot_accuracy(result, "edge-1", ax=ax) is ax
    assert len(ax.containers) == 3
    assert ax.get_ylabel() == "test accuracy (%)"
    course = plot_temperature(result, "edge-1", "aflkd-reverse")
    assert course.get_ylim() == (1.0, 10.0)
    assert [len(line.get_xdata()) for line in course.lines[:2]] == [4, 4]


def test_a_forest_has_a_row_for_each_method_and_a_mark_for_each_size(finished):
    _, result = finished
    ax = plot_forest(result, "edge-1", "sslf")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["aflkd-reverse"]
    assert len(ax.containers) == 2
    assert ax.get_xlabel().startswith("points above sslf")


def test_switches_are_worth_what_their_runs_differ_by(finished):
    _, result = finished
    assert {row["switch"] for row in result["switches"]} == set()
    rows = [
        {"net": n, "method": m, "teacher": 0, "seed": s, "size": z, "accuracy": a + s + (n == "b")}
        for m, a in (("kd-frozen", 1.0), ("sslf", 0.5))
        for n in ("a", "b")
        for s in range(3)
        for z in (500, 1000)
    ]
    found = switch_rows(rows)
    assert [(row["switch"], row["net"]) for row in found] == [
        ("distillation, all layers frozen", net) for net in ("a", "b", None)
    ]
    assert [row["mean"] for row in found] == [0.5] * 3
    assert [row["n"] for row in found] == [3] * 3
    # A network that one of the two lacks is left out of the mean over networks.
    alone = [row for row in rows if (row["net"], row["method"]) != ("b", "sslf")]
    assert [row["net"] for row in switch_rows(alone)] == ["a"]
    # So are runs that stopped earlier: their mean is one over fewer images.
    short = [
        {**row, "seed": 3, "accuracy": 9.0 * row["accuracy"]} for row in rows if row["seed"] == 0
    ]
    short = [row for row in short if row["size"] == 500]
    assert [(row["mean"], row["n"]) for row in switch_rows(rows + short)] == [(0.5, 3)] * 3


# --- the command ---------------------------------------------------------------------------------

QUICK = [
    "--nets", "1", "--sizes", "20,40", "--seeds", "2", "--epochs", "1", "--teacher-epochs", "1",
    "--teacher-images", "64",
]  # fmt: skip


def test_the_command_writes_tables_figures_json_and_profiles(tmp_path):
    threads = torch.get_num_threads()
    out = tmp_path / "out"
    shown = CliRunner().invoke(command, [*QUICK, "-o", str(out)], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "# AFLKD on digits" in shown.stdout
    assert torch.get_num_threads() == threads
    for name in ("results.json", "tables.md", "accuracy.png", "temperature.png", "teacher-0.pt"):
        assert (out / name).stat().st_size > 0
    depths = read_profile(out / "profiles" / "edge-1-depths.csv")
    assert sorted(set(depths.frozen_layers.tolist())) == [0, 1, 2, 3]
    again = CliRunner().invoke(command, [*QUICK, "-o", str(out), "--json"], catch_exceptions=False)
    assert json.loads(again.stdout) == json.loads((out / "results.json").read_text())


def test_verbose_reports_t_and_n_of_every_epoch(tmp_path):
    shown = CliRunner().invoke(
        command,
        [*QUICK, "--seeds", "1", "--methods", "aflkd-reverse", "-o", str(tmp_path), "-v"],
        catch_exceptions=False,
    )
    assert (
        shown.stderr.count("teacher-0/edge-1/aflkd-reverse/seed-0: 20 images, epoch 1, T = ") == 1
    )
    assert "cloud: epoch 1/1" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mnist"], "--data must be one of digits"),
        (["--nets", "4"], "networks must be different ones of edge-1"),
        (["--sizes", "a"], "--sizes takes whole numbers"),
        (["--methods", "magic"], "methods must be different ones of baseline"),
        (["--sizes", "500,5000"], "but the training part holds 1300"),
        (["--t-initial", "0.5"], "initial temperature must lie in"),
        (["--teacher-noise", "0.5", "--augment"], "use one of them"),
        (["--seeds", "0"], "seeds must be at least 1"),
        (["--teacher-images", "0"], "teacher_images must be at least 1"),
        (["--weight", "inf"], "distillation_weight must be finite"),
        (["--label-noise", "nan"], "label noise must lie in 0 to 1"),
        (["--teacher-noise", "2"], "teacher noise must lie in 0 to 1"),
        (["--sizes", "10,20", "--holdout", "0.99"], "leaves none of the 10 initial images"),
        (["--threads", "99999"], "--threads must be at most"),
    ],
)
def test_bad_input_is_one_error_of_the_tree(tmp_path, arguments, message):
    outcome = CliRunner().invoke(command, [*arguments, "-o", str(tmp_path)])
    assert isinstance(outcome.exception, WorkloadError | DataError)
    assert outcome.exception.exit_code == 2
    assert message in str(outcome.exception)


def test_an_interrupt_says_how_far_it_came(tmp_path, monkeypatch):
    import calibration.workloads.aflkd.study as study

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "train_student", interrupted)
    shown = CliRunner().invoke(command, [*QUICK, "-o", str(tmp_path)])
    assert shown.exit_code == 130
    assert "stopped with 0 of 8 runs done" in shown.stderr


def test_the_methods_are_listed_with_their_switches():
    shown = CliRunner().invoke(command, ["--list-methods"], catch_exceptions=False)
    assert "| kd-frozen | frozen | all | fixed, initial 4.0 |" in shown.stdout
    assert shown.stdout.count("\n| ") == len(METHODS)


def test_a_budget_that_runs_out_says_how_far_it_came(tmp_path):
    shown = CliRunner().invoke(
        command, [*QUICK, "--budget", "0.01", "-o", str(tmp_path)], catch_exceptions=False
    )
    assert shown.exit_code == 0
    assert "out of time with 0 of 8 runs done" in shown.stderr
    assert not (tmp_path / "results.json").exists()


def test_help_shows_an_example():
    shown = CliRunner().invoke(command, ["--help"])
    assert "kdsim workload aflkd --data fashion-mnist --nets 1,2 --sizes 500,1000" in shown.output


def test_presets_are_studies_of_the_known_data_sets():
    assert list(PRESETS) == ["digits", "fashion-mnist", "cifar10-jpeg", "cifar10", "cifar100"]
    assert all(name == preset.data for name, preset in PRESETS.items())


def test_the_safeguard_needs_held_out_labels():
    with pytest.raises(WorkloadError, match="set holdout above 0"):
        replace(STUDY, student=replace(STUDY.student, safeguard=True))
