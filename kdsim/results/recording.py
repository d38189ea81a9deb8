"""What happened in a run, stretch by stretch, kept in columns: a long run stays small in memory.

The engine appends to a `Recording`; a run offers it as `Stretches`, a sequence of `Interval`.
A tuple per stretch would take six times the memory (190 bytes against 29).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np

from kdsim._types import Record
from kdsim.model.curves import FloatArray

#: Stretches that are converted into columns together.
_BLOCK = 16_384
#: Stretches, or numbers of an array, that are plain Python objects at a time.
_READ = 1_024

_COLUMNS = {
    "start": np.float64,
    "end": np.float64,
    "comm_cores": np.int32,
    "comm": np.int32,
    "comp_task": np.int32,
    "stalled": np.bool_,
    "starved": np.bool_,
}


class Interval(NamedTuple):
    """A stretch of a run during which nothing changes.

    `comm` and `comp` are 0-based task numbers, -1 where that side does not work; `stage` is
    ``"forward"``, ``"backward"`` or ``""``; `stalled` marks the pause of a reallocation, `starved`
    that communication has processed all that the link has delivered and goes at its pace.
    """

    start: float
    end: float
    comm_cores: int
    comm: int
    comp: int
    stage: str
    stalled: bool
    starved: bool


class Stretches(Sequence[Interval]):
    """The stretches of a run in order; `Interval` objects are made when they are asked for.

    Attributes
    ----------
    columns : dict of (n,) arrays
        ``start, end`` (seconds), ``comm_cores, comm, comp_task, stalled, starved``. `comp_task`
        counts Forward and Backward together from 0 (even: Forward), -1 where computation does not
        work.
    """

    def __init__(self, columns: Record) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns["start"])

    @overload
    def __getitem__(self, index: int) -> Interval: ...
    @overload
    def __getitem__(self, index: slice) -> Stretches: ...
    def __getitem__(self, index: int | slice) -> Interval | Stretches:
        if isinstance(index, slice):
            return Stretches({name: column[index] for name, column in self.columns.items()})
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return next(_intervals({n: c[[index]] for n, c in self.columns.items()}))

    def __iter__(self) -> Iterator[Interval]:
        for begin in range(0, len(self), _READ):
            part = slice(begin, begin + _READ)
            yield from _intervals({name: column[part] for name, column in self.columns.items()})

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Stretches):
            mine, theirs = self.columns, other.columns
            return all(np.array_equal(mine[name], theirs[name]) for name in _COLUMNS)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it is compared by its arrays


def _intervals(columns: Record) -> Iterator[Interval]:
    tasks = columns["comp_task"]
    stage = np.where(tasks < 0, "", np.where(tasks % 2, "backward", "forward")).tolist()
    return map(
        Interval,
        columns["start"].tolist(),
        columns["end"].tolist(),
        columns["comm_cores"].tolist(),
        columns["comm"].tolist(),
        np.where(tasks < 0, -1, tasks // 2).tolist(),
        stage,
        columns["stalled"].tolist(),
        columns["starved"].tolist(),
    )


class Recording:
    """What the engine records during a run."""

    def __init__(self) -> None:
        self._fresh: list[tuple[float, float, int, int, int, float, bool]] = []
        self._blocks: list[Record] = []
        self._begin = 0.0

    def append(self, entry: tuple[float, float, int, int, int, float, bool]) -> None:
        """Note the stretch that ends now.

        Parameters
        ----------
        entry : tuple
            Now; the seconds of progress, and a stall lies before them; communication cores; the
            0-based Comm and compute task at work, -1 for none; the seconds without progress after
            a change of the core split; whether communication went at the pace of the link.
        """
        self._fresh.append(entry)
        if len(self._fresh) >= _BLOCK:
            self._pack()

    def stretches(self) -> Stretches:
        """Return the run so far."""
        self._pack()
        blocks = self._blocks or [{n: np.empty(0, t) for n, t in _COLUMNS.items()}]
        # Column by column: at no time is everything held twice.
        whole = {n: np.concatenate([block.pop(n) for block in blocks]) for n in _COLUMNS}
        self._blocks = [dict(whole)]
        return Stretches(whole)

    def _pack(self) -> None:
        """Turn the fresh tuples into columns; stretches without duration are left out."""
        if not self._fresh:
            return
        numbers = np.array(self._fresh)  # (n, 7) float; whole numbers below 2**53 stay exact
        self._fresh.clear()
        end, step, cores, comm, task, stall, starved = numbers.T
        begin = np.concatenate([[self._begin], end[:-1]])
        self._begin = float(end[-1])
        middle = np.where(stall > 0, end - step, begin)
        # Each entry is up to two stretches, the stall first.
        kept = np.stack([stall > 0, end > middle], axis=1).ravel()
        twice = {
            "start": np.stack([begin, middle], axis=1).ravel(),
            "end": np.stack([middle, end], axis=1).ravel(),
            "comm_cores": np.repeat(cores, 2),
            "comm": np.repeat(comm, 2),
            "comp_task": np.repeat(task, 2),
            "stalled": np.tile([True, False], len(end)),
            "starved": np.stack([np.zeros_like(starved), starved], axis=1).ravel(),
        }
        self._blocks.append({n: twice[n][kept].astype(t) for n, t in _COLUMNS.items()})


def chunked(values: FloatArray) -> Iterator[float]:
    """Yield the numbers of an array as Python floats, without a list of all of them."""
    return itertools.chain.from_iterable(
        values[begin : begin + _READ].tolist() for begin in range(0, len(values), _READ)
    )
