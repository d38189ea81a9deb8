"""A network whose trunk runs split over worker processes: what a user calls.

:class:`SplitModel` owns a pool of workers unless it is given one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter_ns
from typing import Self

import torch
from torch import Tensor, nn

from calibration.workloads.split_inference import cost
from calibration.workloads.split_inference.errors import PlanError
from calibration.workloads.split_inference.planning.graph import Graph, image_shape, trace
from calibration.workloads.split_inference.planning.planner import Plan, plan
from calibration.workloads.split_inference.workers.job import Job, Timing, one_thread
from calibration.workloads.split_inference.workers.pool import WorkerPool
from calibration.workloads.split_inference.workers.worker_process import WorkerSpec, one_core_each


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
        with one_thread(), torch.inference_mode():
            sinks, timing = self._job.run(self._checked(x), timeout_s=self._timeout_s)
            y: Tensor = self.graph.head(*sinks)
        self.timing = replace(timing, finished=perf_counter_ns())
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
        parts = self.plan.parts
        costs = cost.measure(self.pool, self.graph, parts, transport=self._transport)
        chosen = cost.choose(self.graph, parts, costs, modes=modes, itemsize=self._dtype.itemsize)
        self._job.forget()
        self._job = Job(self.pool, chosen, transport=self._transport, dtype=self._dtype)
        return chosen

    def rebalance(self) -> Plan:
        """Keep the modes and divide the rows again by the speed that the workers now have."""
        return self.tune(modes=self.plan.modes)

    def close(self) -> None:
        """End the workers; closing twice does no harm."""
        if self._own:
            self.pool.close()
        elif not self.pool.closed and hasattr(self, "_job"):
            self._job.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
