"""YAML with positions: every value knows its line, and every fault of a file is reported at once.

Reads plain data (mappings, lists, numbers, strings) and nothing else; what the data means is
``scenario``'s subject.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from kdsim._types import Record
from kdsim.scenario.files.faults import Document, Fault, FaultyFileError, Location, dotted

#: Far above any hand-written scenario, and read within a few seconds (the YAML reader takes some
#: 30 us a value); workloads of more cycles come as a CSV profile.
MAX_FILE_BYTES = 256 * 1024
#: Values after aliases are expanded: stops a few lines of nested aliases from filling memory.
MAX_VALUES = 2_000_000

#: Python prints no longer integers; no field of any file wants one.
_MAX_DIGITS = 300
_LEADING_ZERO = re.compile(r"[+-]?0[0-9_]+")
_TAG = "tag:yaml.org,2002:"
#: The last four only in files that ask for YAML 1.1.
_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}


def read_yaml(path: Path, *, where: str | None = None) -> Document:
    """Read one YAML document as plain data with positions.

    Parameters
    ----------
    where : str, optional
        How messages name it; its path by default.

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
            raise refuse(f"is too large: {_size(size)}, the limit is {_size(max_bytes)}")
        raw = path.read_bytes()
    except FaultyFileError:  # is a ValueError too
        raise
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


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def parse_yaml(text: str, where: str) -> Document:
    """Parse YAML text; see :func:`read_yaml`."""
    document = Document(where)

    def refuse(reason: str, line: int = 1, column: int = 1) -> FaultyFileError:
        return FaultyFileError([Fault(where, line, column, "", reason)])

    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # an anchor may be set anew: the last one counts
    try:
        root = yaml.compose(text)
    except RecursionError:
        raise refuse("is nested too deeply") from None
    except MarkedYAMLError as error:
        raise refuse(*_syntax_fault(error)) from None
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


def _syntax_fault(error: MarkedYAMLError) -> tuple[str, int, int]:
    """Return the parser's complaint in terms of the file, with its line and column."""
    problem = " ".join(str(error.problem or error.context or "cannot be parsed").split())
    begun, mark = error.context_mark, error.problem_mark or error.context_mark
    if "another document" in problem:
        problem = "holds several documents; a file holds one (remove what follows '---')"
        return problem, *_at(mark)
    if "unexpected end of stream" in problem and begun is not None:
        return "is not YAML: a quote is opened here and never closed", *_at(begun)
    if "mapping values are not allowed" in problem:
        problem += " (a missing colon or wrong indent on this line or the one above?)"
    elif "'\\t'" in problem:
        problem = "a tab stands where YAML wants spaces"
    elif begun is not None and begun.line != getattr(mark, "line", 0):
        problem += f" ({error.context} that begins on line {begun.line + 1})"
    return f"is not YAML: {problem}", *_at(mark)


def _at(mark: Any) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


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
    if location in document.key_positions and _begins_below(node):
        document.positions[location] = document.key_positions[location]
    if isinstance(node, ScalarNode):
        return _scalar(node, location, document)
    own = _TAG + ("seq" if isinstance(node, SequenceNode) else "map")
    if str(node.tag) != own:
        document.faults.append(document.fault(location, _no_tag(node)))
    if isinstance(node, SequenceNode):
        return [_plain(child, (*location, i), document) for i, child in enumerate(node.value)]
    mapping: Record = {}
    first_lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        line, column = _position(key_node)
        if not isinstance(key_node, ScalarNode):
            document.faults.append(
                Fault(document.where, line, column, dotted(location), "a key must be plain text")
            )
            continue
        key = _whole_characters(str(key_node.value), location, document)
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


def _begins_below(node: Node) -> bool:
    """Whether a value has no line of its own: a block, or nothing at all; its key says more."""
    if isinstance(node, ScalarNode):
        return node.value == "" and not node.style
    return not getattr(node, "flow_style", True)


def _no_tag(node: Node) -> str:
    return f"the tag {node.tag} is not allowed; only plain values are"


def _whole_characters(text: str, location: Location, document: Document) -> str:
    r"""Join what JSON escapes in two halves, e.g. an emoji as ``\ud83d\ude00``."""
    if not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        reason = f"holds half of an escaped character (got {ascii(text)[:60]})"
        document.faults.append(document.fault(location, reason))
        return text.encode("ascii", "replace").decode()


def _scalar(node: ScalarNode, location: Location, document: Document) -> Any:
    kind, text = str(node.tag).removeprefix(_TAG), str(node.value)
    if kind == "str":
        return _whole_characters(text, location, document)
    if kind == "null" and text.lower() in ("", "~", "null"):
        return None
    if kind == "bool" and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if kind == "int" and _LEADING_ZERO.fullmatch(text):
        reason = (
            f"a number with a leading zero is octal to some readers of YAML (got {text[:40]}); "
            f"write {text.lstrip('+-0_') or '0'} without it"
        )
        document.faults.append(document.fault(location, reason))
    try:
        if kind == "int" and len(text) <= _MAX_DIGITS:
            return int(text.replace("_", ""), 0 if text.lstrip("+-")[:2] in ("0x", "0o") else 10)
        if kind == "float":
            low = text.lower().replace("_", "")
            special = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
            return special[low] if low in special else float(low)
    except ValueError:
        pass
    if kind in ("null", "bool", "int", "float", "timestamp"):
        return text  # e.g. a date: let the field's own type say what it wants
    document.faults.append(document.fault(location, _no_tag(node)))
    return None
