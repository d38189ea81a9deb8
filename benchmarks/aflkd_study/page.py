"""The page over all AFLKD records: every sentence with a number is made from them.

``report`` writes it; nothing here trains or reads files. Its tables are in ``sections`` and
``courses``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from calibration.workloads.aflkd.config import StudyConfig
from calibration.workloads.aflkd.report import percent, verdict
from calibration.workloads.records.tables import summarise_crossed

from .contradiction import sslf_section, step_too_long
from .courses import backwards, steps_section, temperatures_table, unsettled_table
from .sections import (
    DATA,
    Record,
    Row,
    accuracy_rows,
    cells_of,
    claims_table,
    common_nets,
    data_name,
    in_points,
    is_cell,
    listed,
    spread_table,
    switches_table,
    worth_by_size,
    worth_of_switches,
)

#: Switches whose value is that of adapting n to T, and nothing else.
ADAPTIVITY = (
    "n follows T, instead of all layers frozen",
    "n follows T, instead of half of them frozen",
)


def page(records: Mapping[str, Any], planned: Mapping[str, StudyConfig]) -> str:
    """Return the page as Markdown."""
    studies = {name: r for name, r in records["studies"].items() if "sslf" not in name}
    cells = {name: r for name, r in records["studies"].items() if "sslf" in name}
    parts = [
        ["# AFLKD: what was measured", ""],
        _left_out(studies, cells, planned),
        _adaptivity(studies),
        _processors(records, studies),
        claims_table(studies),
        switches_table(studies),
        spread_table(studies),
        unsettled_table(studies),
        steps_section(records.get("steps")),
        temperatures_table(studies),
        sslf_section(cells),
        _robustness(records.get("robustness")),
        _speed(records.get("speed")),
        _files(records),
        _again(planned),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


# --- what was and was not measured ---------------------------------------------------------------


def _left_out(
    studies: Mapping[str, Record], cells: Mapping[str, Record], planned: Mapping[str, StudyConfig]
) -> list[str]:
    whole = planned["fashion-mnist"]
    nets = {run["net"] for r in studies.values() for run in r["runs"] if data_name(r) != "digits"}
    absent = [f"{net} on images of 28 pixels and more" for net in whole.nets if net not in nets]
    most = {
        DATA[data_name(r)]: _most(r)
        for r in sorted(studies.values(), key=lambda r: max(r["manifest"]["config"]["sizes"]))
        if data_name(r) != "digits"
    }
    beyond = [f"{data} all beyond {n:,} images" for data, n in most.items() if n < max(whole.sizes)]
    single = [name for name, r in studies.items() if len(r["cloud"]["accuracy"]) == 1]
    unmade = [f"`{name}`" for name in planned if name not in studies and "sslf" not in name]
    sentences = [
        "**Left out.** The paper has three networks, three data sets and up to "
        f"{len(whole.sizes)} numbers of images, to {max(whole.sizes):,}. Here are missing: "
        + "; ".join(["CIFAR-100", *absent, *(f"on {part}" for part in beyond)]) + ".",
        f"Of the {len(whole.methods)} methods there ran {listed(_ablations(studies))}; elsewhere "
        "four or fewer.",
        f"Planned and not run: {listed(unmade)}." if unmade else "",
        f"In {listed(f'`{name}`' for name in single)} one teacher serves all seeds, so that their "
        "intervals leave the teacher's variance out." if single else "",
        "The step of `cifar10-jpeg` is too long for SSLF, as a section below shows."
        if step_too_long(cells) else "",
    ]  # fmt: skip
    lines = [" ".join(s for s in sentences if s), ""]
    lines += [
        "| study | data | networks | images | methods | seeds x teachers | teachers' accuracy | "
        "on |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, record in studies.items():
        config, host = record["manifest"]["config"], record["manifest"]["host"]
        sizes = sorted({stage["size"] for run in record["runs"] for stage in run["stages"]})
        clouds = record["cloud"]["accuracy"]
        lines.append(
            f"| [`{name}`]({name}/tables.md) | {DATA[data_name(record)]} | "
            f"{', '.join(config['nets'])} | "
            f"{', '.join(f'{n:,}' for n in sizes)} | {len(config['methods'])} | "
            f"{len({run['seed'] for run in record['runs']})} x {len(clouds)} | "
            f"{', '.join(f'{100 * c:.1f} %' for c in clouds)} | {host['cpu']} |"
        )
    return [*lines, ""]


def _ablations(studies: Mapping[str, Record]) -> list[str]:
    """Name where more than four methods ran, the most first."""
    found = []
    for record in studies.values():
        ran: dict[str, set[str]] = {}
        for run in record["runs"]:
            ran.setdefault(run["net"], set()).add(run["method"])
        for count in {len(methods) for methods in ran.values()} - {1, 2, 3, 4}:
            nets = ", ".join(net for net, methods in ran.items() if len(methods) == count)
            found.append((count, f"{DATA[data_name(record)]} ({nets}, to {_most(record):,})"))
    return [f"{count} on {text}" for count, text in sorted(found, key=lambda item: -item[0])]


def _most(record: Record) -> int:
    return max(stage["size"] for run in record["runs"] for stage in run["stages"])


def _adaptivity(studies: Mapping[str, Record]) -> list[str]:
    found = [
        (record, row, *_changes(record, row))
        for record in studies.values()
        for row in worth_of_switches(record)
        if row["switch"] in ADAPTIVITY
    ]
    adapted = [(record, row, changed, runs) for record, row, changed, runs in found if changed]
    start = "**What adaptivity itself is worth**"
    if not adapted:
        why = (
            "in every run of such a method n stayed what the start of T had made it"
            if found
            else "no complete study has the same distillation with a fixed number of frozen layers"
        )
        return [f"{start}is not known: {why}.", ""]
    record, row, changed, runs = max(adapted, key=lambda each: _weight(*each))
    lines = [
        f"{start}: letting n follow T {row['switch'].removeprefix('n follows T, ')}, with all "
        f"else equal, changes accuracy by {in_points(row)} points ({_JUDGED[verdict(row)]}; "
        f"{DATA[data_name(record)]}, {cells_of(record, row)}, {row['seeds']} seeds x "
        f"{row['teachers']} teachers; n changed in {changed} of {runs} adaptive runs). *Open* "
        "means that the interval holds zero. By network and number of images, points:",
        "",
        *_by_size(record, [other for r, other, _, _ in adapted if r is record]),
        "",
        "In every study in which n changed at all:",
        "",
        "| study | networks and images | instead of | points | seeds x teachers | n changed in | |",
        "|---|---|---|---|---|---|---|",
    ]
    names = {id(record): name for name, record in studies.items()}
    for record, row, changed, runs in adapted:
        back, of = backwards(record, row["second"])
        note = f"; the training of {back} of the {of} others went backwards" if back else ""
        instead = row["switch"].removeprefix("n follows T, instead of ")
        lines.append(
            f"| `{names[id(record)]}` | {cells_of(record, row)} | {instead} | {in_points(row)} | "
            f"{row['seeds']} x {row['teachers']} | {changed} of {runs} | "
            f"{_JUDGED[verdict(row)]}{note} |"
        )
    still = dict.fromkeys(name for name, record in studies.items() if any(
        record is r and not changed for r, _, changed, _ in found
    ))  # fmt: skip
    if still:
        lines += [
            "",
            f"Not counted: {listed(f'`{name}`' for name in still)}, where n stayed in every run "
            "what the start of T had made it.",
        ]
    return [*lines, ""]


def _by_size(record: Record, rows: Sequence[Row]) -> list[str]:
    sizes = sorted({stage["size"] for run in record["runs"] for stage in run["stages"]})
    lines = [
        "| n follows T, instead of | network | " + " | ".join(f"{s:,}" for s in sizes) + " |",
        "|---|---|" + "---|" * len(sizes),
    ]
    for row in rows:
        instead = row["switch"].removeprefix("n follows T, instead of ")
        nets = common_nets(record, row["first"], row["second"])
        parts = {net: [net] for net in nets} | ({"all": nets} if len(nets) > 1 else {})
        for name, part in parts.items():
            found = {r["size"]: r for r in worth_by_size(record, row["first"], row["second"], part)}
            cells = [in_points(found[size]) if size in found else "" for size in sizes]
            lines.append(f"| {instead} | {name} | {' | '.join(cells)} |")
    return lines


_JUDGED = {"holds": "a gain", "contradicted": "a loss", "open": "open"}


def _weight(record: Record, row: Row, changed: int, runs: int) -> tuple[bool, int]:
    """Order comparisons by what stands behind them: all layers frozen first, then the runs."""
    cells = {(r["net"], stage["size"]) for r in record["runs"] for stage in r["stages"]}
    return row["switch"] == ADAPTIVITY[0], len(cells) * row["seeds"] * row["teachers"]


def _changes(record: Record, row: Row) -> tuple[int, int]:
    """Return in how many runs of the adaptive method n changed, of how many."""
    runs = [run for run in record["runs"] if run["method"] == row["first"]]
    return sum(len(set(run["course"]["frozen_layers"])) > 1 for run in runs), len(runs)


def _processors(records: Mapping[str, Any], studies: Mapping[str, Record]) -> list[str]:
    found = records.get("processors")
    if not found:
        return []
    values = [f"{100 * run['accuracy']:.2f} % {run['on']}" for run in found["runs"]]
    cell = found["cell"]
    rows = [row for row in accuracy_rows(studies[cell["study"]]) if is_cell(row, cell)]
    (interval,) = summarise_crossed(rows, "accuracy", ["net"])
    spread = 2 * interval["sd_seeds"]
    low, high = interval["mean"] - spread, interval["mean"] + spread
    inside = all(low <= run["accuracy"] <= high for run in found["runs"])
    return [
        "**Accuracies depend on the arithmetic of the processor.** The same seed and code "
        f"({cell['net']}, {cell['method']}, {cell['size']} images, seed {cell['seed']}) give "
        f"{listed(values)}. Rounding differs, training amplifies it; the values "
        f"{'lie' if inside else 'do not all lie'} within two standard deviations of seeds, "
        f"{100 * low:.1f} to {100 * high:.1f} %.",
        "",
    ]


# --- the rest ------------------------------------------------------------------------------------


def _robustness(record: Record | None) -> list[str]:
    if not record:
        return []

    def accuracy(method: str) -> Record:
        return next(
            r for r in record["accuracy"]
            if (r["disturbance"], r["remedy"], r["size"], r["method"])
            == ("label noise 0.4", "none", 100, method)
        )  # fmt: skip

    def gain(disturbance: str) -> Record:
        return next(
            g for g in record["gains"]
            if (g["disturbance"], g["difference"], g["size"])
            == (disturbance, "safeguard - none", 100)
        )  # fmt: skip

    ours, plain = accuracy("aflkd-reverse"), accuracy("sslf")
    helped, hurt = gain("teacher noise 0.5"), gain("label noise 0.4")
    return [
        "## Wrong labels and wrong teachers",
        "",
        f"With 40 % of the labels wrong, at 100 digits on edge-1, AFLKD reaches {percent(ours)} "
        f"% and SSLF "
        f"{percent(plain)} % (n = {ours['n']}). The teacher safeguard is worth {in_points(helped)} "
        f"points "
        f"where half of the cloud's answers are wrong, and {in_points(hurt)} points where the "
        f"labels that it "
        "checks with are: it trusts labels. All of it: `robustness.md`.",
        "",
    ]


def _speed(record: Record | None) -> list[str]:
    if not record:
        return []
    steps = [row["mean"] for row in record["step_over_bare_loop"].values()]
    deepest = {net: rows[-1] for net, rows in record["backward_by_frozen_layers"].items()}
    ends = [
        f"{net} {row['ratio']['mean']:.2f} (from FLOPs {row['flop_ratio']:.2f})"
        for net, row in deepest.items()
    ]
    return [
        "## Speed",
        "",
        f"A step costs what a bare torch loop costs (ratios {min(steps):.2f} to "
        f"{max(steps):.2f}). With "
        f"every layer frozen the backward pass takes, of that with none: {listed(ends)}. Where it "
        f"is more "
        "than the FLOPs say, the update of the fully connected head, which the count leaves out, "
        "remains.",
        "",
    ]


def _files(records: Mapping[str, Any]) -> list[str]:
    return [
        "## Files",
        "",
        "| | |",
        "|---|---|",
        "| `STUDY/results.json` | manifest, every run with the course of T and n, paired "
        "differences |",
        "| `STUDY/tables.md` | accuracies beside the paper's, every difference, every verdict |",
        "| `STUDY/*.png` | accuracy, differences (forest), course of T |",
        *(["| `steps.json` | `benchmarks/aflkd_study/steps.py` |"] if "steps" in records else []),
        "| `robustness.*`, `speed.*` | `benchmarks/aflkd_study/robustness.py`, "
        "`benchmarks/aflkd_study/speed.py` |",
        *(
            ["| `processors.json` | one run on several processors |"]
            if "processors" in records
            else []
        ),
        "",
    ]


def _again(planned: Mapping[str, StudyConfig]) -> list[str]:
    big = [name for name in planned if not name.startswith("small") and name != "digits"]
    steps = sum(_steps(planned[name]) for name in big)
    return [
        "## Making it again, and in full",
        "",
        "    python benchmarks/aflkd.py --data-dir DIR --device auto --workers 16 --work out/aflkd",
        "    python -m benchmarks.aflkd_study.report --data-dir DIR --work out/aflkd",
        "",
        "The first trains everything that is planned: all methods on all three networks to 5,000 "
        "Fashion-MNIST images with five seeds to 1,000 (three beyond) and three teachers, the main "
        "methods on CIFAR-10, and what may explain SSLF: "
        f"{steps / 1e6:.1f} million training steps of edge networks beside the small studies. It "
        f"is "
        "meant for one accelerator shared by a dozen processes, or for many cores; it goes on "
        "where it "
        "stopped, and `--budget SECONDS` ends it in time. The code for an accelerator has not "
        "been run on one "
        "yet. The second takes over what is complete and writes this page; its test makes the "
        "page again "
        "from the committed records.",
    ]


def _steps(config: StudyConfig) -> int:
    training = config.student.training
    runs = len(config.nets) * len(config.methods) * config.teachers
    total = 0
    for seed in range(config.seeds):
        sizes = (0, *config.sizes_of(seed))
        for a, b in pairwise(sizes):
            images = b if config.update == "cumulative" else b - a
            total += training.epochs * -(-images // training.batch_size)
    return runs * total
