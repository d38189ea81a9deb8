"""The exception tree: every failure that kdsim reports on purpose.

A message says what is wrong, where, what was got and what would be right.
``exit_code`` is what the command line returns: 2 for bad input, 1 when the work itself failed.
"""

from __future__ import annotations


class KdsimError(Exception):
    """Base of every error that kdsim raises on purpose."""

    exit_code = 2


class ScenarioError(KdsimError, ValueError):
    """A scenario, or a part of one, is not legal.

    Parameters
    ----------
    reason : str
        What is wrong, what was got and what would be right.
    field : str, optional
        Dotted path of the offending field, e.g. ``"compute.a2"``; put before the reason.
    """

    def __init__(self, reason: str, *, field: str | None = None) -> None:
        self.reason = reason
        self.field = field
        super().__init__(f"{field}: {reason}" if field else reason)


class PolicyError(KdsimError):
    """A policy raised, gave an invalid answer or made no progress; names policy and state."""

    exit_code = 1


class UnknownPolicyError(PolicyError, LookupError):
    """A policy name that is neither built in nor importable."""

    exit_code = 2


class TraceError(KdsimError, ValueError):
    """A device trace is malformed; the message names file and line."""


class FitError(KdsimError, ValueError):
    """Curves cannot be fitted to the measurements given."""


class StoreError(KdsimError):
    """A run ledger is missing, foreign, newer, locked or cannot be written."""


class SweepError(KdsimError):
    """A sweep could not be completed: its workers or its cluster no longer answer."""

    exit_code = 1


class PlotError(KdsimError):
    """A figure cannot be drawn or saved as asked."""


class DataError(KdsimError):
    """A data set is missing, truncated, corrupt or too small for what was asked."""


class WorkloadError(KdsimError):
    """A torch workload cannot be set up or continued as asked."""


class TransportError(KdsimError):
    """A peer has closed the connection, has stalled or uses another protocol."""

    exit_code = 1


class AddressError(TransportError, ValueError):
    """The text given is not a host and port."""

    exit_code = 2
