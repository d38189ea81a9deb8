"""What all parts of a scenario are made of: strict models, numbers and counts."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def plain_number(value: object) -> Any:
    """Take numpy's scalars and arrays for the numbers and lists they are."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


Number = Annotated[float, BeforeValidator(plain_number), Field(allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(plain_number)]


class StrictModel(BaseModel):
    """A frozen part of a scenario; unknown fields and wrong types are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)
