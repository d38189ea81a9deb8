"""Why SSLF stays below the paper's accuracy: one change to its set-up at a time.

The studies are called ``sslf-NAME``; ``page`` puts this section on the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibration.workloads.aflkd.paper import paper_accuracy, paper_cloud_accuracy
from calibration.workloads.aflkd.report import percent, verdict
from calibration.workloads.records.tables import compare_crossed, summarise_crossed

from .sections import Record, Row, accuracy_rows, in_points, listed

_BASE, _IMAGES = "sslf-base", 2000
_DATA, _NET, _METHOD = "cifar10-jpeg", "edge-1", "sslf"

#: What the studies change of the first.
_CHANGES = {
    "weak": "a teacher stopped after 4 epochs",
    "rate": "a tenth of the learning rate",
    "labels": "streamed images carry their true labels",
    "cumulative": "an update trains on all images so far",
    "epochs": "twice the epochs",
    "steps": "updates of 500 images",
    "together": "a tenth of the rate, twice the epochs, all images so far",
    "teacher": "the teacher trained to its end",
    "leak": "the teacher trained to its end on all images, test included, as in the paper",
    "paper": "the updates, epochs and teacher of the paper together",
}


def sslf_section(cells: Mapping[str, Record]) -> list[str]:
    """Compare SSLF at 2,000 CIFAR images under one change at a time."""
    lines = [f"## SSLF on {_NET} at {_IMAGES:,} CIFAR images", ""]
    if _BASE not in cells:
        return [*lines, "What keeps it below the paper's accuracy has not been tried.", ""]
    known = [name for name in _CHANGES if f"sslf-{name}" in cells]
    untried = [change for name, change in _CHANGES.items() if name not in known]
    gains = {name: _difference(cells, f"sslf-{name}") for name in known}
    lines += [
        _gap(cells[_BASE]),
        "",
        "| change | accuracy, % | against none, points | seeds | | teacher, % | "
        "own images at the end, % |",
        "|---|---|---|---|---|---|---|",
        f"| none | {percent(_own(cells[_BASE]))} | | {_own(cells[_BASE])['seeds']} | | "
        f"{_teacher(cells[_BASE])} | {_fitted(cells[_BASE])} |",
    ]
    for name, gain in gains.items():
        record = cells[f"sslf-{name}"]
        lines.append(
            f"| {_CHANGES[name]} | {percent(_own(record))} | {in_points(gain)} | "
            f"{gain['seeds']} | {_WORDS[verdict(gain)]} | {_teacher(record)} | {_fitted(record)} |"
        )
    lines += ["", _which(cells, gains)]
    if step_too_long(cells):
        lines[-1] += (
            f" What `{_DATA}` says of SSLF it says of a step that is too long for it; "
            f"`slow-{_DATA}` has a tenth of it."
        )
    if untried:
        lines += ["", f"Not tried: {'; '.join(untried)}."]
    return [*lines, ""]


def step_too_long(cells: Mapping[str, Record]) -> bool:
    """Whether SSLF gains by a tenth of the learning rate that the CIFAR-10 study has."""
    return {_BASE, "sslf-rate"} <= set(cells) and verdict(
        _difference(cells, "sslf-rate")
    ) == "holds"


_WORDS = {"holds": "gain", "contradicted": "loss", "open": "open"}


def _gap(base: Record) -> str:
    own = _own(base)
    return (
        f"It reaches {percent(own)} % (n = {own['n']}) where the paper, which prints no learning "
        f"rate, has {_paper():.1f}. At the end of its update it classifies {_fitted(base)} % of "
        "the very images that it trains on as their labels say (dropout on). One change to its "
        "set-up at a time, the same seeds:"
    )


def _which(cells: Mapping[str, Record], gains: Mapping[str, Row]) -> str:
    """Say which change explains how much of the gap."""
    gap = _paper() - 100 * _own(cells[_BASE])["mean"]
    single = {name: row for name, row in gains.items() if name not in ("together", "paper")}
    sure = [name for name, row in single.items() if verdict(row) == "holds"]
    if not sure:
        return f"No single change is a gain that {_seeds(gains)} seeds can tell from zero."
    sure.sort(key=lambda name: -single[name]["mean"])
    clauses = [f"{_CHANGES[name]} ({in_points(single[name])} points)" for name in sure]
    text = (
        f"Of the {gap:.1f} points that are missing, a gain beyond its interval is: "
        f"{listed(clauses)}."
    )
    if "together" in gains:
        own = _own(cells["sslf-together"])
        left = _paper() - 100 * own["mean"]
        text += (
            f" With {_CHANGES['together']} together SSLF reaches {percent(own)} %, which leaves "
            f"{left:.1f} points, under a cloud of {_teacher(cells['sslf-together'])} % where the "
            f"paper's has {paper_cloud_accuracy(_DATA):.1f}."
        )
    return text


def _seeds(gains: Mapping[str, Row]) -> str:
    counts = sorted({row["seeds"] for row in gains.values()})
    return listed(str(n) for n in counts)


def _paper() -> float:
    value = paper_accuracy(_DATA, _NET, _METHOD, _IMAGES)
    if value is None:
        raise ValueError(f"the paper has no accuracy of {_METHOD} at {_IMAGES} images")
    return value


def _rows(record: Record) -> list[Row]:
    return [
        row for row in accuracy_rows(record)
        if (row["net"], row["method"], row["size"]) == (_NET, _METHOD, _IMAGES)
    ]  # fmt: skip


def _own(record: Record) -> dict[str, Any]:
    (row,) = summarise_crossed(_rows(record), "accuracy", ["method"])
    return row


def _difference(cells: Mapping[str, Record], name: str) -> Row:
    rows = [{**row, "cell": cell} for cell in (name, _BASE) for row in _rows(cells[cell])]
    (row,) = compare_crossed(rows, "accuracy", [], treatment="cell", pairs=[(name, _BASE)])
    return row


def _teacher(record: Record) -> str:
    return ", ".join(f"{100 * accuracy:.1f}" for accuracy in record["cloud"]["accuracy"])


def _fitted(record: Record) -> str:
    """Write how much of its last images SSLF classifies as their labels say, least to most."""
    runs = [r for r in record["runs"] if (r["net"], r["method"]) == (_NET, _METHOD)]
    fitted = [100 * run["course"]["train_accuracy"][-1] for run in runs]
    return f"{min(fitted):.0f} to {max(fitted):.0f}"
