"""Policies: what they see and answer, the built-in ones, and how a name becomes one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsim._lazy import attach

if TYPE_CHECKING:
    from kdsim.policies.base import Decision, Policy, State
    from kdsim.policies.builtin import Greedy, Optimal, Random, StateBased, Static

_HOMES = {
    "State": "base",
    "Decision": "base",
    "Policy": "base",
    "Random": "builtin",
    "StateBased": "builtin",
    "Static": "builtin",
    "Greedy": "builtin",
    "Optimal": "builtin",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - the names are strings

__getattr__, __dir__ = attach(__name__, _HOMES)
