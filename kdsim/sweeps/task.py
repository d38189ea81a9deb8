"""What a worker does: run some replications of some runs and return arrays.

A task is plain data (the scenario as JSON, points, names and ranges), never a live object, so
that it crosses to another process or machine as it is. A run that fails is an outcome with its
error; it disturbs nothing else in its task. How tasks are cut is ``chunker``'s subject.
"""

from __future__ import annotations

import functools
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdsim._version import __version__
from kdsim.engines import batch
from kdsim.errors import KdsimError, SweepError, UnknownPolicyError
from kdsim.model.curves import FloatArray
from kdsim.scenario.changes import with_fields
from kdsim.scenario.study import Scenario
from kdsim.sweeps.policy_source import PolicySource, is_source, package_digest, policy_source

#: Raised whenever an engine's numbers change; part of every run's identity.
ENGINE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Piece:
    """Replications start..stop-1 of one run.

    Attributes
    ----------
    run_id : str
        Key of the run in the store.
    point : str
        Swept fields and values as JSON, parsed where the piece is run.
    policy : str
        Name of the policy.
    source : str
        Hash of the code of a user's policy as the driver sees it; empty for a built-in policy.
    start, stop : int
        Replications.
    cycles : int
        Cycles of one replication, the measure of its cost.
    """

    run_id: str
    point: str
    policy: str
    source: str
    start: int
    stop: int
    cycles: int


@dataclass(frozen=True, slots=True)
class Task:
    """Pieces that one worker runs one after the other.

    Attributes
    ----------
    scenario : str
        The base scenario as JSON; the pieces' points change it.
    version, code : str
        The driver's version of kdsim, and the hash of its source.
    threads : int or None
        Threads of the compiled engine in each worker; None for all cores.
    compiled : bool
        Whether the sweep as a whole is large enough to load the compiled engine, whatever the
        size of this task.
    """

    scenario: str
    version: str
    code: str
    pieces: tuple[Piece, ...]
    threads: int | None
    compiled: bool


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
        If this worker has another kdsim than the driver.
    """
    if task.version != __version__:
        raise SweepError(
            f"a worker runs kdsim {__version__}, the driver {task.version}; "
            "results could differ: install the same version everywhere"
        )
    if task.code != package_digest():
        raise SweepError(
            f"a worker runs other source of kdsim {__version__} than the driver (from "
            f"{Path(__file__).parents[1]}); results could differ: install the same code everywhere"
        )
    return [_execute_piece(task, piece) for piece in task.pieces]


def _execute_piece(task: Task, piece: Piece) -> Outcome:
    begin = time.perf_counter()
    error = ""
    makespans = bounds = np.zeros(0)
    try:
        if piece.source and not _is_loaded(piece.policy, piece.source):
            files = ", ".join(_loaded_source(piece.policy).files)
            raise UnknownPolicyError(
                f"policy {piece.policy}: this worker has another version of its code ({files}) "
                "than the sweep began with; where it was edited, start Python anew"
            )
        scenario = scenario_at(task.scenario, piece.point)
        if task.compiled and batch.is_compiled(piece.policy):
            batch.load(scenario, piece.policy)
        makespans, bounds = run_piece(
            scenario, piece.policy, piece.start, piece.stop, threads=task.threads
        )
    except KdsimError as fault:
        error = str(fault)
    except Exception as fault:  # noqa: BLE001 - a user's policy or its imports may raise anything
        error = f"{type(fault).__name__}: {fault}"
    seconds = time.perf_counter() - begin
    return Outcome(piece.run_id, piece.start, piece.stop, makespans, bounds, error, seconds)


def run_piece(
    scenario: Scenario, policy: str, start: int, stop: int, *, threads: int | None
) -> tuple[FloatArray, FloatArray]:
    """Run replications start..stop-1; bounds are one value unless the work is noisy."""
    makespans, bounds = batch.makespans(scenario, policy, start, stop, threads=threads)
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
def _loaded_source(policy: str) -> PolicySource:
    # Once a process: Python does not load a changed module again either.
    return policy_source(policy)


@functools.lru_cache(maxsize=64)
def _is_loaded(policy: str, source: str) -> bool:
    """Whether the code of a policy in this process is the one that a sweep began with."""
    return _loaded_source(policy).digest == source or is_source(policy, source)
