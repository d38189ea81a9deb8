"""The JSON Schema of scenario files, with which an editor completes and checks them."""

from __future__ import annotations

from kdsim._types import Record
from kdsim.scenario.study import Scenario


def scenario_schema() -> Record:
    """Return the JSON Schema (draft 2020-12) of a scenario file.

    A file may say less than a scenario holds: ``device.curves`` or ``device.library`` stands in
    place of the two curves, ``workload.profile`` in place of the amounts.
    """
    schema = Scenario.model_json_schema()
    parts = schema["$defs"]
    _either(parts["Device"], ["compute", "communication"], "curves", "library")
    parts["Device"]["required"].remove("cores")
    for way in parts["Device"]["anyOf"]:
        if way["required"] != ["library"]:  # a device of the library brings its cores
            way["required"].append("cores")
    _either(parts["Workload"], ["cycles", "comm", "forward", "backward"], "profile")
    values = {"type": ["number", "string"], "description": "a number, or a ratio such as '2:1'"}
    for option in schema["properties"]["sweep"]["additionalProperties"]["oneOf"]:
        if option.get("type") == "array":
            option["items"] = values
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "kdsim scenario",
    }


def _either(part: Record, fields: list[str], *instead: str) -> None:
    part["required"] = [name for name in part["required"] if name not in fields]
    part["anyOf"] = [{"required": fields}, *({"required": [name]} for name in instead)]
