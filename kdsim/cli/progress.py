"""A progress bar with an ETA on standard error, for whatever takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

_QUICK_S = 2.0


class ProgressBar:
    """Callable with (done, total); draws nothing for quick work, and nothing when not wanted.

    Parameters
    ----------
    what : str
        Shown before the bar.
    enabled : bool
        False keeps standard error silent, e.g. for machine-readable output.

    Examples
    --------
    >>> with ProgressBar("runs", enabled=False) as tell:
    ...     tell(1, 2)
    """

    def __init__(self, what: str, *, enabled: bool = True) -> None:
        self._what = what
        self._enabled = enabled and sys.stderr.isatty()
        self._begin = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` units are done."""
        if not self._enabled:
            return
        if self._bar is None:
            elapsed = time.monotonic() - self._begin
            # Start early if what was seen so far says that it will take long.
            if elapsed < _QUICK_S and (not done or elapsed / done * total < _QUICK_S):
                return
            self._start(total)
        self._bar.update(self._task, completed=done, total=total)

    def _start(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._what, total=total)
