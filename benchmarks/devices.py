"""Which form follows how real devices scale, and what that means for them.

Reads the same raw inference times as the device library (``calibration/devices/raw``). Writes to
``benchmarks/results/devices``: the leave-one-core-count-out table of every device with four or more
counts, the worst point of the paper's f per network, the figure of twelve devices, and the figure
of four devices from the library compared by makespan.

    python benchmarks/devices.py      # about a minute
"""

from __future__ import annotations

import csv
import functools
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from calibration.devices.measurements import (
    NCNN_LOG,
    measured_devices,
    network_sizes,
    read_catalogue,
)
from calibration.devices.scaling import as_samples, unit_times, worst_point
from calibration.fit.estimate import TABLE, fit_model
from calibration.fit.models import COMPUTE, own_core_model, side_models
from calibration.fit.selection import leave_one_out
from calibration.importing.ncnn import read_ncnn
from kdsim import plots
from kdsim.api import compare, minimal_makespan
from kdsim.model.curves import Model
from kdsim.plots.style import INK, MUTED, add_marks, prepare, title
from kdsim.scenario.files.library import library_device
from kdsim.scenario.parts.device import Device
from kdsim.scenario.study import Scenario

RESULTS = Path(__file__).resolve().parent / "results" / "devices"
TWELVE = (
    "raspberry-pi-4", "raspberry-pi-5", "jetson-agx-orin", "jetson-agx-xavier", "station-p2",
    "ryzen-v1605b", "kunpeng-920-2251k", "kunpeng-920-3211k", "kunpeng-920-7260",
    "azure-d64ps-v6", "azure-d64s-v6", "azure-d64as-v7",
)  # fmt: skip
FOUR = ("raspberry-pi-4", "raspberry-pi-5", "jetson-agx-orin", "azure-d64ps-v6")
WORK = {"cycles": 50, "comm": 100.0, "forward": 16.0, "backward": 16.0}


# --- forms of the literature that are not in kdsim ------------------------------------------------


def downey(p, v):
    """Downey's speed-up (A model for speedup of parallel programs, 1997) with rate1 a core."""
    a, s = v["parallelism"], v["variance"]
    if s <= 1:
        low = a * p / (a + s / 2 * (p - 1))
        middle = a * p / (s * (a - 0.5) + p * (1 - s / 2))
        speedup = np.where(p <= a, low, np.where(p <= 2 * a - 1, middle, a))
    else:
        rising = p * a * (s + 1) / (s * (p + a - 1) + a)
        speedup = np.where(p <= a + a * s - s, rising, a)
    return v["rate1"] * speedup


def usl_offset(p, v):
    """The universal scalability law above a part of the rate that cores do not change."""
    law = p / (1 + v["sigma"] * (p - 1) + v["kappa"] * p * (p - 1))
    return v["rate1"] * (v["offset"] + (1 - v["offset"]) * law)


TINY = np.finfo(float).tiny
LITERATURE = {
    "downey": (
        Model(
            ("rate1", "parallelism", "variance"), (TINY, 1.0, 0.0), (math.inf, 512.0, 8.0), downey
        ),
        {"parallelism": 8.0, "variance": 0.5},
    ),
    "usl-offset": (
        Model(
            ("rate1", "offset", "sigma", "kappa"), (TINY, 0.0, 0.0, 0.0),
            (math.inf, 1.0, 1.0, 1.0), usl_offset,
        ),
        {"offset": 0.1},
    ),
}  # fmt: skip


def forms(total):
    """Every form compared: the project's own, those above, the measured table."""
    more = {
        name: own_core_model(name, spec, COMPUTE, total, start)
        for name, (spec, start) in LITERATURE.items()
    }
    return {**side_models(COMPUTE, total), **more, TABLE: None}


# --- leave one core count out ---------------------------------------------------------------------


def leave_out_rows(devices, sizes):
    """One row per device, form and core count left out."""
    rows = []
    for device in devices:
        if len(device.counts) < 4:
            continue
        samples = as_samples(unit_times(device, sizes), device.counts).without_outliers()
        total = device.counts[-1]
        for name, model in forms(total).items():
            for c, error in leave_one_out(samples, model, total).items():
                own = total - c
                kind = "last" if own == total else "first" if own == device.counts[0] else "inner"
                rows.append(
                    {"device": device.entry.name, "form": name, "cores_left_out": own,
                     "kind": kind, "networks": len(device.networks), "error": error}
                )  # fmt: skip
    return rows


def shares(rows, form, kind, device=None):
    """Absolute errors of a form, in the rows of one kind."""
    return np.array(
        [abs(r["error"]) for r in rows
         if r["form"] == form and r["kind"] == kind and device in (None, r["device"])]
    )  # fmt: skip


def leave_out_table(rows):
    """The table as Markdown: per device and form the mean inner and the last error."""
    names = list(dict.fromkeys(r["form"] for r in rows))
    devices = list(dict.fromkeys(r["device"] for r in rows))
    lines = [
        "Mean absolute error (%) of the time predicted for an inner core count left out / error at "
        "the largest count, predicted from the smaller ones. Bold: the least of its kind.",
        "",
        "| device | counts | " + " | ".join(names) + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    for device in devices:
        inner = [shares(rows, n, "inner", device).mean() for n in names]
        last = [shares(rows, n, "last", device).mean() for n in names]
        counts = len({r["cores_left_out"] for r in rows if r["device"] == device})
        cells = [f"{_cell(a, inner)} / {_cell(b, last)}" for a, b in zip(inner, last, strict=True)]
        lines.append(f"| {device} | {counts} | " + " | ".join(cells) + " |")
    for label, kind in (("inner", "inner"), ("largest", "last")):
        for what, of in (("median", np.nanmedian), ("worst", np.nanmax)):
            values = [
                of(e) if np.isfinite(e := shares(rows, n, kind)).any() else np.nan for n in names
            ]
            cells = [_cell(v, values) for v in values]
            lines.append(f"| {label}, {what} of all | | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(value, of):
    if not np.isfinite(value):
        return "-"
    text = f"{100 * value:.1f}"
    return f"**{text}**" if value == np.nanmin(of) else text


def least_worst_point(rates, counts):
    """The worst point of a rate affine in the cores, with the parameters that make it least."""
    p, logs = np.array(counts, float), np.log(rates)

    def miss(v):
        return np.abs(np.logaddexp(v[0], v[1] + np.log(np.maximum(p - 1, TINY))) - logs).max()

    starts = [(logs[0], logs[0] + shift) for shift in (-0.5, -2.0, -4.0)]
    found = min((minimize(miss, s, method="Nelder-Mead") for s in starts), key=lambda f: f.fun)
    return math.expm1(found.fun)


def worst_points(devices, sizes):
    """How far the paper's f misses the worst point of each network, fitted to it alone.

    Once as the project fits it, and once with whatever parameters miss the least.
    """
    out = {}
    for device in devices:
        if len(device.counts) < 3:
            continue
        times = unit_times(device, sizes)
        off = worst_point(times, device.counts, "paper")
        least = [least_worst_point(1 / row, device.counts) for row in times]
        out[device.entry.name] = {
            "counts": list(device.counts),
            "networks": len(off),
            "falling": int((times[:, -1] > times.min(axis=1)).sum()),
            "paper_worst_point_median": float(np.median(off)),
            "paper_worst_point_p95": float(np.quantile(off, 0.95)),
            "least_worst_point_median": float(np.median(least)),
            "least_worst_point_p95": float(np.quantile(least, 0.95)),
        }
    return out


# --- figures --------------------------------------------------------------------------------------


def twelve_figure(devices, sizes):
    """Measured points, the form chosen, the paper's form, of twelve devices."""
    figure = Figure(figsize=(12.0, 8.4), layout="constrained")
    axes = figure.subplots(3, 4).ravel()
    by_name = {device.entry.name: device for device in devices}
    for ax, name in zip(axes, TWELVE, strict=True):
        device, entry = by_name[name], library_device(name)
        times = unit_times(device, sizes)
        prepare(ax)
        points = entry["provenance"]["points"]
        ax.plot(device.counts, (1 / times).T, color=MUTED, linewidth=0.4, alpha=0.35)
        middle = np.array(points["rate"])
        ends = np.abs(np.array([points["low"], points["high"]]) - middle)
        cores = np.geomspace(device.counts[0], device.counts[-1], 60)
        samples = as_samples(times, device.counts).without_outliers()
        total = device.counts[-1]
        own = np.arange(device.counts[0], total + 1)
        chosen = entry["provenance"]["model"]
        looks = {
            "paper": ("the paper's f", "#d0743c", "--"),
            chosen: (f"chosen: {chosen}", "#2b4a8c", "-"),
        }
        if chosen == "paper":
            looks = {"paper": ("chosen: the paper's f", "#2b4a8c", "-")}
        for form, (label, color, line) in looks.items():
            _, rates = fit_model(samples, forms(total)[form], total)
            ax.plot(own, rates[total - own], label=label, color=color, linestyle=line)
        ax.errorbar(points["own_cores"], middle, yerr=ends, fmt="none", ecolor="#2b4a8c", capsize=2)
        ax.plot(device.counts, points["measured"], "o", color=INK, markersize=4, label="measured")
        ax.set(xscale="log" if cores[-1] > 12 else "linear", ylim=(0, 1.3 * max(points["high"])))
        ax.set_xticks(device.counts, [str(c) for c in device.counts])
        ax.minorticks_off()
        title(ax, name)
        ax.legend(frameon=False, fontsize="x-small", loc="upper left")
    for ax in axes[8:]:
        ax.set_xlabel("cores")
    for ax in axes[::4]:
        ax.set_ylabel("network passes per second")
    add_marks(
        list(axes), ["inference proxy: grey lines are single networks, bars 95 % over networks"]
    )
    return figure


def makespan_figure():
    """The makespan of one workload over the cores of four devices, with intervals."""
    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    ax = figure.subplots()
    prepare(ax)
    rows = []
    looks = (("#e0b43c", "o"), ("#a83c64", "s"), ("#2b4a8c", "^"), ("#4f8a8b", "D"))
    for name, (color, marker) in zip(FOUR, looks, strict=True):
        found = makespans(name)
        rows += found
        cores = [r["cores"] for r in found]
        ax.fill_between(cores, [r["low"] for r in found], [r["high"] for r in found], color=color,
                        alpha=0.18, linewidth=0)  # fmt: skip
        ax.plot(cores, [r["makespan"] for r in found], color=color, marker=marker, markersize=4,
                label=name)  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="cores of the device", ylabel="minimal makespan (s)")
    ax.set_xticks([1, 2, 4, 8, 12, 16, 32, 64], ["1", "2", "4", "8", "12", "16", "32", "64"])
    ax.minorticks_off()
    ax.grid(True, which="both", axis="y", alpha=0.3)
    ax.legend(frameon=False)
    title(ax, "50 cycles, each 16 passes forward, 16 backward and 100 MB received")
    add_marks([ax], ["inference proxy and communication proxy: bands are 95 % over both"])
    return figure, rows


def makespans(name):
    """Makespans of a library device by cores: the policy `optimal`, and the interval of its bound.

    Each of the device's draws is a refit of the compute curve to resampled networks, a
    communication rate within its factor, and a scaling of it between none and proportional.
    """
    entry = library_device(name)
    total = entry["measured_cores"]["compute"][1]
    counts = [c for c in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64) if c <= total]
    centre = compare(
        Scenario.model_validate(
            {"name": name, "device": {"library": name}, "workload": WORK, "policies": ["optimal"],
             "sweep": {"device.cores": counts}}
        )
    )  # fmt: skip
    # Of the whole device; on fewer cores each side takes the rates on its own first cores.
    device = Device.model_validate({"library": name})
    drawn = [device.drawn(k) for k in range(device.draws.count)]
    rates = [(d.compute_rates(total)[-2::-1], d.communication_rates(total)[1:]) for d in drawn]
    rows = []
    for sample in centre.samples:
        cores = sample.point["device.cores"]
        plan = Scenario.model_validate(
            {"name": name, "device": {"library": name, "cores": cores}, "workload": WORK}
        ).plan()
        values = [
            minimal_makespan(
                replace(
                    plan,
                    comp_rates=np.append(computing[:cores][::-1], 0.0),
                    comm_rates=np.append(0.0, receiving[:cores]),
                )
            ).makespan
            for computing, receiving in rates
        ]
        low, high = np.quantile(values, [0.025, 0.975])
        rows.append(
            {"device": name, "cores": cores, "makespan": float(sample.makespans[0]),
             "low": float(low), "high": float(high)}
        )  # fmt: skip
    return rows


@functools.cache
def catalogued():
    """The devices of the library, as measured."""
    return measured_devices(read_ncnn(NCNN_LOG), read_catalogue())


def write_csv(path, rows):
    """Write rows of one form."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


def main():
    """Make every table and figure."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    devices = catalogued()
    sizes = network_sizes(devices)
    rows = leave_out_rows(devices, sizes)
    write_csv(RESULTS / "leave-one-out.csv", rows)
    (RESULTS / "leave-one-out.md").write_text(leave_out_table(rows), encoding="utf-8")
    worst = worst_points(devices, sizes)
    (RESULTS / "paper-form.json").write_text(json.dumps(worst, indent=1) + "\n", encoding="utf-8")
    plots.save(twelve_figure(devices, sizes), RESULTS / "twelve-devices.png", dpi=100)
    figure, found = makespan_figure()
    write_csv(RESULTS / "four-devices.csv", found)
    plots.save(figure, RESULTS / "four-devices.png", dpi=120)
    print((RESULTS / "leave-one-out.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
