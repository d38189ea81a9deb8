"""Re-make the committed AFLKD studies: Fashion-MNIST and the JPEG-decoded part of CIFAR-10.

    python benchmarks/aflkd.py --data-dir DIR [--studies fashion-mnist,cifar10-jpeg]

Each study is resumable: stop it with Ctrl-C and call it again. Work in progress lives in
``out/aflkd/``; tables, figures and the JSON with its manifest go to ``benchmarks/results/aflkd/``.
``--report-only`` writes them from the seeds that are complete. On one core that has nothing else to
do: Fashion-MNIST 4 minutes for the cloud network and 15 s a run (40 runs), its cumulative twin 20 s
a run, CIFAR 10 minutes and 30 s a run (40 runs); about 55 minutes in all. The runs of seed 0, whose
cost profiles are kept, are tested after every epoch and take about a minute more each.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from calibration.workloads.aflkd.config import PRESETS, StudyConfig
from calibration.workloads.aflkd.report import build_result, write_report
from calibration.workloads.aflkd.study import (
    Watcher,
    finished_runs,
    planned_runs,
    run_study,
    teacher_accuracy,
)
from calibration.workloads.data.datasets import load

STUDIES: dict[str, StudyConfig] = {
    # Algorithm 2 as written: an update trains on the new images alone.
    "fashion-mnist": PRESETS["fashion-mnist"],
    # The same, but an update trains on everything seen so far.
    "fashion-mnist-cumulative": replace(PRESETS["fashion-mnist"], update="cumulative"),
    # Ten epochs a training instead of the paper's twenty, one update of 1,500 images instead of
    # three of 500, and a cloud network stopped at epoch 21 of a schedule of 45: what a share of
    # one core does in an hour.
    "cifar10-jpeg": replace(
        PRESETS["cifar10-jpeg"],
        sizes=(500, 2000),
        teacher=replace(PRESETS["cifar10-jpeg"].teacher, epochs=21, horizon=45),
        student=replace(
            PRESETS["cifar10-jpeg"].student,
            training=replace(PRESETS["cifar10-jpeg"].student.training, epochs=10),
        ),
    ),
}


def main() -> None:
    """Run the studies asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--studies", default=",".join(STUDIES))
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--work", type=Path, default=Path("out/aflkd"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/aflkd"))
    parser.add_argument("--report-only", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # part of what makes the numbers repeatable
    for name in arguments.studies.split(","):
        config = STUDIES[name]
        if arguments.seeds:
            config = replace(config, seeds=arguments.seeds)
        dataset = load(config.data, arguments.data_dir)
        folder = arguments.work / name
        if not arguments.report_only:
            watcher = Watcher(run_started=lambda label: print(label, file=sys.stderr, flush=True))
            run_study(config, dataset, folder, watcher=watcher)
        config = replace(config, seeds=complete_seeds(config, folder))
        runs = run_study(config, dataset, folder)
        result = build_result(config, dataset, runs, teacher_accuracy(folder))
        for path in write_report(result, arguments.out / name):
            print(path)


def complete_seeds(config: StudyConfig, folder: Path) -> int:
    """Return how many seeds, from 0 on, have all their runs."""
    seeds = 0
    while seeds < config.seeds and (
        finished_runs(replace(config, seeds=seeds + 1), folder)
        == len(planned_runs(replace(config, seeds=seeds + 1)))
    ):
        seeds += 1
    if seeds == 0:
        sys.exit(f"{folder}: no seed is complete yet")
    return seeds


if __name__ == "__main__":
    main()
