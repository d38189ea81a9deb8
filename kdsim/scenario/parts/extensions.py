"""The extensions of a scenario: departures from the paper's model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from kdsim.scenario.parts.fields import Count, Number, StrictModel
from kdsim.scenario.parts.workload import MAX_CYCLES


class Extensions(StrictModel):
    """Departures from the paper's model; each is off by default."""

    @model_validator(mode="before")
    @classmethod
    def _forget_former_fields(cls, data: Any) -> Any:
        # Studies of version 0.1 name this field where they do not use it.
        if isinstance(data, Mapping) and "link_rate" in data and data["link_rate"] is None:
            return {name: value for name, value in data.items() if name != "link_rate"}
        return data

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
