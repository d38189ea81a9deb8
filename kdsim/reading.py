"""YAML with positions: every value knows its line, and every fault of a file is told at once.

Reads plain data (mappings, lists, numbers, strings) and nothing else; what the data means is
``scenario``'s subject.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from kdsim.faults import Document, Fault, FaultyFileError, Location, dotted

#: Far above any hand-written scenario; workloads of more cycles come as a CSV profile.
MAX_FILE_BYTES = 2 * 1024 * 1024
#: Values after aliases are expanded: stops a few lines of nested aliases from filling memory.
MAX_VALUES = 2_000_000

_TAG = "tag:yaml.org,2002:"


def read_yaml(path: Path, *, where: str | None = None) -> Document:
    """Read one YAML document as plain data with positions.

    Parameters
    ----------
    path : Path
        The file.
    where : str, optional
        How messages name it; its path by default.

    Returns
    -------
    Document

    Raises
    ------
    FaultyFileError
        If the file is missing, not a file, too large, not UTF-8, not YAML, holds several
        documents, tags or aliases that cannot be plain data, or expands beyond all measure.
    """
    name = where or str(path)
    return parse_yaml(read_text(path, name), name)


def read_text(path: Path, name: str, *, max_bytes: int = MAX_FILE_BYTES) -> str:
    """Read a text file, or say in one fault why it cannot be read."""

    def refuse(reason: str) -> FaultyFileError:
        return FaultyFileError([Fault(name, 0, 0, "", reason)])

    try:
        if path.is_dir():
            raise refuse("is a directory, not a file")
        if path.exists() and not path.is_file():
            raise refuse("is not a regular file")
        size = path.stat().st_size
        if size > max_bytes:
            raise refuse(
                f"is too large: {size / 2**20:.0f} MiB, the limit is {max_bytes / 2**20:.0f} MiB"
            )
        raw = path.read_bytes()
    except FileNotFoundError:
        raise refuse("no such file") from None
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # e.g. a NUL byte in the path
        raise refuse(f"is not a legal path: {error}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise FaultyFileError(
            [Fault(name, line, 1, "", "is not UTF-8 text (is it a binary file?)")]
        ) from None
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise FaultyFileError([Fault(name, line, 1, "", "holds a NUL byte (is it a binary file?)")])
    return text


def parse_yaml(text: str, where: str) -> Document:
    """Parse YAML text; see :func:`read_yaml`."""
    document = Document(where)

    def refuse(reason: str, line: int = 1, column: int = 1) -> FaultyFileError:
        return FaultyFileError([Fault(where, line, column, "", reason)])

    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except RecursionError:
        raise refuse("is nested too deeply") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        reason = " ".join(str(error.problem or error.context or "cannot be parsed").split())
        raise refuse(f"is not YAML: {reason}", line, column) from None
    except (YAMLError, ValueError) as error:
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else 1
        reason = " ".join(str(error).split())[:200]
        raise refuse(f"is not YAML: {reason}", line) from None
    if root is None:
        raise refuse("is empty; a mapping is expected")
    try:
        _measure(root, {}, set(), where)
        document.data = _plain(root, (), document)
    except RecursionError:
        raise refuse("is nested too deeply") from None
    return document


def _position(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _measure(node: Node, sizes: dict[int, int], open_nodes: set[int], where: str) -> int:
    """Count values after alias expansion without expanding; refuse cycles and explosions."""
    if id(node) in sizes:
        return sizes[id(node)]
    line, column = _position(node)
    if id(node) in open_nodes:
        raise FaultyFileError([Fault(where, line, column, "", "an alias refers to itself")])
    open_nodes.add(id(node))
    size = 1 + sum(_measure(child, sizes, open_nodes, where) for child in _children(node))
    open_nodes.discard(id(node))
    if size > MAX_VALUES:
        reason = f"expands to more than {MAX_VALUES:,} values (nested aliases?)"
        raise FaultyFileError([Fault(where, line, column, "", reason)])
    sizes[id(node)] = size
    return size


def _plain(node: Node, location: Location, document: Document) -> Any:
    document.positions[location] = _position(node)
    if isinstance(node, ScalarNode):
        return _scalar(node, location, document)
    if isinstance(node, SequenceNode):
        return [_plain(child, (*location, i), document) for i, child in enumerate(node.value)]
    mapping: dict[str, Any] = {}
    first_lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        line, column = _position(key_node)
        if not isinstance(key_node, ScalarNode):
            document.faults.append(
                Fault(document.where, line, column, dotted(location), "a key must be plain text")
            )
            continue
        key = str(key_node.value)
        if key in mapping:
            reason = f"duplicate key, first given on line {first_lines[key]}"
            document.faults.append(
                Fault(document.where, line, column, dotted((*location, key)), reason)
            )
            continue
        first_lines[key] = line
        document.key_positions[*location, key] = (line, column)
        mapping[key] = _plain(value_node, (*location, key), document)
    return mapping


def _scalar(node: ScalarNode, location: Location, document: Document) -> Any:
    kind, text = str(node.tag).removeprefix(_TAG), str(node.value)
    if kind == "str":
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    try:
        if kind == "int":
            return int(text.replace("_", ""), 0 if text.lstrip("+-")[:2] in ("0x", "0o") else 10)
        if kind == "float":
            low = text.lower().replace("_", "")
            special = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
            return special[low] if low in special else float(low)
    except ValueError:
        pass
    if kind in ("int", "float", "timestamp"):
        return text  # e.g. a date: let the field's own type say what it wants
    line, column = _position(node)
    reason = f"the tag {node.tag} is not allowed; only plain values are"
    document.faults.append(Fault(document.where, line, column, dotted(location), reason))
    return None
