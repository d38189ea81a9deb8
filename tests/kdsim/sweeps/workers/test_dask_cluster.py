"""A sweep on a dask cluster: the same table, whatever happens to its workers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from swept import assert_only_three_cores_failed, small

from kdsim.api import sweep
from kdsim.errors import SweepError
from kdsim.sweeps.driver import run_pending
from kdsim.sweeps.ledger.store import Store

ROOT = Path(__file__).resolve().parents[4]
NOISY = {"extensions": {"noise": 0.2}}


@contextmanager
def dask_cluster(folder: Path, workers: int) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """Start the real commands; yield the scheduler file and the workers."""
    pytest.importorskip("distributed")
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    quiet = {"env": env, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    where = ["--scheduler-file", str(file)]
    local = ["--host", "127.0.0.1", "--no-dashboard"]
    processes = [subprocess.Popen([*dask, "scheduler", "--port", "0", *local, *where], **quiet)]
    processes += [
        subprocess.Popen([*dask, "worker", "--nthreads", "1", *local, *where], **quiet)
        for _ in range(workers)
    ]
    try:
        end = time.monotonic() + 60
        while not file.exists() or not file.read_text():
            assert time.monotonic() < end, "no scheduler"
            threading.Event().wait(0.05)
        yield str(file), processes[1:]
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=15)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_cluster_gives_the_same_table_and_survives_poison_and_loss(own_policies, tmp_path):
    from kdsim.sweeps.workers.dask_cluster import Cluster

    names = ["random", f"{own_policies}:Half", f"{own_policies}:Exits", "optimal"]
    with dask_cluster(tmp_path, 2) as (address, workers):
        table = sweep(small(**NOISY), cluster=address, policies=names)
        assert_only_three_cores_failed(table, names[2], "every worker that ran it died")
        local = sweep(small(**NOISY), workers=2, policies=names)
        assert table.drop(columns="error").equals(local.drop(columns="error"))
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(timeout=30)
        with Store.open(":memory:", "w") as store:
            store.enter(small(**NOISY))
            team = Cluster(address, patience_s=2.0)
            try:
                with pytest.raises(SweepError, match="has had no worker for"):
                    run_pending(store, team)
            finally:
                team.close()


def test_a_cluster_that_is_not_there_is_reported(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("kdsim.sweeps.workers.dask_cluster._CONNECT_SECONDS", 0.5)
    with pytest.raises(SweepError, match="no dask scheduler answers"):
        sweep(small(**NOISY), cluster="tcp://127.0.0.1:9")


def test_without_dask_a_cluster_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SweepError, match=r"kdsim\[cluster\]"):
        sweep(small(**NOISY), cluster="tcp://127.0.0.1:9")
