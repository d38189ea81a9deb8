"""Live runs made of simulated ones, for tests of what a validation says about runs."""

from __future__ import annotations

from calibration.bench.replay import LiveRun, Task
from calibration.machine.disturbance import Taken
from calibration.validation import validate
from calibration.validation.conditions import parse_condition, scenario_of
from calibration.validation.measure import Measured
from calibration.validation.predict import ValidationSettings
from kdsim import simulate

CHUNK_MB = 0.256
SETTINGS = ValidationSettings(
    policies=("random", "comm-priority", "greedy", "optimal"),
    conditions=tuple(parse_condition(t, cycles=4) for t in ("1:1", "2:1 prefetch=1")),
)


def as_live(run, factor=1.0):
    """Turn a simulated run into a real one that took `factor` times as long."""
    starts = [*run.backward_starts, run.makespan]
    spans = [
        *(("comm", i, 0.0, end) for i, end in enumerate(run.comm_ends)),
        *(("forward", i, 0.0, end) for i, end in enumerate(run.forward_ends)),
        *(("backward", i, *starts[i : i + 2]) for i in range(len(starts) - 1)),
    ]
    tasks = tuple(Task(k, i, a * factor, b * factor) for k, i, a, b in spans)
    makespan = run.makespan * factor
    return LiveRun(run.policy, run.seed, run.replication, makespan, tasks, ((0.0, 1),), 1)


def run_as_predicted(fit, settings, factor=1.0, taken=0.0):
    """Make six real runs of each cell that take `factor` times what is predicted."""
    runs = []
    for condition in settings.conditions:
        scenario = scenario_of(fit, condition, CHUNK_MB)
        for policy in settings.policies:
            for number in range(6):
                run = simulate(scenario, policy, seed=settings.seed, replication=number)
                live = as_live(run, factor)
                error = validate.worst_task_error(run, live)
                taken_s = Taken(taken, 0.0, 1.0)
                runs.append(Measured(condition.label, live, taken_s, run.makespan, error))
    return runs
