"""Measuring: every (condition, policy) is run for real, in rounds, until it is known well enough.

A round visits every cell that is not settled yet once, in a new random order, each run in fresh
processes. A run that others disturbed is kept in the record, set aside, and made again in a later
round, when whatever disturbed it may be over. The live loop itself is ``calibration.bench.replay``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from calibration.bench.replay import LiveRun, Task
from calibration.machine.disturbance import Taken
from calibration.machine.sampling import Precision

Cell = tuple[str, str]  # condition's label, policy

#: (runs made, runs that will be needed at least, what is run)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """One real run, and what others took of the CPU meanwhile.

    Attributes
    ----------
    condition : str
        The condition's label.
    run : LiveRun
    taken : Taken
    predicted_s : float
        Makespan that was predicted for this run, draws of the policy included.
    worst_task_error : float
        Largest deviation of any task's end, as a share of the measured makespan.
    late_s : float
        How much later than its link would have delivered it a chunk went out at worst.
    at_s : float
        When it ended, in seconds since the trace was begun.
    """

    condition: str
    run: LiveRun
    taken: Taken
    predicted_s: float
    worst_task_error: float
    late_s: float = 0.0
    at_s: float = 0.0

    @property
    def cell(self) -> Cell:
        """What it is a run of."""
        return self.condition, self.run.policy

    @property
    def ratio(self) -> float:
        """Measured over predicted makespan."""
        return self.run.makespan / self.predicted_s

    def as_json(self) -> dict[str, Any]:
        """Return the run as JSON values, times to the microsecond, a task as a row of its fields.

        Hundreds of runs are kept; the clock tells no more, and field names are most of a task.
        """
        run = asdict(replace(self.run, tasks=(), reports=()))
        run |= {"tasks": [list(asdict(task).values()) for task in self.run.tasks]}
        values: dict[str, Any] = _rounded({**asdict(self), "run": run})
        return values

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Measured:
        """Read what `as_json` wrote."""
        run = dict(row["run"])
        run["tasks"] = tuple(Task(*task) for task in run["tasks"])
        run["splits"] = tuple((at, cores) for at, cores in run["splits"])
        run["reports"] = tuple(run["reports"])
        return cls(**{**row, "run": LiveRun(**run), "taken": Taken(**row["taken"])})


def _rounded(value: Any) -> Any:
    """Round every float within JSON values to six decimals."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return round(value, 6) if isinstance(value, float) else value


def measure_cells(
    cells: Sequence[Cell],
    run_one: Callable[[Cell, int], Measured],
    precision: Precision,
    *,
    seed: int = 0,
    earlier: Sequence[Measured] = (),
    on_run: Callable[[Measured], None] | None = None,
    progress: Progress | None = None,
    between: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Measured]:
    """Run cells in interleaved rounds until each is settled, or the budget ends.

    Parameters
    ----------
    cells : sequence of (str, str)
    run_one : callable
        Given a cell and the number of the attempt at it, makes one real run.
    precision : Precision
    seed : int
        Of the order within each round.
    earlier : sequence of Measured
        Runs that were made before; they count.
    on_run : callable, optional
        Called with each new run, e.g. to keep it.
    progress : callable, optional
        Called before each run.
    between : callable, optional
        Called before each run as well; what it does counts against the budget.
    clock : callable
        Seconds, for the budget.

    Returns
    -------
    list of Measured
        All runs, disturbed ones included, in the order in which they were made.
    """
    made = list(earlier)
    end = clock() + precision.budget_s
    order = np.random.default_rng([seed, len(made)])
    attempts = {cell: sum(m.cell == cell for m in made) for cell in cells}
    while open_cells := [c for c in cells if not precision.is_met(_clean(made, c, precision))]:
        for index in order.permutation(len(open_cells)):
            cell = open_cells[index]
            if between is not None:
                between()
            if clock() >= end:
                return made
            if progress is not None:
                missing = [precision.least - len(_clean(made, c, precision)) for c in open_cells]
                least = sum(max(m, 1) for m in missing)
                progress(len(made), len(made) + least, f"{cell[1]}, {cell[0]}")
            one = run_one(cell, attempts[cell])
            attempts[cell] += 1
            made.append(one)
            if on_run is not None:
                on_run(one)
    return made


def _clean(made: Sequence[Measured], cell: Cell, precision: Precision) -> list[float]:
    return [m.ratio for m in made if m.cell == cell and not m.taken.disturbs(precision.guard)]
