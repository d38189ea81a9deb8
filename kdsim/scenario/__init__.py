"""Scenarios: their parts, validation, files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsim._lazy import attach

if TYPE_CHECKING:
    from kdsim.scenario.study import (
        Design,
        Range,
        Scenario,
        parse_ratio,
        scenario_from_data,
        sweepable_fields,
        with_fields,
        with_run_counts,
    )

_HOMES = {
    "Scenario": "study",
    "Design": "study",
    "Range": "study",
    "with_fields": "study",
    "with_run_counts": "study",
    "parse_ratio": "study",
    "scenario_from_data": "study",
    "sweepable_fields": "study",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - the names are strings

__getattr__, __dir__ = attach(__name__, _HOMES)
