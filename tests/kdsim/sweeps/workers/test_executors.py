"""Workers that die, hang or vanish: what a sweep makes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from swept import assert_only_three_cores_failed, small

from kdsim.api import sweep
from kdsim.errors import SweepError
from kdsim.sweeps import driver as sweeps
from kdsim.sweeps.driver import run_pending
from kdsim.sweeps.ledger.store import Store
from kdsim.sweeps.workers.executors import (
    InProcess,
    RunningClock,
    TookTooLongError,
    WorkerLostError,
)
from kdsim.sweeps.workers.worker_processes import Processes

ROOT = Path(__file__).resolve().parents[4]
NOISY = {"extensions": {"noise": 0.2}}
# --- the pool -------------------------------------------------------------------------------------


def test_a_dead_worker_costs_its_own_task_only():
    with Processes(2) as pool:
        others = [pool.submit(abs, -n) for n in range(10)]
        dead = pool.submit(os._exit, 7)
        more = [pool.submit(abs, -n) for n in range(10)]
        with pytest.raises(WorkerLostError, match="exit status 7"):
            dead.result(timeout=60)
        assert [f.result(timeout=60) for f in others + more] == 2 * list(range(10))


def test_a_task_that_takes_too_long_is_ended():
    with Processes(1) as pool:
        stuck = pool.submit(time.sleep, 1000)
        end = time.monotonic() + 60
        while not stuck.done() and time.monotonic() < end:
            pool.end_overdue(0.2)
            threading.Event().wait(0.02)
        with pytest.raises(TookTooLongError):
            stuck.result(timeout=0)
        assert pool.submit(abs, -1).result(timeout=60) == 1


def test_an_ordinary_error_is_handed_on():
    with Processes(1) as pool, pytest.raises(ValueError, match="invalid literal"):
        pool.submit(int, "x").result(timeout=60)


def test_workers_that_cannot_start_end_the_sweep(monkeypatch):
    monkeypatch.setattr("kdsim.sweeps.workers.worker_processes._begin_worker", os._exit)
    with Store.open(":memory:", "w") as store:
        store.enter(small(**NOISY))
        team = Processes(1)
        try:
            with pytest.raises(SweepError, match="no worker process can be started"):
                run_pending(store, team)
        finally:
            team.close()


def test_workers_end_with_a_driver_that_was_killed(tmp_path):
    script = (
        "from kdsim.sweeps.workers.worker_processes import Processes\n"
        "import os, time\n"
        "pool = Processes(2)\n"
        "for _ in range(2): pool.submit(time.sleep, 1000)\n"
        "pids = set()\n"
        "while len(pool.pids()) < 2: time.sleep(0.02)\n"
        "print(*pool.pids(), flush=True)\n"
        "time.sleep(1000)\n"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert driver.stdout is not None
        pids = [int(pid) for pid in driver.stdout.readline().split()]
        assert len(pids) == 2
    finally:
        driver.kill()
        driver.wait(timeout=30)
        driver.stdout.close()
    end = time.monotonic() + 30
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < end, "orphans"
        threading.Event().wait(0.02)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# --- sweeps ---------------------------------------------------------------------------------------


def test_one_process_two_processes_and_threads_give_identical_tables(tmp_path):
    tables = []
    for name, where in (("one", {}), ("two", {"workers": 2})):
        sweep(small(**NOISY), tmp_path / name, **where)
        with Store.open(tmp_path / name) as store:
            store.export(tmp_path / f"{name}.csv", expand=True)
        tables.append((tmp_path / f"{name}.csv").read_bytes())
    with ThreadPoolExecutor(3) as executor:
        sweep(small(**NOISY), tmp_path / "three", executor)
    with Store.open(tmp_path / "three") as store:
        store.export(tmp_path / "three.csv", expand=True)
    assert tables[0] == tables[1] == (tmp_path / "three.csv").read_bytes()


@pytest.mark.parametrize(
    ("policy", "error"), [("Exits", "exit status 7"), ("Killed", "SIGKILL")], ids=["exit", "kill"]
)
def test_a_poison_policy_is_found_and_harms_no_other(own_policies, policy, error):
    name = f"{own_policies}:{policy}"
    table = sweep(small(**NOISY), workers=2, policies=["random", name, "optimal"])
    assert_only_three_cores_failed(table, name, error)
    sound = sweep(small(**NOISY), policies=["random", f"{own_policies}:Half", "optimal"])
    ours, theirs = table[table["status"] == "done"], sound[table["status"] == "done"]
    assert ours["mean"].tolist() == theirs["mean"].tolist()


def test_a_policy_that_hangs_is_given_up(own_policies):
    name = f"{own_policies}:Hangs"
    table = sweep(small(**NOISY), workers=2, policies=["random", name], task_timeout_s=2.0)
    assert_only_three_cores_failed(table, name, "took longer than 2 s")


@pytest.mark.parametrize(
    "repeat",
    [0, *(pytest.param(n, marks=[pytest.mark.slow, pytest.mark.endurance]) for n in range(1, 20))],
)
def test_workers_killed_in_mid_sweep_cost_nothing(monkeypatch, own_policies, repeat):
    """Kill a worker from outside whenever one is seen, a few times, with a poison among it all."""
    monkeypatch.setattr("kdsim.sweeps.chunker.MAX_PIECES", 1)
    poison = f"{own_policies}:Exits"
    study = small(**NOISY, replications=30, policies=["random", "greedy", poison, "optimal"])
    kills: list[int] = []
    with Store.open(":memory:", "w") as store:
        store.enter(study)
        team = Processes(2)

        def kill_one(done: int, total: int) -> None:
            pids = team.pids()
            if pids and len(kills) < 4:
                kills.append(pids[(len(kills) + repeat) % len(pids)])
                os.kill(kills[-1], signal.SIGKILL)

        try:
            run_pending(store, team, progress=kill_one)
        finally:
            team.close()
        table = store.frame()
    assert len(kills) == 4
    assert_only_three_cores_failed(table, poison, "exit status 7")
    sound = sweep(study, policies=["random", "greedy", "optimal"])
    ours = table[table["policy"] != poison].reset_index(drop=True)
    assert ours.equals(sound)


def test_a_suspect_runs_alone_where_workers_are_shared():
    """A team whose worker, with all that runs on it, dies whenever seed 3 is among it."""

    class Shared(InProcess):
        one_task_per_worker = False

        def __init__(self) -> None:
            self.flights: list = []

        def capacity(self) -> int:
            return 3

        def check(self) -> None:
            assert self.flights, "nothing is in flight, and yet the sweep waits"
            bad = any(p.point == '{"seed": 3}' for _, task in self.flights for p in task.pieces)
            for future, task in self.flights:
                if bad:
                    future.set_exception(WorkerLostError("its worker died"))
                else:
                    future.set_result(sweeps.execute(task))
            self.flights.clear()

        def submit(self, function, task):
            from concurrent.futures import Future

            self.flights.append((Future(), task))
            return self.flights[-1][0]

    study = small(**NOISY, sweep={"seed": [1, 2, 3, 4, 5]}, policies=["random"])
    with Store.open(":memory:", "w") as store:
        store.enter(study)
        run_pending(store, Shared())
        table = store.frame()
    assert table["status"].tolist() == ["done", "done", "failed", "done", "done"]


def test_only_one_place_to_run_is_accepted():
    with pytest.raises(SweepError, match="one of executor"):
        sweep(small(**NOISY), workers=2, cluster="tcp://127.0.0.1:1")
    with pytest.raises(SweepError, match="at least 1"):
        Processes(0)


# --- time -----------------------------------------------------------------------------------------


def test_a_clock_of_running_time_leaves_out_a_long_stop(monkeypatch):
    times = iter([100.0, 100.5, 101.0, 4000.0, 4000.25])
    monkeypatch.setattr("kdsim.sweeps.workers.executors.time.monotonic", lambda: next(times))
    clock = RunningClock(longest_step_s=2.0)
    assert [clock.now() for _ in range(4)] == [0.5, 1.0, 3.0, 3.25]


def test_a_sweep_that_was_stopped_blames_no_run(monkeypatch, own_policies):
    """The time between two looks of the driver jumps by an hour, as after Ctrl-Z."""
    jumps = [0.0]
    real = time.monotonic
    monkeypatch.setattr("kdsim.sweeps.workers.executors.time.monotonic", lambda: real() + jumps[0])

    def stop(done: int, total: int) -> None:
        jumps[0] += 3600.0

    monkeypatch.setattr("kdsim.sweeps.chunker.MAX_PIECES", 1)
    table = sweep(small(**NOISY), workers=1, task_timeout_s=60.0, progress=stop)
    assert table["status"].tolist() == ["done"] * 9


# --- workers with other code ----------------------------------------------------------------------


def test_a_worker_with_other_source_of_the_same_version_ends_the_sweep(monkeypatch):
    run = sweeps.execute

    def elsewhere(task):
        with monkeypatch.context() as patch:
            patch.setattr("kdsim.sweeps.task.package_digest", lambda: "other")
            return run(task)

    monkeypatch.setattr(sweeps, "execute", elsewhere)
    with pytest.raises(SweepError, match="other source of kdsim"):
        sweep(small(**NOISY))


def test_a_worker_with_other_code_of_a_policy_fails_its_runs(own_policies, tmp_path):
    """Another process, which finds another module under the same name."""
    name = f"{own_policies}:Half"
    with Store.open(":memory:", "w") as store:
        store.enter(small(**NOISY, policies=[name, "greedy"]))
        source = tmp_path / f"{own_policies}.py"
        source.write_text(source.read_text().replace("total_cores // 2", "total_cores // 3"))
        team = Processes(1)
        try:
            run_pending(store, team)
        finally:
            team.close()
        table = store.frame()
    assert table["status"].tolist() == ["failed", "done"] * 3
    assert "another version of its code" in table["error"].iloc[0]
