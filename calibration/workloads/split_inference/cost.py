"""How long a plan takes: costs measured on the workers, a prediction, and the choice of a plan.

A layer costs ``fixed + rows * per_row`` seconds on a worker, a message ``fixed + bytes *
per_byte`` for its sender and receiver and a latency in between. All are fitted to measurements of
the workers while they work at the same time, so that what they take from each other (memory
bandwidth, cache) is in the costs. :func:`predict` plays a plan's programs against these costs;
:func:`choose` searches modes and row shares for the shortest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.workloads.split_inference.errors import PlanError
from calibration.workloads.split_inference.planning.graph import Graph
from calibration.workloads.split_inference.planning.planner import MODES, Plan, blocks, plan
from calibration.workloads.split_inference.planning.program import Step, compile_part
from calibration.workloads.split_inference.workers.job import Job
from calibration.workloads.split_inference.workers.pool import WorkerPool


@dataclass(frozen=True, slots=True)
class Line:
    """A cost that grows with size: ``fixed + size * slope`` seconds."""

    fixed: float
    slope: float

    def __call__(self, size: float) -> float:
        """Return the seconds for a size."""
        return self.fixed + self.slope * size


@dataclass(frozen=True)
class CostModel:
    """What layers and messages cost on the workers of one pool.

    Attributes
    ----------
    layers : tuple of tuple of Line
        For each worker and layer, by output rows of one image.
    send, receive : Line
        Seconds of the sender and of the receiver, by bytes.
    latency_s : float
        Between the end of a send and the moment its rows can be received.
    """

    layers: tuple[tuple[Line, ...], ...]
    send: Line
    receive: Line
    latency_s: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """A plan played against a cost model.

    Attributes
    ----------
    latency_s : float
        From the first step to the last.
    busy_s : tuple of float
        Seconds in which each part computes or copies.
    times : tuple of (steps, 2) float array
        Start and end of every step of every part, seconds.
    """

    latency_s: float
    busy_s: tuple[float, ...]
    times: tuple[NDArray[np.float64], ...]

    def idle(self, part: int) -> float:
        """Return the share of the time in which a part waits."""
        return 1.0 - self.busy_s[part] / self.latency_s


# --- measure ----------------------------------------------------------------------------------


def measure(
    pool: WorkerPool,
    graph: Graph,
    parts: int,
    *,
    x: Tensor | None = None,
    transport: str = "tcp",
    rounds: int = 6,
) -> CostModel:
    """Measure what layers and messages cost on the first `parts` workers of a pool.

    Parameters
    ----------
    x : (1, C, H, W) Tensor, optional
        The image to measure with; zeros by default.
    transport : {"tcp", "gloo"}
    rounds : int
        Interleaved repetitions of each measurement; medians are used.
    """
    if x is None:
        dtype = next(iter(graph.weights.values())).dtype if graph.weights else torch.float32
        x = torch.zeros(1, *graph.shapes[0], dtype=dtype)
    jobs = [Job(pool, p, transport=transport, dtype=x.dtype) for p in _probes(graph, parts)]
    seen: dict[tuple[int, int, int], list[list[float]]] = {}
    sends: list[tuple[float, float]] = []
    receives: list[tuple[float, float]] = []
    for _ in range(rounds):
        for which, job in enumerate(jobs):
            _, timing = job.run(x, repeats=3)
            for part, program in enumerate(job.programs):
                # The first repeat warms the caches.
                seconds = (timing.steps[part][1:, :, 1] - timing.steps[part][1:, :, 0]) * 1e-9
                for k, step in enumerate(program.steps):
                    if step.action == "compute":
                        seen.setdefault((part, which, k), []).append(list(seconds[:, k]))
                    else:
                        size = program.messages[step.message].values * x.element_size()
                        kept = sends if step.action == "send" else receives
                        kept += [(size, float(s)) for s in seconds[:, k]]
    points: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for (part, which, k), samples in seen.items():
        step = jobs[which].programs[part].steps[k]
        point = (float(step.rows.count), float(np.median(np.concatenate(samples))))
        points.setdefault((part, step.layer), []).append(point)
    for job in jobs:
        job.forget()
    layers = tuple(
        tuple(_fit(points[part, i]) for i in range(len(graph.layers))) for part in range(parts)
    )
    # The cheapest receives are those whose rows had come already: the rest is waiting.
    quick = _lower_half(receives)
    send, receive = _fit(_medians(sends)), _fit(_medians(quick))
    return CostModel(layers, send, receive, _latency(pool, transport, send, receive))


def _probes(graph: Graph, parts: int) -> list[Plan]:
    """Return plans in which every layer runs on several numbers of rows."""
    tilts = [[1.0] * parts]
    if parts > 1:
        tilts += [[2.0 if i % 2 == k else 1.0 for i in range(parts)] for k in (0, 1)]
    found = []
    for shares, mode in [*[(s, "layerwise") for s in tilts], (tilts[0], "overlap")]:
        try:
            found.append(plan(graph, parts, mode=mode, shares=shares))
        except PlanError:  # a map too low for such uneven shares
            if shares == tilts[0]:
                raise
    return found


def _latency(pool: WorkerPool, transport: str, send: Line, receive: Line) -> float:
    if len(pool) < 2 or not send.fixed:
        return 0.0
    values = 256
    meta = {"count": 50, "values": values, "transport": transport}
    first, *_ = pool.ask("ping", [meta, meta])
    if first is None:
        return 0.0
    one_way = float(np.median(np.frombuffer(first.payload, dtype=np.int64))) * 0.5e-9
    return max(0.0, one_way - send(4 * values) - receive(4 * values))


def _lower_half(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    kept = []
    for _, group in _grouped(points):
        kept += sorted(group)[: max(1, len(group) // 2)]
    return kept


def _medians(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(size, float(np.median([s for _, s in group]))) for size, group in _grouped(points)]


def _grouped(
    points: Sequence[tuple[float, float]],
) -> Iterable[tuple[float, list[tuple[float, float]]]]:
    for size, group in itertools.groupby(sorted(points), key=lambda point: point[0]):
        yield size, list(group)


def _fit(points: Sequence[tuple[float, float]]) -> Line:
    """Fit a line with non-negative coefficients, in relative error."""
    if not points:
        return Line(0.0, 0.0)
    from scipy.optimize import nnls

    size, seconds = np.array(points, dtype=float).T
    design = np.column_stack([np.ones_like(size), size]) / seconds[:, None]
    (fixed, slope), _ = nnls(design, np.ones_like(seconds))
    return Line(float(fixed), float(slope))


# --- predict ----------------------------------------------------------------------------------


def predict(split: Plan, costs: CostModel, *, itemsize: int = 4) -> Prediction:
    """Play a plan's programs against the costs.

    Parameters
    ----------
    costs : CostModel
        Measured for at least as many workers as the plan has parts.
    itemsize : int
        Bytes of one value.
    """
    programs = [compile_part(split, p) for p in range(split.parts)]
    clock, busy = [0.0] * split.parts, [0.0] * split.parts
    arrived: dict[int, float] = {}
    times: list[list[tuple[float, float]]] = [[] for _ in programs]

    def play(part: int, step: Step) -> None:
        start = clock[part]
        if step.action == "compute":
            cost = costs.layers[part][step.layer](step.rows.count)
            end = start + cost
        else:
            size = split.messages[step.message].values * itemsize
            if step.action == "send":
                cost = costs.send(size)
                end = start + cost
                arrived[step.message] = end + costs.latency_s
            else:
                cost = costs.receive(size)
                end = max(start, arrived[step.message]) + cost
        busy[part] += cost
        clock[part] = end
        times[part].append((start, end))

    for stage in range(len(split.graph.layers)):
        # Within a stage every receive waits only for sends of earlier stages.
        for part, program in enumerate(programs):
            for step in program.stages[stage]:
                play(part, step)
    return Prediction(max(clock), tuple(busy), tuple(np.array(t) for t in times))


# --- choose -----------------------------------------------------------------------------------


def choose(
    graph: Graph,
    parts: int,
    costs: CostModel,
    *,
    modes: str | Sequence[str] | None = None,
    itemsize: int = 4,
) -> Plan:
    """Choose the mode of each block and the row shares with the shortest predicted latency.

    Parameters
    ----------
    modes : str or sequence of str, optional
        Fixes the modes and leaves only the shares to choose.
    itemsize : int
        Bytes of one value.
    """
    best = plan(graph, parts, mode="layerwise" if modes is None else modes)
    if parts == 1:
        return best
    best = _better_shares(graph, best, costs, itemsize)
    if modes is None:
        best = _better_modes(graph, best, costs, itemsize)
        best = _better_shares(graph, best, costs, itemsize)
    return best


def _better_modes(graph: Graph, start: Plan, costs: CostModel, itemsize: int) -> Plan:
    """Improve one block's mode at a time until none helps (blocks hardly influence each other)."""
    best, least = start, predict(start, costs, itemsize=itemsize).latency_s
    improved = True
    while improved:
        improved = False
        for block, mode in itertools.product(range(len(blocks(graph))), MODES):
            modes = [*best.modes[:block], mode, *best.modes[block + 1 :]]
            trial = plan(graph, best.parts, mode=modes, shares=best.shares)
            latency = predict(trial, costs, itemsize=itemsize).latency_s
            if latency < least * (1 - 1e-6):
                best, least, improved = trial, latency, True
    return best


def _better_shares(graph: Graph, start: Plan, costs: CostModel, itemsize: int) -> Plan:
    """Start from shares by speed, then move single rows between parts while that helps."""
    height = graph.shapes[graph.sinks[0]].height
    cost = [sum(line.slope * 1.0 for line in costs.layers[p]) for p in range(start.parts)]
    speed = [1.0 / c if c > 0 else 1.0 for c in cost]
    rows = [max(1, round(height * s / sum(speed))) for s in speed]
    rows[int(np.argmax(rows))] += height - sum(rows)
    best, least = start, predict(start, costs, itemsize=itemsize).latency_s
    trials = [rows]
    while trials:
        found = None
        for trial in trials:
            if min(trial) < 1:
                continue
            candidate = plan(graph, start.parts, mode=start.modes, shares=trial)
            latency = predict(candidate, costs, itemsize=itemsize).latency_s
            if latency < least * (1 - 1e-6):
                best, least, found = candidate, latency, trial
        now = [row.count for row in best.owned[graph.sinks[0]]]
        trials = _neighbours(now) if found is not None else []
    return best


def _neighbours(rows: Sequence[int]) -> list[list[int]]:
    found = []
    for a, b in itertools.permutations(range(len(rows)), 2):
        trial = list(rows)
        trial[a], trial[b] = trial[a] - 1, trial[b] + 1
        found.append(trial)
    return found
