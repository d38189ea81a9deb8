"""What a finished AFLKD study says: its JSON, its tables beside the paper's, its verdicts.

A verdict on a claim of the paper is read off a paired 95 % interval: *holds* when the interval
lies on the claimed side of zero, *contradicted* when it lies on the other, *open* otherwise. Each
interval stands alone; none is corrected for how many there are. Figures are in ``aflkd_figures``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from calibration.workloads.aflkd.config import StudyConfig
from calibration.workloads.aflkd.paper import paper_accuracy, paper_cloud_accuracy
from calibration.workloads.aflkd.settling import settling_table
from calibration.workloads.aflkd.switches import is_claimed, references_of, switch_rows
from calibration.workloads.data.datasets import Dataset
from calibration.workloads.records.results import manifest, write_json, write_text
from calibration.workloads.records.tables import compare_crossed, summarise_crossed
from calibration.workloads.training.networks import (
    build_network,
    flop_count,
    layer_count,
    parameter_count,
)
from kdsim._types import Record, RecordView

Result = Record

_NOTES = (
    "aflkd-reverse ascends the loss in T where the paper's eq. 5 descends it; aflkd-descend is "
    "eq. 5 on our parametrisation of T, aflkd-clamped on T itself, aflkd-printed also without a "
    "learning rate, as the equation is printed.",
    "A frozen layer holds the cloud's weights, also when it freezes again.",
)


def build_result(
    config: StudyConfig,
    dataset: Dataset,
    runs: Sequence[RecordView],
    clouds: Sequence[float],
) -> Result:
    """Gather a study into one JSON-ready result.

    Parameters
    ----------
    runs : sequence of mapping
        As ``aflkd_study.run_study`` returns them.
    clouds : sequence of float
        Test accuracy of each teacher, 0 to 1.

    Returns
    -------
    dict
        ``manifest``, ``cloud``, ``networks``, ``accuracy`` (a row for each net, method and size),
        ``differences`` (paired) with their ``verdict``, ``switches`` (what each is worth over all
        cells), and ``runs`` as they are. Accuracies and differences are shares, 0 to 1.
    """
    paper_cloud = paper_cloud_accuracy(config.data)
    return {
        "manifest": manifest(
            asdict(config), seeds=range(config.seeds), dataset=dataset, notes=_notes(config)
        ),
        "cloud": {
            "accuracy": list(clouds),
            "paper": None if paper_cloud is None else round(paper_cloud / 100, 6),
        },
        "networks": _networks(config, dataset),
        **findings(config.data, config.methods, runs),
        "runs": [dict(run) for run in runs],
    }


def findings(data: str, methods: Sequence[str], runs: Sequence[RecordView]) -> Result:
    """Compute what a study's runs say: everything in its result that holds an accuracy.

    Parameters
    ----------
    data : str
        Name of the data set, for the paper's figures.
    runs : sequence of mapping
        As ``aflkd_study.run_study`` returns them.

    Returns
    -------
    dict
        ``accuracy``, ``differences`` and ``switches``, as in :func:`build_result`.
    """
    rows = [
        {
            "net": run["net"],
            "method": run["method"],
            "teacher": run["teacher"],
            "seed": run["seed"],
            "size": stage["size"],
            "accuracy": stage["accuracy"],
        }
        for run in runs
        for stage in run["stages"]
    ]
    summary = summarise_crossed(rows, "accuracy", ["net", "size", "method"])
    for row in summary:
        paper = paper_accuracy(data, row["net"], row["method"], row["size"])
        row["paper"] = None if paper is None else round(paper / 100, 6)
    differences = compare_crossed(
        rows, "accuracy", ["net", "size"], treatment="method", pairs=compared(methods)
    )
    return {
        "accuracy": summary,
        "differences": [{**row, "verdict": verdict(row)} for row in differences],
        "switches": [{**row, "verdict": verdict(row)} for row in switch_rows(rows)],
    }


def compared(methods: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of methods to compare: each with each reference after it in rank."""
    there = references_of(methods)
    pairs = [
        (method, reference) for reference in there for method in methods if method not in there
    ]
    return pairs + [(a, b) for k, a in enumerate(there) for b in there[k + 1 :]]


def _notes(config: StudyConfig) -> list[str]:
    """Return where a study departs from the paper, or from our own protocol."""
    sees = {
        "own": "The cloud network sees neither test data nor a student's images (the paper trains "
        "it on both parts of the data).",
        "everything": "The cloud network is trained on all images, those of the students and of "
        "the test included, as in the paper: accuracies on the test images are too high.",
    }
    labels = {
        "cloud": "Streamed images carry the cloud's predictions as labels for every method, the "
        "baseline too.",
        "true": "Streamed images carry their true labels, which no edge device has.",
    }
    return [sees[config.teacher_sees], labels[config.stream_labels], *_NOTES]


def verdict(difference: RecordView) -> str:
    """Return what an interval says of the claim "first method is better": holds, open, ..."""
    if difference["ci_low"] is None or difference["n"] < 2:
        return "open"
    if difference["ci_low"] > 0:
        return "holds"
    return "contradicted" if difference["ci_high"] < 0 else "open"


def tables(result: Result) -> str:
    """Write a result as Markdown: accuracies beside the paper's, then paired differences."""
    config, data = result["manifest"]["config"], result["manifest"]["data"]
    cloud = result["cloud"]
    beside = any(row["paper"] is not None for row in result["accuracy"])
    paper = "" if cloud["paper"] is None else f" (paper: {100 * cloud['paper']:.2f} %)"
    lines = [
        f"# AFLKD on {data['name']}",
        "",
        f"Cloud network: {_clouds(cloud['accuracy'])} of {data['test_images']:,} test images"
        f"{paper}, trained on {config['teacher_images']:,} images for "
        f"{config['teacher']['epochs']} epochs. Edge networks: "
        f"{config['student']['training']['epochs']} epochs a training; an update trains on "
        f"{_update_text(config['update'])}. {_repetitions(config)}.",
        "",
        "## Test accuracy, %",
        "",
        "Mean [95 % interval]" + (", then the paper's single run." if beside else "."),
        "",
        *_accuracy_table(result["accuracy"]),
        "",
        "## Paired differences, percentage points",
        "",
        "Mean [95 % interval over seeds and teachers]. Where the paper claims a gain, it *holds* "
        "if the interval lies above zero and is *contradicted* if it lies below; elsewhere such "
        "an interval is a *gain* or a *loss*; *open*: it holds zero. Intervals are not corrected "
        "for their number.",
        "",
        *_difference_table(result["differences"]),
        "",
        *_claims(result["differences"]),
        "",
        *_switch_table(result["switches"]),
        *_variance_table(result["accuracy"]),
        *settling_table(result),
        "## Networks",
        "",
        "| network | m | parameters | forward FLOPs per image |",
        "|---|---|---|---|",
        *(
            f"| {row['net']} | {row['layers']} | {row['parameters']:,} | {row['flops']:,} |"
            for row in result["networks"]
        ),
        "",
        "## Deviations from the paper",
        "",
        *(f"- {note}" for note in result["manifest"]["notes"]),
    ]
    return "\n".join(lines) + "\n"


def write_report(result: Result, folder: Path) -> list[Path]:
    """Write ``results.json``, ``tables.md`` and the figures into a folder.

    Returns
    -------
    list of path
        What was written.

    Raises
    ------
    ResultError
        If a file cannot be written.
    """
    from calibration.workloads.aflkd.figures import save_figures  # matplotlib only when drawn

    write_json(folder / "results.json", result)
    write_text(folder / "tables.md", tables(result))
    return [folder / "results.json", folder / "tables.md", *save_figures(result, folder)]


def percent(row: RecordView, digits: int = 1) -> str:
    """Return a row's mean and interval in percent, e.g. ``82.1 [80.3, 83.9]``."""
    mean = f"{100 * row['mean']:.{digits}f}"
    if row["ci_low"] is None:
        return f"{mean} [one seed]"
    return f"{mean} [{100 * row['ci_low']:.{digits}f}, {100 * row['ci_high']:.{digits}f}]"


def _clouds(accuracies: Sequence[float]) -> str:
    return ", ".join(f"{100 * a:.2f} %" for a in accuracies)


def _repetitions(config: RecordView) -> str:
    seeds = f"{config['seeds']} paired seed{'s' if config['seeds'] > 1 else ''}"
    if config["short_seeds"]:
        seeds += (
            f", of which {config['seeds'] - config['short_seeds']} go beyond "
            f"{config['short_size']:,} images"
        )
    if config["teachers"] == 1:
        return seeds
    return f"{seeds}, each with every one of {config['teachers']} teachers"


def _accuracy_table(rows: Sequence[RecordView]) -> list[str]:
    sizes = sorted({row["size"] for row in rows})
    cells = {(row["net"], row["method"], row["size"]): row for row in rows}
    lines = [
        "| network | method | " + " | ".join(f"{size:,} images" for size in sizes) + " |",
        "|---|---|" + "---|" * len(sizes),
    ]
    for net, method in dict.fromkeys((row["net"], row["method"]) for row in rows):
        shown = []
        for size in sizes:
            row = cells[net, method, size]
            paper = "" if row["paper"] is None else f"; paper {100 * row['paper']:.1f}"
            shown.append(percent(row) + paper)
        lines.append(f"| {net} | {method} | " + " | ".join(shown) + " |")
    return lines


def _difference_table(rows: Sequence[RecordView]) -> list[str]:
    lines = ["| network | images | difference | mean | n | |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row['net']} | {row['size']:,} | {row['difference']} | {percent(row)} | {row['n']} | "
        f"{row['verdict'] if _claimed(row) else _worth(row)} |"
        for row in rows
    ]
    return lines


def _claimed(row: RecordView) -> bool:
    return is_claimed(*row["difference"].split(" - "))


def _worth(row: RecordView) -> str:
    """Say what an interval says where the paper claims nothing."""
    return {"holds": "gain", "contradicted": "loss"}.get(row["verdict"], "open")


def _switch_table(rows: Sequence[RecordView]) -> list[str]:
    if not rows:
        return []
    lines = [
        "## What each switch is worth",
        "",
        "Percentage points, mean over the numbers of images, [95 % interval over seeds and "
        "teachers].",
        "",
        "| switch | network | difference | mean | n | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        net = row["net"] or "all of them"
        lines.append(
            f"| {row['switch']} | {net} | {row['difference']} | {percent(row)} | {row['n']} | "
            f"{_worth(row)} |"
        )
    return [*lines, ""]


def _variance_table(rows: Sequence[RecordView]) -> list[str]:
    """Say where the spread of the accuracies comes from; nothing without two of each source."""
    known = [row for row in rows if row["sd_rest"] is not None]
    if not known:
        return []
    lines = [
        "## Where the spread comes from",
        "",
        "Standard deviations in percentage points: of a seed (images, weights, order), of a "
        "teacher, of what neither explains.",
        "",
        "| network | images | method | seeds | teachers | rest | runs |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['net']} | {row['size']:,} | {row['method']} | {100 * row['sd_seeds']:.1f} | "
        f"{100 * row['sd_teachers']:.1f} | {100 * row['sd_rest']:.1f} | "
        f"{row['seeds']} seeds x {row['teachers']} teachers |"
        for row in known
    ]
    return [*lines, ""]


def _claims(rows: Sequence[RecordView]) -> list[str]:
    """Count the verdicts on each claim over networks and sizes."""
    claimed = list(dict.fromkeys(row["difference"] for row in rows if _claimed(row)))
    if not claimed:
        return ["The paper claims none of these differences."]
    lines = ["The paper claims these differences to be above zero in every cell:", ""]
    for name in claimed:
        own = [row for row in rows if row["difference"] == name]
        counts = [
            f"{word} in {sum(row['verdict'] == word for row in own)}"
            for word in ("holds", "open", "contradicted")
        ]
        means = [100 * row["mean"] for row in own]
        lines.append(
            f"- {name}: {', '.join(counts)} of {len(own)} cells; means from {min(means):+.1f} to "
            f"{max(means):+.1f} points."
        )
    return lines


def _networks(config: StudyConfig, dataset: Dataset) -> list[Record]:
    found = []
    for name in ("cloud", *config.nets):
        network = build_network(name, dataset.input_shape, dataset.classes)
        found.append(
            {
                "net": name,
                "layers": layer_count(network),
                "parameters": parameter_count(network),
                "flops": flop_count(network, dataset.input_shape),
            }
        )
    return found


def _update_text(update: str) -> str:
    return {"new": "the new images alone", "cumulative": "all images seen so far"}[update]
