"""The faults of a file, one per line, the first of many."""

from __future__ import annotations

_MAX_SHOWN = 25


def listing(faults: list[str]) -> str:
    """Join faults to a message of at most 25 lines and a count of the others."""
    shown = faults[:_MAX_SHOWN]
    if len(faults) > len(shown):
        shown.append(f"... and {len(faults) - len(shown)} more faults")
    return "\n".join(shown)
