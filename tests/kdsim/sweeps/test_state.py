"""How far a study is, and what its tables say of runs without a result."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sqlite3
import sys

import numpy as np
import pytest
from front_door import call
from swept import small

from kdsim.api import sweep
from kdsim.sweeps.ledger.records import FailureReason
from kdsim.sweeps.ledger.store import Store
from kdsim.sweeps.task import Outcome

CRASHES = """
from kdsim import Decision, Policy

class Crash(Policy):
    name = "crash"
    def decide(self, state):
        raise ValueError("no idea")
"""


@pytest.fixture
def partial(tmp_path):
    """Return a store with a done run, one under way, a failed one, and six pending ones."""
    path = tmp_path / "s.sqlite"
    with Store.open(path, "w") as store:
        store.enter(small())
        pieces = list(store.pending())
        done, half, failed = (piece.run_id for piece in pieces[:3])
        store.record(Outcome(done, 0, 6, np.arange(6) + 1.0, np.ones(1), "", 0.1))
        store.record(Outcome(half, 0, 1, np.ones(1), np.ones(1), "", 0.1))
        store.record(Outcome(failed, 0, 1, np.zeros(0), np.zeros(0), "ValueError: no", 0.1))
    return path


@pytest.fixture
def crash(tmp_path, monkeypatch):
    """Return the name of a policy that fails in every state."""
    name = f"crash_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(CRASHES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield f"{name}:Crash"
    sys.modules.pop(name, None)


def test_the_state_counts_runs_and_says_why_some_failed(partial):
    with Store.open(partial) as store:
        state = store.state()
    assert (state.total, state.done, state.pending, state.failed) == (9, 2, 6, 1)
    assert str(state) == "2 of 9 runs done, 6 pending, 1 failed"
    assert state.is_partial
    assert not state.writing
    assert state.reasons == (FailureReason("optimal", "ValueError: no", 1, everywhere=True),)
    # greedy and optimal run once at a point, random six times.
    assert (state.replications_done, state.replications) == (7, 7 + 2 * 6 + 2 + 2)


def test_a_finished_study_is_not_partial(tmp_path):
    sweep(small(), tmp_path / "s.sqlite")
    with Store.open(tmp_path / "s.sqlite") as store:
        state = store.state()
    assert not state.is_partial
    assert state.notes == ()
    assert state.rate > 0
    assert state.seconds_left == 0


def test_a_policy_that_failed_everywhere_is_in_the_state_and_in_the_tables(tmp_path, crash):
    table = sweep(small(), tmp_path / "s.sqlite", policies=["random", crash])
    failed = table[table["policy"] == crash]
    assert failed["status"].tolist() == ["failed"] * 3
    with Store.open(tmp_path / "s.sqlite") as store:
        (reason,) = store.state().reasons
        expanded = store.frame(expand=True)
        missing = store.missing()
    assert (reason.policy, reason.runs, reason.everywhere) == (crash, 3, True)
    assert "no idea" in reason.error
    assert [run.point for run in missing] == [{"device.cores": n} for n in (2, 3, 4)]
    rows = expanded[expanded["policy"] == crash]
    assert rows["status"].tolist() == ["failed"] * 3
    assert rows[["replication", "makespan", "bound", "gap"]].isna().all(axis=None)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("expand", [False, True])
def test_tables_mark_what_has_no_result(partial, suffix, expand):
    target = partial.with_suffix(f".{suffix}")
    with Store.open(partial) as store:
        store.export(target, expand=expand)
    if suffix == "csv":
        with target.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = [
            {name: "" if value is None else str(value) for name, value in row.items()}
            for row in parquet.read_table(target).to_pylist()
        ]
    value = "makespan" if expand else "mean"
    assert [row["status"] for row in rows if not row[value]] == ["failed", *["pending"] * 6]
    assert [row["status"] for row in rows if row[value]] == ["done"] * (7 if expand else 2)
    assert [row["policy"] for row in rows][-1] == "optimal"


def test_export_says_that_the_study_is_partial(partial):
    answer = call("export", partial)
    assert answer.code == 0
    assert answer.err == "partial: 2 of 9 runs done, 6 pending, 1 failed\n"
    data = json.loads(call("export", partial, "--json").out)
    assert (data["done"], data["pending"], data["failed"]) == (2, 6, 1)
    assert len(data["rows"]) == 9


def test_status_in_words_and_for_machines(partial):
    answer = call("status", partial)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines() == [
        f"{partial}: small, 2 of 9 runs done, 6 pending, 1 failed",
        "replications: 7 of 23, failed runs left out",
        "no sweep is running; the command that began it continues it",
        "failed (`kdsim sweep` with --retry runs them again):",
        "  optimal: 1 run failed, and no run of it is done: ValueError: no",
    ]
    data = json.loads(call("status", partial, "--json").out)
    assert (data["scenario"], data["total"], data["pending"]) == ("small", 9, 6)
    assert data["reasons"] == [
        {"policy": "optimal", "error": "ValueError: no", "runs": 1, "everywhere": True}
    ]
    assert data["rate"] is None


def test_status_of_what_is_no_store_is_bad_input(tmp_path):
    answer = call("status", tmp_path / "none.sqlite")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"kdsim: {tmp_path / 'none.sqlite'}: no such store\n"
    Store.open(tmp_path / "empty.sqlite", "w").close()
    answer = call("status", tmp_path / "empty.sqlite")
    assert (answer.code, "is empty" in answer.out) == (0, True)


def test_a_sweep_under_way_is_seen_by_readers(tmp_path):
    path = tmp_path / "s.sqlite"
    seen = []

    def look(done: int, total: int) -> None:
        with Store.open(path) as reader:
            seen.append(reader.state().writing)

    sweep(small(), path, progress=look)
    assert seen
    assert all(seen)
    with Store.open(path) as store:
        assert not store.state().writing


def test_a_copy_without_its_log_is_noticed(tmp_path):
    path, copy = tmp_path / "s.sqlite", tmp_path / "copy.sqlite"
    with Store.open(path, "w") as store:
        store.enter(small())
        with store.session():
            run = next(store.pending()).run_id
            store.record(Outcome(run, 0, 6, np.ones(6), np.ones(1), "", 0.1))
            store.commit()
            shutil.copy(path, copy)
    with Store.open(copy) as store:
        state = store.state()
    assert state.done == 0
    (note,) = state.notes
    assert "copy.sqlite-wal" in note
    assert "the same sweep makes them again" in note
    assert f"note: {note}" in call("export", copy).err
    with Store.open(path) as store:  # the sweep itself ended in order
        assert store.state().notes == ()


def test_what_is_in_the_log_reaches_the_file_regularly(tmp_path, monkeypatch):
    monkeypatch.setattr("kdsim.sweeps.ledger.store.CHECKPOINT_SECONDS", 0.0)
    path, copy = tmp_path / "s.sqlite", tmp_path / "copy.sqlite"
    with Store.open(path, "w") as store:
        store.enter(small())
        run = next(store.pending()).run_id
        store.record(Outcome(run, 0, 6, np.ones(6), np.ones(1), "", 0.1))
        store.commit()
        shutil.copy(path, copy)
    with Store.open(copy) as store:
        assert store.state().done == 1


def test_interrupting_says_what_is_saved_and_how_to_continue(tmp_path, monkeypatch):
    (tmp_path / "study.yaml").write_text(
        "name: study\ndevice: {cores: 4, compute: {a1: 1, a2: 0.25}, "
        "communication: {b1: 0.3, b2: 0.1, b3: 2}}\n"
        "workload: {cycles: 4, comm: 1, forward: 1, backward: 1}\nreplications: 3\n"
        "sweep: {seed: [0, 1]}\n"
    )
    from kdsim.sweeps import driver

    run, calls = driver.execute, []

    def interrupted(task):
        calls.append(task)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(task)

    monkeypatch.setattr(driver, "execute", interrupted)
    monkeypatch.setattr("kdsim.sweeps.chunker.MAX_PIECES", 1)
    path = tmp_path / "s.sqlite"
    answer = call("sweep", tmp_path / "study.yaml", "--store", path)
    assert answer.code == 130
    assert [line for line in answer.err.splitlines() if line] == [
        f"kdsim: saved 2 of 10 runs in {path}; the same command continues",
        "kdsim: interrupted",
    ]
    calls.clear()
    answer = call("sweep", tmp_path / "study.yaml")
    assert answer.err.splitlines()[0] == (
        "kdsim: nothing is saved; with --store FILE every result is kept as it completes"
    )


def test_no_file_is_left_beside_a_store(tmp_path):
    sweep(small(), tmp_path / "s.sqlite")
    assert [path.name for path in tmp_path.iterdir()] == ["s.sqlite"]


# --- stores of kdsim 0.1 --------------------------------------------------------------------------


@pytest.fixture
def old_store(tmp_path, request):
    path = tmp_path / "old.sqlite"
    db = sqlite3.connect(path)
    db.executescript((request.path.parent / "ledger" / "store_of_kdsim_0_1.sql").read_text())
    db.close()
    return path


def makespans(path, target) -> list[list[str]]:
    with Store.open(path) as store:
        store.export(target, expand=True)
    with target.open(newline="") as file:
        return [row[:4] for row in csv.reader(file)]


def test_a_store_of_kdsim_0_1_is_read_and_left_as_it_is(tmp_path, old_store, request):
    before = old_store.read_bytes()
    expected = (request.path.parent / "ledger" / "store_of_kdsim_0_1.csv").read_text().splitlines()
    found = makespans(old_store, tmp_path / "t.csv")
    assert [",".join(row) for row in found] == expected
    assert old_store.read_bytes() == before
    assert call("status", old_store).out.splitlines()[0].endswith("small, 4 of 4 runs done")


def test_a_store_of_kdsim_0_1_gets_its_checksums_when_it_is_written(tmp_path, old_store):
    before = makespans(old_store, tmp_path / "before.csv")
    Store.open(old_store, "w").close()
    assert makespans(old_store, tmp_path / "after.csv") == before
    db = sqlite3.connect(old_store)
    assert db.execute("SELECT count(*) FROM runs WHERE checksum IS NULL").fetchone() == (0,)
    db.close()


@pytest.mark.parametrize(
    "change",
    [
        "makespans = zeroblob(length(makespans))",
        "makespans = NULL",
        "bounds = x'ff'",
        "point = '{'",
        "n = 2",
        "status = 'nearly'",
    ],
)
def test_damage_in_a_store_of_kdsim_0_1_is_seen_where_no_run_can_be_like_that(old_store, change):
    db = sqlite3.connect(old_store)
    db.execute("PRAGMA ignore_check_constraints = ON")
    db.execute(f"UPDATE runs SET {change} WHERE rowid = 1")
    db.commit()
    db.close()
    for arguments in (("export", old_store), ("export", old_store, "--expand")):
        answer = call(*arguments)
        assert answer.code == 2
        assert answer.err.startswith(f"kdsim: {old_store}: is damaged")


# --- long runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_long_runs_are_exported_in_blocks_as_if_in_one_piece(tmp_path, monkeypatch, noise):
    path = tmp_path / "s.sqlite"
    sweep(small(extensions={"noise": noise}), path)
    written = {}
    for size in (2**16, 4, 1):
        monkeypatch.setattr("kdsim.sweeps.ledger.reading.BLOCK_ROWS", size)
        with Store.open(path) as store:
            store.export(tmp_path / "t.csv", expand=True)
            written[size] = (tmp_path / "t.csv").read_bytes()
            assert len(store.frame(expand=True)) == written[size].count(b"\n") - 1
    assert written[4] == written[1] == written[2**16]


def test_damage_in_a_long_run_is_seen_before_its_first_row_is_written(tmp_path, monkeypatch):
    path = tmp_path / "s.sqlite"
    sweep(small(policies=["random"], extensions={"noise": 0.3}), path)
    db = sqlite3.connect(path)
    (blob,) = db.execute("SELECT makespans FROM runs WHERE rowid = 1").fetchone()
    db.execute("UPDATE runs SET makespans = ? WHERE rowid = 1", (blob[:-8] + blob[:8],))
    db.commit()
    db.close()
    monkeypatch.setattr("kdsim.sweeps.ledger.reading.BLOCK_ROWS", 2)
    answer = call("export", path, "--expand")
    assert answer.code == 2
    assert answer.out.splitlines() in ([], ["device.cores,policy,replication,makespan,bound,gap,"
                                            "marks,status"])  # fmt: skip
    assert "its makespans are not what was written" in answer.err


def test_the_hashes_of_a_scenarios_files_are_kept_whatever_is_changed(tmp_path):
    curves = (
        "kdsim_curves: 1\nreference_cores: 4\ncompute: {a1: 1.0, a2: 0.25}\n"
        "communication: {b1: 0.3, b2: 0.1, b3: 2.0}\n"
    )
    (tmp_path / "fit.yaml").write_text(curves)
    (tmp_path / "study.yaml").write_text(
        "name: study\ndevice: {cores: 4, curves: fit.yaml}\nreplications: 2\n"
        "workload: {cycles: 3, comm: 1, forward: 1, backward: 1}\n"
    )
    digest = hashlib.sha256(curves.encode()).hexdigest()
    for number, more in enumerate(
        ([], ["--set", "seed=3"], ["-n", "3"], ["--sweep", "device.cores=2,3"])
    ):
        path = tmp_path / f"{number}.sqlite"
        assert call("sweep", tmp_path / "study.yaml", "-s", path, *more).code == 0
        with Store.open(path) as store:
            assert store.manifest["files"] == {"fit.yaml": digest}
