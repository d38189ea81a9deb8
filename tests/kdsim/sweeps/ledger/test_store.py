"""The ledger: what it keeps, whom it refuses, and what it says when the disk does not play."""

from __future__ import annotations

import csv
import hashlib
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from front_door import call
from swept import DEVICE, small

from kdsim.api import sweep
from kdsim.errors import KdsimError, StoreError
from kdsim.scenario.study import Scenario
from kdsim.sweeps.ledger import sqlite_file
from kdsim.sweeps.ledger import store as store_module
from kdsim.sweeps.ledger.store import Store
from kdsim.sweeps.runs import differences
from kdsim.sweeps.task import Outcome


def outcome(run_id: str, start: int, stop: int, *, error: str = "") -> Outcome:
    values = np.arange(start, stop, dtype=float) + 1.0
    return Outcome(run_id, start, stop, values, np.ones(1), error, 0.1)


def first_run(store: Store) -> str:
    return next(store.pending()).run_id


# --- what it keeps --------------------------------------------------------------------------------


def test_chunks_become_one_array_in_whatever_order_they_come(tmp_path):
    with Store.open(tmp_path / "s.sqlite", "w") as store:
        store.enter(small())
        run_id = first_run(store)
        for start, stop in ((4, 6), (0, 1), (1, 4)):
            store.record(outcome(run_id, start, stop))
        (sample,) = store.samples()
        assert sample.makespans.tolist() == [1, 2, 3, 4, 5, 6]
        assert sample.bounds.tolist() == [1]
    with sqlite3.connect(tmp_path / "s.sqlite") as db:
        assert db.execute("SELECT count(*) FROM chunks").fetchone() == (0,)
    db.close()


def test_only_the_replications_that_are_missing_are_pending(tmp_path):
    with Store.open(tmp_path / "s.sqlite", "w") as store:
        store.enter(small())
        run_id = first_run(store)
        store.record(outcome(run_id, 2, 4))
        gaps = [(p.start, p.stop) for p in store.pending() if p.run_id == run_id]
        assert gaps == [(0, 2), (4, 6)]
        assert store.state().replications_done == 2


def test_the_error_of_a_failed_run_is_that_of_its_first_failing_replication(tmp_path):
    errors = []
    for order in ((0, 2, 4), (4, 2, 0), (2, 4, 0)):
        with Store.open(":memory:", "w") as store:
            store.enter(small())
            run_id = first_run(store)
            for start in order:
                error = f"at {start}" if start >= 2 else ""
                store.record(outcome(run_id, start, start + 2, error=error))
            errors += [failure.error for failure in store.failed()]
    assert errors == ["at 2"] * 3


def test_what_is_recorded_is_on_disk_after_half_a_second(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "COMMIT_SECONDS", 0.0)
    path = tmp_path / "s.sqlite"
    with Store.open(path, "w") as store:
        store.enter(small())
        store.record(outcome(first_run(store), 0, 6))
        with Store.open(path) as reader:
            assert reader.state().done == 1


def test_the_manifest_says_what_the_runs_were_made_of(tmp_path):
    sweep(small(), tmp_path / "s.sqlite")
    with Store.open(tmp_path / "s.sqlite") as store:
        manifest = store.manifest
    assert Scenario.model_validate_json(manifest["scenario"]) == small()
    assert manifest["scenario_sha256"] == hashlib.sha256(manifest["scenario"].encode()).hexdigest()
    assert manifest["seed"] == 0
    assert {"kdsim", "engine", "python", "numpy", "created"} <= manifest.keys()


def test_the_manifest_has_the_hash_of_the_curve_file(tmp_path):
    curves = "kdsim_curves: 1\nreference_cores: 4\ncompute: {a1: 1.0, a2: 0.25}\n"
    curves += "communication: {b1: 0.3, b2: 0.1, b3: 2.0}\n"
    (tmp_path / "fit.yaml").write_text(curves)
    (tmp_path / "study.yaml").write_text(
        "name: study\ndevice: {cores: 4, curves: fit.yaml}\nreplications: 2\n"
        "workload: {cycles: 3, comm: 1, forward: 1, backward: 1}\n"
    )
    sweep(tmp_path / "study.yaml", tmp_path / "s.sqlite")
    with Store.open(tmp_path / "s.sqlite") as store:
        files = store.manifest["files"]
    assert files == {"fit.yaml": hashlib.sha256(curves.encode()).hexdigest()}


def test_rerun_reproduces_a_run_bit_for_bit(tmp_path):
    path = tmp_path / "s.sqlite"
    table = sweep(small(extensions={"noise": 0.3}), path)
    with Store.open(path) as store:
        for run_id, policy in zip(table["run_id"], table["policy"], strict=True):
            again = store.rerun(run_id[:8])
            assert again.identical
            assert again.policy == policy
            assert again.makespans.size == 6


def test_rerun_says_when_the_stored_numbers_are_others(tmp_path):
    with Store.open(tmp_path / "s.sqlite", "w") as store:
        store.enter(small())
        run_id = first_run(store)
        store.record(outcome(run_id, 0, 6))
        again = store.rerun(run_id)
    assert not again.identical
    assert again.stored.tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("wrong", ["", "zzz"])
def test_rerun_of_an_unknown_id_is_refused(tmp_path, wrong):
    sweep(small(), tmp_path / "s.sqlite")
    with Store.open(tmp_path / "s.sqlite") as store, pytest.raises(StoreError, match="id that beg"):
        store.rerun(wrong)


# --- tables ---------------------------------------------------------------------------------------


def test_the_expanded_table_holds_every_makespan(tmp_path):
    sweep(small(), tmp_path / "s.sqlite")
    with Store.open(tmp_path / "s.sqlite") as store:
        samples, table = store.samples(), store.frame(expand=True)
    assert np.array_equal(table["makespan"], np.concatenate([s.makespans for s in samples]))
    assert list(table.columns)[:3] == ["device.cores", "policy", "replication"]


@pytest.mark.parametrize("expand", [False, True])
def test_csv_and_parquet_hold_the_same_table(tmp_path, expand):
    pytest.importorskip("pyarrow")
    import pandas as pd

    sweep(small(), tmp_path / "s.sqlite")
    with Store.open(tmp_path / "s.sqlite") as store:
        store.export(tmp_path / "t.csv", expand=expand)
        store.export(tmp_path / "t.parquet", expand=expand)
        table = store.frame(expand=expand)
    with (tmp_path / "t.csv").open(newline="") as file:
        one = list(csv.DictReader(file))
    two = pd.read_parquet(tmp_path / "t.parquet")
    for name in table.columns:
        values = table[name].tolist()
        assert two[name].tolist() == values
        assert [row[name] for row in one] == [str(value) for value in values]


def test_a_parquet_table_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    import sys

    sweep(small(), tmp_path / "s.sqlite")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with Store.open(tmp_path / "s.sqlite") as store, pytest.raises(StoreError, match="pip install"):
        store.export(tmp_path / "t.parquet")
    assert list(tmp_path.glob("*t.parquet*")) == []


def test_a_sweep_that_could_not_write_its_parquet_table_does_not_begin(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    wanted = ("--store", tmp_path / "s.sqlite", "-o", tmp_path / "t.parquet")
    answer = call("sweep", "paper-1to1", *wanted)
    assert answer.code == 2
    assert "pip install 'kdsim[parquet]'" in answer.err
    assert not (tmp_path / "s.sqlite").exists()


def test_a_table_of_another_kind_is_refused(tmp_path):
    sweep(small(), tmp_path / "s.sqlite")
    with (
        Store.open(tmp_path / "s.sqlite") as store,
        pytest.raises(StoreError, match=r"\.csv, \.parquet"),
    ):
        store.export(tmp_path / "t.xlsx")


# --- whom it refuses ------------------------------------------------------------------------------


def test_a_store_of_another_scenario_is_refused_field_by_field(tmp_path):
    sweep(small(), tmp_path / "s.sqlite")
    before = (tmp_path / "s.sqlite").read_bytes()
    other = small(workload={"cycles": 4, "comm": 2.0, "forward": 1.0, "backward": 0.5}, seed=7)
    with pytest.raises(StoreError, match=r"(?s)seed: 0, 7.*workload\.comm: 1\.0, 2\.0"):
        sweep(other, tmp_path / "s.sqlite")
    assert (tmp_path / "s.sqlite").read_bytes() == before


def test_what_does_not_change_a_result_is_no_difference():
    more = small(
        name="other", description="more of it", policies=["static:1"], replications=9,
        sweep={"device.cores": [2, 3, 4, 5]},
    )  # fmt: skip
    assert differences(small(), more) == []
    assert differences(small(), small(device={**DEVICE, "cores": 3, "reference_cores": 4})) == []


def test_a_hypercube_of_another_size_is_another_study_but_a_sobol_sequence_goes_on():
    def sampled(method: str, samples: int) -> Scenario:
        return small(
            sweep={"extensions.noise": {"low": 0.0, "high": 0.5}},
            design={"method": method, "samples": samples},
        )

    assert differences(sampled("latin-hypercube", 4), sampled("latin-hypercube", 8))
    assert differences(sampled("sobol", 4), sampled("sobol", 8)) == []
    assert differences(sampled("sobol", 4), sampled("latin-hypercube", 4))


def test_two_writers_at_once_are_refused_but_readers_are_not(tmp_path):
    path = tmp_path / "s.sqlite"
    with Store.open(path, "w") as store:
        store.enter(small())
        with pytest.raises(StoreError, match="another sweep is writing"):
            Store.open(path, "w")
        with Store.open(path) as reader:
            assert reader.state().pending == 9
    Store.open(path, "w").close()


def test_a_foreign_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "address.sqlite"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE people (name TEXT)")
    db.commit()
    db.close()
    before = path.read_bytes()
    for mode in ("r", "w"):
        with pytest.raises(StoreError, match="no kdsim store"):
            Store.open(path, mode)
    assert path.read_bytes() == before


def test_a_store_of_a_newer_kdsim_is_refused(tmp_path):
    path = tmp_path / "s.sqlite"
    Store.open(path, "w").close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    for mode in ("r", "w"):
        with pytest.raises(StoreError, match="newer kdsim"):
            Store.open(path, mode)


def test_runs_of_another_engine_version_are_refused(tmp_path, monkeypatch):
    sweep(small(), tmp_path / "s.sqlite")
    monkeypatch.setattr("kdsim.sweeps.runs.ENGINE_VERSION", 99)
    with pytest.raises(StoreError, match="version 1 of the engine"):
        sweep(small(), tmp_path / "s.sqlite")


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be one " * 40])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "s.sqlite"
    path.write_bytes(content)
    for mode in ("r", "w"):
        with pytest.raises(StoreError, match="not an SQLite file"):
            Store.open(path, mode)
    assert path.read_bytes() == content


def test_a_damaged_store_is_reported_as_such(tmp_path):
    path = tmp_path / "s.sqlite"
    sweep(small(replications=2000), path)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"), Store.open(path) as store:
        store.frame()


def test_a_store_that_does_not_exist_cannot_be_read(tmp_path):
    with pytest.raises(StoreError, match="no such store"):
        Store.open(tmp_path / "s.sqlite")
    with pytest.raises(StoreError, match="does not exist"):
        Store.open(tmp_path / "folder" / "s.sqlite", "w")
    with pytest.raises(StoreError, match="is a folder"):
        Store.open(tmp_path, "w")


# --- the disk ------------------------------------------------------------------------------------


def test_a_full_disk_costs_nothing_that_was_written_before(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "COMMIT_SECONDS", 0.0)
    path = tmp_path / "s.sqlite"
    scenario = small(replications=4000, sweep={"seed": [0, 1, 2, 3]}, policies=["random"])
    connect = sqlite_file.connect

    def small_disk(name: str, mode: str) -> sqlite3.Connection:
        connection = connect(name, mode)
        connection.execute("PRAGMA max_page_count = 40")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_file, "connect", small_disk)
        with pytest.raises(StoreError, match="disk is full"):
            sweep(scenario, path)
    with Store.open(path) as store:
        status = store.state()
    assert 0 < status.done < 4
    table = sweep(scenario, path)
    assert table.equals(sweep(scenario))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into read-only folders")
def test_a_read_only_folder_is_refused_for_writing_and_read(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    sweep(small(), folder / "s.sqlite")
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    try:
        with pytest.raises(StoreError, match="cannot be"):
            sweep(small(replications=7), folder / "s.sqlite")
        with Store.open(folder / "s.sqlite") as store:
            assert store.state().done == 9
    finally:
        folder.chmod(0o755)


def test_a_read_only_database_says_so(tmp_path, monkeypatch):
    path = Path(tmp_path / "s.sqlite")
    sweep(small(), path)
    connect = sqlite_file.connect
    monkeypatch.setattr(sqlite_file, "connect", lambda name, mode: connect(name, "r"))
    with pytest.raises(StoreError, match="read-only"):
        sweep(small(replications=7), path)


@pytest.mark.parametrize("policies", [["nowhere:Mine"], ["gredy"]])
def test_a_sweep_that_is_refused_at_entry_leaves_no_file_behind(tmp_path, policies):
    path = tmp_path / "s.sqlite"
    with pytest.raises(KdsimError):
        sweep("measured", path, policies=policies)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_sweep_leaves_what_was_there(tmp_path):
    path = tmp_path / "s.sqlite"
    sweep("measured", path, policies=["greedy"])
    with Store.open(path) as store:
        before = store.frame()
    with pytest.raises(KdsimError):
        sweep("paper-1to1", path, policies=["greedy"])
    with Store.open(path) as store:
        assert store.frame().equals(before)
    empty = tmp_path / "made-before.sqlite"
    empty.touch()
    with pytest.raises(KdsimError):
        sweep("measured", empty, policies=["nowhere:Mine"])
    assert empty.exists()
