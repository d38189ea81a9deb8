"""AFLKD: an edge network learns from a cloud teacher with an adaptive number of frozen layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsim._lazy import attach

if TYPE_CHECKING:
    from calibration.workloads.aflkd.temperature import frozen_layers

_HOMES = {"frozen_layers": "temperature"}

__all__ = [*_HOMES]  # noqa: PLE0604 - the names are strings

__getattr__, __dir__ = attach(__name__, _HOMES)
