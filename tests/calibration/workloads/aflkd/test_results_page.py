"""The page over the committed AFLKD records says what they say, and nothing else."""

import copy
import re
from pathlib import Path

import pytest
from aflkd_study import page, report, sections
from aflkd_study.studies import STUDIES

from calibration.workloads.aflkd.report import tables

RESULTS = Path(__file__).parents[4] / "benchmarks" / "results" / "aflkd"


@pytest.fixture(scope="module")
def records():
    return report.read_records(RESULTS)


def test_the_committed_page_is_made_from_the_committed_records(records):
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == page.page(records, STUDIES)


def test_no_number_on_the_page_stays_when_the_records_change(records):
    """Each sentence and table row with a result in it is computed, not written."""
    shifted = copy.deepcopy(records)
    for number, record in enumerate(shifted["studies"].values()):
        for run in record["runs"]:
            for stage in run["stages"]:
                stage["accuracy"] /= 1.7 + 0.1 * len(run["method"]) + 0.1 * number
            temperatures = run["course"]["temperature"]
            if temperatures[-1] is not None:
                run["course"]["temperature"] = [t / 2 + 3 for t in temperatures]
        record["cloud"]["accuracy"] = [a / 2 for a in record["cloud"]["accuracy"]]
    for run in shifted["processors"]["runs"]:
        run["accuracy"] /= 3
    for row in shifted["robustness"]["accuracy"] + shifted["robustness"]["gains"]:
        for key in ("mean", "ci_low", "ci_high"):
            row[key] = row[key] / 3 + 0.05
    for row in shifted["speed"]["step_over_bare_loop"].values():
        row["mean"] *= 2
    for rows in shifted["speed"]["backward_by_frozen_layers"].values():
        for row in rows:
            row["ratio"]["mean"] += 3
            row["flop_ratio"] += 3
    curvature = shifted["steps"]["curvature"]
    shifted["steps"]["curvature"] = {key: 3 * value for key, value in curvature.items()}
    for trial in shifted["steps"]["trials"]:
        trial["train_accuracy"] = [share / 2 for share in trial["train_accuracy"]]
        if trial["silent_units"] is not None:
            trial["silent_units"] /= 3
    before, after = (page.page(r, STUDIES).splitlines() for r in (records, shifted))
    # A result is a decimal: counts of images, seeds and cells are none.
    results = [line for line in before if re.search(r"\d\.\d", re.sub(r"`[^`]*`", "", line))]
    kept = [line for line in results if line in after]
    planned = [line for line in kept if "million training steps" in line]
    assert len(results) > 20
    assert kept == planned


def test_tables_are_made_from_their_runs(records):
    for name, record in records["studies"].items():
        text = (RESULTS / name / "tables.md").read_text(encoding="utf-8")
        assert text == tables(record), name


def test_recorded_differences_are_those_of_the_recorded_runs(records):
    for name, record in records["studies"].items():
        for row in record["differences"]:
            pair = tuple(row["difference"].split(" - "))
            (again,) = [
                r
                for r in sections.compare(record, "method", [pair], ["net", "size"])
                if (r["net"], r["size"]) == (row["net"], row["size"])
            ]
            for key in ("mean", "ci_low", "ci_high"):
                assert again[key] == pytest.approx(row[key], abs=1e-12), (name, row)


def test_only_seeds_that_met_every_teacher_are_taken_over():
    config = STUDIES["digits"]

    def run(method, teacher, seed):
        stages = [{"size": 100, "accuracy": 0.5}, {"size": 200, "accuracy": 0.6}]
        return {
            "net": "edge-1", "method": method, "teacher": teacher, "seed": seed, "stages": stages,
        }  # fmt: skip

    runs = [run("sslf", t, s) for s in range(3) for t in range(3)][:-1]  # seed 2 lacks a teacher
    runs += [run("kd", t, 0) for t in range(3)]  # one seed alone
    kept = report.complete_runs(config, runs)
    assert {(r["method"], r["seed"]) for r in kept} == {("sslf", 0), ("sslf", 1)}
    part = report.part_of(config, kept)
    assert (part.nets, part.methods, part.sizes, part.seeds) == (
        ("edge-1",),
        ("sslf",),
        (100, 200),
        2,
    )


def test_a_gain_needs_both_methods():
    def run(net, method, few, many):
        stages = [{"size": 100, "accuracy": few}, {"size": 200, "accuracy": many}]
        return {"net": net, "method": method, "teacher": 0, "seed": 0, "stages": stages}

    runs = [
        run("edge-1", "aflkd-reverse", 0.75, 0.75),
        run("edge-1", "baseline", 0.25, 0.5),
        run("edge-2", "aflkd-reverse", 0.5, 0.75),  # without a baseline
    ]
    found = sections._gain_at_few({"runs": runs}, [100, 200])
    assert [(row["net"], row["mean"]) for row in found] == [("edge-1", 0.25)]
