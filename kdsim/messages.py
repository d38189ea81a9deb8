"""Parts of messages: the closest known name, a value cut short, how a process ended, a table."""

from __future__ import annotations

import difflib
import html
import operator
import signal
from collections.abc import Iterable, Sequence

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


def how_it_ended(code: int) -> str:
    """Name the exit code of a process: ``"exit status 1"``, or the signal, ``"SIGKILL"``."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def whole_number(value: object, field: str, least: int, most: int) -> int:
    """Return a count given in Python as an int, or raise the `ScenarioError` that refuses it."""
    try:
        # A TypeError for what is no whole number is caught below.
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if not least <= number <= most:
        bound = f"at most {most:,}" if number > most else f"at least {least}"
        raise ScenarioError(f"must be a whole number, {bound} (got {shorten(value)})", field=field)
    return number


def seconds_allowed(value: object, field: str) -> float:
    """Return a time limit given in Python, or raise the `ScenarioError` that refuses it."""
    if isinstance(value, int | float) and value > 0:  # nan is not
        return float(value)
    raise ScenarioError(f"must be a positive number of seconds (got {shorten(value)})", field=field)


def html_table(
    caption: str, headings: Sequence[str], rows: Iterable[Sequence[object]], more: str = ""
) -> str:
    """Return a table for a notebook: a caption, headings, rows, and what stands below them."""
    heads = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    below = f"<p>{html.escape(more)}</p>" if more else ""
    return (
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{lines}</tbody></table>{below}"
    )
