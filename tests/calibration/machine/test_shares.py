"""Fractional shares of cores hold processes down, and let them go."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from calibration.machine import shares
from calibration.machine.disturbance import process_cpu_s


def spinner():
    code = "print('on', flush=True)\nwhile True: pass"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child.stdout.readline()
    return child


def cpu_rate(pid, seconds=0.6):
    start, used = time.perf_counter(), process_cpu_s(pid)
    time.sleep(seconds)
    return (process_cpu_s(pid) - used) / (time.perf_counter() - start)


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
