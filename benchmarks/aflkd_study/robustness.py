"""What wrong labels and a wrong teacher cost AFLKD, and what the two remedies recover.

    python -m benchmarks.aflkd_study.robustness [--seeds 8]

On digits, edge-1, 100 labelled images and an update of 100 streamed ones. Disturbances: 40 % of
the labels wrong; half of the cloud's answers confidently wrong. Remedies: distilling by confidence;
the safeguard, which lowers lambda by the cloud's agreement with a tenth of the labels. Writes
``robustness.json`` and ``robustness.md`` into ``benchmarks/results/aflkd/``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch

from calibration.workloads.aflkd.config import PRESETS, StudyConfig
from calibration.workloads.aflkd.report import build_result, percent
from calibration.workloads.aflkd.study import run_study, teacher_accuracies
from calibration.workloads.data.datasets import load
from calibration.workloads.records.results import write_json, write_text
from calibration.workloads.records.tables import compare_pairs

DISTURBANCES = {
    "none": {},
    "label noise 0.4": {"label_noise": 0.4},
    "teacher noise 0.5": {"teacher_noise": 0.5},
}
REMEDIES = {
    "none": {},
    "confidence weighting": {"confidence_weighting": True},
    "safeguard": {"safeguard": True},
}


def variant(disturbance: str, remedy: str, seeds: int) -> StudyConfig:
    """Return one study of the table."""
    preset = PRESETS["digits"]
    return replace(
        preset,
        nets=("edge-1",),
        methods=("sslf", "aflkd-reverse"),
        seeds=seeds,
        student=replace(preset.student, **REMEDIES[remedy]),
        holdout=0.1,  # for every variant, so that all train on the same images
        **DISTURBANCES[disturbance],
    )


def main() -> None:
    """Run every variant, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--work", type=Path, default=Path("out/aflkd/robustness"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/aflkd"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = load("digits")
    studies = []
    rows = []
    first: Path | None = None
    for disturbance in DISTURBANCES:
        for remedy in REMEDIES:
            config = variant(disturbance, remedy, arguments.seeds)
            folder = arguments.work / f"{disturbance}-{remedy}".replace(" ", "_")
            if first is not None and not (folder / "teacher-0.pt").exists():
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(first / "teacher-0.pt", folder / "teacher-0.pt")  # one and the same
            print(disturbance, "|", remedy, file=sys.stderr, flush=True)
            runs = run_study(config, dataset, folder)
            first = first or folder
            result = build_result(config, dataset, runs, teacher_accuracies(config, folder))
            studies.append({"disturbance": disturbance, "remedy": remedy, **result})
            rows += [
                {
                    "disturbance": disturbance,
                    "remedy": remedy,
                    "size": stage["size"],
                    "seed": run["seed"],
                    "accuracy": stage["accuracy"],
                }
                for run in runs
                if run["method"] == "aflkd-reverse"
                for stage in run["stages"]
            ]
    gains = compare_pairs(
        rows,
        "accuracy",
        ["disturbance", "size"],
        treatment="remedy",
        pairs=[(remedy, "none") for remedy in REMEDIES if remedy != "none"],
    )
    write_json(
        arguments.out / "robustness.json",
        {
            "manifest": studies[0]["manifest"],
            "accuracy": [
                {"disturbance": s["disturbance"], "remedy": s["remedy"], **row}
                for s in studies
                for row in s["accuracy"]
            ],
            "gains": gains,
        },
    )
    write_text(arguments.out / "robustness.md", table(studies, gains))


def table(studies: list[dict], gains: list[dict]) -> str:
    """Write the accuracies and the paired gains as Markdown."""
    n = len(studies[0]["manifest"]["seeds"])
    sizes = studies[0]["manifest"]["config"]["sizes"]
    head = " | ".join(f"{size} images" for size in sizes)
    lines = [
        "# Imperfect teachers and labels (digits, edge-1)",
        "",
        f"Test accuracy in %, mean [95 % t interval] over {n} paired seeds. `python "
        "python -m benchmarks.aflkd_study.robustness`.",
        "",
        f"| disturbance | method | remedy | {head} |",
        "|---|---|---|" + "---|" * len(sizes),
    ]
    for study in studies:
        for method in ("sslf", "aflkd-reverse"):
            if method == "sslf" and study["remedy"] != "none":
                continue  # the remedies are about distillation
            cells = [percent(r) for r in study["accuracy"] if r["method"] == method]
            lines.append(
                f"| {study['disturbance']} | {method} | {study['remedy']} | "
                + " | ".join(cells)
                + " |"
            )
    lines += [
        "",
        "Paired gain of a remedy over none, percentage points.",
        "",
        "| disturbance | images | difference | mean | n |",
        "|---|---|---|---|---|",
        *(
            f"| {g['disturbance']} | {g['size']} | {g['difference']} | {percent(g)} | {g['n']} |"
            for g in gains
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
