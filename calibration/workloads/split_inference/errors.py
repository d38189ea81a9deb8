"""What can go wrong in split inference, apart from plain bad arguments.

Both classes belong to the project's tree, so that the command line reports them in one line.
"""

from __future__ import annotations

from kdsim.errors import TransportError, WorkloadError


class PlanError(WorkloadError):
    """A network, an input or a set of shares that cannot be split; the message names the layer."""


class WorkerError(TransportError):
    """A worker process died, stalled, failed or could not be started; the message names it."""
