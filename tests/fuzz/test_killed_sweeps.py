"""Sweeps stopped by random signals at random times: continued, they give the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from budget import rounds

from kdsim.sweeps.ledger.store import Store

ROOT = Path(__file__).resolve().parents[2]
STUDY = """\
name: killed
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
SMALL_TASKS = (
    "import kdsim.sweeps.chunker as c; c.MAX_PIECES = 1; from kdsim.cli import main; main()"
)
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def start(folder: Path, workers: int) -> subprocess.Popen:
    arguments = ["sweep", "study.yaml", "--store", "s.sqlite", "--workers", str(workers)]
    return subprocess.Popen(
        [sys.executable, "-c", SMALL_TASKS, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def stopped(process: subprocess.Popen, after: float, number: int, *, paused: bool) -> None:
    """Let a sweep run for some seconds, then pause it or not, then end it by a signal."""
    try:
        process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        if paused:
            os.killpg(process.pid, signal.SIGSTOP)
            os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, number)
        process.communicate(timeout=60)


def finished(folder: Path) -> bytes:
    process = start(folder, 0)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    with Store.open(folder / "s.sqlite") as store:
        assert not store.state().is_partial
        store.export(folder / "t.csv", expand=True)
    assert {path.name for path in folder.iterdir()} == {"study.yaml", "s.sqlite", "t.csv"}
    return (folder / "t.csv").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "study.yaml").write_text(STUDY)
    return finished(folder)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", rounds(1, 60))
def test_a_sweep_that_is_killed_again_and_again_ends_with_the_same_bytes(
    tmp_path, uninterrupted, seeds
):
    for seed in seeds:
        choose = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "study.yaml").write_text(STUDY)
        for _ in range(choose.randint(1, 4)):
            process = start(folder, choose.choice([0, 0, 2]))
            stopped(
                process,
                choose.uniform(0.3, 3),
                choose.choice(SIGNALS),
                paused=choose.random() < 0.3,
            )
        assert finished(folder) == uninterrupted, f"seed {seed}"
