"""A directive that lists every field of a scenario file from its JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx


def _resolved(schema: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = part.get("$ref") or next(
        (one["$ref"] for one in part.get("allOf", ()) if "$ref" in one), None
    )
    if reference is None:
        return part
    return {**schema["$defs"][reference.rpartition("/")[2]], **part}


def _kind(schema: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    part = _resolved(schema, part)
    if "const" in part:
        return repr(part["const"])
    if "enum" in part:
        return " or ".join(map(str, part["enum"]))
    for key in ("anyOf", "oneOf"):
        if key in part:
            return " or ".join(dict.fromkeys(_kind(schema, one) for one in part[key]))
    names = {"integer": "whole number", "array": "list", "object": "mapping", "string": "text"}
    kind = str(part.get("type", "value"))
    return names.get(kind, kind)


def _rows(
    schema: Mapping[str, Any], part: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, str, str, str]]:
    for name, field in part.get("properties", {}).items():
        whole = _resolved(schema, field)
        required = name in part.get("required", ())
        default = "required" if required else _shown(field.get("default"))
        text = str(field.get("description") or whole.get("description", "")).strip()
        yield prefix + name, _kind(schema, field), default, text.replace("\n", " ")
        if "properties" in whole:
            yield from _rows(schema, whole, f"{prefix}{name}.")


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return "its own defaults" if value else "{}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(rows: list[tuple[str, ...]], titles: tuple[str, ...]) -> nodes.table:
    table, group = nodes.table(), nodes.tgroup(cols=len(titles))
    table += group
    group += [nodes.colspec(colwidth=20) for _ in titles]
    head, body = nodes.thead(), nodes.tbody()
    group += [head, body]
    for parent, entries in ((head, [titles]), (body, rows)):
        for entry in entries:
            row = nodes.row()
            for i, text in enumerate(entry):
                cell = nodes.entry()
                literal = i == 0 and parent is body
                cell += nodes.paragraph(
                    "", "", nodes.literal(text, text) if literal else nodes.Text(text)
                )
                row += cell
            parent += row
    return table


class ScenarioFields(Directive):
    """``.. scenario-fields::``: field, kind, default and meaning, one row per field."""

    def run(self) -> list[nodes.Node]:
        """Build the table."""
        from kdsim.scenario.json_schema import scenario_schema

        schema = scenario_schema()
        rows = list(_rows(schema, schema, ""))
        return [_table(list(rows), ("field", "kind", "default", "meaning"))]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("scenario-fields", ScenarioFields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
