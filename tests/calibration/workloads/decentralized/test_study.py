"""The dissimilarity study: its grid, ledger, verdicts, figure and command."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from calibration.commands.dissimilarity import command
from calibration.workloads.data.datasets import Dataset, load
from calibration.workloads.decentralized import study as study_module
from calibration.workloads.decentralized.cohort import Departure
from calibration.workloads.decentralized.config import Study, units
from calibration.workloads.decentralized.figures import plot_accuracy, plot_study
from calibration.workloads.decentralized.report import summary, verdicts
from calibration.workloads.decentralized.study import material, run_study
from calibration.workloads.losses import MEASURES
from calibration.workloads.records.results import ResultError, RunLedger
from calibration.workloads.training.networks import build_network
from calibration.workloads.training.weights import starting_weights
from kdsim.errors import DataError, WorkloadError
from kdsim.scenario.parts.profile import read_profile

STUDY = Study(
    measures=("kl", "td"),
    cases=("sum", "average"),
    alphas=(0.5, 1.0),
    seeds=(0, 1),
    private_samples=60,
    public_samples=20,
    test_samples=40,
    rounds=2,
    batch=8,
)


@pytest.fixture(scope="module")
def tiny():
    rng = np.random.default_rng(0)

    def part(count):
        labels = np.arange(count) % 4
        return rng.integers(0, 255, (count, 1, 8, 8)).astype(np.uint8), labels.astype(np.int64)

    return Dataset("tiny", *part(120), *part(40), classes=4)


@pytest.fixture(scope="module")
def rows(tiny, tmp_path_factory):
    return run_study(STUDY, tiny, RunLedger(tmp_path_factory.mktemp("study") / "runs.jsonl"))


def made_up(value, *, cases=("sum", "average"), seeds=(0, 1, 2), jitter=1e-4):
    """Rows of a finished study whose accuracies are ``value(split, case, measure, alpha)``."""
    return [
        {
            "split": which, "case": case, "measure": measure, "alpha": alpha, "seed": seed,
            "shared": value(which, case, measure, alpha) + jitter * seed, "shared_sd": 0.01 * alpha,
            "private": 0.9, "private_sd": 0.0,
        }
        for which in ("iid", "skew")
        for case in cases
        for measure in MEASURES
        for alpha in (0.0, 0.2, 0.5, 0.8, 1.0)
        for seed in seeds
    ]  # fmt: skip


def test_alpha_one_runs_once_and_stands_for_every_measure_and_case(rows):
    assert len(units(STUDY)) == 2 * 2 * (2 * 2 + 1)
    assert len(rows) == 2 * 2 * (2 * 2 * 2)
    alone = [r for r in rows if r["alpha"] == 1 and r["split"] == "skew" and r["seed"] == 0]
    assert len(alone) == 4
    assert len({json.dumps(r["clients"]) for r in alone}) == 1


def test_units_come_seed_by_seed():
    seeds = [unit.seed for unit in units(STUDY)]
    assert seeds == sorted(seeds)


def test_private_public_and_test_samples_are_disjoint(tiny):
    data = material(STUDY, tiny, "skew", 0)
    images = [image for share, _ in data.shares for image in share] + list(data.public)
    assert len(images) == 80
    assert len({image.numpy().tobytes() for image in images}) == 80
    again = material(STUDY, tiny, "iid", 1)
    assert torch.equal(again.test[0], data.test[0])


def test_a_study_resumes_run_by_run_and_ends_with_the_same_rows(tiny, rows, tmp_path, monkeypatch):
    ledger = RunLedger(tmp_path / "runs.jsonl")
    done = 0

    def interrupted(*args, **kwargs):
        nonlocal done
        done += 1
        if done > 3:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    original = study_module.run_unit
    monkeypatch.setattr(study_module, "run_unit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(STUDY, tiny, ledger)
    monkeypatch.setattr(study_module, "run_unit", original)
    resumed = run_study(STUDY, tiny, RunLedger(tmp_path / "runs.jsonl"))
    assert resumed == rows


def test_a_ledger_takes_more_seeds_but_no_other_study(tiny, tmp_path):
    small = replace(STUDY, seeds=(0,), measures=("kl",), cases=("sum",), splits=("iid",))
    ledger = RunLedger(tmp_path / "runs.jsonl")
    assert len(run_study(small, tiny, ledger)) == 2
    assert len(run_study(replace(small, seeds=(0, 1)), tiny, ledger)) == 4
    with pytest.raises(ResultError, match=r"gamma was 15\.0, now 3\.0"):
        run_study(replace(small, gamma=3.0), tiny, ledger)


def test_a_ledger_from_before_a_setting_existed_had_its_default(tiny, tmp_path):
    small = replace(STUDY, seeds=(0,), measures=("kl",), cases=("sum",), splits=("iid",))
    path = tmp_path / "runs.jsonl"
    first = run_study(small, tiny, RunLedger(path))
    head, *runs = path.read_text().splitlines()
    older = json.loads(head)
    for later in ("augment", "weights"):
        del older["result"][later]
    path.write_text("\n".join([json.dumps(older), *runs]) + "\n")
    assert run_study(small, tiny, RunLedger(path)) == first
    with pytest.raises(ResultError, match="augment was False, now True"):
        run_study(replace(small, augment=True), tiny, RunLedger(path))


def test_the_content_of_a_file_of_weights_belongs_to_a_study_and_its_place_does_not(tiny, tmp_path):
    small = replace(STUDY, seeds=(0,), measures=("kl",), cases=("sum",), splits=("iid",))
    places = [tmp_path / name for name in ("a.pt", "b.pt", "c.pt")]
    for place, seed in ((places[0], 0), (places[2], 1)):
        torch.save(build_network("small-cnn", (1, 8, 8), 4, seed=seed).state_dict(), place)
    shutil.copyfile(places[0], places[1])
    here, there, other = (replace(small, weights=starting_weights(p)) for p in places)
    ledger = RunLedger(tmp_path / "runs.jsonl")
    assert run_study(here, tiny, ledger) == run_study(there, tiny, ledger)
    with pytest.raises(ResultError, match="weights was '"):
        run_study(other, tiny, ledger)


def test_summary_gives_n_and_an_interval_for_each_cell(rows):
    cells = summary(rows)
    assert len(cells) == 4 * 2 * 2 * 2 * 2
    assert {cell["n"] for cell in cells} == {2}


def test_verdicts_follow_the_sign_of_what_is_found():
    def as_the_paper_has_it(which, case, measure, alpha):
        if which == "iid":
            return 0.9
        better = 0.02 if measure in ("js", "sed", "td") and alpha < 0.5 else 0.0
        best = 0.005 if measure == "sed" else 0.0
        return 0.8 - abs(alpha - 0.5) / 5 + better + best

    found = verdicts(made_up(as_the_paper_has_it))
    about_kl = "under the sum of losses, KL varies more among clients than the others"
    assert {v.verdict for v in found if v.claim != about_kl} == {"supported"}
    assert {v.verdict for v in found if v.claim == about_kl} == {"undecided"}  # equal by design

    found = verdicts(made_up(lambda which, case, measure, alpha: 0.5 + 0.3 * (1 - alpha)))
    iid = [v.verdict for v in found if v.split == "iid" and v.case == "sum"]
    assert set(iid) == {"contradicted"}
    largest = {v.quantity: v.verdict for v in found if "largest" in v.claim and v.case == "sum"}
    assert list(largest.values()) == ["contradicted", "supported"]  # against 0.2 and 0.8


def test_ce_and_kl_are_one_method_in_every_mean():
    """Under a fixed teacher they have one gradient: counting both would weigh it twice."""

    def one_point_for_kl(which, case, measure, alpha):
        return 0.8 + (0.1 if measure in ("ce", "kl") and alpha == 0.5 else 0.0)

    found = {v.quantity: v.estimate.mean for v in verdicts(made_up(one_point_for_kl))}
    gain = found["gain at alpha = 0.5 over alpha = 1, mean of the measures"]
    assert gain == pytest.approx(0.1 / 4)
    without_ce = [r for r in made_up(one_point_for_kl) if r["measure"] != "ce"]
    assert verdicts(without_ce) == verdicts(made_up(one_point_for_kl))


def test_one_seed_decides_nothing():
    one = verdicts(made_up(lambda *_: 0.5, seeds=(0,)))
    assert {v.verdict for v in one} == {"undecided"}
    assert verdicts([]) == []


def test_each_claim_uses_the_seeds_that_all_of_its_cells_have():
    complete = made_up(lambda *_: 0.5)
    unfinished = [r for r in complete if r["seed"] < 2 or r["split"] == "iid"]
    seeds = {v.split: v.estimate.n for v in verdicts(unfinished)}
    assert seeds == {"iid": 3, "skew": 2}
    without = [r for r in complete if (r["split"], r["alpha"]) != ("skew", 1.0)]
    assert not any("raises the mean" in v.claim for v in verdicts(without))


def test_the_figure_draws_each_measure_with_bars_and_units(rows):
    ax = plot_accuracy(rows, "skew", "sum")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["KL", "TD"]
    assert "%" in ax.get_ylabel()
    assert "alpha" in ax.get_xlabel()
    assert len(ax.containers) == 4  # two sets of error bars a measure
    assert len(plot_study(rows).axes) == 4
    with pytest.raises(WorkloadError, match="no rows for split"):
        plot_accuracy(rows, "skew", "median")


def test_faults_of_a_study_are_told_in_words(tiny):
    for wrong, told in (
        ({"measures": ("kl", "l2")}, "measures must be among"),
        ({"cases": ()}, "cases must be among"),
        ({"alphas": (1.2,)}, "alpha must lie"),
        ({"seeds": (1, 1)}, "different values"),
        ({"clients": 1}, "2 or more"),
        ({"sizes": (1.0,)}, "each of the 3 clients"),
    ):
        with pytest.raises(WorkloadError, match=told):
            replace(STUDY, **wrong)
    with pytest.raises(DataError, match="40 test images; 41"):
        material(replace(STUDY, test_samples=41), tiny, "iid", 0)


def invoke(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


QUICK = [
    "--rounds",
    "2",
    "--seeds",
    "2",
    "--measures",
    "kl,js",
    "--alpha",
    ".5,1",
    "--split",
    "skew",
]


def test_the_command_writes_results_figure_and_profiles_the_simulator_reads(tmp_path):
    outcome = invoke(*QUICK, "--out", tmp_path, "--json")
    assert outcome.exit_code == 0, outcome.output
    printed = json.loads(outcome.stdout)
    assert printed == json.loads((tmp_path / "results.json").read_text())
    assert printed["manifest"]["data"]["name"] == "digits"
    assert "small-cnn from random weights" in printed["manifest"]["notes"][0]
    assert len(printed["rows"]) == 8
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000
    profile = read_profile(tmp_path / "profile-skew-average-js.csv")
    assert profile.downlink_bytes[0] == 2 * 32 * 10 * 4
    assert profile.uplink_bytes is None
    assert profile.marks.tolist()[-1] == len(profile.lines) == 2

    again = invoke(*QUICK, "--out", tmp_path)
    assert again.exit_code == 0
    assert "n = 2 seeds" in again.stdout
    assert json.loads((tmp_path / "results.json").read_text()) == printed


def test_the_command_takes_a_folder_of_images_and_a_file_of_weights(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("a/abbey", "b/bar"):
        (tmp_path / "scenes" / label).mkdir(parents=True)
        for k in range(60):
            pixels = rng.integers(0, 255, (12, 12, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "scenes" / label / f"{k}.png")
    state = build_network("small-cnn", (3, 8, 8), 10, seed=0).state_dict()
    torch.save(state, tmp_path / "weights.pt")
    outcome = invoke(
        "--data", tmp_path / "scenes", "--image-size", 8, "--augment", "--rounds", 1, "--seeds", 1,
        "--measures", "kl", "--alpha", "1", "--split", "iid", "--out", tmp_path / "out", "--json",
        "--weights", tmp_path / "weights.pt",
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    described = json.loads(outcome.stdout)["manifest"]
    assert described["data"]["name"] == "scenes-8px"
    assert (described["config"]["private_samples"], described["config"]["test_samples"]) == (81, 12)
    assert "small-cnn from the weights of a file" in described["notes"][0]
    assert "flipped and shifted" in described["notes"][0]


def test_the_command_reports_a_client_that_departs(tmp_path):
    outcome = invoke(*QUICK, "--out", tmp_path, "--depart", "1@1")
    assert outcome.exit_code == 0, outcome.output
    assert "client 1 departed in round 1 (left)" in " ".join(outcome.stdout.split())


def test_the_command_tells_bad_input_in_words(tmp_path):
    for arguments, told in (
        (("--alpha", "0,x"), "--alpha takes numbers"),
        (("--depart", "1"), "CLIENT@ROUND"),
        (("--depart", "7@1"), "a client of 0 to 2"),
        (("--measures", "l2"), "measures must be among"),
        (("--data", "mnist"), "data set must be one of"),
        (("--data", tmp_path / "none"), "none is no folder of images"),
        (("--weights", tmp_path / "none.pt"), "none.pt cannot be read"),
    ):
        outcome = invoke(*arguments, "--out", tmp_path)
        assert outcome.exit_code == 1  # the outer command line turns the error into one line
        assert told in str(outcome.exception)


@pytest.mark.data
@pytest.mark.skipif("KDSIM_DATA" not in os.environ, reason="KDSIM_DATA names no data folder")
def test_fashion_mnist_gives_rows_of_its_own_name(tmp_path):
    dataset = load("fashion-mnist", download=False)
    study = replace(STUDY, seeds=(0,), measures=("kl",), cases=("sum",), splits=("skew",))
    found = run_study(study, dataset, RunLedger(tmp_path / "runs.jsonl"))
    assert len(found) == 2


# --- a client that is killed ----------------------------------------------------------------------


def killing(monkeypatch, unit_number):
    """Let one run of a study lose its last client, as if its process had been killed."""
    real, made = study_module.run_unit, []

    def run(data, plan, **options):
        result = real(data, plan, **options)
        made.append(plan)
        if len(made) != unit_number:
            return result
        gone = Departure(2, 1, "its process ended with SIGKILL")
        kept = {"accuracies": result.accuracies[:-1], "costs": result.costs[:-1]}
        return replace(result, departures=(gone,), **kept)

    monkeypatch.setattr(study_module, "run_unit", run)


def test_a_killed_client_fails_the_command_and_its_run_is_made_again(tmp_path, monkeypatch):
    whole = invoke(*QUICK, "--out", tmp_path / "whole", "--json")
    with monkeypatch.context() as patch:
        killing(patch, 1)
        outcome = invoke(*QUICK, "--out", tmp_path / "hurt")
    assert outcome.exit_code == 1
    text = " ".join(outcome.output.split())
    assert "mean over 2 to 3 clients" in text
    assert "its process ended with SIGKILL" in text
    assert "the same command makes them again" in text
    again = invoke(*QUICK, "--out", tmp_path / "hurt", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["rows"] == json.loads(whole.stdout)["rows"]


def test_ctrl_c_is_one_line_and_status_130(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(study_module, "run_unit", interrupted)
    outcome = invoke(*QUICK, "--out", tmp_path)
    assert outcome.exit_code == 130
    assert "keeps the finished runs" in outcome.output
    assert len(outcome.output.strip().splitlines()) == 1
