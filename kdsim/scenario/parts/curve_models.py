"""The curve models of a device: the parameters of each, with their bounds and units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from kdsim.scenario.parts.fields import Count, Number, StrictModel

MAX_CORES = 1024


class PaperCompute(StrictModel):
    """The paper's compute curve, f(x, c) = a1*x / (1 - a2*c)."""

    a1: Number = Field(gt=0, description="seconds per unit of compute work on all reference cores")
    a2: Number = Field(ge=0, description="share of the compute speed one core taken away costs")


class PaperCommunication(StrictModel):
    """The paper's communication curve, g(y, c) = y / (b1*c + b2*ln(b3*c))."""

    b1: Number = Field(description="data units per second gained by each core")
    b2: Number = Field(description="weight of the logarithmic gain")
    b3: Number = Field(gt=0, description="scale inside the logarithm")


class Amdahl(StrictModel):
    """Amdahl's law in a side's own cores."""

    model: Literal["amdahl"]
    rate1: Number = Field(gt=0, description="work per second on one core")
    serial: Number = Field(ge=0, le=1, description="serial fraction")


class Usl(StrictModel):
    """Gunther's universal scalability law in a side's own cores."""

    model: Literal["usl"]
    rate1: Number = Field(gt=0, description="work per second on one core")
    sigma: Number = Field(ge=0, le=1, description="contention")
    kappa: Number = Field(ge=0, le=1, description="coherency")


class Roofline(StrictModel):
    """Proportional to a side's own cores up to a limit, smoothly joined."""

    model: Literal["roofline"]
    rate1: Number = Field(gt=0, description="work per second on one core")
    limit: Number = Field(gt=0, description="work per second that no core count exceeds")
    sharpness: Number = Field(default=4.0, ge=0.5, le=64, description="how sharp the bend is")


class LogOverhead(StrictModel):
    """Perfectly parallel work with a synchronisation cost that grows with ln p."""

    model: Literal["log-overhead"]
    rate1: Number = Field(gt=0, description="work per second on one core")
    overhead: Number = Field(ge=0, le=1, description="cost of synchronisation, share of the work")


class Power(StrictModel):
    """A power law in a side's own cores."""

    model: Literal["power"]
    rate1: Number = Field(gt=0, description="work per second on one core")
    exponent: Number = Field(ge=0, le=1, description="1 is perfect scaling, 0 none")


class DampedPower(StrictModel):
    """A power law with a loss that grows exponentially with each further core."""

    model: Literal["damped-power"]
    rate1: Number = Field(gt=0, description="work per second on one core")
    exponent: Number = Field(ge=0, le=1, description="1 is perfect scaling, 0 none")
    damping: Number = Field(ge=0, le=1, description="share lost with each further core")


class Table(StrictModel):
    """A measured table in a side's own cores, interpolated monotonically (PCHIP)."""

    model: Literal["table"]
    cores: list[Annotated[Count, Field(ge=1, le=MAX_CORES)]] = Field(
        min_length=1, description="measured core counts, increasing"
    )
    rates: list[Annotated[Number, Field(gt=0)]] = Field(
        min_length=1, description="work per second at each of them"
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


def _model_tag(value: object) -> str:
    if isinstance(value, Mapping):
        return str(value.get("model", "paper"))
    return str(getattr(value, "model", "paper"))


_Own = (
    Annotated[Amdahl, Tag("amdahl")]
    | Annotated[Usl, Tag("usl")]
    | Annotated[Roofline, Tag("roofline")]
    | Annotated[LogOverhead, Tag("log-overhead")]
    | Annotated[Power, Tag("power")]
    | Annotated[DampedPower, Tag("damped-power")]
    | Annotated[Table, Tag("table")]
)
ComputeCurve = Annotated[Annotated[PaperCompute, Tag("paper")] | _Own, Discriminator(_model_tag)]
CommunicationCurve = Annotated[
    Annotated[PaperCommunication, Tag("paper")] | _Own, Discriminator(_model_tag)
]


def curve_models() -> list[tuple[str, str, list[str]]]:
    """List the curve models: name, first line of its description, fields beside ``model``."""
    paper = ("paper", PaperCompute), ("paper", PaperCommunication)
    own = [
        (get_args(member.model_fields["model"].annotation)[0], member)
        for member in (get_args(annotated)[0] for annotated in get_args(_Own))
    ]
    return [
        (
            name,
            str(model.__doc__).partition("\n")[0].rstrip("."),
            [field for field in model.model_fields if field != "model"],
        )
        for name, model in (*paper, *own)
    ]
