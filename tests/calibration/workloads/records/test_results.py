import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workload_data import stripes

from calibration.workloads.records.results import (
    ResultError,
    RunLedger,
    claim_folder,
    manifest,
    write_json,
)
from calibration.workloads.records.tables import compare_pairs, summarise
from kdsim.errors import WorkloadError
from kdsim.results.intervals import paired_difference


def rows():
    values = {"a": [0.5, 0.6, 0.8], "b": [0.4, 0.6, 0.7]}
    return [
        {"net": "x", "method": method, "seed": seed, "accuracy": value}
        for method, own in values.items()
        for seed, value in enumerate(own)
    ]


def test_a_summary_has_mean_spread_interval_and_n():
    first, second = summarise(rows(), "accuracy", ["net", "method"])
    assert first["mean"] == pytest.approx(0.6333, abs=1e-4)
    assert first["ci_low"] < first["mean"] < first["ci_high"]
    assert (first["n"], first["interval"], second["method"]) == (3, "t", "b")


def test_one_run_has_no_interval_and_says_so():
    (row,) = summarise(rows()[:1], "accuracy", ["method"])
    assert row["n"] == 1
    assert row["ci_low"] is row["sd"] is None
    assert row["interval"] == "none"


def test_differences_are_paired_by_seed_in_any_order():
    (row,) = compare_pairs(
        rows()[::-1], "accuracy", ["net"], treatment="method", pairs=[("a", "b")]
    )
    expected = paired_difference([0.5, 0.6, 0.8], [0.4, 0.6, 0.7])
    assert row["difference"] == "a - b"
    assert (row["mean"], row["ci_low"]) == (expected.mean, expected.low)


def test_a_run_without_partner_is_left_out_of_the_pairs():
    (row,) = compare_pairs(
        rows()[1:], "accuracy", ["net"], treatment="method", pairs=[("a", "b"), ("a", "c")]
    )
    assert row["n"] == 2


def test_a_run_that_occurs_twice_is_an_error():
    with pytest.raises(WorkloadError, match="twice"):
        compare_pairs(
            [*rows(), rows()[0]], "accuracy", ["net"], treatment="method", pairs=[("a", "b")]
        )


def test_the_manifest_names_data_versions_seeds_and_host_but_no_date():
    data = stripes()
    found = manifest({"sizes": [1]}, seeds=range(3), dataset=data, notes=["as written"])
    assert found["data"]["sha256"] == data.digest
    assert found["seeds"] == [0, 1, 2]
    assert {"numpy", "torch", "python", "kdsim"} <= set(found["versions"])
    assert found["host"]["torch_threads"] >= 1
    assert found == manifest({"sizes": [1]}, seeds=range(3), dataset=data, notes=["as written"])


@given(
    content=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
@settings(max_examples=40, deadline=None)
def test_json_reads_back_as_it_was(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "result.json"
    write_json(path, content)
    assert json.loads(path.read_text(encoding="utf-8")) == content


def test_json_keeps_plain_lists_on_one_line(tmp_path):
    write_json(tmp_path / "r.json", {"sizes": [1, 2, 3], "rows": [{"a": 1}]})
    assert '"sizes": [ 1, 2, 3 ]' in (tmp_path / "r.json").read_text()


def test_a_result_that_json_cannot_hold_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "r.json", 1)
    with pytest.raises(ResultError, match="value JSON cannot"):
        write_json(tmp_path / "r.json", [float("nan")])
    assert (tmp_path / "r.json").read_text() == "1\n"
    with pytest.raises(ResultError, match="cannot be written"):
        write_json(tmp_path / "r.json" / "below", 1)


def test_a_ledger_remembers_runs_across_openings(tmp_path):
    ledger = RunLedger(tmp_path / "deep" / "runs.jsonl")
    assert "one" not in ledger
    ledger.add("one", {"x": (1, 2)})
    again = RunLedger(ledger.path)
    assert "one" in again
    assert again.runs == ledger.runs == {"one": {"x": [1, 2]}}


def test_a_line_cut_short_by_a_crash_is_done_again(tmp_path):
    ledger = RunLedger(tmp_path / "runs.jsonl")
    ledger.add("one", {})
    ledger.add("two", {})
    text = ledger.path.read_text()
    for lost in (8, 1):  # 1: the line end alone, to which the next line would be glued
        ledger.path.write_text(text[:-lost])
        again = RunLedger(ledger.path)
        assert list(again.runs) == ["one"]
        again.add("two", {})
        assert ledger.path.read_text() == text


def test_a_ledger_takes_any_text(tmp_path):
    ledger = RunLedger(tmp_path / "runs.jsonl")
    ledger.add("one", {"note": "a\u2028b\x85c\nd"})
    assert RunLedger(ledger.path).runs == ledger.runs


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "runs.jsonl"
    for line in ('{"run": "one"}', '{"run": "one", "result": null}', '{"run": 1, "result": {}}'):
        path.write_text(line + '\n{"run": "two", "result": {}}\n')
        with pytest.raises(ResultError, match=r"runs\.jsonl:1: not a finished run"):
            RunLedger(path)


def test_a_folder_is_claimed_once_and_refused_to_another_study(tmp_path):
    folder = tmp_path / "new" / "study"
    claim_folder(folder, {"sizes": (1, 2), "student": {"epochs": 3}})
    claim_folder(folder, {"sizes": (1, 2), "student": {"epochs": 3}})
    with pytest.raises(WorkloadError, match=r"another study: student\.epochs was 3, now 4"):
        claim_folder(folder, {"sizes": (1, 2), "student": {"epochs": 4}})


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b""])
def test_a_folder_with_a_damaged_claim_is_refused(tmp_path, content):
    (tmp_path / "study.json").write_bytes(content)
    with pytest.raises(WorkloadError, match=r"study\.json .*name another folder"):
        claim_folder(tmp_path, {})


def test_a_folder_that_cannot_be_made_is_bad_input(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkloadError, match=r"file.below cannot hold a study") as caught:
        claim_folder(tmp_path / "file" / "below", {})
    assert caught.value.exit_code == 2
