"""A plan that a pool's workers hold ready: scatter the image's rows, gather the result, and when.

What the user calls is ``runtime``; studies, the cost model and pipelines run jobs directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.workloads.split_inference.errors import WorkerError
from calibration.workloads.split_inference.planning.planner import Plan
from calibration.workloads.split_inference.planning.program import (
    Program,
    compile_part,
    without_exchange,
)
from calibration.workloads.split_inference.workers.pool import WorkerPool
from calibration.workloads.split_inference.workers.runner import wire_order
from calibration.workloads.split_inference.workers.wire import (
    Channel,
    ClosedError,
    LateError,
    deadline_in,
    pack_tensors,
    recv_exactly,
    tensor_bytes,
)
from kdsim._types import Record


@dataclass(frozen=True, eq=False)
class Timing:
    """When what happened during one inference; ns on the host's monotonic clock.

    Attributes
    ----------
    called, gathered, finished : int
        Start of the call, all rows back, head done.
    programs : tuple of Program
        What each part executed.
    steps : tuple of (repeats, steps, 2) int array
        Start and end of every step of every part.
    """

    called: int
    gathered: int
    finished: int
    programs: tuple[Program, ...]
    steps: tuple[NDArray[np.int64], ...]

    @property
    def trunk_s(self) -> float:
        """Seconds from the first step of any part to the last (of the last repeat)."""
        first = min(int(s[-1, 0, 0]) for s in self.steps)
        return (max(int(s[-1, -1, 1]) for s in self.steps) - first) * 1e-9

    @property
    def total_s(self) -> float:
        """Seconds from call to answer, with scatter, gather and head."""
        return (self.finished - self.called) * 1e-9

    @property
    def gathered_s(self) -> float:
        """Seconds from call to gathered feature maps: the trunk with scatter and gather."""
        return (self.gathered - self.called) * 1e-9

    def busy_s(self, part: int) -> float:
        """Seconds that a part computed (of the last repeat)."""
        compute = [s.action == "compute" for s in self.programs[part].steps]
        marks = self.steps[part][-1][compute]
        return float((marks[:, 1] - marks[:, 0]).sum()) * 1e-9


class Job:
    """A plan (or the whole network) that a pool's workers hold ready.

    Parameters
    ----------
    transport : {"tcp", "gloo"}
    whole : bool
        The first worker runs the network's own calls: the baseline.
    exchange : bool
        False drops every message: wrong results at the borders, the bound in time.
    programs : sequence of Program, optional
        What each worker executes; compiled from the plan by default.
    """

    def __init__(
        self,
        pool: WorkerPool,
        split: Plan,
        *,
        transport: str = "tcp",
        whole: bool = False,
        exchange: bool = True,
        dtype: torch.dtype = torch.float32,
        programs: Sequence[Program] | None = None,
    ) -> None:
        self.pool, self.plan, self.dtype = pool, split, dtype
        self.graph = split.graph
        if programs is None:
            programs = [compile_part(split, p) for p in range(split.parts)]
        if len(programs) > len(pool):
            raise WorkerError(f"{len(programs)} workers are needed, the pool has {len(pool)}")
        self.programs = tuple(programs if exchange else map(without_exchange, programs))
        talks = any(program.messages for program in self.programs)
        if talks:
            pool.connect(transport)
        self.number = pool.new_job()
        self.is_whole = whole
        described, payload = pack_tensors(dict(self.graph.weights))
        shared = {
            "job": self.number,
            "weights": described,
            "exchange": transport if talks else "none",
            "whole": whole,
            "channels_last": self.graph.memory_format == torch.channels_last,
            "dtype": str(dtype).removeprefix("torch."),
        }
        metas = [shared | {"program": program.to_json()} for program in self.programs]
        pool.ask("job", metas, [payload] * len(metas))
        self._image = 0

    def refresh(self) -> None:
        """Send the present weights to the workers again."""
        described, payload = pack_tensors(dict(self.graph.weights))
        meta = {"job": self.number, "weights": described}
        count = len(self.programs)
        self.pool.ask("weights", [meta] * count, [payload] * count)

    def forget(self) -> None:
        """Let the workers drop the job."""
        self.pool.ask("forget", [{"job": self.number}] * len(self.programs))

    def run(
        self, x: Tensor, *, repeats: int = 1, timeout_s: float | None = None
    ) -> tuple[list[Tensor], Timing]:
        """Run one batch through the trunk.

        Parameters
        ----------
        x : (N, C, H, W) Tensor
        repeats : int
            How often the workers run it before they answer (for measuring).

        Returns
        -------
        sinks : list of Tensor
        timing : Timing
        """
        called = perf_counter_ns()
        layout = self.graph.memory_format
        x = x.contiguous(memory_format=layout)
        seconds = self.pool.timeout_s if timeout_s is None else timeout_s
        meta = {
            "job": self.number,
            "batch": x.shape[0],
            "image": self._image,
            "repeats": repeats,
            "timeout_s": seconds,
        }
        self._image += repeats
        payloads = []
        for program in self.programs:
            block = x[:, :, program.input_rows.lo : program.input_rows.hi]
            payloads.append([tensor_bytes(wire_order(block, layout).contiguous())])
        sinks = self._empty_sinks(x.shape[0])
        steps: list[Any] = [None] * len(self.programs)

        def take(rank: int, answer: Record, size: int, channel: Channel, deadline: float) -> None:
            count = len(self.graph.layers) if self.is_whole else len(self.programs[rank].steps)
            marks = np.zeros((repeats, count, 2), dtype=np.int64)
            recv_exactly(channel.sock, marks.data.cast("B"), deadline)
            steps[rank] = marks
            self._read_sinks(rank, sinks, channel, deadline)

        self.pool.ask("run", [meta] * len(self.programs), payloads, timeout_s=seconds, take=take)
        gathered = perf_counter_ns()
        return sinks, Timing(called, gathered, gathered, self.programs, tuple(steps))

    # --- streams ------------------------------------------------------------------------------

    def start_stream(self, count: int, timeout_s: float) -> None:
        """Tell all workers that `count` images will come, one after the other."""
        meta = {"job": self.number, "count": count, "image": self._image, "timeout_s": timeout_s}
        self._image += count
        for rank in range(len(self.programs)):
            try:
                self.pool.channel(rank).send("stream", meta, deadline=deadline_in(timeout_s))
            except (ClosedError, LateError) as error:
                raise self.pool.fail([rank], timeout_s) from error

    def take_streamed(self, timeout_s: float) -> list[Tensor]:
        """Wait for the sinks of the next image of a stream."""
        sinks, deadline = self._empty_sinks(1), deadline_in(timeout_s)
        for rank, program in enumerate(self.programs):
            if program.sinks:
                self._expect(rank, "image", sinks, deadline, timeout_s)
        return sinks

    def end_stream(self, timeout_s: float) -> None:
        """Wait until every worker has finished the stream."""
        deadline = deadline_in(timeout_s)
        for rank in range(len(self.programs)):
            self._expect(rank, "done", [], deadline, timeout_s)

    def _expect(
        self, rank: int, kind: str, sinks: list[Tensor], deadline: float, timeout_s: float
    ) -> None:
        channel = self.pool.channel(rank)
        try:
            found, meta, _ = channel.recv_header(deadline)
            if found != kind:
                raise self.pool.fail([rank], timeout_s, str(meta.get("message", found)))
            if sinks:
                self._read_sinks(rank, sinks, channel, deadline)
        except (ClosedError, LateError) as error:
            raise self.pool.fail([rank], timeout_s) from error

    def _empty_sinks(self, batch: int) -> list[Tensor]:
        layout = self.graph.memory_format
        return [
            torch.empty((batch, *self.graph.shapes[t]), dtype=self.dtype, memory_format=layout)
            for t in self.graph.sinks
        ]

    def _read_sinks(
        self, rank: int, sinks: list[Tensor], channel: Channel, deadline: float
    ) -> None:
        for t, rows in self.programs[rank].sinks:
            block = sinks[self.graph.sinks.index(t)][:, :, rows.lo : rows.hi]
            target = wire_order(block, self.graph.memory_format)
            direct = target.is_contiguous()
            into = target if direct else torch.empty(target.shape, dtype=self.dtype)
            recv_exactly(channel.sock, tensor_bytes(into), deadline)
            if not direct:
                target.copy_(into)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread here: the others would spin on the workers' cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
