"""The small student that calibration measures, and the bank of logits that its teacher serves.

The student is a convolutional net on 28 x 28 images, trained by ``alpha*CE + (1-alpha)*Ld`` on
batches of real size with the knowledge that came over the wire; gradients of a cycle's batches
accumulate, and the weights move once a cycle. The logits are a teacher net's real outputs. What
they are worth as knowledge does not matter here: this module measures time (the workload with
real data and an accuracy is ``calibration.workloads.edge_kd.student``).
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from calibration.bench.processes import Shared
from calibration.link.frames import Knowledge, matrix_payload
from calibration.link.server import Source
from kdsim.errors import WorkloadError

#: 128 images of 28 x 28 through 16 and 32 channels: about 20 ms on a server core, forward and
#: backward together; long enough that a second thread pays, short enough to react within it.
DEFAULT_SPEC: dict[str, Any] = {
    "batch": 128,
    "channels": [16, 32],
    "classes": 100,
    "image": 28,
    "alpha": 0.5,
    "temperature": 4.0,
    "rate": 0.01,
    "seed": 0,
}
#: 640 rows of 100 float32 logits are 256 kB: half a millisecond of decoding, so that a worker
#: gives up its core that soon after the request.
DEFAULT_BANK: dict[str, Any] = {"classes": 100, "chunk_rows": 640, "chunks": 8, "seed": 1}


def network(channels: list[int], classes: int, image: int) -> nn.Sequential:
    """Build the net: two 3 x 3 convolutions with pooling, one linear layer."""
    narrow, wide = channels
    side = image // 4
    return nn.Sequential(
        nn.Conv2d(1, narrow, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(narrow, wide, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(wide * side * side, classes),
    )


class BenchStudent:
    """Trains by distillation, a batch at a time; forward and backward are separate steps.

    Parameters
    ----------
    spec : dict
        See `DEFAULT_SPEC`.
    shared : Shared
        Where the received soft labels lie.
    """

    def __init__(self, spec: dict[str, Any], shared: Shared) -> None:
        spec = {**DEFAULT_SPEC, **spec}
        generator = torch.Generator().manual_seed(spec["seed"])
        self._net = network(spec["channels"], spec["classes"], spec["image"])
        for parameter in self._net.parameters():
            nn.init.uniform_(parameter, -0.05, 0.05, generator=generator)
        shape = (spec["batch"], 1, spec["image"], spec["image"])
        self._images = torch.rand(shape, generator=generator)  # (batch, 1, 28, 28)
        self._labels = torch.randint(0, spec["classes"], (spec["batch"],), generator=generator)
        self._rate = spec["rate"]
        self._alpha, self._temperature = spec["alpha"], spec["temperature"]
        self._shared, self._rows = shared, torch.from_numpy(shared.rows())
        self._outputs: list[torch.Tensor] = []

    def forward(self, cycle: int, position: int, batches: int) -> None:
        """Run the net on one batch and keep the outputs for the backward half."""
        if position == 0:
            self._outputs.clear()
        self._outputs.append(self._net(self._images))  # (batch, classes)

    def backward(self, cycle: int, position: int, batches: int) -> None:
        """Take one batch's loss against its received soft labels and run it backward."""
        logits, self._outputs[position] = self._outputs[position], torch.empty(0)
        soft = self._soft_labels(cycle, position, len(logits))  # (batch, classes)
        tempered = functional.log_softmax(logits / self._temperature, dim=1)
        # Against fixed soft labels this has the gradient of the KL divergence.
        distilled = self._temperature**2 * -(soft * tempered).sum(1).mean()
        loss = self._alpha * functional.cross_entropy(logits, self._labels)
        ((loss + (1 - self._alpha) * distilled) / batches).backward()
        if position == batches - 1:
            self._update()

    @torch.no_grad()
    def _update(self) -> None:
        # Eq. 2 by hand: torch.optim costs a fresh process one second of imports.
        for parameter in self._net.parameters():
            if parameter.grad is not None:
                parameter.sub_(self._rate * parameter.grad)
                parameter.grad = None

    def _soft_labels(self, cycle: int, position: int, count: int) -> torch.Tensor:
        first = self._shared.first_row(cycle) + position * count
        return self._rows[torch.arange(first, first + count) % len(self._rows)]

    def report(self) -> dict[str, Any]:
        """Report nothing beyond the times."""
        return {}


def build(spec: dict[str, Any], shared: Shared) -> BenchStudent:
    """Build the calibration student (called in its own process)."""
    return BenchStudent(spec, shared)


def logit_bank(spec: dict[str, Any]) -> tuple[Source, dict[str, Any]]:
    """Compute a bank of a teacher's logits and serve it without end, chunk after chunk.

    Parameters
    ----------
    spec : dict
        See `DEFAULT_BANK`.

    Returns
    -------
    (Source, dict)
        The source for a `KnowledgeServer` and the greeting that describes it.
    """
    spec = {**DEFAULT_BANK, **spec}
    if spec["chunks"] < 1 or spec["chunk_rows"] < 1:
        raise WorkloadError(f"a bank needs at least one chunk of one row, got {spec}")
    generator = torch.Generator().manual_seed(spec["seed"])
    net = network([32, 64], spec["classes"], 28).eval()
    payloads = []
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0.0, 0.1, generator=generator)
        for _ in range(spec["chunks"]):
            images = torch.rand((spec["chunk_rows"], 1, 28, 28), generator=generator)
            payload = matrix_payload(np.asarray(net(images)))  # (chunk_rows, classes)
            payloads.append((memoryview(payload), zlib.crc32(payload)))

    def source(kind: int, batch: int, chunk: int) -> tuple[bytes | memoryview, int | None] | None:
        if kind != Knowledge.RESPONSE:
            return None
        return payloads[(batch + chunk) % len(payloads)]

    return source, {"columns": spec["classes"], "chunk_rows": spec["chunk_rows"], "kind": "bank"}
