"""The device of a scenario: its cores, and the validated curve of each side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from kdsim._types import RecordView
from kdsim.errors import ScenarioError
from kdsim.model import curves
from kdsim.model.curves import FloatArray
from kdsim.scenario.files.library import CURVE_FIELDS, library_device
from kdsim.scenario.parts.curve_draws import CurveDraws
from kdsim.scenario.parts.curve_models import (
    MAX_CORES,
    CommunicationCurve,
    ComputeCurve,
    PaperCommunication,
    PaperCompute,
    Table,
)
from kdsim.scenario.parts.fields import Count, StrictModel

#: Work per second beyond which a curve says nothing about a device, but breaks the arithmetic.
_LEAST_RATE, _MOST_RATE = 1e-15, 1e15


#: Fields of a device that name or describe its curves, and change no result.
UNCOUNTED = {"curves", "library", "extrapolate", "proxies", "draws"}

CoreRange = Annotated[list[Annotated[Count, Field(ge=1)]], Field(min_length=2, max_length=2)]


class MeasuredCores(StrictModel):
    """The least and the largest number of its own cores that each side was measured on."""

    compute: CoreRange | None = Field(default=None, description="[least, largest] compute cores")
    communication: CoreRange | None = Field(
        default=None, description="[least, largest] communication cores"
    )

    @field_validator("compute", "communication")
    @classmethod
    def _check_order(cls, ends: list[int] | None) -> list[int] | None:
        if ends is not None and ends[0] > ends[1]:
            raise PydanticCustomError("range", "the least must not exceed the largest", {})
        return ends


class Proxies(StrictModel):
    """What a side's curve was taken from, where that was not the task itself."""

    compute: str | None = Field(default=None, description="e.g. inference in place of training")
    communication: str | None = Field(default=None, description="e.g. another machine's receiver")


class Device(StrictModel):
    """An edge device: its cores and how fast each side works on them."""

    library: str | None = Field(
        default=None,
        description="device of the library (`kdsim devices`), in place of cores and curves",
    )
    cores: Count = Field(ge=1, le=MAX_CORES, description="identical CPU cores, c_total")
    measured_cores: MeasuredCores | None = Field(
        default=None,
        description="core counts that the curves were measured on; in files of curves",
    )
    proxies: Proxies | None = Field(
        default=None, description="curves measured on something else; in files of curves"
    )
    extrapolate: bool = Field(
        default=False,
        description="allow core counts that the curves were not measured on; marks every output",
    )
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
    draws: CurveDraws | None = Field(
        default=None, description="bootstrap draws of the curves; in files of curves"
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        value = _from_library(value)
        if value.get("reference_cores") is not None:
            return value
        cores = value.get("cores")
        legal = isinstance(cores, int | np.integer) and 1 <= cores <= MAX_CORES
        return {**value, "reference_cores": cores if legal else None}

    @field_validator("compute")
    @classmethod
    def _check_compute(cls, curve: Any, info: ValidationInfo) -> Any:
        cores, reference = info.data.get("cores"), info.data.get("reference_cores")
        if cores is not None and "reference_cores" in info.data:
            fitted = _is_measured(info.data.get("measured_cores"))
            _check_rates(
                lambda: _compute_rates(curve, cores, reference or cores, fitted=fitted), "compute"
            )
        return curve

    @field_validator("communication")
    @classmethod
    def _check_communication(cls, curve: Any, info: ValidationInfo) -> Any:
        cores = info.data.get("cores")
        if cores is not None:
            _check_rates(lambda: _communication_rates(curve, cores), "communication")
        return curve

    @model_validator(mode="after")
    def _check_measured(self) -> Device:
        for side in self.measured_ranges():
            try:
                self._refuse_beyond(side, self.cores)
            except ScenarioError as error:
                context = {"reason": error.reason, "field": "cores"}
                raise PydanticCustomError("curve", "{reason}", context) from None
        return self

    def _refuse_beyond(self, side: str, c_total: int) -> None:
        """Refuse core counts that a curve was not measured on, unless the device allows them."""
        ends = self.measured_ranges().get(side)
        if self.extrapolate or ends is None or (ends[0] == 1 and c_total <= ends[1]):
            return
        raise ScenarioError(
            f"the {side} curve was measured on {_cores_words(*ends)}, and 1 to {c_total} are "
            "needed; to go beyond, and have every result say so, add extrapolate: true to the "
            f"device (--set device.extrapolate=true) (got {c_total})",
            field="device.cores",
        )

    def measured_ranges(self) -> dict[str, tuple[int, int]]:
        """Return the least and largest number of own cores measured, of each side that has them.

        Constants typed into a scenario were not measured; a table ends where its cores end.
        """
        found = {}
        for side in ("compute", "communication"):
            curve = getattr(self, side)
            given = getattr(self.measured_cores, side) if self.measured_cores else None
            if given is not None:
                found[side] = (given[0], given[1])
            elif isinstance(curve, Table):
                found[side] = (curve.cores[0], curve.cores[-1])
        return found

    def marks(self, c_total: int | None = None) -> tuple[str, ...]:
        """Return what everything computed from this device must say of it.

        Parameters
        ----------
        c_total : int, optional
            Cores that are used; those of the device by default.

        Returns
        -------
        tuple of str
            Sentences without a full stop or a semicolon: sides whose curve is used beyond what
            was measured, and curves that were measured on something else.
        """
        c_total = c_total or self.cores
        beyond: dict[tuple[int, int], list[str]] = {}
        for side, ends in self.measured_ranges().items():
            if ends[0] > 1 or ends[1] < c_total:
                beyond.setdefault(ends, []).append(side)
        marks = [
            f"extrapolated: {' and '.join(sides)} measured on {_cores_words(*ends)}"
            for ends, sides in beyond.items()
        ]
        if self.proxies is not None:
            marks += [t for t in (self.proxies.compute, self.proxies.communication) if t]
        return tuple(marks)

    def drawn(self, index: int) -> Device:
        """Return the device with the curves of one bootstrap draw of the fit behind them.

        Parameters
        ----------
        index : int
            0 to ``draws.count - 1``; one index means the same draw of every policy's device.

        Raises
        ------
        ScenarioError
            If the device has no such draw, or the draw is not legal on it.
        """
        count = self.draws.count if self.draws else 0
        if self.draws is None or not 0 <= index < count:
            reason = f"the curves have {count} draws; no draw {index}"
            if not count:
                reason = (
                    "the curves have no bootstrap draws; a file written by `kdsim calibrate fit` "
                    "with --bootstrap 1 or more has them"
                )
            raise ScenarioError(reason, field="device.curves")
        data = self.model_dump(exclude={"draws"})
        for side in ("compute", "communication"):
            parameters = self.draws.parameters(side, index)
            if parameters is not None:
                data[side] = data[side] | parameters
        try:
            return Device.model_validate(data)
        except ValidationError as error:
            reason = f"draw {index} is not legal: {error.errors()[0]['msg']}"
            raise ScenarioError(reason, field="device.curves") from None

    def compute_rates(self, c_total: int) -> FloatArray:
        """Return q(0..c_total), compute work per second by communication cores.

        Raises
        ------
        ScenarioError
            If the curve was not measured on 1 to `c_total` cores and the device does not say
            ``extrapolate``, or is not legal there.
        """
        self._refuse_beyond("compute", c_total)
        fitted = _is_measured(self.measured_cores)
        return _compute_rates(self.compute, c_total, self.reference_cores or c_total, fitted=fitted)

    def communication_rates(self, c_total: int) -> FloatArray:
        """Return r(0..c_total), data units per second, as `compute_rates` does."""
        self._refuse_beyond("communication", c_total)
        return _communication_rates(self.communication, c_total)


def _from_library(value: RecordView) -> RecordView:
    """Complete a device that names one of the library; one that was completed stays as it is."""
    name = value.get("library")
    if not isinstance(name, str) or "compute" in value:
        return value
    try:
        entry = library_device(name)
    except ScenarioError as error:
        raise PydanticCustomError(
            "library", "{reason}", {"reason": error.reason, "field": "library"}
        ) from None
    brought = {key: entry[key] for key in CURVE_FIELDS if key in entry}
    if "communication" in value:  # the user's own measurement replaces the stand-in
        brought.pop("communication", None)
        sides = {k: v for k, v in brought.pop("proxies", {}).items() if k != "communication"}
        brought["proxies"] = sides
        if "draws" in brought:
            brought["draws"] = {k: v for k, v in brought["draws"].items() if k != "communication"}
    elif "communication" not in brought:
        reason = (
            f"the library has no communication curve of {name}, not even a stand-in: the scenario "
            "has to give device.communication, e.g. {b1: 50.0, b2: 0.0, b3: 1.0}, data units a "
            "second gained by each core"
        )
        raise PydanticCustomError("library", "{reason}", {"reason": reason, "field": "library"})
    return {"cores": entry["reference_cores"], **brought, **value}


def _is_measured(ranges: MeasuredCores | None) -> bool:
    return ranges is not None and ranges.compute is not None


def _cores_words(least: int, largest: int) -> str:
    if least == largest:
        return f"{least} core{'s' if least > 1 else ''} only"
    return f"{least} to {largest} cores only"


def _compute_rates(curve: Any, c_total: int, reference_cores: int, *, fitted: bool) -> FloatArray:
    if isinstance(curve, PaperCompute):
        if fitted:
            return curves.fitted_compute_rates(curve.a1, curve.a2, c_total, reference_cores)
        return curves.paper_compute_rates(curve.a1, curve.a2, c_total, reference_cores)
    return _own_rates(curve, c_total, "compute")


def _communication_rates(curve: Any, c_total: int) -> FloatArray:
    if isinstance(curve, PaperCommunication):
        return curves.paper_communication_rates(curve.b1, curve.b2, curve.b3, c_total)
    return _own_rates(curve, c_total, "communication")


def _own_rates(curve: Any, c_total: int, side: str) -> FloatArray:
    if isinstance(curve, Table):
        return curves.table_own_core_rates(curve.cores, curve.rates, c_total, side=side)
    parameters = curve.model_dump(exclude={"model"})
    return curves.own_core_rates(curve.model, parameters, c_total, side=side)


def _check_rates(rates_of: Callable[[], FloatArray], side: str) -> None:
    """Refuse a curve that is not legal on its device, on the line of the parameter at fault."""
    try:
        with np.errstate(all="ignore"):  # what overflows is reported below
            rates = rates_of()
    except ScenarioError as error:
        parameter = (error.field or "").removeprefix(side).strip(".")
        context = {"reason": error.reason, **({"field": parameter} if parameter else {})}
        raise PydanticCustomError("curve", "{reason}", context) from None
    # A rate of 0 is legal only for a side without cores.
    working = rates[:-1] if side == "compute" else rates[1:]
    if not ((working >= _LEAST_RATE) & (working <= _MOST_RATE)).all():
        reason = (
            f"makes rates from {working.min():.3g} to {working.max():.3g} work per second; "
            f"legal are {_LEAST_RATE:g} to {_MOST_RATE:g}"
        )
        raise PydanticCustomError("curve", "{reason}", {"reason": reason})
