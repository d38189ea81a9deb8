"""Sections of the page on decentralised distillation: time and bytes, references, cameras.

Every number is computed from the records that ``page`` reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from calibration.workloads.records.tables import compare_pairs, summarise

Rows = Sequence[Mapping[str, Any]]
Records = Mapping[str, Any]


# --- time and bytes ------------------------------------------------------------------------------


def speed_section(records: Records) -> list[str]:
    """Say what the losses and the exchange cost."""
    shapes = dict.fromkeys((r["batch"], r["classes"]) for r in records["losses"]["rows"])
    names = [r["measure"] for r in records["losses"]["rows"] if r["classes"] == 10]
    td = next(r for r in records["losses"]["rows"] if r["measure"] == "td")
    cheapest = all(
        ours[0] < min(other[0] for other in others)
        for ours, *others in zip(
            *(time_ratios(records, m) for m in ("td", "js", "sed")), strict=True
        )
    )
    lines = [
        "## Time and bytes",
        "",
        'The paper prefers "computationally efficient measures such as TD" where accuracy does not '
        "decide. Forward and backward pass of each loss, over those of torch's own KL divergence "
        "at the same batch x classes [95 % interval of the median]: TD takes "
        f"{span(r for r, _, _ in time_ratios(records, 'td'))} times as long"
        f"{', less than JS and SED' if cheapest else ''}. None of it weighs much: "
        f"{td['median_us'] / 1000:.2f} ms for TD at {td['batch']} x {td['classes']} "
        "(`benchmarks/results/losses`).",
        "",
        "| measure | " + " | ".join(f"{b} x {c:,}" for b, c in shapes) + " |",
        "|---|" + "---|" * len(shapes),
    ]
    for name in names[1:]:
        shown = [f"{r:.2f} [{low:.2f}, {high:.2f}]" for r, low, high in time_ratios(records, name)]
        lines.append(f"| {name.upper() if len(name) < 4 else name} | {' | '.join(shown)} |")
    rows = records["rounds"]["rows"]
    most = max(r["clients"] for r in rows)
    ms = {case: next(r["client_ms"] for r in rows if _is_round(r, most, case)) for case in _CASES}
    public = next(r["bytes_per_round"] for r in rows if _is_round(r, most, "sum"))
    fewest = min(r["clients"] for r in rows)
    least = next(r["bytes_per_round"] for r in rows if _is_round(r, fewest, "sum"))
    return [
        *lines,
        "",
        "Both cases move the same bytes, 4 x batch x classes for each pair of clients: "
        f"{least:,} a round with {fewest} clients, {public:,} with {most} (`rounds.json`). One "
        "loss "
        f"against the mean of {most - 1} others' predictions: a client's round takes "
        f"{ms['average']:.1f} ms, with a loss for each of them {ms['sum']:.1f} (one measurement).",
        "",
    ]


_CASES = ("sum", "average")


def _is_round(row: Mapping[str, Any], clients: int, case: str) -> bool:
    return (row["clients"], row["case"], row["distil_on"]) == (clients, case, "public")


def time_ratios(records: Records, measure: str) -> list[tuple[float, float, float]]:
    """Return a measure's time over that of torch's KL at each shape, with its interval."""
    found = [r for r in records["losses"]["rows"] if r["measure"] == measure]
    return [(r["ratio"], *r["ratio_ci"]) for r in found]


def span(values: Iterable[float]) -> str:
    """Write the least and the most of some ratios."""
    found = list(values)
    return f"{min(found):.1f} to {max(found):.1f}"


# --- other ways to train the same clients --------------------------------------------------------


def references_section(records: Records) -> list[str]:
    """Compare with FedAvg and multi-headed distillation."""
    names = [n for n in ("references-digits", "references-fashion-mnist") if n in records]
    tables = {name: _reference_cells(records[name]) for name in names}
    heads = [
        f"{name.removeprefix('references-')}, {steps:,}" for name, found in tables.items()
        for steps in found["steps"]
    ]  # fmt: skip
    lines = [
        "## Other ways to train the same clients",
        "",
        "Skewed data, equal optimiser steps for every method, two budgets, one learning rate. "
        "Shared "
        "accuracy in percent; in brackets the interval of the gain over labels alone.",
        "",
        "| | " + " | ".join(heads) + " |",
        "|---|" + "---:|" * len(heads),
    ]
    for method in tables[names[0]]["methods"]:
        cells = [
            found["shown"][steps, method] for found in tables.values() for steps in found["steps"]
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    lines += [""]
    for name, found in tables.items():
        small, large = found["steps"]
        mean, last = found["mean"], "multi-headed, last auxiliary head"
        bytes_ = found["bytes"]
        below = [100 * (mean[steps, _KL] - mean[steps, last]) for steps in (small, large)]
        lines.append(
            f"- {name.removeprefix('references-')}: KL after {small:,} steps has "
            f"{100 * mean[small, _KL]:.1f} %, labels alone after {large:,} "
            f"{100 * mean[large, _ALONE]:.1f}. Of KL's bytes FedAvg moves "
            f"{bytes_[large, _FEDAVG] / bytes_[large, _KL]:.1f} times as many, multi-headed "
            f"distillation {bytes_[large, last] / bytes_[large, _KL]:.1f} times. Its last head is "
            f"{below[0]:.1f} points below KL after {small:,} steps and {below[1]:.1f} after "
            f"{large:,}."
        )
    lines += [
        "",
        "Multi-headed distillation warms up on labels alone for half of its steps: heads of the "
        "first "
        "rounds are wrong and confident, and a chain taught by them from the start collapses. That "
        "it "
        "needs a warm-up had shown on digits, seed 0; its length was tuned nowhere.",
    ]
    return [*lines, "", *_deeper(records)]


_ALONE, _KL, _FEDAVG = "labels alone", "distillation, KL, alpha 0.5", "FedAvg, 5 local steps"


def _reference_cells(content: Mapping[str, Any]) -> dict[str, Any]:
    rows = content["skew"]["rows"]
    steps = sorted({r["steps"] for r in rows})
    methods = list(dict.fromkeys(r["method"] for r in rows))
    mean = {(e["steps"], e["method"]): e["mean"] for e in summarise(rows, "shared", _BUDGET)}
    moved = {(e["steps"], e["method"]): e["mean"] for e in summarise(rows, "bytes", _BUDGET)}
    pairs = [(method, _ALONE) for method in methods if method != _ALONE]
    gains = {
        (e["steps"], e["difference"].removesuffix(f" - {_ALONE}")): e
        for e in compare_pairs(rows, "shared", ["steps"], treatment="method", pairs=pairs)
    }
    shown = {}
    for key, value in mean.items():
        gain = gains.get(key)
        bracket = f" [{100 * gain['ci_low']:.1f}, {100 * gain['ci_high']:.1f}]" if gain else ""
        shown[key] = f"{100 * value:.1f}{bracket}"
    return {"steps": steps, "methods": methods, "mean": mean, "bytes": moved, "shown": shown}


_BUDGET = ["steps", "method"]


def _deeper(records: Records) -> list[str]:
    if "heads" not in records:
        return [
            "A deeper second head (`head_layers`; the paper's 57.74 and 48.33 %) was not trained; "
            "`benchmarks/dissimilarity.py heads` does it.",
            "",
        ]
    rows = records["heads"]["rows"]
    most = max(r["layers"] for r in rows)
    lines = [
        f"A second head of one layer and of {most}, digits, {rows[0]['steps']:,} steps (the paper, "
        "on "
        "SUN397: with more layers the second head has 48.33 % where the first has 57.74):",
        "",
        "| layers | head | shared | private |",
        "|---:|---|---|---|",
    ]
    cells = {
        quantity: summarise(rows, quantity, ["layers", "method"])
        for quantity in ("shared", "private")
    }
    for shared, private in zip(cells["shared"], cells["private"], strict=True):
        lines.append(
            f"| {shared['layers']} | {shared['method']} | {percent(shared)} | {percent(private)} |"
        )
    over_main = [in_points(second_head(records["heads"], q)) for q in ("shared", "private")]
    own = [{"head": "second", **r} for r in rows if r["method"] == "second"]
    (deeper,) = compare_pairs(own, "shared", ["head"], treatment="layers", pairs=[(most, 1)])
    return [
        *lines,
        "",
        f"Of the second head of {most} layers over the main one: {over_main[0]} points shared, "
        f"{over_main[1]} private; over a second head of one layer {in_points(deeper)} shared. "
        "Digits are an easier task than SUN397's 397 scenes with few images each: that a deeper "
        "head does no harm here says nothing of there.",
        "",
    ]


def second_head(record: Mapping[str, Any], quantity: str = "shared") -> dict[str, Any]:
    """Compare the deepest second head with the main head of the same networks."""
    most = max(r["layers"] for r in record["rows"])
    rows = [r for r in record["rows"] if r["layers"] == most]
    (row,) = compare_pairs(
        rows, quantity, ["layers"], treatment="method", pairs=[("second", "main")]
    )
    return row


def cameras_section(records: Records) -> list[str]:
    """Say what a student learns from a teacher alone."""
    lines = [
        "## Cameras without labels",
        "",
        "Students that learn from a teacher's answers alone, on the images of a camera that "
        "neither "
        "has seen; accuracy in percent. The slides' case is another task, detecting cars: neither "
        "confirms nor contradicts the other.",
        "",
        "| data | teacher | general student | distilled | with labels | distilled - general | "
        "distilled - teacher |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ("references-digits", "references-fashion-mnist"):
        if name not in records:
            continue
        seen = records[name]["adaptation"]["cameras"]
        rows = [
            {"what": "accuracy", "kind": kind, "seed": seed,
             "accuracy": _mean(c[kind] for c in seen if c["seed"] == seed)}
            for seed in sorted({c["seed"] for c in seen})
            for kind in ("teacher", "general", "distilled", "supervised")
        ]  # fmt: skip
        pairs = [("distilled", "general"), ("distilled", "teacher")]
        gains = compare_pairs(rows, "accuracy", ["what"], treatment="kind", pairs=pairs)
        shown = [*map(percent, summarise(rows, "accuracy", ["kind"])), *map(in_points, gains)]
        lines.append(f"| {name.removeprefix('references-')} | {' | '.join(shown)} |")
    return [
        *lines,
        "",
        "Where the teacher is weaker than the student, imitating it costs accuracy.",
        "",
    ]


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


# --- numbers -------------------------------------------------------------------------------------


def in_points(row: Mapping[str, Any]) -> str:
    """Write a difference and its interval in percentage points."""
    return f"{100 * row['mean']:+.1f} [{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]"


def percent(row: Mapping[str, Any]) -> str:
    """Write a mean and its interval in percent."""
    return f"{100 * row['mean']:.1f} [{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]"
