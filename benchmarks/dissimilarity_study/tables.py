"""Tables of the studies of decentralised distillation, in Markdown, for people.

What is *not* here: the runs and what is computed from them (``dissimilarity``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def study_tables(name: str, content: dict[str, Any]) -> str:
    """Write the tables of a study for people."""
    config = content["manifest"]["config"]
    lines = [
        f"# {name}: {content['manifest']['data']['name']}, {config['clients']} clients, "
        f"seeds {', '.join(map(str, config['seeds']))}",
        "",
        "Accuracy in percent, mean over clients; ± half of the 95 % Student interval over "
        f"n = {len(config['seeds'])} seeds, or as many as are given.",
        f"Made by `python benchmarks/dissimilarity.py {name}`.",
    ]
    cells = {
        (c["quantity"], c["split"], c["case"], c["measure"], c["alpha"]): c
        for c in content["summary"]
    }
    for quantity in ("shared", "private"):
        for which in config["splits"]:
            for case in config["cases"]:
                heads = " | ".join(f"α = {a:g}" for a in config["alphas"])
                lines += ["", f"## {quantity} accuracy, {which}, case {case}", ""]
                lines += [f"| measure | {heads} |", "|---|" + "---:|" * len(config["alphas"])]
                for measure in config["measures"]:
                    shown = [
                        percent(cells.get((quantity, which, case, measure, a)), config["seeds"])
                        for a in config["alphas"]
                    ]
                    lines.append(f"| {measure.upper()} | {' | '.join(shown)} |")
    lines += differences_from_kl(content["against KL"])
    lines += ["", "## Claims (shared accuracy; differences in percentage points)", ""]
    lines += ["| claim | split | case | quantity | estimate [95 % CI] | n | verdict |"]
    lines += ["|---|---|---|---|---:|---:|---|"]
    for v in content["verdicts"]["shared"]:
        lines.append(
            f"| {v['claim']} | {v['split']} | {v['case']} | {v['quantity']} | "
            f"{points(v)} | {v['n']} | {v['verdict']} |"
        )
    return "\n".join(lines) + "\n"


def differences_from_kl(found: Sequence[dict[str, Any]]) -> list[str]:
    """Write a table of the paired differences between the other measures and KL."""
    alphas = sorted({d["alpha"] for d in found})
    lines = ["", "## Paired differences from KL at the same alpha (points [95 % CI])", ""]
    heads = " | ".join(f"α = {a:g}" for a in alphas)
    lines += [f"| accuracy | split | case | difference | {heads} |"]
    lines += ["|---|---|---|---|" + "---:|" * len(alphas)]
    cells: dict[tuple[str, ...], dict[float, str]] = {}
    for d in found:
        key = (d["quantity"], d["split"], d["case"], d["difference"].upper().replace("-", "−"))
        cells.setdefault(key, {})[d["alpha"]] = points(d)
    for key, shown in cells.items():
        lines.append(f"| {' | '.join((*key, *(shown.get(a, '–') for a in alphas)))} |")
    return lines


def points(interval: dict[str, Any]) -> str:
    """Show a difference and its interval in percentage points."""
    ends = [interval["mean"], interval["ci_low"], interval["ci_high"]]
    mean, low, high = ("?" if e is None else f"{100 * e:+.1f}" for e in ends)
    return f"{mean} [{low}, {high}]"


def percent(cell: dict[str, Any] | None, seeds: Sequence[int]) -> str:
    """Show a mean and half its interval, and n where seeds are missing."""
    if cell is None:
        return "–"
    missing = "" if cell["n"] == len(seeds) else f" (n = {cell['n']})"
    half = "" if cell["ci_high"] is None else f" ± {100 * (cell['ci_high'] - cell['mean']):.1f}"
    return f"{100 * cell['mean']:.1f}{half}{missing}"


def reference_tables(content: dict[str, Any]) -> str:
    """Write the tables of the references: methods at each budget, and cameras."""
    manifest, skew = content["manifest"], content["skew"]
    data = manifest["data"]["name"]
    lines = [
        f"# references: {data}, {manifest['config']['clients']} clients, skewed data, "
        f"seeds {', '.join(map(str, manifest['seeds']))}",
        "",
        "Accuracy in percent, mean over clients; ± half of the 95 % Student interval over "
        f"n = {len(manifest['seeds'])} seeds. Differences are paired by seed.",
        f"Made by `python benchmarks/dissimilarity.py references --data {data}`.",
        "",
        *(f"- {note}" for note in manifest["notes"]),
        "",
        "| steps | method | shared | against labels alone | private | MB in all |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    cells = {(e["quantity"], e["steps"], e["method"]): e for e in skew["summary"]}
    gains = {
        (e["quantity"], e["steps"], e["difference"].partition(" - labels")[0]): points(e)
        for e in skew["against labels alone"]
    }
    for quantity, steps, method in cells:
        if quantity != "shared":
            continue
        shared, private = (
            percent(cells[q, steps, method], manifest["seeds"]) for q in ("shared", "private")
        )
        lines.append(
            f"| {steps} | {method} | {shared} | {gains.get(('shared', steps, method), '–')} | "
            f"{private} | {cells['bytes', steps, method]['mean'] / 1e6:.2f} |"
        )
    cameras = content["adaptation"]
    lines += ["", "## Cameras without labels", ""]
    lines += ["Mean over the cameras of a seed, then over seeds.", ""]
    lines += ["| network | accuracy |", "|---|---:|"]
    for e in cameras["summary"]:
        lines.append(f"| {e['kind']} | {percent(e, manifest['seeds'])} |")
    lines += [
        f"| {e['difference'].replace(' - ', ' − ')} | {points(e)} |" for e in cameras["differences"]
    ]
    return "\n".join(lines) + "\n"
