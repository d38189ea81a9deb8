"""A user's sweep is killed, again and again, and the table is the same in the end."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from kdsim.cli.group import cli
from kdsim.sweeps.ledger.store import Store

ROOT = Path(__file__).resolve().parents[2]
STUDY = """\
name: survivor
device:
  cores: 4
  compute: {a1: 1.0, a2: 0.25}
  communication: {b1: 0.3, b2: 0.1, b3: 2.0}
workload: {cycles: 10, comm: 1.0, forward: 1.0, backward: 0.5}
policies: [random, greedy, optimal]
replications: 60
extensions: {noise: 0.2}
sweep: {device.cores: [2, 3, 4], seed: [0, 1, 2]}
"""
COMMAND = [sys.executable, "-m", "kdsim", "sweep", "study.yaml", "--store", "s.sqlite"]
#: As the command line, but each task holds one run or part of one.
SMALL_TASKS = (
    "import kdsim.sweeps.chunker; kdsim.sweeps.chunker.MAX_PIECES = 1;"
    "from kdsim.cli.group import main; main()"
)
#: And each says that it has run.
NOTED = """
import sys
import kdsim.sweeps.chunker, kdsim.sweeps.driver
from kdsim.cli.group import main
kdsim.sweeps.chunker.MAX_PIECES = 1
run = kdsim.sweeps.driver.execute
def noted(task):
    outcomes = run(task)
    with open("played.txt", "a") as file:
        for piece in task.pieces:
            file.write(f"{piece.run_id} {piece.start} {piece.stop}\\n")
    return outcomes
kdsim.sweeps.driver.execute = noted
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Return the exported table of a sweep that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "study.yaml").write_text(STUDY)
    run(COMMAND, folder)
    return exported(folder)


def run(command: list[str], folder: Path, *, after: float | None = None) -> int:
    """Run a command to its end, or kill it after some seconds."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, errors = process.communicate(timeout=after or 120)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate(timeout=30)
    assert process.returncode in (0, -9), errors
    return process.returncode


def exported(folder: Path) -> bytes:
    with Store.open(folder / "s.sqlite") as store:
        assert store.state().pending == 0
        store.export(folder / "t.csv", expand=True)
        store.export(folder / "s.csv")
    return (folder / "t.csv").read_bytes() + (folder / "s.csv").read_bytes()


def kill_at_progress(folder: Path, command: list[str], runs: int) -> bool:
    """Kill a sweep as soon as so many runs are in its store; tell whether it was in time."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    try:
        while process.poll() is None and time.monotonic() < end:
            if done(folder) >= runs:
                break
            threading.Event().wait(0.002)
    finally:
        process.kill()
        process.wait(timeout=30)
    return process.returncode == -9


def done(folder: Path) -> int:
    if not (folder / "s.sqlite").exists():
        return -1
    db = sqlite3.connect(f"file:{folder / 's.sqlite'}?mode=ro", uri=True, timeout=5)
    try:
        return int(db.execute("SELECT count(*) FROM runs WHERE status = 'done'").fetchone()[0])
    except sqlite3.OperationalError:  # killed before its tables were there
        return -1
    finally:
        db.close()


@pytest.mark.parametrize(
    "seed",
    [0, *(pytest.param(n, marks=[pytest.mark.slow, pytest.mark.endurance]) for n in range(1, 20))],
)
@pytest.mark.parametrize("workers", [[], ["--workers", "2"]], ids=["alone", "workers"])
def test_a_killed_sweep_goes_on_and_ends_with_the_same_bytes(
    tmp_path, uninterrupted, seed, workers
):
    if workers and seed % 5:
        pytest.skip("with workers every fifth time: starting them takes most of it")
    generator = random.Random(seed)
    (tmp_path / "study.yaml").write_text(STUDY)
    for _ in range(3):
        run([*COMMAND, *workers], tmp_path, after=generator.uniform(0.2, 1.3))
    run([*COMMAND, *workers], tmp_path)
    assert exported(tmp_path) == uninterrupted


def test_a_killed_sweep_plays_exactly_what_is_missing(tmp_path, uninterrupted):
    (tmp_path / "study.yaml").write_text(STUDY)
    command = [sys.executable, "-c", NOTED, *COMMAND[3:]]
    kill_at_progress(tmp_path, command, 1)
    stored = finished_pieces(tmp_path)
    (tmp_path / "played.txt").write_text("")
    run(command, tmp_path)
    lines = [line.split() for line in (tmp_path / "played.txt").read_text().splitlines()]
    played = [(name, i) for name, a, b in lines for i in range(int(a), int(b))]
    with Store.open(tmp_path / "s.sqlite") as store:
        wanted = {
            (run_id, i) for run_id, sample in store.iterate() for i in range(sample.makespans.size)
        }
    assert len(played) == len(set(played))
    assert set(played) == wanted - stored
    assert exported(tmp_path) == uninterrupted


def finished_pieces(folder: Path) -> set[tuple[str, int]]:
    with Store.open(folder / "s.sqlite") as store, store._db as db:
        runs = db.execute("SELECT run_id, 0, n FROM runs WHERE status = 'done'").fetchall()
        chunks = db.execute("SELECT run_id, start, stop FROM chunks").fetchall()
    return {(name, i) for name, a, b in runs + chunks for i in range(a, b)}


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]], ids=["alone", "workers"])
def test_ctrl_c_says_so_and_the_sweep_goes_on(tmp_path, uninterrupted, workers):
    (tmp_path / "study.yaml").write_text(STUDY)
    process = subprocess.Popen(
        [sys.executable, "-c", SMALL_TASKS, *COMMAND[3:], *workers],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while done(tmp_path) < 1 and process.poll() is None and time.monotonic() < end:
        threading.Event().wait(0.002)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "kdsim: interrupted"
    assert "Traceback" not in errors
    assert 0 < done(tmp_path) < 27
    run([*COMMAND, *workers], tmp_path)
    assert exported(tmp_path) == uninterrupted


# --- the commands ---------------------------------------------------------------------------------


def kdsim(*arguments: str) -> str:
    result = CliRunner().invoke(cli, [*arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_from_a_scenario_to_a_table_and_back_to_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(STUDY)
    data = json.loads(kdsim("sweep", "study.yaml", "-s", "s.sqlite", "-o", "t.csv", "--json"))
    assert (data["done"], data["failed"], data["pending"]) == (27, 0, 0)
    assert Path("t.csv").read_text() == kdsim("export", "s.sqlite")
    row = data["rows"][3]
    again = json.loads(kdsim("rerun", "s.sqlite", row["run_id"], "--json"))
    assert again["identical"]
    assert sum(again["makespans"]) / again["n"] == pytest.approx(row["mean"], rel=1e-12)
    differences = kdsim("export", "s.sqlite", "--against", "optimal").splitlines()
    assert differences[0].startswith("device.cores,seed,policy,reference,mean,ci_low")
    assert len(differences) == 1 + 18


def test_changed_fields_and_more_policies_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(STUDY)
    line = ("sweep", "study.yaml", "--json", "-n", "2", "--set", "device.cores=3")
    data = json.loads(kdsim(*line, "-p", "greedy", "-p", "static:1"))
    assert [row["policy"] for row in data["rows"]] == ["greedy", "static:1"] * 3
    assert {row["n"] for row in data["rows"]} == {2}


def test_failed_runs_make_the_command_fail_with_their_errors(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    result = subprocess.run(
        [*COMMAND, "-n", "2", "-p", "static:3"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert "3 of the runs failed" in result.stderr
    assert "static:3 at device.cores = 2, seed = 0: policy static:3 asks for 3" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        ["export", "nothing.sqlite"],
        ["rerun", "nothing.sqlite", "abc"],
        ["sweep", "study.yaml", "-o", "t.xlsx"],
        ["sweep", "study.yaml", "-o", "nowhere/t.csv"],
        ["sweep", "study.yaml", "-s", "study.yaml"],
        ["sweep", "study.yaml", "-p", "gredy"],
    ],
    ids=lambda line: " ".join(line[:1] + line[-1:]),
)
def test_bad_input_is_one_clear_line_and_status_2(tmp_path, monkeypatch, capsys, line):
    from kdsim.cli.group import main

    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(STUDY)
    with pytest.raises(SystemExit) as stop:
        main(line)
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("kdsim: ")
    assert len(errors.splitlines()) == 1
