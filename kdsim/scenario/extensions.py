"""The extensions noun: departures from the paper's model."""

from __future__ import annotations

from pydantic import Field

from kdsim.scenario.device import Count, Noun, Number
from kdsim.scenario.workload import MAX_CYCLES


class Extensions(Noun):
    """Departures from the paper's model; each is off by default."""

    prefetch: Count | None = Field(
        default=None, ge=1, le=MAX_CYCLES, description="logit batches that the device can hold, B"
    )
    noise: Number = Field(
        default=0.0, ge=0, le=10, description="coefficient of variation of each task's work"
    )
    release: Number = Field(
        default=0.0,
        ge=0,
        le=1e9,
        description="logits i are ready at the teacher after i*release seconds",
    )
    reallocation_cost: Number = Field(
        default=0.0,
        ge=0,
        le=1e9,
        description="seconds without progress at each change of the core split",
    )
