"""How often to measure on a machine that others use too: until it is precise, or the budget ends.

A measurement that others disturbed is set aside (``calibration.machine.disturbance``) and made
again later; what remains is summed up by its median, whose interval is widened, not moved, by the
odd wild value that slipped through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calibration.machine.disturbance import GUARD
from kdsim.errors import WorkloadError
from kdsim.results.intervals import median_interval

#: The median of fewer observations has no interval at 95 %.
LEAST_FOR_INTERVAL = 6


@dataclass(frozen=True, slots=True)
class Precision:
    """What is asked of a repeated measurement.

    Attributes
    ----------
    least, most : int
        Undisturbed measurements at least and at most.
    half_width : float
        The median's 95 % interval is to reach no further than this share to either side.
    guard : float
        CPU seconds per second, taken by others, above which a measurement is set aside.
    budget_s : float
        Seconds after which no further round of measurements begins.
    patience_s : float
        How long to wait for others to leave the CPU alone before each measurement.
    """

    least: int = LEAST_FOR_INTERVAL
    most: int = 30
    half_width: float = 0.03
    guard: float = GUARD
    budget_s: float = 600.0
    patience_s: float = 10.0

    def __post_init__(self) -> None:
        if not LEAST_FOR_INTERVAL <= self.least <= self.most:
            raise WorkloadError(
                f"runs: at least {LEAST_FOR_INTERVAL} are needed for an interval and at most "
                f"{self.most} are made, got {self.least}"
            )

    def is_met(self, values: Sequence[float]) -> bool:
        """Whether enough undisturbed values of one quantity are there."""
        if len(values) >= self.most:
            return True
        return self.is_precise(values)

    def is_precise(self, values: Sequence[float]) -> bool:
        """Whether the median of the values is known as well as asked."""
        if len(values) < self.least:
            return False
        return median_interval(values).half_width <= self.half_width
