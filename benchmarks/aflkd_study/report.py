"""Write what the AFLKD studies say: tables and figures of each, and the page over all of them.

    python -m benchmarks.aflkd_study.report [--work out/aflkd --data-dir DIR]

With ``--work`` the complete part of every study under it is first taken over into
``benchmarks/results/aflkd/STUDY``: a method counts once two seeds have met every teacher. The page,
``README.md``, is made from the committed records alone; a test makes it again and compares.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from calibration.workloads.aflkd.config import StudyConfig
from calibration.workloads.aflkd.report import build_result, write_report
from calibration.workloads.aflkd.study import planned_runs, teacher_accuracies
from calibration.workloads.data.datasets import load
from calibration.workloads.records.results import RunLedger, write_text

from .page import page
from .studies import STUDIES

RESULTS = Path(__file__).resolve().parents[1] / "results" / "aflkd"


def main() -> None:
    """Take over what is complete, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.work:
        for name, config in STUDIES.items():
            if (arguments.work / name / "runs.jsonl").exists():
                take_over(name, config, arguments)
    write_text(arguments.out / "README.md", page(read_records(arguments.out), STUDIES))
    print(arguments.out / "README.md")


def take_over(name: str, config: StudyConfig, arguments: argparse.Namespace) -> None:
    """Write the results of the complete part of a study."""
    folder = arguments.work / name
    done = RunLedger(folder / "runs.jsonl").runs
    runs = complete_runs(config, [done[r.label] for r in planned_runs(config) if r.label in done])
    if not runs:
        print(f"{name}: nothing is complete yet")
        return
    part = part_of(config, runs)
    dataset = load(config.data, arguments.data_dir, download=False)
    identity = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    result = build_result(part, dataset, runs, teacher_accuracies(part, folder))
    result["manifest"]["device"] = identity["device"]
    for path in write_report(result, arguments.out / name):
        print(path)


def complete_runs(
    config: StudyConfig, runs: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the runs of those seeds of a method that have met every teacher, if two seeds have."""
    met: dict[tuple[str, str, int], int] = {}
    for run in runs:
        key = (run["net"], run["method"], run["seed"])
        met[key] = met.get(key, 0) + 1
    whole = {key for key, count in met.items() if count == config.teachers}
    seeds = {(net, method): sum(k[:2] == (net, method) for k in whole) for net, method, _ in whole}
    return [
        run
        for run in runs
        if (run["net"], run["method"], run["seed"]) in whole
        and seeds[run["net"], run["method"]] >= 2
    ]


def part_of(config: StudyConfig, runs: Sequence[Mapping[str, Any]]) -> StudyConfig:
    """Return the study that the runs are all of."""
    last = max(stage["size"] for run in runs for stage in run["stages"])
    count = 1 + max(run["seed"] for run in runs)
    return replace(
        config,
        nets=tuple(net for net in config.nets if any(r["net"] == net for r in runs)),
        methods=tuple(m for m in config.methods if any(r["method"] == m for r in runs)),
        sizes=tuple(size for size in config.sizes if size <= last),
        seeds=count,
        short_seeds=0 if last <= config.short_size else config.short_seeds,
    )


def read_records(folder: Path) -> dict[str, Any]:
    """Read every committed record: studies by name, and the single files by theirs."""
    records: dict[str, Any] = {"studies": {}}
    for path in sorted(folder.glob("*/results.json")):
        records["studies"][path.parent.name] = json.loads(path.read_text(encoding="utf-8"))
    for name in ("robustness", "speed", "processors", "steps"):
        path = folder / f"{name}.json"
        if path.exists():
            records[name] = json.loads(path.read_text(encoding="utf-8"))
    return records


if __name__ == "__main__":
    main()
