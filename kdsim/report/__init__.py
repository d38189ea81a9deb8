"""Pages and traces for a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsim._lazy import attach

if TYPE_CHECKING:
    from kdsim.report.sections import ReportData, report_html, write_report

_HOMES = {
    "ReportData": "sections",
    "write_report": "sections",
    "report_html": "sections",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - the names are strings

__getattr__, __dir__ = attach(__name__, _HOMES)
