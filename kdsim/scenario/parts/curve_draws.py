"""Bootstrap draws of a device's curves: how far each parameter may be off, all of them together.

A fit's intervals say how uncertain one parameter is; its draws keep how they vary with one another
(a lower a1 with a higher a2). Draw k of both sides is one device that the measurements support as
well; the sides were resampled independently of each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from kdsim._types import Record

MAX_DRAWS = 1000

Columns = dict[str, str | list[str]]


class CurveDraws(BaseModel):
    """The draws of both sides' parameters, as curve files keep them.

    Each parameter's draws are one text of numbers separated by spaces; those of a table are a
    list with one text per core count.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    count: int = Field(ge=1, le=MAX_DRAWS, description="draws of each side")
    compute: Columns | None = Field(default=None, description="draws of f's parameters by name")
    communication: Columns | None = Field(default=None, description="draws of g's, by name")

    @field_validator("compute", "communication")
    @classmethod
    def _check_numbers(cls, columns: Columns | None) -> Columns | None:
        for name, column in (columns or {}).items():
            for text in [column] if isinstance(column, str) else column:
                try:
                    legal = all(math.isfinite(float(word)) for word in text.split())
                except ValueError:
                    legal = False
                if not legal:
                    raise PydanticCustomError(
                        "draws", "must be finite numbers separated by spaces", {"field": name}
                    )
        return columns

    @model_validator(mode="after")
    def _check_count(self) -> CurveDraws:
        for side in ("compute", "communication"):
            for name, column in (getattr(self, side) or {}).items():
                for text in [column] if isinstance(column, str) else column:
                    if len(text.split()) != self.count:
                        raise PydanticCustomError(
                            "draws",
                            "must have {count} numbers (got {got})",
                            {"field": f"{side}.{name}", "count": self.count,
                             "got": len(text.split())},
                        )  # fmt: skip
        return self

    def parameters(self, side: str, index: int) -> Record | None:
        """Return a side's parameters in one draw, or None if the side has no draws.

        Parameters
        ----------
        side : {"compute", "communication"}
        index : int
            0 to ``count - 1``.
        """
        columns: Columns | None = getattr(self, side)
        if columns is None:
            return None
        return {
            name: float(column.split()[index])
            if isinstance(column, str)
            else [float(text.split()[index]) for text in column]
            for name, column in columns.items()
        }


def drawn_text(values: Iterable[float]) -> str:
    """Write draws of one parameter as a curve file keeps them: seven significant digits."""
    return " ".join(f"{value:.7g}" for value in values)
