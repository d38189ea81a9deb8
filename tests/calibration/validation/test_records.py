"""The committed validation: its tables follow from its runs, and the pages say what they say."""

from __future__ import annotations

import copy
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from calibration.fit import fit_trace
from calibration.machine.sampling import Precision
from calibration.trace import read_trace
from calibration.validation.conditions import parse_condition
from calibration.validation.drift import curves_between, drifts
from calibration.validation.judge import Prediction, summarise, tabulate, verdict
from calibration.validation.measure import Measured
from calibration.validation.predict import ValidationSettings, predict_again

ROOT = Path(__file__).parents[3]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = BENCHMARKS / "results" / "validation"
DEVICES = sorted(path.parent for path in RESULTS.glob("*/summary.json"))
KINDS = ("", "drill-")
RECORDS = [(d, kind) for d in DEVICES for kind in KINDS if (d / f"{kind}runs.jsonl").exists()]


@pytest.fixture(scope="module")
def made():
    """Import the script that makes the pages, and read the records."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import validation_page
    finally:
        sys.path.remove(str(BENCHMARKS))
    return validation_page, validation_page.read_records()


def test_there_are_records():
    assert any(kind == "" for _, kind in RECORDS)
    assert any(kind == "drill-" for _, kind in RECORDS)


@pytest.mark.parametrize(("folder", "kind"), RECORDS, ids=[f"{d.name}/{k}" for d, k in RECORDS])
def test_the_committed_table_follows_from_the_committed_runs(folder, kind):
    runs = [
        Measured.from_json(json.loads(line))
        for line in (folder / f"{kind}runs.jsonl").read_text().splitlines()
    ]
    predictions = {
        (row.condition, row.policy): Prediction(
            SimpleNamespace(makespan=row.predicted), row.low, row.high
        )
        for row in pd.read_csv(folder / f"{kind}predictions.csv").itertuples()
    }
    settings = json.loads((folder / f"{kind}manifest.json").read_text())["settings"]
    precision = Precision(**settings["precision"])
    table = tabulate(predictions, runs, precision)
    trace, points = (read_trace(folder / f) for f in ("trace.csv", f"{kind}between.csv"))
    fitted = fit_trace(trace, include_noisy=True, bootstrap=0)
    curves = curves_between(fitted, points.rows)
    if curves is not None:
        texts = json.loads((folder / f"{kind}manifest.json").read_text())["condition_texts"]
        settings = ValidationSettings(
            policies=tuple(dict.fromkeys(policy for _, policy in predictions)),
            conditions=tuple(parse_condition(text) for text in texts),
            precision=precision,
        )
        chunk_mb = trace.header["teacher"]["chunk_mb"]
        again = predict_again(fitted, chunk_mb, curves, settings, predictions, runs)
        table = table.merge(again, on=["condition", "policy"])
    committed = pd.read_csv(folder / f"{kind}table.csv")
    pd.testing.assert_frame_equal(table, committed, rtol=1e-4, check_dtype=False)
    summary = summarise(table, runs, precision)
    kept = json.loads((folder / f"{kind}summary.json").read_text())
    for name in ("pairs", "pairs_separated", "pairs_in_order", "distinct_predictions"):
        assert summary[name] == kept[name]
    assert summary["median_absolute_error"] == pytest.approx(
        kept["median_absolute_error"], rel=1e-3
    )
    drifted = drifts(trace, points.rows)
    assert [one.change for one in drifted] == pytest.approx([d["change"] for d in kept["drifts"]])
    assert verdict(table, summary, precision, drifted=drifted).word == kept["verdict"]["word"]


@pytest.mark.parametrize("folder", DEVICES, ids=[d.name for d in DEVICES])
def test_the_committed_epochs_follow_from_the_committed_runs(folder):
    place = folder / "learning"
    predicted = pd.read_csv(place / "predictions.csv").set_index(["link", "policy", "cycle"])
    errors = []
    for line in (place / "runs.jsonl").read_text().splitlines():
        run = json.loads(line)
        if not run["disturbed"]:
            errors += [
                predicted.loc[(run["link"], run["policy"], cycle), "predicted_s"] / seconds - 1
                for cycle, seconds, _ in run["epochs"]
            ]
    kept = json.loads((place / "summary.json").read_text())
    assert kept["epochs"] == len(errors) > 0
    assert kept["within_10_percent"] == pytest.approx(np.mean(np.abs(errors) <= 0.10))
    assert kept["worst_absolute_error"] == pytest.approx(np.max(np.abs(errors)), rel=1e-4)
    assert set(predicted["profile_under"].str.cat(predicted.index.get_level_values("policy"), "|"))
    assert not any(row.profile_under == policy for (_, policy, _), row in predicted.iterrows())


def test_the_committed_pages_are_made_from_the_committed_records(made):
    page, records = made
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == page.page(records)
    assert page.summary_block(records) in page.EVIDENCE.read_text(encoding="utf-8")


def test_no_figure_stays_on_the_pages_when_the_records_change(made):
    page, records = made
    shifted = copy.deepcopy(records)
    for record in shifted.values():
        for table in ("table", "drill-table"):
            numbers = record[table].select_dtypes(float).columns
            record[table][numbers] *= 1.37
        for summary in ("summary", "drill-summary", "learning/summary"):
            for name, value in record[summary].items():
                if isinstance(value, float):
                    record[summary][name] = value * 1.37 + 0.011
    before = re.findall(r"[+-]?\d+\.\d+(?: %)?", page.summary_block(records))
    after = re.findall(r"[+-]?\d+\.\d+(?: %)?", page.summary_block(shifted))
    assert len(before) > 20
    moved = sum(a != b for a, b in zip(before, after, strict=False))
    assert moved > 0.5 * len(before)
