"""Two ratios: AFLKD's step over a bare torch loop, and the backward pass against frozen layers.

    python -m benchmarks.aflkd_study.speed [--threads 1] [--repeats 9] [--parts steps]

Both sides of a ratio are measured in turn within one run, on synthetic images of Fashion-MNIST's
size, so that a slower moment of the machine meets both. Writes ``speed.json`` and ``speed.png``
into ``benchmarks/results/aflkd/``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from calibration.workloads.aflkd.freezing import freeze_layers, prefix_features, trainable_tail
from calibration.workloads.losses import distillation_loss
from calibration.workloads.records.results import host, versions, write_json
from calibration.workloads.records.tables import interval_row
from calibration.workloads.training.loops import train_epoch
from calibration.workloads.training.networks import (
    ConvNet,
    build_network,
    layer_costs,
    layer_count,
)
from calibration.workloads.training.seeds import batches
from kdsim.results.intervals import mean_interval

SHAPE, CLASSES, BATCH, STEPS = (1, 28, 28), 10, 32, 8


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--parts", default="steps,depths", help="steps, depths or both")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/aflkd"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    path = arguments.out / "speed.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    result["what"] = {"input_shape": SHAPE, "batch_size": BATCH, "steps_an_epoch": STEPS}
    if "steps" in arguments.parts:
        nets = ("edge-1", "edge-2", "edge-3")
        result["step_over_bare_loop"] = {net: step_ratio(net, arguments.repeats) for net in nets}
    if "depths" in arguments.parts:
        nets = ("edge-2", "edge-3")
        result["backward_by_frozen_layers"] = {
            net: backward_by_depth(net, arguments.repeats) for net in nets
        }
    write_json(path, {**result, "host": host(), "versions": versions()})
    plot(result.get("backward_by_frozen_layers", {}), arguments.out / "speed.png")
    show(result)


def show(result: dict) -> None:
    """Print the ratios."""
    for net, row in result.get("step_over_bare_loop", {}).items():
        print(
            f"{net}: step / bare loop = {row['mean']:.3f} [{row['ci_low']:.3f}, "
            f"{row['ci_high']:.3f}], median {row['median']:.3f}, n = {row['n']}"
        )
    for net, rows in result.get("backward_by_frozen_layers", {}).items():
        print(f"{net}: n, backward / backward(0), FLOPs predict")
        for row in rows:
            ratio = row["ratio"]
            print(
                f"  {row['frozen_layers']:2d}  {ratio['mean']:.3f} [{ratio['ci_low']:.3f}, "
                f"{ratio['ci_high']:.3f}]  {row['flop_ratio']:.3f}"
            )


def data() -> tuple[Tensor, Tensor, Tensor]:
    """Return synthetic images, labels and teacher logits."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH * STEPS, *SHAPE, generator=generator)
    labels = torch.randint(CLASSES, (len(images),), generator=generator)
    return images, labels, torch.randn(len(images), CLASSES, generator=generator)


def ready(net: str) -> tuple[ConvNet, torch.optim.SGD]:
    """Return a network in training mode with its optimizer."""
    network = build_network(net, SHAPE, CLASSES).to(memory_format=torch.channels_last)
    return network, torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)


def step_ratio(net: str, repeats: int) -> dict:
    """Time an epoch of the workload's loop over one of a loop with nothing but torch."""
    images, labels, answers = data()
    order = batches(len(images), BATCH, generator=torch.Generator())
    theta = torch.zeros((), requires_grad=True)

    def loss_of(logits: Tensor, rows: Tensor) -> Tensor:
        t = 1 + 9 * torch.sigmoid(theta)
        hard = functional.cross_entropy(logits, labels[rows])
        return hard + distillation_loss(logits, answers[rows], "kl", temperature=t)

    ours, our_sgd = ready(net)
    bare, bare_sgd = ready(net)
    theta_sgd = torch.optim.SGD([theta], lr=0.01, momentum=0.9, maximize=True)

    def ours_epoch(steps: Ticks) -> None:
        def objective(logits: Tensor, rows: Tensor, _: Tensor) -> Tensor:
            return loss_of(logits, rows)

        train_epoch(ours, images, labels, objective, [our_sgd, theta_sgd], steps)

    def bare_epoch(steps: Ticks) -> None:
        for rows in steps:
            loss = loss_of(bare(images[rows]), rows)
            bare_sgd.zero_grad()
            theta_sgd.zero_grad()
            loss.backward()
            bare_sgd.step()
            theta_sgd.step()

    ratios = []
    for repeat in range(repeats + 1):
        seconds = {}
        for epoch in (ours_epoch, bare_epoch) if repeat % 2 else (bare_epoch, ours_epoch):
            ticks = Ticks(order)
            epoch(ticks)
            seconds[epoch] = ticks.median_step()
        ratios.append(seconds[ours_epoch] / seconds[bare_epoch])
    kept = ratios[1:]  # the first pair warms up
    return {**interval_row(mean_interval(kept)), "median": median(kept), "ratios": kept}


class Ticks:
    """Batches that note when each is asked for: the same clock around both loops.

    With one thread the clock is the thread's CPU time, which other processes cannot lengthen.
    """

    def __init__(self, order: list[Tensor]) -> None:
        self.order = order
        self.times: list[float] = []
        self.clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter

    def __iter__(self) -> Iterator[Tensor]:
        for rows in self.order:
            self.times.append(self.clock())
            yield rows
        self.times.append(self.clock())

    def median_step(self) -> float:
        """Return the median seconds from one batch to the next: a hiccup meets one step only."""
        return median(b - a for a, b in pairwise(self.times))


def backward_by_depth(net: str, repeats: int) -> list[dict]:
    """Time the backward pass (update included) at every number of frozen layers, in turn."""
    images, labels, _ = data()
    network, optimizer = ready(net)
    depths = range(layer_count(network) + 1)
    seconds: dict[int, list[float]] = {n: [] for n in depths}
    forwards: dict[int, list[float]] = {n: [] for n in depths}
    for _ in range(repeats + 1):
        for n in depths:
            freeze_layers(network, n, optimizer)
            inputs, forward = images, network
            if n:
                inputs = prefix_features(network, images, n, batch_size=BATCH, limit_mb=1e3)
                forward = trainable_tail(network, n)
            order = batches(len(images), BATCH, generator=torch.Generator())
            measure = train_epoch(
                forward,
                inputs,
                labels,
                lambda logits, rows, _: functional.cross_entropy(logits, labels[rows]),
                [optimizer],
                order,
            )
            seconds[n].append(median(measure.backward_s))
            forwards[n].append(median(measure.forward_s))
    whole = backward_flops(network, 0)
    return [
        {
            "frozen_layers": n,
            "backward_ms": 1e3 * median(seconds[n][1:]),
            "forward_ms": 1e3 * median(forwards[n][1:]),
            "ratio": interval_row(
                mean_interval([a / b for a, b in zip(seconds[n][1:], seconds[0][1:], strict=True)])
                if n
                else mean_interval([1.0], deterministic=True)
            ),
            "flop_ratio": backward_flops(network, n) / whole,
        }
        for n in depths
    ]


def backward_flops(network: ConvNet, frozen: int) -> int:
    """Count the backward pass: a layer's weights cost its forward FLOPs, its inputs as many again.

    The first layer that trains needs no gradient of its inputs.
    """
    training = layer_costs(network, SHAPE)[frozen:]
    return sum(2 * cost.flops for cost in training) - training[0].flops


def plot(frozen: dict[str, list[dict]], path: Path) -> None:
    """Draw measured and predicted ratios against the frozen layers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=120)
    for place, (net, rows) in enumerate(frozen.items(), 1):
        ax = figure.add_subplot(1, len(frozen), place)
        depth = [row["frozen_layers"] for row in rows]
        means = [row["ratio"]["mean"] for row in rows]
        half = [row["ratio"]["ci_high"] - row["ratio"]["mean"] for row in rows]
        ax.errorbar(depth, means, yerr=half, color="#D55E00", marker="o", capsize=3,
                    label="measured, 95 % interval")  # fmt: skip
        ax.plot(depth, [row["flop_ratio"] for row in rows], "--s", color="#0072B2",
                markersize=4, label="from FLOPs")  # fmt: skip
        ax.set(xlabel="frozen layers n", ylabel="backward time / that of n = 0", title=net)
        ax.set_ylim(bottom=0)
        ax.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    main()
