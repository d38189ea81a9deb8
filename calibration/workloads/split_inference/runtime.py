"""Run a plan on worker processes: scatter the image's rows, gather the result, apply the head.

:class:`SplitModel` is what a user calls. It owns a pool of workers unless it is given one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.workloads.split_inference.errors import PlanError, WorkerError
from calibration.workloads.split_inference.graph import Graph, image_shape, trace
from calibration.workloads.split_inference.planner import Plan, plan
from calibration.workloads.split_inference.pool import WorkerPool, WorkerSpec, one_core_each
from calibration.workloads.split_inference.program import (
    Program,
    compile_part,
    without_exchange,
)
from calibration.workloads.split_inference.runner import wire_order
from calibration.workloads.split_inference.wire import (
    Channel,
    ClosedError,
    LateError,
    deadline_in,
    pack_tensors,
    recv_exactly,
    tensor_bytes,
)


@dataclass(frozen=True, eq=False)
class Timing:
    """When what happened during one inference; ns on the host's monotonic clock.

    Attributes
    ----------
    called, scattered, gathered, finished : int
        Start of the call, input sent, all rows back, head done.
    programs : tuple of Program
        What each part executed.
    steps : tuple of (repeats, steps, 2) int array
        Start and end of every step of every part.
    """

    called: int
    scattered: int
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
    pool : WorkerPool
    split : Plan
    transport : {"tcp", "gloo"}
    whole : bool
        The first worker runs the network's own calls: the baseline.
    exchange : bool
        False drops every message: wrong results at the borders, the bound in time.
    dtype : torch.dtype
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
        timeout_s : float, optional

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
        scattered = 0

        def take(
            rank: int, answer: dict[str, Any], size: int, channel: Channel, deadline: float
        ) -> None:
            count = len(self.graph.layers) if self.is_whole else len(self.programs[rank].steps)
            marks = np.zeros((repeats, count, 2), dtype=np.int64)
            recv_exactly(channel.sock, memoryview(marks).cast("B"), deadline)
            steps[rank] = marks
            self._read_sinks(rank, sinks, channel, deadline)

        self.pool.ask("run", [meta] * len(self.programs), payloads, timeout_s=seconds, take=take)
        gathered = perf_counter_ns()
        return sinks, Timing(called, scattered, gathered, gathered, self.programs, tuple(steps))

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


class SplitModel:
    """A network whose trunk runs split over worker processes.

    The weights are copied to the workers on entry; after changing them call :meth:`refresh`.

    Parameters
    ----------
    net : nn.Module
        Runs as in evaluation mode; is not changed.
    input_shape : (C, H, W) or (N, C, H, W)
        The batch size of an input is free in both cases.
    parts : int
        1 to 7.
    mode : str or sequence of str
        ``"layerwise"`` (the paper's), ``"overlap"``, ``"fused"``, ``"auto"`` (chosen for each
        block by a cost model measured on entry), or one name for each block.
    transport : {"tcp", "gloo"}
    timeout_s : float
        After this long without progress an inference fails.
    shares : sequence of float, optional
        Rows of each part, relative; equal by default, measured for ``mode="auto"``.
    cores : sequence of WorkerSpec, optional
        Where the workers run; one core each by default.
    port : int
        First of ``parts + 1`` TCP ports; 0 for any that are free.
    pool : WorkerPool, optional
        Workers to use instead of own ones; stays open.

    Raises
    ------
    PlanError
        If the network cannot be split so.
    WorkerError
        If the workers cannot be started.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.MaxPool2d(2))
    >>> with SplitModel(net, (3, 32, 32), parts=2) as split:  # doctest: +SKIP
    ...     y = split(torch.randn(1, 3, 32, 32))
    """

    def __init__(
        self,
        net: nn.Module,
        input_shape: tuple[int, ...],
        parts: int = 2,
        mode: str | Sequence[str] = "layerwise",
        transport: str = "tcp",
        timeout_s: float = 30.0,
        *,
        shares: Sequence[float] | None = None,
        cores: Sequence[WorkerSpec] | None = None,
        port: int = 0,
        pool: WorkerPool | None = None,
    ) -> None:
        if transport not in ("tcp", "gloo"):
            raise PlanError(f"transport must be tcp or gloo, got {transport!r}")
        self.graph: Graph = trace(net, input_shape)
        self.shape = image_shape(input_shape)
        self._transport, self._auto = transport, mode == "auto"
        first = plan(self.graph, parts, mode="layerwise" if self._auto else mode, shares=shares)
        specs = one_core_each(parts) if cores is None else list(cores)
        if len(specs) != parts:
            raise PlanError(f"{parts} parts need {parts} worker specs, got {len(specs)}")
        self._dtype = next(
            (w.dtype for w in self.graph.weights.values() if w.is_floating_point()), torch.float32
        )
        self._own = pool is None
        self.pool = pool or WorkerPool(specs, port=port, timeout_s=timeout_s)
        self._timeout_s = timeout_s
        self.timing: Timing | None = None
        try:
            self._job = Job(self.pool, first, transport=transport, dtype=self._dtype)
            if self._auto:
                self.tune()
        except BaseException:
            self.close()
            raise

    @property
    def plan(self) -> Plan:
        """The plan that the workers hold."""
        return self._job.plan

    def __call__(self, x: Tensor) -> Tensor:
        """Run the network on a batch of images.

        Parameters
        ----------
        x : (N, C, H, W) or (C, H, W) Tensor

        Returns
        -------
        Tensor
            What the network itself returns in evaluation mode.

        Raises
        ------
        PlanError
            If shape or type do not match, or the input is not finite.
        WorkerError
            If a worker dies, stalls or fails.
        """
        if self.pool.closed:
            self.pool.ask("run", [])  # raises and says why
        batch = self._checked(x)
        with torch.inference_mode():
            sinks, timing = self._job.run(batch, timeout_s=self._timeout_s)
            y: Tensor = self.graph.head(*sinks)
        self.timing = Timing(
            timing.called,
            timing.scattered,
            timing.gathered,
            perf_counter_ns(),
            timing.programs,
            timing.steps,
        )
        return y

    def _checked(self, x: Tensor) -> Tensor:
        batch = x[None] if x.dim() == 3 else x
        if batch.dim() != 4 or tuple(batch.shape[1:]) != tuple(self.shape) or not len(batch):
            raise PlanError(
                f"the input must have shape (N, {', '.join(map(str, self.shape))}), "
                f"got {tuple(x.shape)}"
            )
        if batch.dtype != self._dtype:
            raise PlanError(f"the input must be {self._dtype} like the weights, got {x.dtype}")
        if not torch.isfinite(batch).all():
            bad = torch.nonzero(~torch.isfinite(batch))[0].tolist()
            raise PlanError(f"the input must be finite, got NaN or an infinity at {bad}")
        return batch.detach()

    def refresh(self) -> None:
        """Copy the network's present weights to the workers."""
        self._job.refresh()

    def tune(self, *, modes: str | Sequence[str] | None = None) -> Plan:
        """Measure the workers as they are now and change to the plan that suits them best.

        Parameters
        ----------
        modes : str or sequence of str, optional
            Keeps these modes and changes only the row shares.

        Returns
        -------
        Plan
            The plan now in use.
        """
        from calibration.workloads.split_inference import cost  # which itself needs Job

        parts = self.plan.parts
        costs = cost.measure(self.pool, self.graph, parts, transport=self._transport)
        chosen = cost.choose(self.graph, parts, costs, modes=modes, itemsize=self._dtype.itemsize)
        self._job.forget()
        self._job = Job(self.pool, chosen, transport=self._transport, dtype=self._dtype)
        return chosen

    def rebalance(self) -> Plan:
        """Keep the modes and share the rows anew by the speed that the workers now have."""
        return self.tune(modes=self.plan.modes)

    def close(self) -> None:
        """End the workers; closing twice does no harm."""
        if self._own:
            self.pool.close()
        elif not self.pool.closed and hasattr(self, "_job"):
            self._job.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
