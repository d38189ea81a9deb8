"""The values of ``--sweep FIELD=VALUES``: lists, ratios, and ranges with a number of steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from kdsim._types import Record
from kdsim.errors import ScenarioError
from kdsim.messages import shorten
from kdsim.scenario.changes import COUNT_FIELDS, TEXT_FIELDS
from kdsim.scenario.study import MAX_POINTS, Design, Range, Scenario
from kdsim.scenario.validate import scenario_from_data

#: Significant digits of the values between the ends of a range: they stand in tables and figures.
_DIGITS = 6


def with_sweep(scenario: Scenario, texts: Sequence[str]) -> Scenario:
    """Return a scenario that also sweeps some fields, each given as ``FIELD=VALUES``.

    Parameters
    ----------
    texts : sequence of str
        See `parse_sweep`. A field that the scenario sweeps already gets these values instead;
        another one becomes the last, which varies fastest.

    Raises
    ------
    ScenarioError
        If a field is named twice, does not exist or takes other values.
    """
    if not texts:
        return scenario
    swept: Record = {}
    for field, values in map(parse_sweep, texts):
        if field in swept:
            raise ScenarioError("--sweep names this field twice; give all values at once",
                                field=field)  # fmt: skip
        swept[field] = values
    kept = {name: values for name, values in scenario.sweep.items() if name not in swept}
    ranges = [name for name, values in kept.items() if isinstance(values, Range)]
    if ranges:
        raise ScenarioError(
            f"cannot be swept by values beside the ranges of {', '.join(ranges)}, which the "
            f"scenario samples by {scenario.design.method}",
            field=next(iter(swept)),
        )
    # In the scenario's order, so that the points of one more field are the same ones again.
    order = [name for name in scenario.sweep if name in kept or name in swept]
    order += [name for name in swept if name not in order]
    data = {name: getattr(scenario, name) for name in type(scenario).model_fields}
    data["sweep"] = {name: swept.get(name, kept.get(name)) for name in order}
    data["design"] = scenario.design if kept else Design()
    return scenario_from_data(data, files=scenario.files)


def parse_sweep(text: str) -> tuple[str, list[Any]]:
    """Read ``FIELD=VALUES``.

    Parameters
    ----------
    text : str
        The field's dotted path, then values separated by commas (numbers, or ratios such as
        ``2:1``), or ``lin:LOW:HIGH:COUNT`` or ``log:LOW:HIGH:COUNT`` for that many values at
        equal distances or equal ratios, both ends among them.

    Returns
    -------
    field : str
    values : list
        Without repetitions. Names for a field of text; whole numbers for a field that counts;
        inner values of a range rounded to six significant digits.

    Raises
    ------
    ScenarioError
        If the text says no values; whether they are legal for the field is the scenario's matter.

    Examples
    --------
    >>> parse_sweep("device.cores=2,4,8")
    ('device.cores', [2, 4, 8])
    >>> parse_sweep("link.rate=log:0.1:100:4")
    ('link.rate', [0.1, 1.0, 10.0, 100.0])
    >>> parse_sweep("workload.ratio=1:1,2:1")
    ('workload.ratio', ['1:1', '2:1'])
    """
    field, equals, values = text.partition("=")
    if not equals or not field.strip():
        raise ScenarioError(
            "--sweep takes FIELD=VALUES, e.g. device.cores=2,4,8 or link.rate=log:0.1:100:20 "
            f"(got {shorten(text)})"
        )
    field = field.strip()
    kind, colon, rest = values.strip().partition(":")
    if colon and kind in ("lin", "log"):
        return field, _range(field, kind, rest)
    return field, list(dict.fromkeys(_value(field, part.strip()) for part in values.split(",")))


def _value(field: str, text: str) -> Any:
    if field in TEXT_FIELDS and text:
        return text
    if text.lower() in ("null", "none"):
        return None
    if ":" in text:
        return text  # a ratio, checked with the field
    number = _number(field, text)
    return int(text) if text.lstrip("+-").isdecimal() else number


def _number(field: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ScenarioError(
            "--sweep takes numbers or ratios separated by commas, lin:LOW:HIGH:COUNT or "
            f"log:LOW:HIGH:COUNT (got {shorten(text)})",
            field=field,
        )
    return number


def _range(field: str, kind: str, text: str) -> list[Any]:
    parts = [part.strip() for part in text.split(":")]
    form = f"{kind}:LOW:HIGH:COUNT"
    if len(parts) != 3 or not parts[2].isdecimal():
        raise ScenarioError(
            f"a range is {form}, e.g. {kind}:0.1:100:20 (got {shorten(f'{kind}:{text}')})",
            field=field,
        )
    low, high, count = _number(field, parts[0]), _number(field, parts[1]), int(parts[2])
    if not low < high or (kind == "log" and low <= 0):
        least = "0 < LOW < HIGH" if kind == "log" else "LOW < HIGH"
        raise ScenarioError(f"{form} needs {least} (got {parts[0]} and {parts[1]})", field=field)
    if not 2 <= count <= MAX_POINTS:
        raise ScenarioError(f"{form} needs 2 to {MAX_POINTS:,} values (got {count})", field=field)
    shares = (i / (count - 1) for i in range(1, count - 1))
    if kind == "log":
        inner = [low ** (1 - share) * high**share for share in shares]
    else:
        inner = [low + (high - low) * share for share in shares]
    values: list[Any] = [low, *(float(f"{value:.{_DIGITS}g}") for value in inner), high]
    if field in COUNT_FIELDS:
        values = [round(value) for value in values]
    return list(dict.fromkeys(values))
