"""The link of a scenario: its constant rate or its bandwidth trace."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from kdsim._types import Record, RecordView
from kdsim.errors import ScenarioError
from kdsim.model.link import Link
from kdsim.scenario.files.bandwidth import MAX_RATE
from kdsim.scenario.parts.fields import Number, StrictModel

#: Fields that hold a trace once it has been read; setting a constant rate takes their place.
TRACE_FIELDS = ("trace", "times", "rates", "period")


class LinkSettings(StrictModel):
    """A constant rate or a bandwidth trace; with neither, all data are there from the beginning.

    The link delivers from time 0 on, whatever `Extensions.release` says: each of the two limits
    holds on its own.
    """

    rate: Number | None = Field(
        default=None, ge=1e-15, le=MAX_RATE, description="constant rate, data units per second"
    )
    trace: str | None = Field(
        default=None,
        description="bandwidth trace: CSV with the columns time_s and rate (data units per "
        "second), or JSON with duration_ms and bandwidth_kbps (read as MB per second)",
    )
    repeat: bool = Field(
        default=True,
        description="whether the trace begins again when it ends; otherwise its last rate stays",
    )
    starved: Literal["idle", "shared"] = Field(
        default="idle",
        description="communication cores that have processed all that has arrived wait (idle), or "
        "computation uses the time that they do not need (shared)",
    )
    times: list[Number] | None = Field(
        default=None,
        description="a trace without a file: seconds at which each rate begins, from 0",
    )
    rates: list[Annotated[Number, Field(ge=0, le=MAX_RATE)]] | None = Field(
        default=None, description="data units per second from each of the times on"
    )
    period: Number | None = Field(
        default=None, gt=0, description="seconds after which times and rates begin again"
    )

    @model_validator(mode="after")
    def _check_one(self) -> LinkSettings:
        if (self.times is None) != (self.rates is None):
            there = "times" if self.rates is None else "rates"
            raise _refusal("times and rates are needed together", there)
        if self.rate is not None and self.times is not None:
            reason = "a constant rate cannot stand beside a trace"
            raise _refusal(reason, "rate")
        if self.trace is not None and self.times is None:
            raise _refusal("names a file; load the scenario from a file to have it read", "trace")
        if self.period is not None and self.times is None:
            raise _refusal("needs times and rates", "period")
        try:
            self.link()
        except ScenarioError as error:
            raise _refusal(error.reason, "times") from None
        return self

    def link(self) -> Link | None:
        """Return the link as the model knows it; None if all data are there from the beginning."""
        if self.rate is not None:
            return Link.constant(self.rate, self.starved)
        if self.times is None or self.rates is None:
            return None
        period = np.inf if self.period is None else self.period
        return Link(np.array(self.times), np.array(self.rates), period, self.starved)


def _refusal(reason: str, field: str) -> PydanticCustomError:
    return PydanticCustomError("link", "{reason}", {"reason": reason, "field": field})


def without_trace(data: RecordView) -> Record:
    """Return a link's plain data without its trace, to be given a constant rate."""
    return {name: value for name, value in data.items() if name not in TRACE_FIELDS}
