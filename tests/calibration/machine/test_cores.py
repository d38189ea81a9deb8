from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from calibration.machine import cores as device
from calibration.machine import shares
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


def test_the_fingerprint_tells_what_a_reader_of_the_trace_needs():
    told = device.fingerprint()
    assert {"cpu", "cores", "kernel", "governor", "python", "versions", "date"} <= set(told)
    assert told["versions"]["torch"]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("AMD EPYC", "epyc-2core"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "xeon-2core"),
        ("Raspberry Pi 4 Model B Rev 1.4", "raspberry-pi-4-2core"),
        ("", "device-2core"),
    ],
)
def test_a_device_is_named_after_its_processor(monkeypatch, model, name):
    monkeypatch.setattr(device, "cpu_model", lambda: model)
    assert device.device_name(2) == name


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_own_work_is_not_foreign_and_cpu_time_is_counted():
    before = device.process_cpu_s(os.getpid())
    first = device.read_cpu(())
    burn(0.3)
    second = device.read_cpu(())
    assert device.process_cpu_s(os.getpid()) - before == pytest.approx(0.3, abs=0.1)
    assert second.own_s - first.own_s == pytest.approx(0.3, abs=0.1)
    assert device.process_cpu_s(2**22 + 1) == 0.0


def test_another_s_work_is_foreign():
    reading = device.CpuReading
    assert device.foreign_share(reading(0, 0, 0), reading(1, 1.5, 0.5), 2) == 0.5
    assert device.foreign_share(reading(0, 0, 0), reading(1, 1.0, 1.0), 2) == 0.0
    assert device.foreign_share(reading(0, 0, 0), reading(0, 0, 0), 2) == 0.0


# --- fractional shares ----------------------------------------------------------------------------


def spinner():
    code = "print('on', flush=True)\nwhile True: pass"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child.stdout.readline()
    return child


def cpu_rate(pid, seconds=0.6):
    start, used = time.perf_counter(), device.process_cpu_s(pid)
    time.sleep(seconds)
    return (device.process_cpu_s(pid) - used) / (time.perf_counter() - start)


@pytest.mark.parametrize("prefer_cgroup", [True, False])
def test_a_share_holds_a_process_down_and_lets_it_go(prefer_cgroup):
    child = spinner()
    (share,) = shares.make_shares(["test"], 1, prefer_cgroup=prefer_cgroup)
    try:
        share.add(child.pid)
        share.set(0.25)
        # An upper bound only: a busy machine gives a process less, never more.
        assert cpu_rate(child.pid) < 0.5
    finally:
        share.close()
        child.kill()
        child.wait(timeout=10)
        child.stdout.close()


def test_without_control_groups_the_duty_cycle_stands_in(monkeypatch, tmp_path):
    monkeypatch.setattr(shares, "_own_group", lambda: tmp_path / "absent")
    made = shares.make_shares(["a", "b"], 2)
    try:
        assert {share.method for share in made} == {"SIGSTOP/SIGCONT duty cycle"}
    finally:
        for share in made:
            share.close()
