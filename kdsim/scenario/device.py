"""The device noun: cores, and the curve of each side, validated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from kdsim.errors import ScenarioError
from kdsim.model import curves
from kdsim.model.curves import FloatArray

MAX_CORES = 1024
#: Work a second beyond which a curve says nothing about a device, but breaks the arithmetic.
_LEAST_RATE, _MOST_RATE = 1e-15, 1e15


def plain_number(value: Any) -> Any:
    """Take numpy's scalars and arrays for the numbers and lists they are."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


Number = Annotated[float, BeforeValidator(plain_number), Field(allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(plain_number)]


class Noun(BaseModel):
    """A strict, frozen part of a scenario; unknown fields are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class PaperCompute(Noun):
    """The paper's compute curve, f(x, c) = a1*x / (1 - a2*c)."""

    a1: Number = Field(gt=0, description="seconds a unit of compute work on all reference cores")
    a2: Number = Field(ge=0, description="share of the compute speed one core taken away costs")


class PaperCommunication(Noun):
    """The paper's communication curve, g(y, c) = y / (b1*c + b2*ln(b3*c))."""

    b1: Number = Field(description="data units a second gained by each core")
    b2: Number = Field(description="weight of the logarithmic gain")
    b3: Number = Field(gt=0, description="scale inside the logarithm")


class Amdahl(Noun):
    """Amdahl's law in a side's own cores."""

    model: Literal["amdahl"]
    rate1: Number = Field(gt=0, description="work a second on one core")
    serial: Number = Field(ge=0, le=1, description="serial fraction")


class Usl(Noun):
    """Gunther's universal scalability law in a side's own cores."""

    model: Literal["usl"]
    rate1: Number = Field(gt=0, description="work a second on one core")
    sigma: Number = Field(ge=0, le=1, description="contention")
    kappa: Number = Field(ge=0, le=1, description="coherency")


class Roofline(Noun):
    """Proportional to a side's own cores up to a limit, smoothly joined."""

    model: Literal["roofline"]
    rate1: Number = Field(gt=0, description="work a second on one core")
    limit: Number = Field(gt=0, description="work a second that no core count exceeds")
    sharpness: Number = Field(default=4.0, ge=0.5, le=64, description="how sharp the bend is")


class Table(Noun):
    """A measured table in a side's own cores, interpolated monotonically (PCHIP)."""

    model: Literal["table"]
    cores: list[Annotated[Count, Field(ge=1, le=MAX_CORES)]] = Field(
        min_length=1, description="measured core counts, increasing"
    )
    rates: list[Annotated[Number, Field(gt=0)]] = Field(
        min_length=1, description="work a second at each of them"
    )

    @model_validator(mode="after")
    def _check(self) -> Table:
        if len(self.cores) != len(self.rates):
            raise PydanticCustomError(
                "table",
                "cores and rates must be equally long (got {cores} and {rates})",
                {"cores": len(self.cores), "rates": len(self.rates)},
            )
        if any(b <= a for a, b in zip(self.cores, self.cores[1:], strict=False)):
            raise PydanticCustomError("table", "cores must increase strictly", {"field": "cores"})
        return self


def _model_tag(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("model", "paper"))
    return str(getattr(value, "model", "paper"))


_Own = (
    Annotated[Amdahl, Tag("amdahl")]
    | Annotated[Usl, Tag("usl")]
    | Annotated[Roofline, Tag("roofline")]
    | Annotated[Table, Tag("table")]
)
ComputeCurve = Annotated[Annotated[PaperCompute, Tag("paper")] | _Own, Discriminator(_model_tag)]
CommunicationCurve = Annotated[
    Annotated[PaperCommunication, Tag("paper")] | _Own, Discriminator(_model_tag)
]


class Device(Noun):
    """An edge device: its cores and how fast each side works on them."""

    cores: Count = Field(ge=1, le=MAX_CORES, description="identical CPU cores, c_total")
    reference_cores: Count | None = Field(
        default=None,
        ge=1,
        le=MAX_CORES,
        description="core count at which the compute curve was fitted; `cores` when absent",
    )
    compute: ComputeCurve = Field(description="the compute curve f")
    communication: CommunicationCurve = Field(description="the communication curve g")
    curves: str | None = Field(
        default=None,
        description="file written by `kdsim calibrate fit`, in place of compute and communication",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_reference(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or value.get("reference_cores") is not None:
            return value
        cores = value.get("cores")
        legal = isinstance(cores, int | np.integer) and 1 <= cores <= MAX_CORES
        return {**value, "reference_cores": cores if legal else None}

    @field_validator("compute")
    @classmethod
    def _check_compute(cls, curve: Any, info: ValidationInfo) -> Any:
        cores, reference = info.data.get("cores"), info.data.get("reference_cores")
        if cores is not None and "reference_cores" in info.data:
            _check_rates(lambda: _compute_rates(curve, cores, reference or cores), "compute")
        return curve

    @field_validator("communication")
    @classmethod
    def _check_communication(cls, curve: Any, info: ValidationInfo) -> Any:
        cores = info.data.get("cores")
        if cores is not None:
            _check_rates(lambda: _communication_rates(curve, cores), "communication")
        return curve

    def compute_rates(self, c_total: int) -> FloatArray:
        """Return q(0..c_total), compute work a second by communication cores."""
        return _compute_rates(self.compute, c_total, self.reference_cores or c_total)

    def communication_rates(self, c_total: int) -> FloatArray:
        """Return r(0..c_total), data units a second by communication cores."""
        return _communication_rates(self.communication, c_total)


def _compute_rates(curve: Any, c_total: int, reference_cores: int) -> FloatArray:
    if isinstance(curve, PaperCompute):
        return curves.paper_compute_rates(curve.a1, curve.a2, c_total, reference_cores)
    return _own_rates(curve, c_total, "compute")


def _communication_rates(curve: Any, c_total: int) -> FloatArray:
    if isinstance(curve, PaperCommunication):
        return curves.paper_communication_rates(curve.b1, curve.b2, curve.b3, c_total)
    return _own_rates(curve, c_total, "communication")


def _own_rates(curve: Amdahl | Usl | Roofline | Table, c_total: int, side: str) -> FloatArray:
    if isinstance(curve, Table):
        return curves.table_own_core_rates(curve.cores, curve.rates, c_total, side=side)
    parameters = curve.model_dump(exclude={"model"})
    return curves.own_core_rates(curve.model, parameters, c_total, side=side)


def _check_rates(rates_of: Callable[[], FloatArray], side: str) -> None:
    """Refuse a curve that is not legal on its device, on the line of the parameter at fault."""
    try:
        with np.errstate(all="ignore"):  # whatever overflows is told below
            rates = rates_of()
    except ScenarioError as error:
        parameter = (error.field or "").removeprefix(side).strip(".")
        context = {"reason": error.reason, **({"field": parameter} if parameter else {})}
        raise PydanticCustomError("curve", "{reason}", context) from None
    # The one rate of 0 that is meant: a side without cores.
    working = rates[:-1] if side == "compute" else rates[1:]
    if not ((working >= _LEAST_RATE) & (working <= _MOST_RATE)).all():
        reason = (
            f"makes rates from {working.min():.3g} to {working.max():.3g} units of work a second; "
            f"legal are {_LEAST_RATE:g} to {_MOST_RATE:g}"
        )
        raise PydanticCustomError("curve", "{reason}", {"reason": reason})
