"""Re-make the committed studies of decentralised distillation on Fashion-MNIST, and its costs.

    python benchmarks/dissimilarity.py WHAT --data-dir DIR

where WHAT is ``study`` (five measures, both cases, iid and skewed), ``curvature`` (all measures at
one strength), ``private`` (predictions compared on the learner's own batches), ``cifar10-jpeg``
(KL and JS on a part of CIFAR-10), ``references`` (labels alone, KL, FedAvg and multi-headed
distillation at two budgets, the preset's steps and ten times as many; adaptation to cameras; also
with ``--data digits``), ``heads`` (a second head of one layer and of three, on digits), ``rounds``
(bytes and time of a round against the number of clients; needs no data), or ``page`` (README.md,
made from all records).

A study is resumable: stop it with Ctrl-C and call it again; finished runs stay in its ``.jsonl``. A
run takes about 5 seconds on one core, one on CIFAR-10 about 13: 35 minutes for the study, 6 to 8
for each of the others.
``--report-only`` writes tables and figure from the runs that are finished; n says how many.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dissimilarity_study.page import page, read_records
from dissimilarity_study.tables import reference_tables, study_tables

from calibration.workloads.data.datasets import Dataset, load
from calibration.workloads.decentralized.adaptation import AdaptationPlan, run_adaptation
from calibration.workloads.decentralized.cohort import Material
from calibration.workloads.decentralized.config import PRESETS, Preset, Study
from calibration.workloads.decentralized.fedavg import FedAvgPlan, run_fedavg
from calibration.workloads.decentralized.figures import plot_study
from calibration.workloads.decentralized.multihead import MultiHeadPlan, run_multihead
from calibration.workloads.decentralized.report import summary, verdicts
from calibration.workloads.decentralized.run import Plan, run_decentralized
from calibration.workloads.decentralized.study import material, run_study, study_manifest
from calibration.workloads.decentralized.study import rows as study_rows
from calibration.workloads.records.results import RunLedger, manifest, write_json, write_text
from calibration.workloads.records.tables import compare_pairs, summarise

RESULTS = Path(__file__).parent / "results" / "dissimilarity"


def of_preset(preset: Preset) -> Study:
    """Return the study of two cases and five alphas in the sizes of a preset."""
    return Study(
        cases=("sum", "average"),
        alphas=(0.0, 0.2, 0.5, 0.8, 1.0),
        private_samples=preset.private,
        public_samples=preset.public,
        test_samples=preset.test,
        rounds=preset.rounds,
        learning_rate=preset.learning_rate,
    )


#: Five seeds: with three, one cell in two was open. The references and the heads keep three.
_BASE = replace(of_preset(PRESETS["fashion-mnist"]), seeds=(0, 1, 2, 3, 4))
STUDIES: dict[str, Study] = {
    "study": _BASE,
    "curvature": replace(
        _BASE,
        scale="curvature",
        cases=("average",),
        splits=("skew",),
        alphas=(0.2, 0.5, 0.8, 1.0),
        measures=("kl", "js", "sed", "td"),
    ),
    "private": replace(
        _BASE,
        distil_on="private",
        cases=("average",),
        alphas=(0.2, 0.5, 0.8, 1.0),
        measures=("kl", "js"),
    ),
    # A third of the preset: what a share of one core does in an hour.
    "cifar10-jpeg": replace(
        _BASE,
        measures=("kl", "js"),
        cases=("average",),
        splits=("skew",),
        alphas=(0.2, 0.5, 0.8, 1.0),
        private_samples=3000,
        public_samples=2000,
        test_samples=2000,
        rounds=200,
        learning_rate=PRESETS["cifar10-jpeg"].learning_rate,
    ),
}


def run(name: str, dataset: Dataset, *, report_only: bool) -> None:
    """Do what is missing of a study, then write its tables and figure."""
    study = STUDIES[name]
    ledger = RunLedger(RESULTS / f"{name}-runs.jsonl")
    if not report_only:
        run_study(study, dataset, ledger, progress=show_progress)
        print(file=sys.stderr)
    rows = study_rows(study, ledger)
    content = {
        "manifest": study_manifest(study, dataset),
        "summary": summary(rows),
        "verdicts": {
            value: [v.row() for v in verdicts(rows, value=value)] for value in ("shared", "private")
        },
        "against KL": [
            {"quantity": value, **entry}
            for value in ("shared", "private")
            for entry in compare_pairs(
                [r for r in rows if r["alpha"] < 1],
                value,
                ["split", "case", "alpha"],
                treatment="measure",
                pairs=[(m, "kl") for m in study.measures if m not in ("ce", "kl")],
            )
        ],
    }
    write_json(RESULTS / f"{name}.json", content)
    write_text(RESULTS / f"{name}.md", study_tables(name, content))
    plot_study(rows).savefig(RESULTS / f"{name}.png", dpi=110)
    plot_study(rows, value="private").savefig(RESULTS / f"{name}-private.png", dpi=110)


def references(dataset: Dataset, *, report_only: bool) -> None:
    """Run the references, unless only their tables are wanted, and write both."""
    path = RESULTS / f"references-{dataset.name}.json"
    if not report_only:
        write_json(path, reference_results(dataset))
    content = json.loads(path.read_text(encoding="utf-8"))
    write_text(path.with_suffix(".md"), reference_tables(content))


def reference_results(dataset: Dataset) -> dict[str, Any]:
    """Compare with FedAvg and multi-headed distillation on the skewed split; adapt to cameras."""
    study = of_preset(PRESETS[dataset.name])
    budgets = (study.rounds, 10 * study.rounds)
    rows: list[dict[str, Any]] = []
    cameras: list[dict[str, Any]] = []
    for seed in study.seeds:
        data = material(study, dataset, "skew", seed)
        for steps in budgets:
            rows += reference_runs(data, steps, study.learning_rate, seed)
            show_progress(
                seed * len(budgets) + budgets.index(steps) + 1, len(study.seeds) * len(budgets)
            )
        cameras += run_adaptation(dataset, AdaptationPlan(seed=seed))
    methods = list(dict.fromkeys(r["method"] for r in rows))
    kinds = ("teacher", "general", "distilled", "supervised")
    # Cameras of one seed share teacher and student: the seed, not the camera, is the replication.
    per_seed = [
        {
            "kind": k,
            "seed": s,
            "accuracy": float(np.mean([c[k] for c in cameras if c["seed"] == s])),
        }
        for s in study.seeds
        for k in kinds
    ]
    notes = [
        f"budgets of {budgets[0]} and {budgets[1]} optimiser steps per client, all at the preset's "
        "learning rate; nothing was chosen by test accuracy",
        "multi-headed distillation warms up on labels alone for half of its steps: one share, "
        "fixed before these runs; that it needs a warm-up had shown on digits, seed 0",
    ]
    return {
        "manifest": manifest(asdict(study), seeds=study.seeds, dataset=dataset, notes=notes),
        "skew": {
            "summary": [
                entry
                for q in ("shared", "private", "bytes")
                for entry in ({"quantity": q, **e} for e in summarise(rows, q, ["steps", "method"]))
            ],
            "against labels alone": [
                entry
                for q in ("shared", "private")
                for entry in (
                    {"quantity": q, **e}
                    for e in compare_pairs(
                        rows,
                        q,
                        ["steps"],
                        treatment="method",
                        pairs=[(method, methods[0]) for method in methods[1:]],
                    )
                )
            ],
            "rows": rows,
        },
        "adaptation": {
            "summary": summarise(per_seed, "accuracy", ["kind"]),
            "differences": compare_pairs(
                [{"what": "accuracy", **r} for r in per_seed],
                "accuracy",
                ["what"],
                treatment="kind",
                pairs=[
                    ("distilled", "general"),
                    ("distilled", "teacher"),
                    ("distilled", "supervised"),
                ],
            ),
            "cameras": cameras,
        },
    }


def reference_runs(data: Material, steps: int, rate: float, seed: int) -> list[dict[str, Any]]:
    """Train by every method for the same number of optimiser steps per client; one row each."""
    rows = []
    base = Plan(rounds=steps, learning_rate=rate, seed=seed, measure="kl")
    for method, alpha in (("labels alone", 1.0), ("distillation, KL, alpha 0.5", 0.5)):
        found = run_decentralized(data, replace(base, alpha=alpha))
        rows.append(row(method, steps, seed, found.accuracies, found.traffic.total))
    averaged = run_fedavg(
        data, FedAvgPlan(rounds=steps // 5, local_steps=5, learning_rate=rate, seed=seed)
    )
    rows.append(
        row("FedAvg, 5 local steps", steps, seed, averaged.accuracies, averaged.traffic.total)
    )
    plan = MultiHeadPlan(rounds=steps, warm_up=steps // 2, heads=2, learning_rate=rate, seed=seed)
    many = run_multihead(data, plan)
    for head, name in ((0, "main"), (-1, "last auxiliary")):
        method = f"multi-headed, {name} head"
        rows.append(row(method, steps, seed, many.heads[head], many.traffic.total))
    return rows


def row(
    method: str, steps: int, seed: int, accuracies: Sequence[Any], traffic: int
) -> dict[str, Any]:
    """Average one run over its clients."""
    return {
        "method": method,
        "steps": steps,
        "seed": seed,
        "shared": round(float(np.mean([a.shared for a in accuracies])), 6),
        "private": round(float(np.mean([a.private for a in accuracies])), 6),
        "bytes": traffic,
    }


#: Layers of the second head: the paper's has one or, where it overfits, "more".
_HEAD_LAYERS = (1, 3)


def second_heads(dataset: Dataset) -> dict[str, Any]:
    """Train a main and a second head, the second one flat and deep, on skewed data."""
    study = of_preset(PRESETS[dataset.name])
    study = replace(study, rounds=10 * study.rounds)
    rows = []
    for seed in study.seeds:
        data = material(study, dataset, "skew", seed)
        for layers in _HEAD_LAYERS:
            plan = MultiHeadPlan(
                rounds=study.rounds,
                warm_up=study.rounds // 2,
                heads=1,
                head_layers=layers,
                learning_rate=study.learning_rate,
                seed=seed,
            )
            found = run_multihead(data, plan)
            for name, accuracies in zip(("main", "second"), found.heads, strict=True):
                entry = row(name, study.rounds, seed, accuracies, found.traffic.total)
                rows.append({"layers": layers, **entry})
            show_progress(len(rows), 2 * len(_HEAD_LAYERS) * len(study.seeds))
    return {"manifest": manifest(asdict(study), seeds=study.seeds, dataset=dataset), "rows": rows}


def rounds(repeats: int) -> None:
    """Measure bytes and seconds of a round against the number of clients, case by case."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for clients in (2, 3, 5, 8):
        labels = torch.arange(64) % 10
        shares = [(torch.randn(64, 1, 28, 28, generator=generator), labels) for _ in range(clients)]
        public = torch.randn(64, 1, 28, 28, generator=generator)
        data = Material(shares, public, shares[0], 10)
        variants = {
            (case, on): Plan(rounds=repeats, case=case, distil_on=on)
            for case in ("sum", "average")
            for on in ("public", "private")
        }
        for (case, on), plan in variants.items():
            run_decentralized(data, replace(plan, rounds=3))
            start = time.perf_counter()
            result = run_decentralized(data, plan)
            elapsed = time.perf_counter() - start
            each = [np.median(np.add(c.forward_s, c.backward_s)) for c in result.costs]
            rows.append(
                {
                    "clients": clients,
                    "case": case,
                    "distil_on": on,
                    "bytes_per_round": result.traffic.total // repeats,
                    "bytes_received_per_client": result.costs[0].comm_bytes[0],
                    "client_ms": round(1e3 * float(np.median(each)), 3),
                    "round_ms": round(1e3 * elapsed / repeats, 3),
                }
            )
            print(rows[-1])
    note = "round_ms: all clients of a round one after another on one core, evaluation included"
    write_json(
        RESULTS / "rounds.json",
        {"manifest": manifest({"repeats": repeats}, seeds=[0], notes=[note]), "rows": rows},
    )


def show_progress(done: int, total: int) -> None:
    """Show progress on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{done}/{total}", end="", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=[*STUDIES, "references", "heads", "rounds", "page"])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--data", default="fashion-mnist", help="data of the references")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--repeats", type=int, default=40, help="rounds timed for each K")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.what == "rounds":
        rounds(options.repeats)
        return
    if options.what == "page":
        write_text(RESULTS / "README.md", page(read_records(RESULTS)))
    elif options.what == "references":
        references(load(options.data, options.data_dir), report_only=options.report_only)
    elif options.what == "heads":
        write_json(RESULTS / "heads.json", second_heads(load("digits")))
    else:
        data = "cifar10-jpeg" if options.what == "cifar10-jpeg" else "fashion-mnist"
        run(options.what, load(data, options.data_dir), report_only=options.report_only)


if __name__ == "__main__":
    main()
