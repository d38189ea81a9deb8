"""The workload of a scenario: the work of N distillation cycles."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from kdsim.model.curves import FloatArray
from kdsim.scenario.parts.fields import Count, Number, StrictModel, plain_number

MAX_CYCLES = 1_000_000

WorkAmount = Annotated[Number, Field(ge=0.0, le=1e15)]


def _one_or_many(value: object) -> str:
    return "list" if isinstance(value, list | tuple | np.ndarray) else "number"


Work = Annotated[
    Annotated[WorkAmount, Tag("number")]
    | Annotated[list[WorkAmount], BeforeValidator(plain_number), Field(min_length=1), Tag("list")],
    Discriminator(_one_or_many),
]


class Workload(StrictModel):
    """The work of N distillation cycles; each amount a number or a list of N numbers."""

    cycles: Count = Field(ge=1, le=MAX_CYCLES, description="number of cycles, N")
    comm: Work = Field(description="data of Comm_i (data units, e.g. MB of teacher logits)")
    forward: Work = Field(description="work of Forward_i (compute units, e.g. batches)")
    backward: Work = Field(description="work of Backward_i (compute units)")
    profile: str | None = Field(
        default=None, description="cost profile (CSV) of a real run, in place of the four above"
    )
    profile_rate: Number | None = Field(
        default=None,
        gt=0,
        description="compute units per second of the host that the profile was recorded on; "
        "by default the device's own curve at the profile's core count",
    )

    @field_validator("comm", "forward", "backward")
    @classmethod
    def _check_length(cls, value: object, info: ValidationInfo) -> Any:
        # Field by field, so that every list of the wrong length is reported.
        cycles = info.data.get("cycles")
        if isinstance(value, list) and cycles is not None and len(value) != cycles:
            raise PydanticCustomError(
                "length",
                "a list needs one number per cycle, {cycles} (got {got})",
                {"cycles": cycles, "got": len(value)},
            )
        return value

    @model_validator(mode="after")
    def _check_work(self) -> Workload:
        if not any(np.any(getattr(self, name)) for name in ("comm", "forward", "backward")):
            raise PydanticCustomError("work", "there is no work: comm, forward, backward are 0", {})
        return self

    def amounts(self, name: Literal["comm", "forward", "backward"]) -> FloatArray:
        """Return one kind of work as an (N,) array."""
        value = getattr(self, name)
        if isinstance(value, list):
            return np.array(value, dtype=float)
        return np.full(self.cycles, value, dtype=float)
