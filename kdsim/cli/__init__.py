"""The command line: ``kdsim COMMAND --help``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsim._lazy import attach

if TYPE_CHECKING:
    from kdsim.cli.group import cli, main

_HOMES = {
    "cli": "group",
    "main": "group",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - the names are strings

__getattr__, __dir__ = attach(__name__, _HOMES)
