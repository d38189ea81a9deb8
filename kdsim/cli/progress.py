"""A progress bar with an ETA on standard error, for whatever takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from typing import Any

_QUICK_S = 2.0
_LONG_S = 30.0


def duration(seconds: float) -> str:
    """Write a time for people.

    Examples
    --------
    >>> duration(59.6), duration(100), duration(7300)
    ('1 min 0 s', '1 min 40 s', '2 h 1 min')
    """
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


class ProgressBar:
    """Callable with (done, total) and, where it helps, what is being done now.

    Draws nothing for quick work, and nothing when not wanted.

    Parameters
    ----------
    what : str
        Shown before the bar.
    enabled : bool
        False keeps standard error silent, e.g. for machine-readable output.
    advice : str
        Shown once, with the expected time, as soon as that is long.

    Examples
    --------
    >>> with ProgressBar("runs", enabled=False) as report:
    ...     report(1, 2)
    """

    def __init__(self, what: str, *, enabled: bool = True, advice: str = "") -> None:
        self._what = what
        self._enabled = enabled and sys.stderr.isatty()
        self._advice = advice if enabled else ""
        self._begin = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, now: str = "") -> None:
        """Report that `done` of `total` units are done, and what is being done now."""
        elapsed = time.monotonic() - self._begin
        expected = self._expected(elapsed, done, total)
        if self._advice and elapsed >= _QUICK_S and expected >= _LONG_S:
            line = f"{total:,} {self._what} take about {duration(expected)}; {self._advice}"
            if self._bar is None:
                sys.stderr.write(f"{line}\n")
            else:  # printed above the bar
                self._bar.console.print(line, markup=False, highlight=False)
            self._advice = ""
        if not self._enabled:
            return
        if self._bar is None:
            # Start early if the rate so far predicts a long time.
            if elapsed < _QUICK_S and expected < _QUICK_S:
                return
            self._start(total)
        what = f"{self._what}: {now}" if now else self._what
        self._bar.update(self._task, completed=done, total=total, description=what)

    def _expected(self, elapsed: float, done: int, total: int) -> float:
        """Return the seconds that all takes, at the pace since the first step; 0 if not known.

        The first step may have waited for a compiler, or for workers to start, and what a store
        held already took no time.
        """
        if done and self._first is None:
            self._first = elapsed, done
        if self._first is None or done <= self._first[1]:
            return 0.0
        at, before = self._first
        return at + (elapsed - at) / (done - before) * (total - before)

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
