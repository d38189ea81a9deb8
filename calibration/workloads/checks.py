"""The checks that the settings of every workload need, each with its one wording."""

from __future__ import annotations

import math
from collections.abc import Collection

from kdsim.errors import WorkloadError


def check_choice(name: str, value: str, known: Collection[str]) -> None:
    """Raise WorkloadError unless a value is one of those known."""
    if value not in known:
        raise WorkloadError(f"{name} must be one of {', '.join(known)}; got {value!r}")


def check_least(settings: object, **least: float) -> None:
    """Raise WorkloadError unless the named fields of settings reach these bounds."""
    for name, bound in least.items():
        value = getattr(settings, name)
        if not value >= bound:  # a NaN does not
            raise WorkloadError(f"{name} must be at least {bound}, got {value!r}")


def check_positive(settings: object, *names: str) -> None:
    """Raise WorkloadError unless the named fields of settings are positive and finite."""
    for name in names:
        value = getattr(settings, name)
        if not 0 < value < math.inf:
            raise WorkloadError(f"{name} must be positive and finite, got {value!r}")
