"""Parts of messages: the closest known name, a value cut short, the bounds of a count."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable

from kdsim.errors import ScenarioError


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" - did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" - did you mean {close[0]!r}?" if close else ""


def shorten(value: object, limit: int = 60) -> str:
    """Show a value in a message as a file would hold it, cut to `limit` characters."""
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    if isinstance(value, dict | list) and len(value) > 8:
        kind = "mapping" if isinstance(value, dict) else "list"
        return f"a {kind} of {len(value)} entries"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def whole_number(value: object, field: str, least: int, most: int) -> int:
    """Return a count given in Python as an int, or raise the `ScenarioError` that refuses it."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if not least <= number <= most:
        bound = f"at most {most:,}" if number > most else f"at least {least}"
        raise ScenarioError(f"must be a whole number, {bound} (got {shorten(value)})", field=field)
    return number
