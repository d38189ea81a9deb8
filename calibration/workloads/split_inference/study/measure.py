"""Measure splitting against not splitting under equal conditions: interleaved in one run.

The baseline makes the network's own calls in a worker with the same pinning, allocator, layout,
type and threads. Every method runs in every round, in a newly drawn order; within a round each
method runs a few images in a row and the first, which warms the caches, is left out. Beside every
ratio stand the bound without communication and the same network on as many OpenMP threads. Rounds
that others disturbed are set aside and made again (``rounds``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.machine.disturbance import (
    GUARD,
    CpuReading,
    Taken,
    read_cpu,
    taken_between,
    wait_for_calm,
)
from calibration.workloads.split_inference import cost
from calibration.workloads.split_inference.planning.graph import Graph
from calibration.workloads.split_inference.planning.planner import MODES, Plan, plan
from calibration.workloads.split_inference.study.rounds import Rounds, Verdict, measure_rounds
from calibration.workloads.split_inference.study.simulate import simulated_latency
from calibration.workloads.split_inference.workers.job import Job, Timing
from calibration.workloads.split_inference.workers.pool import WorkerPool
from calibration.workloads.split_inference.workers.worker_process import (
    WorkerSpec,
    available_cores,
    one_core_each,
)
from kdsim._types import Record
from kdsim.results.intervals import Interval, mean_interval

#: Images in a row; the first of them is not counted.
IMAGES = 4
#: The part of a fair share below which a ratio is an artefact of the measurement.
ARTEFACT = 0.98
#: Seconds for which one waits at most until others leave the CPU alone, before each repetition.
_PATIENCE_S = 2.0


@dataclass(frozen=True, eq=False)
class Method:
    """One way of running the network, and what was measured of it.

    Attributes
    ----------
    name : str
        ``whole``, ``openmp``, ``bound`` or ``mode/transport``.
    rounds_s : (rounds,) float array
        Median seconds of the trunk in each round that counts (``Rounds.counted``): of the slowest
        part, from its first step to its last, waiting included.
    layers_s : (parts, layers, 3) float array
        Median seconds of each layer: computing, waiting for rows, and sending the rows that it
        reads to other parts.
    timing : Timing
        The last inference, for the timeline.
    """

    name: str
    plan: Plan
    rounds_s: NDArray[np.float64]
    layers_s: NDArray[np.float64]
    timing: Timing

    @property
    def layer_totals_s(self) -> NDArray[np.float64]:
        """Seconds of each layer: the slowest part's, with its waits and sends."""
        totals: NDArray[np.float64] = self.layers_s.sum(axis=2).max(axis=0)
        return totals


@dataclass(frozen=True, eq=False)
class Study:
    """All methods of one network, with predictions.

    Attributes
    ----------
    predicted_s : dict of str to float
        Latency that the cost model gives for each ``mode/tcp``; fitted before the rounds.
    simulated_s : dict of str to float
        The same from kdsim's engine, each part a device of one core and its link.
    halo_us : dict of str to (n,) float array
        One way of a 28 KB message over each transport, microseconds.
    rounds : Rounds
        All that were made, with what others took of the CPU in each.
    costs_taken : Taken
        What others took while the costs behind the predictions were measured.
    """

    graph: Graph
    parts: int
    methods: dict[str, Method]
    predicted_s: dict[str, float]
    simulated_s: dict[str, float]
    halo_us: dict[str, NDArray[np.float64]]
    rounds: Rounds
    costs_taken: Taken

    @property
    def verdict(self) -> Verdict:
        """Whether the times and ratios may be believed."""
        return self.rounds.verdict

    @property
    def has_disturbed_predictions(self) -> bool:
        """Whether others disturbed the measurement of the costs behind the predictions."""
        return self.costs_taken.disturbs(self.rounds.guard)

    def ratio(self, name: str) -> Interval:
        """Return a method's time over the baseline's, paired by round."""
        return mean_interval(self.methods[name].rounds_s / self.methods["whole"].rounds_s)

    def median_ratio(self, name: str) -> float:
        """Return the ratio of the medians over the rounds."""
        whole = float(np.median(self.methods["whole"].rounds_s))
        return float(np.median(self.methods[name].rounds_s)) / whole

    def seconds(self, name: str) -> Interval:
        """Return a method's time."""
        return mean_interval(self.methods[name].rounds_s)

    def is_artefact(self, name: str) -> bool:
        """Whether a split is faster than its number of workers can explain."""
        return name not in ("whole", "openmp") and self.median_ratio(name) < ARTEFACT / self.parts

    def prediction_error(self, name: str) -> float:
        """Return predicted over measured median latency, less one."""
        return self.predicted_s[name] / float(np.median(self.methods[name].rounds_s)) - 1.0

    def kinds(self, name: str) -> dict[str, tuple[float, float]]:
        """Return seconds (whole, split) summed over each kind of layer."""
        whole = self.methods["whole"].layer_totals_s
        split = self.methods[name].layer_totals_s
        sums: dict[str, tuple[float, float]] = {}
        for layer, a, b in zip(self.graph.layers, whole, split, strict=True):
            kind = layer.options.get("function", layer.kind)
            before = sums.get(kind, (0.0, 0.0))
            sums[kind] = before[0] + float(a), before[1] + float(b)
        return sums


def run_study(
    graph: Graph,
    *,
    parts: int = 2,
    modes: Sequence[str] = (*MODES, "auto"),
    transports: Sequence[str] = ("tcp", "gloo"),
    rounds: int = 15,
    extra_rounds: int | None = None,
    guard: float = GUARD,
    seed: int = 0,
    timeout_s: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """Measure a network whole and split.

    Parameters
    ----------
    modes : sequence of str
        Of `MODES`, or ``"auto"``.
    rounds : int
        Undisturbed rounds to measure: two or more, for an interval.
    extra_rounds : int, optional
        Disturbed rounds that are repeated at most. Default: as many as `rounds`.
    guard : float
        CPU seconds per second, taken from the workers' cores by other processes and by the host,
        above which a round is set aside.
    seed : int
        Of the image and of the order within each round.
    progress : callable, optional
        Called with (undisturbed rounds so far, rounds asked for).

    Raises
    ------
    PlanError, WorkerError
    """
    x = torch.randn(1, *graph.shapes[0], generator=torch.Generator().manual_seed(seed))
    cores = tuple(available_cores()[:parts])
    with ExitStack() as stack:
        # Gloo's threads poll, and what they take is not to be charged to the other methods.
        pools = {
            name: stack.enter_context(WorkerPool(one_core_each(parts), timeout_s=timeout_s))
            for name in dict.fromkeys(("tcp", *transports))
        }
        pool = pools["tcp"]
        many = stack.enter_context(
            WorkerPool([WorkerSpec(cores, threads=len(cores))], timeout_s=timeout_s)
        )
        one = plan(graph, 1)
        jobs = {
            "whole": Job(pool, one, whole=True),
            "openmp": Job(many, one, whole=True),
            "bound": Job(pool, plan(graph, parts), exchange=False),
        }
        pids = [pid for each in (*pools.values(), many) for pid in each.pids]

        def read() -> CpuReading:
            return read_cpu(pids, cores)

        before = read()
        costs = cost.measure(pool, graph, parts, x=x)
        costs_taken = taken_between(before, read())
        predicted, simulated = {}, {}
        for mode in modes:
            chosen = (
                cost.choose(graph, parts, costs)
                if mode == "auto"
                else plan(graph, parts, mode=mode)
            )
            for transport in transports:
                jobs[f"{mode}/{transport}"] = Job(pools[transport], chosen, transport=transport)
            predicted[f"{mode}/tcp"] = cost.predict(chosen, costs).latency_s
            simulated[f"{mode}/tcp"] = simulated_latency(chosen, costs)
        measured = measure_rounds(
            _interleaved(jobs, x, np.random.default_rng(seed)),
            read,
            asked=rounds,
            extra=rounds if extra_rounds is None else extra_rounds,
            guard=guard,
            wait=lambda: wait_for_calm(cores, guard, _PATIENCE_S, pids=pids),
            progress=progress,
        )
        halo = {t: _halo_us(pools[t], t) for t in transports} if parts == 2 else {}
    methods = {
        name: _method(name, job, [each.timings[name] for each in measured.counted])
        for name, job in jobs.items()
    }
    return Study(graph, parts, methods, predicted, simulated, halo, measured, costs_taken)


def _interleaved(
    jobs: dict[str, Job], x: Tensor, rng: np.random.Generator
) -> Callable[[], dict[str, Timing]]:
    """Warm every method up, and return what runs each once, in an order drawn anew."""
    names = list(jobs)
    for job in jobs.values():
        job.run(x, repeats=2)

    def run_round() -> dict[str, Timing]:
        order = [names[k] for k in rng.permutation(len(names))]
        return {name: jobs[name].run(x, repeats=IMAGES)[1] for name in order}

    return run_round


def _method(name: str, job: Job, timings: list[Timing]) -> Method:
    rounds_s, layers_s = [], []
    for timing in timings:
        steps = [s[1:] * 1e-9 for s in timing.steps]  # without the first image
        # Each part's own time, waits included. From the first start to the last end would add
        # up what parts that exchange nothing drift apart over several images.
        own = [s[:, -1, 1] - s[:, 0, 0] for s in steps]  # (images,) of each part
        rounds_s.append(np.median(np.max(own, axis=0)))
        layers_s.append([_by_layer(job, part, s) for part, s in enumerate(steps)])
    return Method(
        name, job.plan, np.array(rounds_s), np.median(np.array(layers_s), axis=0), timings[-1]
    )


def _by_layer(job: Job, part: int, steps: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return (layers, 3) median seconds of computing, waiting and sending."""
    program = job.programs[part]
    seconds = np.median(steps[:, :, 1] - steps[:, :, 0], axis=0)
    sums = np.zeros((len(program.layers), 3))
    if job.is_whole:
        sums[:, 0] = seconds
        return sums
    column = {"compute": 0, "recv": 1, "send": 2}
    for step, value in zip(program.steps, seconds, strict=True):
        layer = step.layer
        if step.action == "send":
            # Rows travel for the sake of the layer that reads them.
            layer = min(job.graph.consumers(program.messages[step.message].tensor))
        sums[layer, column[step.action]] += value
    return sums


def _halo_us(pool: WorkerPool, transport: str, count: int = 400) -> NDArray[np.float64]:
    """Return one-way times of 28 KB (a row of 32 maps of width 224), after some to warm up."""
    pool.connect(transport)
    meta: Record = {"count": count, "values": 7 * 1024, "transport": transport}
    first, *_ = pool.ask("ping", [meta, meta])
    if first is None:
        return np.empty(0)
    return np.asarray(np.frombuffer(first.payload, np.int64)[count // 4 :] * 0.5e-3, np.float64)
