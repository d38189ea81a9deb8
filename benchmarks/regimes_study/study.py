"""What every policy costs at every place of a device's map: the records of the study.

Over the data received per image trained and the rate of the link, both on logarithmic axes, every
policy's makespan is compared with the optimum of the same scenario. The devices are those of the
library that were measured on three or more core counts and have a communication curve, and three
boards with two counts that edge distillation names (Raspberry Pi 4 and 5, Jetson Orin Nano).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import kdsim
from kdsim.engines import batch
from kdsim.scenario.files.library import library_device, library_names

RECORDS = Path(__file__).resolve().parents[1] / "results" / "regimes" / "records"
#: Boards of the papers in ``docs/``; between their two counts the form of the curve is assumed.
TWO_COUNTS = ("jetson-orin-nano", "raspberry-pi-4", "raspberry-pi-5")
LEAST_COUNTS = 3
CYCLES = 50
#: Passes forward, and backward at twice the operations: the usual count for training.
FORWARD, BACKWARD = 1.0, 2.0
#: MB received per image trained, of a network of one pass; and MB per second of the link.
DATA = [float(f"{x:.3g}") for x in np.logspace(-3, 4, 22)]
RATES = [float(f"{x:.3g}") for x in np.logspace(-1, 5, 19)]
MODES = ("idle", "shared")
#: Constant splits tried for the best one; on devices with more cores than 12 not every one.
SPLITS = (*range(1, 13), 16, 24, 32, 48)
RULES = ("greedy", "comm-priority", "comp-priority")
#: Columns of a record: rules, two constant splits that need no tuning, the best one in hindsight.
COLUMNS = (*RULES, "static:1", "static:half", "static:best")

#: Multiply-adds of ResNet-18 at 224 x 224, counted layer by layer, and what it is in the library's
#: passes (``docs/devices.md``).
RESNET18_MACS, RESNET18_PASSES = 1.814e9, 0.98
PASS_MACS = RESNET18_MACS / RESNET18_PASSES


# --- the workloads marked on the maps -------------------------------------------------------------


def network_macs(network: str, shape: tuple[int, int, int]) -> int:
    """Count the multiply-adds of one forward pass of a bundled network, by its layers' shapes."""
    import torch
    from torch import nn

    from calibration.workloads.training.networks import build_network

    built = build_network(network, shape, 10).eval()
    counted = 0

    def count(layer: Any, _: Any, output: Any) -> None:
        nonlocal counted
        counted += output.numel() * math.prod(layer.weight.shape[1:])

    for layer in built.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        built(torch.zeros(1, *shape))
    return counted


def workloads() -> list[dict[str, Any]]:
    """List what is marked: MB per image, scaled to a network of one pass.

    A smaller network trains faster, so that the same bytes weigh more: bytes per image are divided
    by the network's passes. The contention paper names no network; one pass is assumed for it. No
    link is known of any of them.
    """
    logits = 10 * 4.0  # float32, ten classes
    edge = network_macs("edge-1", (1, 8, 8)) / PASS_MACS
    streamed = network_macs("edge-1", (1, 28, 28)) / PASS_MACS
    rows = [
        ("A", "edge KD on digits (edge-1 at 8 x 8)", logits, edge),
        ("B", "AFLKD on Fashion-MNIST (edge-1 at 28 x 28, label and logits)", logits + 1, streamed),
        ("C", "the contention paper's NX: 5 MB per 128 images", 5e6 / 128, 1.0),
        ("D", "the contention paper's Pi: 1 MB per 16 images", 1e6 / 16, 1.0),
    ]
    return [
        {"mark": mark, "name": name, "bytes_per_image": size, "passes": passes,
         "data": float(f"{size / 1e6 / passes:.4g}")}
        for mark, name, size, passes in rows
    ]  # fmt: skip


# --- the study ------------------------------------------------------------------------------------


def devices() -> list[str]:
    """Name the devices of the study: three or more core counts, or one of `TWO_COUNTS`."""
    found = []
    for name in library_names():
        entry = library_device(name)
        counts = entry["provenance"]["points"]["own_cores"]
        if entry.get("communication") and (len(counts) >= LEAST_COUNTS or name in TWO_COUNTS):
            found.append(name)
    return found


def splits(cores: int) -> list[int]:
    """List the constant splits tried on a device: communication cores, one left for computation."""
    half = max(cores // 2, 1)
    return sorted({c for c in (*SPLITS, half, cores - 1) if c < cores})


def scenario(name: str, data: float, rate: float, starved: str) -> kdsim.Scenario:
    """Put a device to work at one place of the map."""
    return kdsim.Scenario.model_validate(
        {
            "name": name,
            "device": {"library": name},
            "workload": {
                "cycles": CYCLES, "comm": data, "forward": FORWARD, "backward": BACKWARD
            },
            "link": {"rate": rate, "starved": starved},
        }
    )  # fmt: skip


def gaps_at(place: kdsim.Scenario) -> list[float]:
    """Return the gap of every column at one place, to five digits."""
    cores = place.device.cores
    tried = splits(cores)

    def gap(policy: str) -> float:
        times, bounds = batch.makespans(place, policy, 0, 1)
        return float(times[0] / bounds[0] - 1.0)

    constant = {c: gap(f"static:{c}") for c in tried}
    rows = [*map(gap, RULES), constant[1], constant[max(cores // 2, 1)], min(constant.values())]
    return [float(f"{max(value, 0.0):.5g}") for value in rows]


def design(name: str, marked: list[dict[str, Any]]) -> dict[str, Any]:
    """Return everything that decides a device's record."""
    entry = library_device(name)
    cores = entry["measured_cores"]["compute"][1]
    return {
        "device": name,
        "cores": cores,
        "counts": entry["provenance"]["points"]["own_cores"],
        "form": entry["provenance"]["model"],
        "splits": splits(cores),
        "cycles": CYCLES,
        "forward": FORWARD,
        "backward": BACKWARD,
        "data": DATA,
        "rates": RATES,
        "columns": list(COLUMNS),
        "workloads": marked,
    }


def columns_of_map(name: str, places: list[float], starved: str) -> Iterator[list[list[float]]]:
    """Yield, for each amount of data, the gaps at every rate: (rates, columns)."""
    for data in places:
        yield [gaps_at(scenario(name, data, rate, starved)) for rate in RATES]


def record(name: str, marked: list[dict[str, Any]]) -> dict[str, Any]:
    """Compute one device's map and its workloads' columns, in both modes."""
    places = [*DATA, *(one["data"] for one in marked)]
    batch.load(scenario(name, DATA[0], RATES[0], MODES[0]), "greedy")  # no job is too small for it
    made: dict[str, Any] = {"design": design(name, marked)}
    for mode in MODES:
        rows = []
        for number, column in enumerate(columns_of_map(name, places, mode)):
            rows.append(column)
            print(f"\r{name}, {mode}: {number + 1} of {len(places)}", end="", file=sys.stderr)
        print(file=sys.stderr)
        grid = np.array(rows)  # (data, rates, columns)
        made[mode] = {
            "map": {c: grid[: len(DATA), :, k].tolist() for k, c in enumerate(COLUMNS)},
            "workloads": {c: grid[len(DATA) :, :, k].tolist() for k, c in enumerate(COLUMNS)},
        }
    return made
