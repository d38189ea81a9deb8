"""Scenarios: their parts, validation, files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsim._lazy import attach

if TYPE_CHECKING:
    from kdsim.scenario.changes import parse_ratio, sweepable_fields, with_fields, with_run_counts
    from kdsim.scenario.study import Design, Range, Scenario
    from kdsim.scenario.validate import scenario_from_data

_HOMES = {
    "Scenario": "study",
    "Design": "study",
    "Range": "study",
    "with_fields": "changes",
    "with_run_counts": "changes",
    "parse_ratio": "changes",
    "scenario_from_data": "validate",
    "sweepable_fields": "changes",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - the names are strings

__getattr__, __dir__ = attach(__name__, _HOMES)
