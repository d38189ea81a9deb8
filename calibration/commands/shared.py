"""What several commands of the harness share: the check of their outputs."""

from __future__ import annotations

from pathlib import Path


def check_places(trace: str, figure: str | None, *others: str | None) -> None:
    """Refuse, before minutes of work, places that cannot be written or are the trace itself."""
    from kdsim.cli.options import check_outputs
    from kdsim.errors import TraceError

    paths = [None if name is None else Path(name) for name in (figure, *others)]
    for path in paths:
        if path is not None and path.exists() and path.samefile(trace):
            raise TraceError(f"{path}: is the trace itself; write the result to another file")
    check_outputs(*paths)
