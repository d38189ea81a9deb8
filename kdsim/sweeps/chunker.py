"""How a sweep is cut into tasks: long against their overhead, short against a lost worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from kdsim._version import __version__
from kdsim.engines import batch
from kdsim.sweeps.policy_source import package_digest
from kdsim.sweeps.task import Piece, Task

#: Seconds that a task should take.
TASK_SECONDS = 1.0
#: Replications in one task at most, so that its result stays at a few megabytes.
MAX_REPLICATIONS = 200_000
#: Runs in one task at most: how many results one lost worker can cost.
MAX_PIECES = 4096
#: Shares of the remaining time in which each worker takes a task; more even out its end.
_SHARES = 4
_SHORTEST = 0.05
#: Seconds a piece takes beside its cycles.
_FIXED = 3e-4
#: Assumed seconds per cycle before anything is measured: compiled, and in SimPy.
_FIRST_COMPILED, _FIRST_SIMPY = 1e-7, 1e-4


class Chunker:
    """Cut runs into tasks of about a second, by the rates measured so far.

    Cheap runs are put together, expensive ones are split by their replications. Near the end
    tasks get shorter, so that no worker waits long for another's last one.

    Parameters
    ----------
    scenario : str
        The base scenario as JSON.
    pieces : iterable of Piece
        All that is to be run, in order; read only as far as needed.
    units : mapping of str to float
        Total of replications x cycles in `pieces` for each policy.
    workers : int
        Tasks that run at once.
    threads : int or None
        See `Task`.
    wanted : callable
        Asked about each piece before it goes into a task.
    """

    def __init__(
        self,
        scenario: str,
        pieces: Iterable[Piece],
        *,
        units: Mapping[str, float],
        workers: int = 1,
        threads: int | None = 1,
        wanted: Callable[[Piece], bool] = lambda _: True,
    ) -> None:
        self._scenario = scenario
        self._pieces = iter(pieces)
        self._returned: deque[Piece] = deque()
        self._units_left = sum(units.values())
        built_in = sum(work for policy, work in units.items() if batch.is_compiled(policy))
        self._compiled = batch.is_worth_loading(built_in / workers)
        self._workers = workers
        self._threads = threads
        self._wanted = wanted
        self._rates: dict[str, float] = {}
        self._work_done = self._seconds_spent = 0.0

    def task(self, *pieces: Piece) -> Task:
        """Make a task of given pieces."""
        return Task(
            self._scenario, __version__, package_digest(), pieces, self._threads, self._compiled
        )

    def __iter__(self) -> Iterator[Task]:
        return self

    def __next__(self) -> Task:
        chosen: list[Piece] = []
        replications = 0
        room = target = self._target()
        while room > 0 and len(chosen) < MAX_PIECES and replications < MAX_REPLICATIONS:
            piece = self._next_piece()
            if piece is None:
                break
            wanted = piece.stop - piece.start
            second = self._seconds(piece) / wanted
            fits = min(max(int(room / second), 1), MAX_REPLICATIONS - replications)
            if chosen and fits < wanted and room < 0.5 * target:
                self._returned.appendleft(piece)  # begins a task of its own
                break
            taken = min(wanted, fits)
            if taken < wanted:
                self._returned.appendleft(replace(piece, start=piece.start + taken))
                piece = replace(piece, stop=piece.start + taken)
            chosen.append(piece)
            replications += taken
            room -= _FIXED + taken * second
            self._units_left -= taken * piece.cycles
        if not chosen:
            raise StopIteration
        return self.task(*chosen)

    def learn(self, piece: Piece, seconds: float) -> None:
        """Take note of how long a piece took."""
        work = (piece.stop - piece.start) * piece.cycles
        rate = max(seconds - _FIXED, 1e-7) / work
        kind = _kind(piece.policy)
        old = self._rates.get(kind)
        # The latest counts half: a first call's compile time is soon forgotten.
        self._rates[kind] = rate if old is None else 0.5 * (old + rate)
        self._work_done = 0.9 * self._work_done + work
        self._seconds_spent = 0.9 * self._seconds_spent + seconds

    def _next_piece(self) -> Piece | None:
        while True:
            piece = self._returned.popleft() if self._returned else next(self._pieces, None)
            if piece is None or self._wanted(piece):
                return piece

    def _seconds(self, piece: Piece) -> float:
        work = (piece.stop - piece.start) * piece.cycles
        compiled = self._compiled and batch.is_compiled(piece.policy)
        first = _FIRST_COMPILED if compiled else _FIRST_SIMPY
        return self._rates.get(_kind(piece.policy), first) * work

    def _target(self) -> float:
        """Seconds of the next task: a share of what is left, within bounds."""
        if not self._work_done:
            return 0.2  # the first ones measure
        left = self._units_left * self._seconds_spent / self._work_done
        return min(max(left / (_SHARES * self._workers), _SHORTEST), TASK_SECONDS)


def _kind(policy: str) -> str:
    """Name what has a rate of its own: each policy, but all constant splits together."""
    return "static" if policy.startswith("static:") else policy
