"""How many cores are worth buying: the least makespan on each number of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from kdsim._types import Record, RecordView
from kdsim.answers.thresholds import WORTH
from kdsim.errors import ScenarioError
from kdsim.model.bound.optimum import minimal_makespan
from kdsim.scenario.changes import with_fields
from kdsim.scenario.study import Scenario

#: Core counts tried beyond the device's own where its curves were not measured.
_UNMEASURED_CORES = 2


def core_counts(scenario: Scenario) -> list[int]:
    """List the core counts that can be asked about without going beyond what was measured."""
    ranges = scenario.device.measured_ranges().values()
    unmeasured = _UNMEASURED_CORES * scenario.device.cores
    last = max(min((end for _, end in ranges), default=unmeasured), scenario.device.cores)
    # At most two dozen: all of them up to 16, then in growing steps.
    counts = {*range(1, min(last, 16) + 1), scenario.device.cores, last}
    step = 20
    while step < last:
        counts.add(step)
        step = math.ceil(step * 1.25 / 4) * 4
    return sorted(counts)


def core_rows(scenario: Scenario) -> Iterator[Record]:
    """Yield ``cores``, ``makespan`` and ``saved_s`` (by each core more than before, seconds)."""
    before: tuple[int, float] | None = None
    for count in core_counts(scenario):
        try:
            changed = with_fields(scenario, {"device.cores": count})
        except ScenarioError:
            continue  # the curves are not legal there
        makespan = minimal_makespan(changed.plan()).makespan
        saved = None if before is None else (before[1] - makespan) / (count - before[0])
        yield {"cores": count, "makespan": makespan, "saved_s": saved}
        before = count, makespan


def saved_shares(rows: Sequence[RecordView]) -> list[float]:
    """Return what each row's core saves, as a share of the makespan before it; from the second."""
    return [row["saved_s"] / before["makespan"] for before, row in itertools.pairwise(rows)]


def first_not_worth(rows: Sequence[RecordView]) -> int | None:
    """Return where `saved_shares` has the first core that is not worth it; None if all are."""
    return next((k for k, share in enumerate(saved_shares(rows)) if share < WORTH), None)


def cores_worth(rows: Sequence[RecordView]) -> int:
    """Return the largest number of cores up to which each is worth it."""
    poor = first_not_worth(rows)
    return int(rows[-1 if poor is None else poor]["cores"])
