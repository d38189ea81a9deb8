"""Real runs are made until they suffice: rounds, disturbed runs, budget; on a clock of its own."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.bench.replay import LiveRun, Task
from calibration.machine.disturbance import Taken
from calibration.machine.sampling import Precision
from calibration.validation.measure import Measured, measure_cells
from kdsim.errors import WorkloadError

CELLS = [("1:1", "greedy"), ("1:1", "optimal"), ("2:1", "greedy")]


def live(policy, makespan, number=0):
    tasks = (Task("backward", 0, 0.0, makespan),)
    return LiveRun(policy, 0, number, makespan, tasks, ((0.0, 1),), 1)


def measured(cell, makespan, taken=0.0, number=0):
    return Measured(cell[0], live(cell[1], makespan, number), Taken(taken, 0.0, 1.0), 1.0, 0.0)


class Machine:
    """Runs take ten seconds; what others take is scripted, and slows a run by as much."""

    def __init__(self, taken=lambda n: 0.0, spread=0.0):
        self.now = 0.0
        self.made = []
        self.taken = taken
        self.rng = np.random.default_rng(1)
        self.spread = spread

    def clock(self):
        return self.now

    def run(self, cell, number):
        taken = self.taken(len(self.made))
        self.now += 10.0
        self.made.append((cell, number))
        makespan = (1.0 + taken) * np.exp(self.spread * self.rng.normal())
        return measured(cell, makespan, taken, number)

    def measure(self, precision=None, **kwargs):
        precision = precision or Precision()
        return measure_cells(CELLS, self.run, precision, clock=self.clock, **kwargs)


def test_a_quiet_machine_is_run_no_more_than_needed():
    machine = Machine(spread=0.005)
    runs = machine.measure()
    assert Counter(m.cell for m in runs) == dict.fromkeys(CELLS, 6)


def test_rounds_are_interleaved_and_attempts_numbered():
    machine = Machine()
    machine.measure()
    orders = [machine.made[i : i + 3] for i in range(0, len(machine.made), 3)]
    assert all({cell for cell, _ in order} == set(CELLS) for order in orders)
    assert all({number for _, number in order} == {i} for i, order in enumerate(orders))
    assert len({tuple(cell for cell, _ in order) for order in orders}) > 1


def test_a_disturbed_run_is_kept_set_aside_and_made_again():
    machine = Machine(taken=lambda n: 0.5 if n in (1, 7, 8) else 0.0)
    runs = machine.measure()
    assert sum(m.taken.disturbs() for m in runs) == 3
    clean = Counter(m.cell for m in runs if not m.taken.disturbs())
    assert clean == dict.fromkeys(CELLS, 6)


def test_cells_that_vary_more_are_run_more():
    machine = Machine(spread=0.02)
    runs = machine.measure(Precision(half_width=0.01, most=60))
    assert min(Counter(m.cell for m in runs).values()) > 6


def test_the_budget_ends_what_is_never_quiet():
    machine = Machine(taken=lambda n: 0.5)
    runs = machine.measure(Precision(budget_s=100.0))
    assert len(runs) == 10
    assert all(m.taken.disturbs() for m in runs)


def test_earlier_runs_count_and_new_ones_are_handed_on():
    first = Machine()
    earlier = first.measure(Precision(budget_s=95.0))
    kept = []
    second = Machine()
    runs = second.measure(earlier=earlier, on_run=kept.append)
    assert runs == [*earlier, *kept]
    assert Counter(m.cell for m in runs) == dict.fromkeys(CELLS, 6)
    numbers = [m.run.replication for m in runs if m.cell == CELLS[0]]
    assert sorted(numbers) == list(range(6))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=40),
    st.integers(6, 12),
    st.floats(20.0, 2000.0),
)
def test_whatever_disturbs_the_rules_are_kept(pattern, least, budget_s):
    machine = Machine(taken=lambda n: 0.5 * pattern[n % len(pattern)])
    precision = Precision(least=least, most=least + 3, budget_s=budget_s)
    runs = machine.measure(precision)
    clean = Counter(m.cell for m in runs if not m.taken.disturbs())
    assert all(count <= precision.most for count in clean.values())
    assert machine.now <= budget_s + 10.0
    done = all(clean[cell] >= least for cell in CELLS)
    assert done or machine.now >= budget_s


def test_a_run_survives_its_record():
    one = measured(CELLS[0], 1.25, taken=0.01)
    assert Measured.from_json(json.loads(json.dumps(one.as_json()))) == one


@pytest.mark.parametrize("least", [0, 5, 31])
def test_too_few_runs_for_an_interval_are_refused(least):
    with pytest.raises(WorkloadError, match="at least 6 are needed for an interval"):
        Precision(least=least)
