"""The page over all records of decentralised distillation: every number on it is made from them.

``python benchmarks/dissimilarity.py page`` writes it; nothing here trains. Tables of a single study
are in ``tables``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calibration.workloads.decentralized.report import Verdict, verdicts
from calibration.workloads.records.tables import compare_pairs

from .sections import (
    Records,
    Rows,
    cameras_section,
    in_points,
    references_section,
    second_head,
    span,
    speed_section,
    time_ratios,
)

#: What the records call a verdict, and what both papers' pages do.
_WORDS = {"supported": "holds", "contradicted": "contradicted", "undecided": "open"}

_STUDIES = ("study", "curvature", "private", "cifar10-jpeg")


def read_records(folder: Path) -> dict[str, Any]:
    """Read every committed record: rows of the studies, and the other files as they are."""
    records: dict[str, Any] = {"config": {}}
    for name in _STUDIES:
        path = folder / f"{name}-runs.jsonl"
        if path.exists():
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            runs = {line["run"]: line["result"] for line in lines}
            records["config"][name] = runs.pop("study")
            records[name] = _rows(list(runs.values()))
    for name in ("references-digits", "references-fashion-mnist", "rounds", "heads"):
        path = folder / f"{name}.json"
        if path.exists():
            records[name] = json.loads(path.read_text(encoding="utf-8"))
    losses = folder.parent / "losses" / "losses.json"
    records["losses"] = json.loads(losses.read_text(encoding="utf-8"))
    return records


def _rows(runs: Rows) -> list[dict[str, Any]]:
    """Let each run with alpha = 1, which exchanges nothing, stand for every measure and case."""
    pairs = dict.fromkeys((r["case"], r["measure"]) for r in runs if r["alpha"] < 1)
    rows = []
    for run in runs:
        own = [(run["case"], run["measure"])] if run["alpha"] < 1 else list(pairs)
        rows += [{**run, "case": case, "measure": measure} for case, measure in own]
    return rows


def page(records: Records) -> str:
    """Return the page as Markdown."""
    parts = [
        ["# Decentralised distillation: what was measured", ""],
        _left_out(records),
        _claims(records),
        _measures(records),
        _private(records),
        speed_section(records),
        references_section(records),
        cameras_section(records),
        _files(records),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


# --- what was and was not measured ---------------------------------------------------------------


def _left_out(records: Records) -> list[str]:
    study, config = records["study"], records["config"]["study"]
    seeds = {r["seed"] for r in study}
    cells = {(r["split"], r["case"], r["measure"], r["alpha"]) for r in study}
    few = [
        cell for cell in cells
        if len({r["seed"] for r in study if _cell(r) == cell}) < len(seeds)
    ]  # fmt: skip
    other = records["config"].get("cifar10-jpeg")
    sentences = [
        "**Left out.** The paper's own setting, a pretrained ResNet-18 fine-tuned with "
        "augmentation on CIFAR-10 and SUN397, was not run: no pretrained weights and no SUN397 "
        "were at hand (`--weights`, `--augment` and `--data FOLDER` take them).",
        f"On CIFAR-10, decoded from JPEG, ran {_measures_of(records['cifar10-jpeg'])} alone, on "
        f"skewed data, with averaged predictions, {other['rounds']} rounds."
        if other
        else "Nothing was run on CIFAR-10; `benchmarks/dissimilarity.py cifar10-jpeg` does it.",
        f"Cells have {len(seeds)} seeds"
        + (f", {len(few)} of {len(cells)} fewer; n says how many;" if few else ";")
        + f" the references have {_reference_seeds(records)}.",
        "Exchange on private batches was run with KL and JS alone. The cameras are synthetic, and "
        "no detector was trained.",
    ]
    return [
        " ".join(s for s in sentences if s),
        "",
        f"{config['clients']} clients with a small CNN each on Fashion-MNIST, "
        f"{config['private_samples']:,} labelled images in all, {config['public_samples']:,} "
        f"public unlabelled ones on which predictions are compared, {config['rounds']} rounds, "
        f"{config['test_samples']:,} test images, skewness {config['gamma']:g}. Accuracy is "
        "*shared* (all classes alike) or *private* (the client's own label mix). Intervals are "
        "95 %, over seeds, paired by seed, in percentage points, and not adjusted for their "
        "number. Means over measures count CE and KL once: under a fixed teacher they have one "
        "gradient.",
        "",
    ]


def _measures_of(rows: Rows) -> str:
    return " and ".join(dict.fromkeys(row["measure"].upper() for row in rows))


def _reference_seeds(records: Records) -> int:
    return len({row["seed"] for row in records["references-digits"]["skew"]["rows"]})


def _cell(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("split", "case", "measure", "alpha"))


def _claims(records: Records) -> list[str]:
    found: list[tuple[str, Verdict]] = [
        (name, verdict)
        for name in ("study", "cifar10-jpeg")
        if name in records
        for verdict in verdicts(records[name])
    ]
    lines = [
        "## The paper's claims",
        "",
        "A claim holds if it holds in every cell, is contradicted if one contradicts it, and is "
        "open "
        'otherwise. "Nothing of note" and "as well as" allow a margin of one point.',
        "",
        "| claim | study | holds | open | contradicted | means, points | verdict |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for name in dict.fromkeys(n for n, _ in found):
        for claim in dict.fromkeys(v.claim for n, v in found if n == name):
            cells = [v for n, v in found if (n, v.claim) == (name, claim)]
            words = [_WORDS[v.verdict] for v in cells]
            means = [100 * v.estimate.mean for v in cells]
            counts = " | ".join(str(words.count(w)) for w in ("holds", "open", "contradicted"))
            lines.append(
                f"| {claim} | `{name}` | {counts} | {min(means):+.1f} to {max(means):+.1f} | "
                f"{_overall(words)} |"
            )
    lines += _other_claims(records)
    lines += [
        "",
        "| cell | what | points | n | verdict |",
        "|---|---|---|---:|---|",
        *(
            f"| {name}, {v.split}, {v.case} | {v.quantity} | {in_points(v.row())} | "
            f"{v.estimate.n} | {_WORDS[v.verdict]} |"
            for name, v in found
        ),
        "",
    ]
    return lines


def _other_claims(records: Records) -> list[str]:
    """Judge the claims that are not about the accuracy of a study's cells."""
    ratios = time_ratios(records, "td")
    slower = [low > 1 for _, low, _ in ratios]
    verdict = "contradicted" if all(slower) else "open" if any(slower) else "holds"
    lines = [
        f"| TD is computationally efficient | `losses.json` | {slower.count(False)} | 0 | "
        f"{slower.count(True)} | {span(r for r, _, _ in ratios)} times torch's KL | {verdict} |"
    ]
    if "heads" in records:
        row = second_head(records["heads"])
        word = "holds" if row["ci_high"] < 0 else "contradicted" if row["ci_low"] > 0 else "open"
        counts = " | ".join(str(int(word == w)) for w in ("holds", "open", "contradicted"))
        lines.append(
            "| with more layers the second head falls behind the main one (57.74 and 48.33 %) | "
            f"`heads.json`, digits | {counts} | {in_points(row)} | {word} |"
        )
    return [*lines, "| the same on SUN397 | none | | | | | not tested |"]


def _overall(words: Sequence[str]) -> str:
    if "contradicted" in words:
        return "contradicted"
    return "open" if "open" in words else "holds"


# --- the measures --------------------------------------------------------------------------------


def _measures(records: Records) -> list[str]:
    study = records["study"]
    apart = [
        abs(row["shared"] - other["shared"])
        for row in study
        for other in study
        if (row["measure"], other["measure"]) == ("ce", "kl")
        and all(row[k] == other[k] for k in ("split", "case", "alpha", "seed"))
    ]
    lines = [
        "## Measures",
        "",
        "Two things hold by mathematics. Under a fixed teacher CE is KL and the teacher's entropy, "
        "so that they are one method: no run of one differs from that of the other by more than "
        f"{100 * max(apart):.2f} points. And near agreement JS and SED have a quarter, TD half of "
        "KL's curvature: at equal alpha a measure is also a strength, which `--scale curvature` "
        "takes out.",
        "",
        "Difference from KL, skewed data, averaged predictions:",
        "",
        "| accuracy | measure | alpha | at equal alpha | at equal curvature |",
        "|---|---|---:|---|---|",
    ]
    plain, scaled = (
        {(d["quantity"], d["difference"], d["alpha"]): d for d in _from_kl(records[name])}
        for name in ("study", "curvature")
    )
    for key in scaled:
        quantity, difference, alpha = key
        lines.append(
            f"| {quantity} | {difference.partition(' ')[0].upper()} | {alpha:g} | "
            f"{in_points(plain[key])} | {in_points(scaled[key])} |"
        )
    counts = [
        sum(_told_apart(found[key]) for key in scaled if key[0] == "shared")
        for found in (plain, scaled)
    ]
    of = sum(quantity == "shared" for quantity, _, _ in scaled)
    return [
        *lines,
        "",
        f"Of {of} differences in shared accuracy {counts[0]} have intervals without zero at equal "
        f"alpha and {counts[1]} at equal curvature.",
        "",
    ]


def _told_apart(row: Mapping[str, Any]) -> bool:
    return bool(row["ci_low"] > 0 or row["ci_high"] < 0)


def _from_kl(rows: Rows) -> list[dict[str, Any]]:
    chosen = [r for r in rows if (r["split"], r["case"]) == ("skew", "average") and r["alpha"] < 1]
    pairs = [(m, "kl") for m in ("js", "sed", "td")]
    return [
        {"quantity": quantity, **entry}
        for quantity in ("shared", "private")
        for entry in compare_pairs(chosen, quantity, ["alpha"], treatment="measure", pairs=pairs)
    ]


def _private(records: Records) -> list[str]:
    rows, study = records["private"], records["study"]
    lines = [
        "## On whose samples predictions are compared",
        "",
        "On each learner's own batches (`private`) a round moves "
        f"{_bytes(rows) / _bytes(study):.0f} "
        "times the bytes of public samples, since the batches themselves travel. Gain over labels "
        "alone (alpha = 1), averaged predictions; and over public samples at the same alpha:",
        "",
        "| data | measure | alpha | shared | private | shared, over public samples |",
        "|---|---|---:|---|---|---|",
    ]
    for which in ("skew", "iid"):
        for measure in ("kl", "js"):
            for alpha in sorted({r["alpha"] for r in rows} - {1.0}):
                cell = {"split": which, "measure": measure, "case": "average"}
                gains = [
                    _gain(_at(rows, **cell), quantity, "alpha", (alpha, 1.0))
                    for quantity in ("shared", "private")
                ]
                both = [
                    {**r, "on": on}
                    for on, found in (("own", rows), ("public", study))
                    for r in _at(found, **cell, alpha=alpha)
                ]
                over = _gain(both, "shared", "on", ("own", "public"))
                shown = " | ".join(map(in_points, (*gains, over)))
                lines.append(f"| {which} | {measure.upper()} | {alpha:g} | {shown} |")
    return [*lines, ""]


def _bytes(rows: Rows) -> float:
    return float(max(r["bytes_per_round"] for r in rows))


def _at(rows: Rows, **cell: Any) -> list[Mapping[str, Any]]:
    return [r for r in rows if all(r[key] == value for key, value in cell.items())]


def _gain(rows: Rows, quantity: str, treatment: str, pair: tuple[Any, Any]) -> dict[str, Any]:
    (row,) = compare_pairs(rows, quantity, ["split"], treatment=treatment, pairs=[pair])
    return row


def _files(records: Records) -> list[str]:
    studies = [name for name in _STUDIES if name in records]
    return [
        "## Files",
        "",
        f"`{'`, `'.join(studies)}`: `.md` holds the tables with n and all intervals, `.json` the "
        "same "
        "with the manifest, `.png` and `-private.png` the paper's figure 2 in our setting, "
        "`-runs.jsonl` every run. `references-*` and `rounds.json` are what their names say. The "
        "runs "
        "of seed 2 of `study` were made before the gradients of JS, SED and TD got their closed "
        "form "
        "(the same mathematics, rounded otherwise).",
        "",
        "    python benchmarks/dissimilarity.py WHAT --data-dir DIR",
        "    python benchmarks/dissimilarity.py page",
        "",
        "The first makes a record again and goes on where it stopped; the second writes this page, "
        "and a test compares it with the records.",
    ]
