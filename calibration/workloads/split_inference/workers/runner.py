"""Run the program of one part: buffers, views and the loop over its steps.

Where the rows of other parts come from is the business of an :class:`Exchange`; in the workers
that is a transport, in ``in_process`` a dictionary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.workloads.split_inference.planning.kernels import (
    PADDING_VALUE,
    WRITES_INTO,
    bind,
    bind_into,
    in_place,
    overwrites,
)
from calibration.workloads.split_inference.planning.layers import Layer, Rows
from calibration.workloads.split_inference.planning.planner import Message
from calibration.workloads.split_inference.planning.program import Program, Step


class Exchange(Protocol):
    """Moves rows between parts. Sends return at once; receives wait."""

    def send(self, number: int, message: Message, rows: Tensor) -> None:
        """Send contiguous `rows`, which stay unchanged until the next image."""

    def recv(self, number: int, message: Message, rows: Tensor) -> None:
        """Fill contiguous `rows`; raise within the timeout when nothing comes."""


def wire_order(block: Tensor, layout: torch.memory_format) -> Tensor:
    """Return a view of the rows in the order in which they travel.

    The layout of the feature maps decides, never the strides of one block: a thin block can be
    contiguous in both orders, and sender and receiver have to agree. Rows of one image in
    channels-last layout are one piece of memory and travel without a copy.
    """
    return block.permute(0, 2, 3, 1) if layout is torch.channels_last else block  # (N, rows, W, C)


class PartRunner:
    """Executes a program for images of one batch size.

    Parameters
    ----------
    batch : int
        Images at a time.
    memory_format : torch.memory_format
        Layout of every feature map.
    slowdown : float
        Makes every layer take this many times as long, to stand in for a slower device.
    """

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, Tensor],
        exchange: Exchange,
        *,
        batch: int = 1,
        memory_format: torch.memory_format = torch.contiguous_format,
        dtype: torch.dtype = torch.float32,
        slowdown: float = 1.0,
    ) -> None:
        self.program = program
        self._slowdown = slowdown
        self._weights = weights
        self._exchange = exchange
        self._format = memory_format
        self._dtype = dtype
        self._batch = batch
        self._padding = [self._padding_value(t) for t in range(len(program.shapes))]
        self._overwriting = self._overwriting_layers()
        self._buffers = self._allocate()
        # Feature maps that are not kept: the rows computed last and where they start.
        self._passing: dict[int, tuple[Tensor, int]] = {}
        self._ready = [[self._prepare(step) for step in stage] for stage in program.stages]
        self._forget = self._last_readers()
        self._marks: list[int] = []

    # --- one inference ------------------------------------------------------------------------

    @property
    def input_block(self) -> Tensor:
        """The rows of the input that this part expects, to be filled before :meth:`run`."""
        return self._view(0, self.program.input_rows)

    def run(self) -> None:
        """Execute all stages; the results are in :meth:`results`."""
        for stage in range(len(self._ready)):
            self.run_stage(stage)

    def run_stage(self, index: int) -> None:
        """Execute one stage (all parts may take turns, stage by stage, in one process)."""
        marks = self._marks
        if index == 0:
            marks.clear()
        for run in self._ready[index]:
            marks.append(perf_counter_ns())
            run()
            marks.append(perf_counter_ns())
        for t in self._forget[index]:
            self._passing.pop(t, None)

    @property
    def times(self) -> NDArray[np.int64]:
        """Start and end of every step of the last run, ns on the host's monotonic clock."""
        return np.array(self._marks, dtype=np.int64).reshape(-1, 2)

    def results(self) -> list[Tensor]:
        """Return the rows of each sink that this part owns."""
        return [self._block(t, rows) for t, rows in self.program.sinks]

    # --- preparation --------------------------------------------------------------------------

    def _is_kept(self, t: int) -> bool:
        """Whether a map has its own buffer: rows from outside, padding, or several tiles."""
        p, whole = self.program, self.program.shapes[t].rows
        padded = p.stored[t].lo < whole.lo or p.stored[t].hi > whole.hi
        received = any(m.tensor == t and m.target == p.part for m in p.messages)
        tiles = sum(s.action == "compute" and s.layer == t - 1 for s in p.steps)
        # A chain that runs tile by tile keeps only its last map.
        inner = tiles > 1 and not any(m.tensor == t and m.source == p.part for m in p.messages)
        return t == 0 or padded or received or (tiles > 1 and not inner)

    def _overwriting_layers(self) -> set[int]:
        """Return the layers that write their output over their input.

        A map that no other step reads then needs no memory of its own, and what has just been
        written is still in the cache.
        """
        p = self.program
        shared = {t for t, _ in p.sinks} | {m.tensor for m in p.messages}
        found = set()
        for i in range(len(p.layers)):
            if not overwrites(p.layers, i, shared) or self._is_kept(p.layers[i].inputs[0]):
                continue
            # An output that is kept has its place already: the input must be written there.
            if not self._is_kept(i + 1) or self._starts_in(i):
                found.add(i)
        return found

    def _starts_in(self, index: int) -> bool:
        """Whether a layer's input can be computed where its output will lie."""
        p, (t,) = self.program, self.program.layers[index].inputs
        return p.layers[t - 1].kind in WRITES_INTO and p.stored[t] == p.stored[t].within(
            p.stored[index + 1]
        )

    def _padding_value(self, t: int) -> float:
        """Return the value that the first reader of a map expects outside of it."""
        whole = self.program.shapes[t].rows
        for layer in self.program.layers:
            if t in layer.inputs and layer.window is not None:
                need = layer.needs(Rows(0, 10**9))
                if need.lo < whole.lo or layer.kind in PADDING_VALUE:
                    return PADDING_VALUE.get(layer.kind, 0.0)
        return 0.0

    def _allocate(self) -> dict[int, Tensor]:
        """Allocate the kept maps, giving memory that is no longer read to later ones.

        Memory that was just used is still in the cache; with a buffer for each map a part would
        be some 6 % slower than the whole network. Only maps of the same geometry share a
        buffer, so the padding rows, which nothing writes, stay what they are.
        """
        buffers: dict[int, Tensor] = {}
        free: dict[tuple[object, ...], list[Tensor]] = {}
        first, last = self._lifetimes()
        kept = [t for t in range(len(self.program.shapes)) if self._is_kept(t)]
        for stage in range(-1, len(self.program.stages)):
            for t in kept:
                if first.get(t, -1) == stage:
                    spare = free.get(self._geometry(t), [])
                    buffers[t] = spare.pop() if spare else self._new_buffer(t)
            for t in kept:
                if t and last.get(t) == stage:
                    free.setdefault(self._geometry(t), []).append(buffers[t])
        for i in self._overwriting:
            (t,) = self.program.layers[i].inputs
            if i + 1 in buffers:
                rows, base = self.program.stored[t], self.program.stored[i + 1].lo
                buffers[t] = buffers[i + 1][:, :, rows.lo - base : rows.hi - base]
        return buffers

    def _geometry(self, t: int) -> tuple[object, ...]:
        shape, rows = self.program.shapes[t], self.program.stored[t]
        above, below = max(0, -rows.lo), max(0, rows.hi - shape.height)
        return shape.channels, shape.width, rows.count, above, below, self._padding[t]

    def _lifetimes(self) -> tuple[dict[int, int], dict[int, int]]:
        """Return the first and the last stage in which each map is touched; sinks never end."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for i, stage in enumerate(self.program.stages):
            for step in stage:
                if step.action == "compute":
                    touched = (*self.program.layers[step.layer].inputs, step.layer + 1)
                else:
                    touched = (self.program.messages[step.message].tensor,)
                for t in touched:
                    first.setdefault(t, i)
                    last[t] = i
        for t, _ in self.program.sinks:
            last.pop(t, None)
        for i in sorted(self._overwriting, reverse=True):
            (t,) = self.program.layers[i].inputs
            if t in first and i + 1 in first:
                first[i + 1] = min(first[i + 1], first[t])
        first[0] = -1
        return first, last

    def _new_buffer(self, t: int) -> Tensor:
        shape, rows = self.program.shapes[t], self.program.stored[t]
        size = (self._batch, shape.channels, max(rows.count, 1), shape.width)
        buffer = torch.empty(size, dtype=self._dtype, memory_format=self._format)
        return buffer.fill_(self._padding[t])

    def _view(self, t: int, rows: Rows) -> Tensor:
        base = self.program.stored[t].lo
        return self._buffers[t][:, :, rows.lo - base : rows.hi - base]

    def _block(self, t: int, rows: Rows) -> Tensor:
        if t in self._buffers:
            return self._view(t, rows)
        tensor, base = self._passing[t]
        if rows.lo == base and rows.count == tensor.shape[2]:
            return tensor
        return tensor[:, :, rows.lo - base : rows.hi - base]

    def _prepare(self, step: Step) -> Callable[[], object]:
        """Return a step with everything looked up: what the loop executes."""
        if step.action == "compute":
            run = self._computation(step)
            return run if self._slowdown == 1.0 else _slowed(run, self._slowdown)
        message = self.program.messages[step.message]
        if step.action == "send":
            return self._sending(step.message, message)
        return self._receiving(step.message, message)

    def _sending(self, number: int, message: Message) -> Callable[[], None]:
        send, staging = self._exchange.send, None
        if message.tensor in self._buffers:
            direct = wire_order(self._view(message.tensor, message.rows), self._format)
            if direct.is_contiguous():
                return lambda: send(number, message, direct)

        def run() -> None:
            nonlocal staging
            rows = wire_order(self._block(message.tensor, message.rows), self._format)
            if not rows.is_contiguous():
                if staging is None:
                    staging = torch.empty(rows.shape, dtype=self._dtype)
                rows = staging.copy_(rows)
            send(number, message, rows)

        return run

    def _receiving(self, number: int, message: Message) -> Callable[[], None]:
        recv = self._exchange.recv
        rows = wire_order(self._view(message.tensor, message.rows), self._format)
        if rows.is_contiguous():
            return lambda: recv(number, message, rows)
        staging = torch.empty(rows.shape, dtype=self._dtype)

        def run() -> None:
            recv(number, message, staging)
            rows.copy_(staging)

        return run

    def _computation(self, step: Step) -> Callable[[], object]:
        layer, out, weights = self.program.layers[step.layer], step.layer + 1, self._weights
        need, rows = layer.needs(step.rows), step.rows
        fetch = [self._fetcher(layer, t, need) for t in layer.inputs]
        kernel = in_place(layer) if step.layer in self._overwriting else None
        if out in self._buffers:
            if kernel is not None:
                return lambda: kernel(fetch[0]())
            into = bind_into(self._view(out, rows), layer, weights, rows)
            if len(layer.inputs) == 1:  # the common case, without the list
                (one,) = fetch
                return lambda: into(one())
            return lambda: into(*[f() for f in fetch])
        function = kernel or bind(layer, weights, rows)

        def run() -> None:
            self._passing[out] = function(*[f() for f in fetch]), rows.lo

        return run

    def _fetcher(self, layer: Layer, t: int, need: Rows) -> Callable[[], Tensor]:
        whole = self.program.shapes[t].rows
        above, below = max(0, whole.lo - need.lo), max(0, need.hi - whole.hi)
        value = PADDING_VALUE.get(layer.kind, 0.0)
        if t not in self._buffers:
            return lambda: self._block(t, need)
        view = self._view(t, need)
        if (above or below) and value != self._padding[t]:
            # Two readers of this map disagree on the padding: this one gets its own copy.
            def padded() -> Tensor:
                block = view.clone(memory_format=self._format)
                block[:, :, :above] = value
                block[:, :, block.shape[2] - below :] = value
                return block

            return padded
        return lambda: view

    def _last_readers(self) -> list[list[int]]:
        """Return for each stage the passing maps that no later stage reads."""
        _, last = self._lifetimes()
        return [
            [t for t, stage in last.items() if stage == i and t not in self._buffers]
            for i in range(len(self.program.stages))
        ]


def _slowed(run: Callable[[], object], factor: float) -> Callable[[], None]:
    def slow() -> None:
        start = perf_counter_ns()
        run()
        end = start + factor * (perf_counter_ns() - start)
        while perf_counter_ns() < end:  # keep the core as busy as the slow device would be
            pass

    return slow
