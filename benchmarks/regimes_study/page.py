"""Tables, figures and the page over the records of the regimes.

Every number on the page is computed from the records; nothing here simulates.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from kdsim import plots
from kdsim.plots.figures.policy_map import LEVELS, draw_gaps
from kdsim.plots.style import INK, MUTED, add_marks, title

from .study import MODES, RECORDS, TWO_COUNTS

RESULTS = RECORDS.parent
PAGE = Path(__file__).resolve().parents[2] / "docs" / "evidence" / "regimes.md"
#: A policy loses where its gap to the optimum is larger than this.
LOST = 0.05
Record = Mapping[str, Any]

NAMES = {
    "greedy": "Algorithm 1",
    "comm-priority": "comm-priority",
    "comp-priority": "comp-priority",
    "static:1": "1 core receives",
    "static:half": "half of them receive",
    "static:best": "best constant split",
}
FOUR = ("raspberry-pi-5", "jetson-agx-xavier", "jetson-agx-orin", "azure-d64ps-v6")
IDLE = "cores that wait for data stay idle"
SHARED = "computation takes the time of cores that wait for data"
WORDS = {"idle": IDLE, "shared": SHARED}


def read_records(folder: Path = RECORDS) -> dict[str, Record]:
    """Read the records, devices by their number of cores."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    ordered = sorted(found, key=lambda one: (one["design"]["cores"], one["design"]["device"]))
    return {one["design"]["device"]: one for one in ordered}


# --- numbers --------------------------------------------------------------------------------------


def grid(record: Record, mode: str, column: str) -> np.ndarray:
    """Return a column's gaps over data per image and link rate: (data, rates)."""
    return np.array(record[mode]["map"][column])


def lost_share(record: Record, mode: str, column: str) -> float:
    """Return the share of the map on which a column loses."""
    return float((grid(record, mode, column) > LOST).mean())


def lost_data(record: Record, mode: str, column: str) -> tuple[float, float] | None:
    """Return the least and the largest data per image at which a column loses at some rate."""
    data = np.array(record["design"]["data"])
    where = (grid(record, mode, column) > LOST).any(axis=1)
    return (float(data[where][0]), float(data[where][-1])) if where.any() else None


def unlimited(record: Record, column: str) -> np.ndarray:
    """Return a column's gaps on the fastest link, which limits nothing: (data,)."""
    return grid(record, "idle", column)[:, -1]


def at_workload(record: Record, mode: str, column: str, place: int) -> tuple[float, float]:
    """Return the largest gap at a workload over all rates, and the rate of it."""
    gaps = np.array(record[mode]["workloads"][column][place])
    most = int(gaps.argmax())
    return float(gaps[most]), float(record["design"]["rates"][most])


def percent(share: float) -> str:
    """Write a share in percent, to one decimal below ten."""
    value = 100.0 * share
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.1f} %"


def number(value: float) -> str:
    """Write a number to two digits, without an exponent."""
    return f"{float(f'{value:.2g}'):,g}"


# --- tables ---------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay out a Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def device_table(record: Record) -> list[str]:
    """Lay out one device: per column how much is lost where, in both modes."""
    rows = []
    for column in record["design"]["columns"]:
        cells = [NAMES[column]]
        for mode in MODES:
            spread = lost_data(record, mode, column)
            cells += [
                percent(float(grid(record, mode, column).max())),
                percent(lost_share(record, mode, column)),
                f"{number(spread[0])} to {number(spread[1])}" if spread else "nowhere",
            ]
        rows.append(cells)
    head = ["policy"]
    for mode in MODES:
        head += [f"{mode}: largest gap", "of the map above 5 %", "MB per image there"]
    return table(head, rows)


def workload_table(records: Mapping[str, Record], mode: str) -> list[str]:
    """Lay out each workload's largest gap over all link rates, the worst device of the study."""
    first = next(iter(records.values()))["design"]
    rows = []
    for place, work in enumerate(first["workloads"]):
        cells = [work["mark"], work["name"], number(work["data"])]
        for column in first["columns"]:
            worst = {
                name: at_workload(record, mode, column, place)
                for name, record in records.items()
            }  # fmt: skip
            name = max(worst, key=lambda one: worst[one][0])
            gap, rate = worst[name]
            cells.append(
                f"{percent(gap)} ({name}, {number(rate)} MB/s)" if gap > LOST else percent(gap)
            )
        rows.append(cells)
    return table(["", "workload", "MB per image", *(NAMES[c] for c in first["columns"])], rows)


# --- figures --------------------------------------------------------------------------------------


def figure(records: Mapping[str, Record], mode: str) -> Figure:
    """Draw a row of maps per device, a column per policy."""
    columns = next(iter(records.values()))["design"]["columns"]
    size = (2.15 * len(columns) + 1.0, 1.95 * len(records) + 1.2)
    drawn = Figure(figsize=size, layout="constrained")
    axes = drawn.subplots(len(records), len(columns), sharex=True, sharey=True, squeeze=False)
    norm = BoundaryNorm(LEVELS, 256, extend="max")
    shades: Any = None
    for row, (name, record) in zip(axes, records.items(), strict=True):
        design = record["design"]
        for ax, column in zip(row, columns, strict=True):
            gaps = grid(record, mode, column).T  # (rates, data)
            shades = draw_gaps(ax, design["data"], design["rates"], 100.0 * gaps, norm)
            ax.set(xscale="log", yscale="log")
            ax.tick_params(colors=MUTED, labelcolor=INK, labelsize="x-small")
            for work in design["workloads"]:
                ax.axvline(work["data"], color="#b8450b", lw=0.8, ls=(0, (3, 2)))
        row[0].set_ylabel(f"{name}\n({design['cores']} cores)\nlink (MB/s)", color=INK, fontsize=8)
    for ax, column in zip(axes[0], columns, strict=True):
        title(ax, NAMES[column])
        _letters(ax, design["workloads"])
    for ax in axes[-1]:
        ax.set_xlabel("MB per image", color=INK, fontsize=8)
    bar = drawn.colorbar(shades, ax=axes, ticks=LEVELS, aspect=40, fraction=0.02)
    bar.set_label("gap to the optimum (%)", color=INK)
    names = "; ".join(f"{work['mark']} {work['name']}" for work in design["workloads"])
    heading = f"Where the choice of a policy matters: {WORDS[mode]}"
    drawn.suptitle(f"{heading}\n{names}", color=INK, fontsize=9)
    add_marks(list(axes.ravel()), ["inference proxy and communication proxy, see docs/devices.md"])
    return drawn


def _letters(ax: Any, workloads: Sequence[Mapping[str, Any]]) -> None:
    """Write each workload's letter inside a map at its line, neighbours at different heights."""
    ordered = sorted(workloads, key=lambda work: work["data"])
    for place, work in enumerate(ordered):
        ax.annotate(
            work["mark"], (work["data"], 0.97 - 0.1 * (place % 3)),
            xycoords=("data", "axes fraction"), xytext=(1.5, 0), textcoords="offset points",
            color="#b8450b", fontsize=7, va="top", fontweight="bold",
        )  # fmt: skip


# --- the page -------------------------------------------------------------------------------------


def lost_words(records: Mapping[str, Record], mode: str) -> Iterator[str]:
    """Say of each column on how many devices it loses anywhere, and how much at most."""
    for column in next(iter(records.values()))["design"]["columns"]:
        largest = {name: float(grid(r, mode, column).max()) for name, r in records.items()}
        losing = [name for name, gap in largest.items() if gap > LOST]
        worst = max(largest, key=largest.__getitem__)
        at = np.unravel_index(grid(records[worst], mode, column).argmax(),
                              grid(records[worst], mode, column).shape)  # fmt: skip
        design = records[worst]["design"]
        shares = [lost_share(record, mode, column) for record in records.values()]
        yield (
            f"- **{NAMES[column]}** loses more than 5 % somewhere on {len(losing)} of "
            f"{len(records)} devices, on {percent(min(shares))} to {percent(max(shares))} of the "
            f"map. Its largest gap is {percent(largest[worst])}, on {worst} at "
            f"{number(design['data'][at[0]])} MB per image and "
            f"{number(design['rates'][at[1]])} MB/s."
        )


def unlimited_words(records: Mapping[str, Record]) -> str:
    """Say from how many MB per image on priority costs anything without a limit of the link."""
    starts = {}
    for name, record in records.items():
        data = np.array(record["design"]["data"])
        where = data[unlimited(record, "comm-priority") > LOST]
        if where.size:
            starts[name] = float(where[0])
    least, most = min(starts, key=starts.__getitem__), max(starts, key=starts.__getitem__)
    greedy = max(float(unlimited(record, "greedy").max()) for record in records.values())
    return (
        "Where the link limits nothing (the top row of each map), priority loses more than 5 % "
        f"from {number(starts[least])} MB per image on ({least}) to {number(starts[most])} "
        f"({most}); "
        f"Algorithm 1 never loses more than {percent(greedy)} there."
    )


def workload_words(records: Mapping[str, Record]) -> str:
    """Say what the study says of the workloads, over all devices and link rates."""
    first = next(iter(records.values()))["design"]
    most = {
        (mode, column): max(
            at_workload(record, mode, column, place)[0]
            for record in records.values()
            for place in range(len(first["workloads"]))
        )
        for mode in MODES
        for column in first["columns"]
    }
    shared = max(gap for (mode, _), gap in most.items() if mode == "shared")
    return (
        "At the four workloads marked, on every device and at every link rate, no policy loses "
        f"more than {percent(shared)} if {SHARED}. If {IDLE}, comp-priority loses at most "
        f"{percent(most['idle', 'comp-priority'])}, Algorithm 1 and the best constant split up to "
        f"{percent(most['idle', 'greedy'])} and {percent(most['idle', 'static:best'])}, and "
        f"comm-priority up to {percent(most['idle', 'comm-priority'])}: what matters there is not "
        "to pin cores to a link that cannot feed them."
    )


def page(records: Mapping[str, Record]) -> str:
    """Return the page as Markdown."""
    first = next(iter(records.values()))["design"]
    two = [name for name in records if name in TWO_COUNTS]
    lines = [
        "# Where the choice of a policy matters", "",
        "**Left out.** The devices' curves are proxies ({doc}`../devices`): computation is "
        "inference, and receiving is another machine's receiver, scaled; a factor of 2.7 either "
        "way in its rate moves every map along the data axis by as much. Their draws are not in "
        "the maps. There is no noise, no cost of moving cores, no prefetch limit and no bandwidth "
        "trace. Batches of unequal size were not tried. The workloads' links are not known: each "
        "is a line. The contention paper names no network; one of average size is assumed. "
        f"{', '.join(two)} were measured on two core counts: what lies between them is the form's. "
        f"On devices of more than 12 cores the best constant split is the best of "
        f"{max(len(r['design']['splits']) for r in records.values())} counts at most.", "",
        f"On {len(records)} devices of the library (all that have a communication curve and three "
        f"or more core counts, and {len(two)} boards with two), every policy was played at "
        f"{len(first['data'])} amounts of data per image times {len(first['rates'])} link rates "
        f"({first['cycles']} cycles, one pass forward and two backward per image; all work scaled "
        "alike leaves the gaps as they are, so that the batch size does not matter). A policy "
        "*loses* where its makespan is more than 5 % above the optimum of the same scenario.", "",
        "    python benchmarks/regimes.py && python benchmarks/regimes.py page", "",
        workload_words(records), "",
    ]  # fmt: skip
    for mode in MODES:
        lines += [f"## If {WORDS[mode]}", "", *lost_words(records, mode), ""]
        lines += [f"![Maps of four devices](../../benchmarks/results/regimes/four-{mode}.png)", ""]
        lines += [
            "The largest gap over all link rates at each workload, on the device where it is "
            "largest; the device and the rate are named where it exceeds 5 %:", "",
        ]  # fmt: skip
        lines += workload_table(records, mode)
    lines += ["## Without a limit of the link", "", unlimited_words(records), ""]
    lines += ["All devices: `benchmarks/results/regimes/`.", ""]
    return "\n".join(lines)


def readme(records: Mapping[str, Record]) -> str:
    """Return the page of the results folder: a table per device."""
    lines = [
        "# Regimes: all devices", "",
        "**Left out** stands first on the page `docs/evidence/regimes.md`, and it says what the "
        "study is. Here are its figures (`all-idle.png`, `all-shared.png`: every device; "
        "`four-*.png`: four of them) and one table per device; records in `records/`. The last "
        "column of each half has the least and the largest data per image at which the policy "
        "loses more than 5 % at some link rate.", "",
    ]  # fmt: skip
    for name, record in records.items():
        design = record["design"]
        counts = ", ".join(map(str, design["counts"]))
        lines += [f"## {name}", "", f"{design['cores']} cores; measured on {counts}; form: "
                  f"{design['form']}.", "", *device_table(record)]  # fmt: skip
    return "\n".join(lines)


def write_pages() -> None:
    """Write the page, the tables and the figures."""
    records = read_records()
    (RESULTS / "README.md").write_text(readme(records), encoding="utf-8")
    PAGE.write_text(page(records), encoding="utf-8")
    four = {name: records[name] for name in FOUR}
    for mode in MODES:
        plots.save(figure(four, mode), RESULTS / f"four-{mode}.png", dpi=90)
        plots.save(figure(records, mode), RESULTS / f"all-{mode}.png", dpi=75)
