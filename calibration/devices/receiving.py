"""A substitute for the communication side of a device on which receiving was not measured.

The only receiver this project measured is that of ``calibration/traces/epyc-2core``. Its rate is
carried to another device by the ratio of their paces on one core in the same log (the trace's
machine is of the same processor generation as the log's EPYC 9V45). Receiving is copying and
checking, not convolution, so the ratio may be far off: by how much two such indices disagree is
taken from the boards of sbc-bench, which have a processor-bound one (7-zip) and a copy-bound one
(memcpy) each. How receiving scales over cores is not known at all: anything from not at all to in
proportion. Both stand in the interval.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.devices.measurements import HERE
from kdsim.model.curves import FloatArray
from kdsim.scenario.load import read_curves

RECEIVER = HERE.parent / "traces" / "epyc-2core.curves.yaml"
SBC_BENCH = HERE / "raw" / "sbc-bench" / "Results.md"
#: The log's device of the receiver's processor generation, in the build without its widest vector
#: unit, which receiving has no use for.
YARDSTICK = "azure-d64as-v7-no-avx512"
#: Columns of sbc-bench's table.
_SINGLE, _MEMCPY = "7-zip single", "memcpy"


@dataclass(frozen=True, slots=True)
class Receiver:
    """The measured receiver and how far its rate can be carried.

    Attributes
    ----------
    rate1 : float
        MB per second on one core.
    serial : float
        Amdahl's fraction through its rates on one and two cores.
    factor : float
        By how much a carried rate may be off either way (95 %).
    boards : int
        Boards behind `factor`.
    """

    rate1: float
    serial: float
    factor: float
    boards: int

    def rates(self, pace_ratio: float, cores: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return MB per second on 1..cores cores of a device: the value and both ends."""
        p = np.arange(1, cores + 1, dtype=float)
        one = self.rate1 * pace_ratio
        middle = one / (self.serial + (1 - self.serial) / p)
        return middle, np.full(cores, one / self.factor), one * self.factor * p

    def draws(self, pace_ratio: float, count: int, seed: int = 0) -> dict[str, FloatArray]:
        """Return parameters that are as possible: the rate within the factor, any scaling.

        Returns
        -------
        dict
            ``rate1`` log-normal with 95 % within the factor; ``serial`` uniform on [0, 1], from
            in proportion to the cores to not at all.
        """
        rng = np.random.default_rng(seed)
        off = rng.normal(0.0, math.log(self.factor) / 1.96, count)
        return {
            "rate1": self.rate1 * pace_ratio * np.exp(off),
            "serial": rng.uniform(0.0, 1.0, count),
        }


def measured_receiver(curves: Path = RECEIVER, boards: Path = SBC_BENCH) -> Receiver:
    """Read the measured receiver, and how well one index of a core stands in for another."""
    table = read_curves(curves)["communication"]
    one, two = (float(rate) for rate in table["rates"][:2])
    ratios = np.log([memcpy / single for single, memcpy in single_core_indices(boards)])
    spread = float(np.std(ratios, ddof=1))
    return Receiver(one, max(2.0 * one / two - 1.0, 0.0), math.exp(1.96 * spread), len(ratios))


def single_core_indices(path: Path = SBC_BENCH) -> list[tuple[float, float]]:
    """Read (7-zip on one core, memcpy in MB/s) of every board that has both."""
    rows: list[tuple[float, float]] = []
    columns: list[str] = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        if not line.startswith("|"):
            columns = []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if _SINGLE in cells and _MEMCPY in cells:
            columns = cells
        elif columns and len(cells) == len(columns):
            both = [cells[columns.index(name)] for name in (_SINGLE, _MEMCPY)]
            if all(re.fullmatch(r"\d+", cell) for cell in both):
                rows.append((float(both[0]), float(both[1])))
    return rows
