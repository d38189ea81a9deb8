"""Layer splitting: consecutive layers on different workers, pipelined over a stream of images.

Each cluster owns the rows of one part, as in Algorithm 3; inside a cluster every worker has a
range of layers (the paper's fig. 4). One image takes no less time than before; a stream gets
more images through, because every worker is busy with another image.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from time import perf_counter_ns
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from calibration.workloads.split_inference.errors import PlanError, WorkerError
from calibration.workloads.split_inference.planning.graph import Graph, trace
from calibration.workloads.split_inference.planning.layers import Rows
from calibration.workloads.split_inference.planning.planner import Message, Plan, plan
from calibration.workloads.split_inference.planning.program import Program, Step, compile_part
from calibration.workloads.split_inference.workers.job import Job, one_thread
from calibration.workloads.split_inference.workers.pool import WorkerPool
from calibration.workloads.split_inference.workers.runner import wire_order
from calibration.workloads.split_inference.workers.wire import (
    ClosedError,
    LateError,
    deadline_in,
    send_all,
    tensor_bytes,
)
from calibration.workloads.split_inference.workers.worker_process import one_core_each


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A plan whose parts are clusters of workers, each with its range of layers.

    Attributes
    ----------
    ranges : tuple of (int, int)
        First and last + 1 layer of each stage.
    programs : tuple of Program
        One for each worker; worker ``stage * plan.parts + part``.
    """

    plan: Plan
    ranges: tuple[tuple[int, int], ...]
    programs: tuple[Program, ...]


def plan_pipeline(split: Plan, cuts: Sequence[int]) -> Pipeline:
    """Divide the layers of every part of a plan among stages.

    Parameters
    ----------
    split : Plan
        Its rows are split over clusters; one part means a pipeline alone. Layerwise or fused.
    cuts : sequence of int
        Layers before which a new stage starts, increasing.

    Raises
    ------
    PlanError
        If a cut is out of order or the plan overlaps computing and sending.
    """
    count = len(split.graph.layers)
    bounds = [0, *cuts, count]
    if any(a >= b for a, b in pairwise(bounds)):
        raise PlanError(f"cuts must increase between 1 and {count - 1}, got {list(cuts)}")
    if split.early:
        raise PlanError("a pipeline needs blocks in layerwise or fused mode, not overlap")
    ranges = tuple(pairwise(bounds))
    messages = _messages(split, ranges)
    workers = [(s, part) for s in range(len(ranges)) for part in range(split.parts)]
    programs = tuple(_program(split, ranges, messages, s, part) for s, part in workers)
    return Pipeline(split, ranges, programs)


def balanced_cuts(
    seconds: Sequence[float], stages: int, handover: Sequence[float] | None = None
) -> list[int]:
    """Cut layers into stages so that the slowest stage is as fast as possible.

    Parameters
    ----------
    seconds : (layers,) sequence of float
        Time of each layer.
    handover : (layers,) sequence of float, optional
        What a cut before each layer costs, in seconds, both the stage before it and the one after
        it; nothing by default.

    Returns
    -------
    list of int
        Layers before which a new stage starts.

    Raises
    ------
    PlanError
        If there are more stages than layers.

    Examples
    --------
    >>> balanced_cuts([1.0, 1.0, 2.0, 4.0], 2)
    [3]
    >>> balanced_cuts([1.0, 1.0, 2.0, 4.0], 2, handover=[0.0, 0.0, 0.0, 3.0])
    [2]
    """
    n = len(seconds)
    if not 1 <= stages <= n:
        raise PlanError(f"stages must be 1 to {n} (the layers), got {stages}")
    cut = [0.0] * (n + 1) if handover is None else [0.0, *handover[1:], 0.0]
    total = [0.0]
    for value in seconds:
        total.append(total[-1] + value)
    # best[k][i]: the least possible slowest stage when the first i layers form k stages.
    best = [[0.0] + [float("inf")] * n]
    origin: list[list[int]] = [[0] * (n + 1)]
    for _ in range(stages):
        row, back = [float("inf")] * (n + 1), [0] * (n + 1)
        for i in range(1, n + 1):
            for j in range(i):
                slowest = max(best[-1][j], total[i] - total[j] + cut[j] + cut[i])
                if slowest < row[i]:
                    row[i], back[i] = slowest, j
        best.append(row)
        origin.append(back)
    cuts: list[int] = []
    i = n
    for k in range(stages, 1, -1):
        i = origin[k][i]
        cuts.insert(0, i)
    return cuts


def _stage_of(ranges: Sequence[tuple[int, int]], layer: int) -> int:
    return next(s for s, (a, b) in enumerate(ranges) if a <= layer < b)


def _messages(split: Plan, ranges: Sequence[tuple[int, int]]) -> tuple[Message, ...]:
    """Halos between clusters and maps handed from stage to stage, between worker ranks."""
    graph, parts, found = split.graph, split.parts, []
    for t in range(1, len(graph.shapes)):
        made = _stage_of(ranges, t - 1)
        readers = sorted({_stage_of(ranges, i) for i in graph.consumers(t)})
        for stage in readers:
            for m in split.messages:
                if m.tensor == t:
                    source, target = made * parts + m.source, stage * parts + m.target
                    found.append(replace(m, source=source, target=target))
            for part in range(parts) if stage != made else ():
                rows = split.needed[t][part].within(split.computed[t][part])
                if rows:
                    values = rows.count * graph.shapes[t].row_values
                    source, target = made * parts + part, stage * parts + part
                    found.append(Message(t, source, target, rows, values))
    return tuple(sorted(found, key=lambda m: (m.tensor, m.source, m.target, m.rows)))


def _program(
    split: Plan,
    ranges: Sequence[tuple[int, int]],
    messages: tuple[Message, ...],
    stage: int,
    part: int,
) -> Program:
    graph, rank, (first, last) = split.graph, stage * split.parts + part, ranges[stage]
    base = compile_part(split, part)
    received: set[int] = set()
    stages: list[tuple[Step, ...]] = []
    for i, layer in enumerate(graph.layers):
        steps: list[Step] = []
        if first <= i < last:
            for number, m in enumerate(messages):
                if m.target == rank and m.tensor in layer.inputs and number not in received:
                    received.add(number)
                    steps.append(Step("recv", i, m.rows, number))
            if rows := split.computed[i + 1][part]:
                steps.append(Step("compute", i, rows))
            steps += [
                Step("send", i, m.rows, number)
                for number, m in enumerate(messages)
                if m.tensor == i + 1 and m.source == rank
            ]
        stages.append(tuple(steps))
    mine = range(first, last)
    touched = {i + 1 for i in mine} | {t for i in mine for t in graph.layers[i].inputs}
    none = Rows(0, 0)
    return replace(
        base,
        part=rank,
        parts=split.parts * len(ranges),
        messages=messages,
        stages=tuple(stages),
        stored=tuple(rows if t in touched else none for t, rows in enumerate(base.stored)),
        input_rows=base.input_rows if 0 in touched else none,
        sinks=tuple((t, rows) for t, rows in base.sinks if first < t <= last),
    )


class PipelinedModel:
    """A network on clusters of workers, for streams of images.

    A library part, without a command: it gains with a stream of images, which only the caller's
    program has. ``benchmarks/split_inference.py`` measures it with one and two stages.

    Parameters
    ----------
    input_shape : (C, H, W) or (N, C, H, W)
    stages : int
        Workers in each cluster.
    parts : int
        Clusters, among which the rows are split.
    cuts : sequence of int, optional
        Layers before which a new stage starts; by default the layers' measured times are
        balanced.
    timeout_s : float
        Longest wait for one image.

    Raises
    ------
    PlanError, WorkerError
    """

    def __init__(
        self,
        net: nn.Module,
        input_shape: tuple[int, ...],
        stages: int = 2,
        parts: int = 1,
        *,
        cuts: Sequence[int] | None = None,
        timeout_s: float = 30.0,
        pool: WorkerPool | None = None,
    ) -> None:
        self.graph: Graph = trace(net, input_shape)
        split = plan(self.graph, parts)
        self._own, self._timeout_s = pool is None, timeout_s
        self.pool = pool or WorkerPool(one_core_each(stages * parts), timeout_s=timeout_s)
        try:
            if cuts is None:
                cuts = balanced_cuts(self._layer_seconds(), stages, self._handover_seconds())
            self.pipeline = plan_pipeline(split, cuts)
            self._job = Job(self.pool, split, programs=self.pipeline.programs)
        except BaseException:
            self.close()
            raise
        #: Moments at which the results of the last stream were complete, ns.
        self.completed_ns: list[int] = []

    def stream(self, images: Iterable[Tensor]) -> Iterator[Tensor]:
        """Run images through the pipeline; each result comes as soon as it is there.

        Parameters
        ----------
        images : iterable of (1, C, H, W) or (C, H, W) Tensor

        Yields
        ------
        Tensor
            The network's output for each image, in order.
        """
        batch = [(x[None] if x.dim() == 3 else x).detach() for x in images]
        shape = (1, *self.graph.shapes[0])
        with one_thread():
            if not all(tuple(x.shape) == shape and torch.isfinite(x).all() for x in batch):
                raise PlanError(f"a stream takes finite images of shape {shape}")
        if not batch:
            return
        self.completed_ns = []
        feeder = _Feeder(self._job, batch, self._timeout_s)
        self._job.start_stream(len(batch), self._timeout_s)
        feeder.start()
        try:
            for _ in batch:
                sinks = self._job.take_streamed(self._timeout_s)
                self.completed_ns.append(perf_counter_ns())
                with one_thread(), torch.inference_mode():
                    y: Tensor = self.graph.head(*sinks)
                yield y
            self._job.end_stream(self._timeout_s)
        finally:
            if len(self.completed_ns) < len(batch) and not self.pool.closed:
                self.pool.close("a stream was abandoned")
            feeder.join(self._timeout_s)

    def _layer_seconds(self) -> list[float]:
        job = Job(self.pool, plan(self.graph, 1), whole=True)
        _, timing = job.run(torch.zeros(1, *self.graph.shapes[0]), repeats=3)
        job.forget()
        marks = timing.steps[0][-1]
        return [float(s) * 1e-9 for s in marks[:, 1] - marks[:, 0]]

    def _handover_seconds(self) -> list[float]:
        """Return what a cut before each layer costs the stages on both sides of it."""
        graph, count = self.graph, len(self.graph.layers)
        if len(self.pool) < 2:
            return [0.0] * count
        sizes = [shape.height * shape.row_values for shape in graph.shapes]
        self.pool.connect("tcp")
        meta = {"count": 5, "values": max(sizes), "transport": "tcp"}
        first, *_ = self.pool.ask("ping", [meta, meta])
        if first is None:
            return [0.0] * count
        # Large maps do not fit into the sockets' buffers: both sides are held up all the way.
        each = float(np.median(np.frombuffer(first.payload, dtype=np.int64))) * 0.5e-9 / max(sizes)
        crossing = [0] * count
        for t in range(1, len(sizes)):
            readers = graph.consumers(t)
            for cut in range(t, max(readers, default=0) + 1):
                crossing[cut] += sizes[t]
        return [each * values for values in crossing]

    def close(self) -> None:
        """End the workers; closing twice does no harm."""
        if self._own:
            self.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Feeder(threading.Thread):
    """Sends the images while the results are being read."""

    def __init__(self, job: Job, images: list[Tensor], timeout_s: float) -> None:
        super().__init__(name="split-feeder", daemon=True)
        self._job, self._images, self._timeout_s = job, images, timeout_s

    def run(self) -> None:
        for x in self._images:
            for rank, program in enumerate(self._job.programs):
                rows = program.input_rows
                if not rows:
                    continue
                block = x.contiguous(memory_format=self._job.graph.memory_format)
                block = block[:, :, rows.lo : rows.hi]
                data = tensor_bytes(wire_order(block, self._job.graph.memory_format).contiguous())
                try:
                    channel = self._job.pool.channel(rank)
                    send_all(channel.sock, [data], deadline_in(self._timeout_s))
                except (ClosedError, LateError, WorkerError, IndexError):
                    return  # whoever reads the results finds out what happened and says so
