"""Forward and backward time of each dissimilarity measure, beside torch's own KL divergence.

Run it as a script; it prints a table and, with ``--out``, writes JSON:

    python benchmarks/losses.py --out benchmarks/results/losses

Every repeat times all measures once, in an order drawn anew, so that a disturbance of the machine
meets all alike; ratios are taken within a repeat and their median is reported.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from calibration.workloads.losses import MEASURES, distillation_loss, multiway_sed
from calibration.workloads.records.results import manifest, write_json

SHAPES = ((128, 10), (128, 397), (32, 50257))
REFERENCE = "torch kl_div"


def torch_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Give torch's KL divergence of two batches of logits: the reference."""
    return functional.kl_div(
        functional.log_softmax(student, dim=1),
        functional.log_softmax(teacher, dim=1),
        log_target=True,
        reduction="batchmean",
    )


def candidates() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return what is timed, by name."""
    chosen: dict[str, Callable[[Tensor, Tensor], Tensor]] = {REFERENCE: torch_kl}
    for measure in MEASURES:
        chosen[measure] = lambda s, t, m=measure: distillation_loss(s, t, m)
    chosen["sed, 3 models"] = lambda s, t: multiway_sed([s, t, t.flip(0)])
    return chosen


def time_once(loss: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor) -> float:
    """Return the seconds of one forward and backward pass."""
    student.grad = None
    start = time.perf_counter()
    loss(student, teacher).backward()
    return time.perf_counter() - start


def measure(shape: tuple[int, int], repeats: int, seed: int) -> list[dict[str, object]]:
    """Time all candidates at one shape of (batch, classes)."""
    generator = torch.Generator().manual_seed(seed)
    student = (2 * torch.randn(*shape, generator=generator)).requires_grad_()
    teacher = 2 * torch.randn(*shape, generator=generator)
    losses = candidates()
    for loss in losses.values():
        for _ in range(3):  # first calls allocate
            time_once(loss, student, teacher)
    rng = np.random.default_rng(seed)
    names = list(losses)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in rng.permutation(names):
            seconds[name].append(time_once(losses[name], student, teacher))
    reference = np.array(seconds[REFERENCE])
    rows = []
    for name in names:
        values = np.array(seconds[name])
        ratios = values / reference
        rows.append(
            {
                "batch": shape[0],
                "classes": shape[1],
                "measure": name,
                "median_us": round(float(np.median(values)) * 1e6, 1),
                "p5_us": round(float(np.quantile(values, 0.05)) * 1e6, 1),
                "p95_us": round(float(np.quantile(values, 0.95)) * 1e6, 1),
                "ratio": round(float(np.median(ratios)), 3),
                "ratio_ci": [round(x, 3) for x in median_interval(ratios)],
                "repeats": repeats,
            }
        )
    return rows


def median_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the order-statistic interval of a median (binomial, normal approximation)."""
    ordered = np.sort(values)
    half = (1.96 if level == 0.95 else 2.58) * math.sqrt(len(ordered)) / 2
    middle = len(ordered) / 2
    low, high = math.floor(middle - half), math.ceil(middle + half)
    return float(ordered[max(low, 0)]), float(ordered[min(high, len(ordered) - 1)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=200, help="at the two small shapes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for losses.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows = []
    for shape in SHAPES:
        repeats = options.repeats if shape[1] < 10_000 else max(20, options.repeats // 5)
        rows += measure(shape, repeats, seed=0)
        print(f"\n(batch, classes) = {shape}, {repeats} repeats")
        for row in rows:
            if (row["batch"], row["classes"]) == shape:
                low, high = row["ratio_ci"]
                print(
                    f"  {row['measure']:14} {row['median_us']:10.1f} us   "
                    f"{row['ratio']:6.2f} x torch kl_div  [{low:.2f}, {high:.2f}]"
                )
    if options.out:
        config = {"repeats": options.repeats, "threads": options.threads, "shapes": SHAPES}
        note = "ratios: median over repeats of same-repeat ratios, 95 % order-statistic interval"
        write_json(
            options.out / "losses.json",
            {"manifest": manifest(config, seeds=[0], notes=[note]), "rows": rows},
        )


if __name__ == "__main__":
    main()
