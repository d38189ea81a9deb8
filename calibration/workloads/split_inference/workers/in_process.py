"""All parts of a plan in one process, taking turns: the reference for the workers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from calibration.workloads.split_inference.planning.planner import Message, Plan
from calibration.workloads.split_inference.planning.program import compile_part
from calibration.workloads.split_inference.workers.runner import PartRunner


class Mailbox:
    """An exchange for parts that take turns in one process; counts what travels."""

    def __init__(self) -> None:
        self._held: dict[int, Tensor] = {}
        self.values = 0

    def send(self, number: int, message: Message, rows: Tensor) -> None:
        """Keep a copy of the rows."""
        self.values += rows.numel()
        self._held[number] = rows.clone()

    def recv(self, number: int, message: Message, rows: Tensor) -> None:
        """Take the rows out; each message is read once."""
        rows.copy_(self._held.pop(number))


def run_in_process(plan: Plan, x: Tensor, *, mailbox: Mailbox | None = None) -> list[Tensor]:
    """Execute a plan in this process, part by part.

    Parameters
    ----------
    x : (N, C, H, W) Tensor
    mailbox : Mailbox, optional
        Counts the values that travel.

    Returns
    -------
    list of Tensor
        The gathered sinks, whole.
    """
    mailbox = Mailbox() if mailbox is None else mailbox
    layout = plan.graph.memory_format
    programs = [compile_part(plan, p) for p in range(plan.parts)]
    runners = [
        PartRunner(
            program,
            plan.graph.weights,
            mailbox,
            batch=x.shape[0],
            memory_format=layout,
            dtype=x.dtype,
        )
        for program in programs
    ]
    with torch.inference_mode():
        for runner in runners:
            rows = runner.program.input_rows
            runner.input_block.copy_(x[:, :, rows.lo : rows.hi])
        for stage in range(len(plan.graph.layers)):
            for runner in runners:
                runner.run_stage(stage)
        return join([runner.results() for runner in runners], layout)


def join(parts: Sequence[Sequence[Tensor]], layout: torch.memory_format) -> list[Tensor]:
    """Put the rows of each sink together, in the order of the parts."""
    return [
        torch.cat(list(blocks), dim=2).contiguous(memory_format=layout)
        for blocks in zip(*parts, strict=True)
    ]
