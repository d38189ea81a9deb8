"""What others take of the CPU is seen, and what one uses oneself is not."""

from __future__ import annotations

import os

import pytest

from calibration.machine import disturbance
from calibration.machine.cores import available_cores
from calibration.machine.disturbance import CpuReading, Taken, read_cpu, taken_between

STAT = """cpu  30 0 30 200 0 0 0 40 0 0
cpu0 10 1 9 100 5 2 3 20 7 7
cpu1 20 0 10 100 0 0 0 20 0 0
intr 5
"""


@pytest.fixture
def stat(monkeypatch, tmp_path):
    """Let the system's accounts be what a test writes."""
    path = tmp_path / "stat"
    path.write_text(STAT)
    monkeypatch.setattr(disturbance, "_STAT", path)
    return path


def test_only_the_devices_cores_count_and_stolen_time_stands_apart(stat):
    tick = os.sysconf("SC_CLK_TCK")
    one, both = read_cpu((), [0]), read_cpu((), [0, 1])
    assert one.machine_s == pytest.approx((10 + 1 + 9 + 2 + 3) / tick)
    assert one.stolen_s == pytest.approx(20 / tick)
    assert both.machine_s == pytest.approx((25 + 30) / tick)
    assert both.stolen_s == pytest.approx(40 / tick)


def test_own_work_is_not_foreign_and_cpu_time_is_counted():
    cores = available_cores()
    first, used = read_cpu((), cores), disturbance.process_cpu_s(os.getpid())
    while disturbance.process_cpu_s(os.getpid()) < used + 0.2:
        pass
    second = read_cpu((), cores)
    assert second.own_s - first.own_s >= 0.2
    assert taken_between(first, second).known
    assert disturbance.process_cpu_s(2**22 + 1) == 0.0


def test_what_neither_oneself_nor_idling_explains_is_taken():
    before = CpuReading(at=0.0, machine_s=0.0, stolen_s=0.0, own_s=0.0)
    taken = taken_between(before, CpuReading(at=2.0, machine_s=3.0, stolen_s=0.2, own_s=2.5))
    assert (taken.foreign_s, taken.stolen_s, taken.elapsed_s) == pytest.approx((0.5, 0.2, 2.0))
    assert taken.per_second == pytest.approx(0.35)
    assert taken.share_of(2) == pytest.approx(0.175)
    assert taken.disturbs(0.3)
    assert not taken.disturbs(0.4)


def test_rounding_takes_nothing():
    before = CpuReading(at=0.0, machine_s=0.0, stolen_s=0.0, own_s=0.0)
    taken = taken_between(before, CpuReading(at=1.0, machine_s=1.0, stolen_s=0.0, own_s=1.01))
    assert taken.per_second == 0.0
    assert taken.known


def test_accounts_that_stand_still_are_not_taken_for_calm():
    before = CpuReading(at=0.0, machine_s=5.0, stolen_s=0.0, own_s=0.0)
    assert not taken_between(before, CpuReading(1.0, 5.0, 0.0, own_s=1.0)).known


def test_an_instant_takes_nothing():
    assert Taken(0.0, 0.0, 0.0).per_second == 0.0


class Accounts:
    """The system's accounts over looks of a quarter of a second, on a clock of their own."""

    def __init__(self, monkeypatch, taken):
        self.now, self.used, self.taken = 0.0, 0.0, iter(taken)
        monkeypatch.setattr(disturbance, "time", self)
        monkeypatch.setattr(disturbance, "read_cpu", self.read)

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.used += seconds * next(self.taken, 0.0)

    def read(self, pids, cores):
        return CpuReading(self.now, self.used, 0.0, 0.0)


@pytest.mark.parametrize(
    ("taken", "calm", "waited"),
    [([0.0], True, 0.25), ([1.0, 0.5, 0.01], True, 0.75), ([1.0] * 100, False, 2.0)],
)
def test_one_waits_for_calm_as_long_as_ones_patience(monkeypatch, taken, calm, waited):
    accounts = Accounts(monkeypatch, taken)
    assert disturbance.wait_for_calm((0, 1), 0.05, patience_s=2.0) is calm
    assert accounts.now == pytest.approx(waited)


def test_ones_own_processes_may_be_at_work_while_one_waits(monkeypatch):
    Accounts(monkeypatch, [])
    watched = []

    def read(pids, cores):
        watched.append(tuple(pids))
        return CpuReading(0.0, 0.0, 0.0, 0.0)

    monkeypatch.setattr(disturbance, "read_cpu", read)
    assert disturbance.wait_for_calm((0,), 0.05, patience_s=2.0, pids=iter([7, 8]))
    assert watched == [(7, 8), (7, 8)]
