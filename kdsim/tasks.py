"""What a worker does: run some replications of some runs and give back arrays.

A task is plain data (the scenario as JSON, points, names and ranges), never a live object, so
that it crosses to another process or machine as it is. A run that fails is an outcome with its
error; it disturbs nothing else in its task. How tasks are cut is `Chunker`'s subject.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kdsim._version import __version__
from kdsim.curves import FloatArray
from kdsim.errors import KdsimError, SweepError, UnknownPolicyError
from kdsim.policies import is_built_in
from kdsim.scenario import Scenario, with_fields

#: Raised whenever an engine's numbers change; part of every run's identity.
ENGINE_VERSION = 1
#: Seconds that a task should take: long against its overhead, short against a lost worker.
TASK_SECONDS = 1.0
#: Replications in one task at most, so that its result stays at a few megabytes.
MAX_REPLICATIONS = 200_000
#: Runs in one task at most: how many results one lost worker can cost.
MAX_PIECES = 4096


@dataclass(frozen=True, slots=True)
class Piece:
    """Replications start..stop-1 of one run.

    Attributes
    ----------
    run_id : str
        Key of the run in the store.
    point : dict
        Swept fields and values.
    policy : str
        Name of the policy.
    source : str
        Hash of a user's policy file as the driver sees it; empty for a built-in policy.
    start, stop : int
        Replications.
    cycles : int
        Cycles of one replication, the measure of its cost.
    """

    run_id: str
    point: dict[str, Any]
    policy: str
    source: str
    start: int
    stop: int
    cycles: int


@dataclass(frozen=True, slots=True)
class Task:
    """Pieces that one worker runs one after the other."""

    scenario: str
    version: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a piece: arrays, or the error of its run.

    Attributes
    ----------
    makespans : (stop - start,) float array
    bounds : (stop - start,) or (1,) float array
        One value unless the work is noisy.
    error : str
        Empty if all went well.
    seconds : float
        Wall time.
    """

    run_id: str
    start: int
    stop: int
    makespans: FloatArray
    bounds: FloatArray
    error: str
    seconds: float


def execute(task: Task) -> list[Outcome]:
    """Run a task; every failure of a run becomes its outcome.

    Raises
    ------
    SweepError
        If this worker has another version of kdsim than the driver.
    """
    if task.version != __version__:
        raise SweepError(
            f"a worker runs kdsim {__version__}, the driver {task.version}; "
            "results could differ: install the same version everywhere"
        )
    return [_execute_piece(task.scenario, piece) for piece in task.pieces]


def _execute_piece(base: str, piece: Piece) -> Outcome:
    begin = time.perf_counter()
    error = ""
    makespans = bounds = np.zeros(0)
    try:
        if piece.source and policy_source(piece.policy)[1] != piece.source:
            raise UnknownPolicyError(
                f"policy {piece.policy}: this worker finds another version of its file "
                f"({policy_source(piece.policy)[0]})"
            )
        scenario = scenario_at(base, json.dumps(piece.point))
        makespans, bounds = run_piece(scenario, piece.policy, piece.start, piece.stop)
    except KdsimError as fault:
        error = str(fault)
    except Exception as fault:  # noqa: BLE001 - a user's policy or its imports may raise anything
        error = f"{type(fault).__name__}: {fault}"
    seconds = time.perf_counter() - begin
    return Outcome(piece.run_id, piece.start, piece.stop, makespans, bounds, error, seconds)


def run_piece(
    scenario: Scenario, policy: str, start: int, stop: int
) -> tuple[FloatArray, FloatArray]:
    """Run replications start..stop-1; bounds are one value unless the work is noisy."""
    from kdsim import batch  # imports numba when it compiles

    makespans, bounds = batch.makespans(scenario, policy, start, stop)
    makespans = np.ascontiguousarray(makespans, dtype=np.float64)
    bounds = np.ascontiguousarray(bounds, dtype=np.float64)
    if scenario.extensions.noise > 0:
        bounds = np.ascontiguousarray(np.broadcast_to(bounds, makespans.shape))
    else:
        bounds = bounds[:1].copy()
    return makespans, bounds


@functools.lru_cache(maxsize=4)
def _base(text: str) -> Scenario:
    return Scenario.model_validate_json(text)


@functools.lru_cache(maxsize=4)
def scenario_at(base: str, point: str) -> Scenario:
    """Return the scenario (given as JSON) at a point (JSON too); neighbours share the last few."""
    return with_fields(_base(base), json.loads(point))


@functools.lru_cache(maxsize=64)
def policy_source(policy: str) -> tuple[str, str]:
    """Return (path, SHA-256) of a user policy's source file; empty for a built-in policy.

    Raises
    ------
    UnknownPolicyError
        If its module cannot be found.
    """
    if is_built_in(policy):
        return "", ""
    module = policy.partition(":")[0]
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `make_policy` looks for it
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise UnknownPolicyError(f"policy {policy!r}: no module named {module!r} (looked in {here})")
    if not found.has_location or found.origin is None:
        return module, hashlib.sha256(module.encode()).hexdigest()
    return found.origin, hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()


# --- cutting work into tasks ------------------------------------------------------------------


class Chunker:
    """Cut runs into tasks of about a second, from the rates measured so far.

    Cheap runs are put together, expensive ones are split by their replications. Near the end
    tasks get smaller, so that no worker waits long for another's last one.

    Parameters
    ----------
    scenario : str
        The base scenario as JSON.
    pieces : iterable of Piece
        All that is to be run, in order; read only as far as needed.
    workers : int
        Tasks that run at once.
    units : float
        Total of replications x cycles in `pieces`.
    seconds : float
        Length of a task to aim at.
    """

    #: Seconds a cycle to begin with: a compiled loop, and a SimPy run of a user's policy.
    _FIRST_RATE = (2e-7, 1e-4)
    #: Seconds that a piece takes beside its cycles, to begin with.
    _FIRST_FIXED = 2e-4

    def __init__(
        self,
        scenario: str,
        pieces: Iterable[Piece],
        *,
        workers: int = 1,
        units: float = 0.0,
        seconds: float = TASK_SECONDS,
    ) -> None:
        self._scenario = scenario
        self._pieces = iter(pieces)
        self._returned: deque[Piece] = deque()
        self._workers = workers
        self._units_left = units
        self._seconds = seconds
        self._rates: dict[str, float] = {}
        self._seen: dict[str, float] = {}

    def __iter__(self) -> Iterator[Task]:
        return self

    def __next__(self) -> Task:
        chosen: list[Piece] = []
        room = self._target()
        replications = 0
        while room > 0 and len(chosen) < MAX_PIECES and replications < MAX_REPLICATIONS:
            piece = self._next_piece()
            if piece is None:
                break
            rate = self._rate(piece.policy)
            wanted = piece.stop - piece.start
            fits = max(1, int((room - self._FIRST_FIXED) / (rate * piece.cycles)))
            if chosen and fits < wanted and fits * rate * piece.cycles < 0.5 * room:
                self._returned.appendleft(piece)  # better begun in a task of its own
                break
            taken = min(wanted, fits, MAX_REPLICATIONS - replications)
            if taken < wanted:
                self._returned.appendleft(replace(piece, start=piece.start + taken))
                piece = replace(piece, stop=piece.start + taken)
            chosen.append(piece)
            replications += taken
            room -= self._FIRST_FIXED + taken * rate * piece.cycles
            self._units_left -= taken * piece.cycles
        if not chosen:
            raise StopIteration
        return Task(self._scenario, __version__, tuple(chosen))

    def learn(self, piece: Piece, seconds: float) -> None:
        """Take note of how long a piece took."""
        work = (piece.stop - piece.start) * piece.cycles
        kind = _kind(piece.policy)
        seen = self._seen.get(kind, 0.0)
        old = self._rates.get(kind, 0.0)
        # Weighted by work, the past at a tenth: a first call's compile time is soon forgotten.
        weight = 0.1 * seen
        self._rates[kind] = max((old * weight + seconds) / (weight + work), 1e-12)
        self._seen[kind] = weight + work

    def _next_piece(self) -> Piece | None:
        return self._returned.popleft() if self._returned else next(self._pieces, None)

    def _rate(self, policy: str) -> float:
        return self._rates.get(_kind(policy), self._FIRST_RATE[not is_built_in(policy)])

    def _target(self) -> float:
        """Seconds of the next task: a share of what is left, within bounds."""
        if not self._rates:
            return min(0.1, self._seconds)  # the first ones measure
        rate = sum(self._rates.values()) / len(self._rates)
        share = self._units_left * rate / (4 * self._workers)
        return min(max(share, 0.05), self._seconds)


def _kind(policy: str) -> str:
    """What has a rate of its own: each policy, but all constant splits together."""
    return "static" if policy.startswith("static:") else policy
