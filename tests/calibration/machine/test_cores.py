from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from calibration.machine import cores as device
from kdsim.errors import WorkloadError


def test_a_core_count_that_does_not_exist_is_refused_with_what_there_is():
    there = len(device.available_cores())
    for wanted in (0, -1, there + 1, 10_000):
        with pytest.raises(WorkloadError, match=f"this device has {there} available core"):
            device.take_cores(wanted)
    assert device.take_cores(None) == device.available_cores()
    assert len(device.take_cores(1)) == 1


def test_a_split_gives_every_core_to_one_side_only():
    cores = (3, 5, 7, 9)
    for c in range(5):
        comm, comp = device.split_cores(cores, c)
        assert len(comm) == c
        assert comm + comp == cores
    with pytest.raises(WorkloadError, match=r"must lie in 0\.\.4"):
        device.split_cores(cores, 5)


def test_pinning_reaches_the_process_and_a_core_that_is_not_there_is_refused():
    core = device.available_cores()[-1]
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        device.pin_process(child.pid, [core])
        assert os.sched_getaffinity(child.pid) == {core}
        with pytest.raises(WorkloadError, match="cannot pin process"):
            device.pin_process(child.pid, [100_000])
    finally:
        child.communicate(b"\n", timeout=10)
    device.pin_process(child.pid, [core])  # gone: its waiter's business, not an error


def test_a_team_s_threads_get_a_core_each_in_order():
    cores = device.available_cores()
    mine = os.sched_getaffinity(0)
    try:
        device.pin_process(os.getpid(), cores, team=[os.getpid()])
        assert os.sched_getaffinity(os.getpid()) == {cores[0]}
    finally:
        device.pin_process(os.getpid(), sorted(mine))


def test_the_measurement_environment_is_put_back(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    with device.measurement_environment():
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
        assert os.environ["MALLOC_ARENA_MAX"] == "2"
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    assert "MALLOC_ARENA_MAX" not in os.environ


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
