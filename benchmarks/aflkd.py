"""Re-make the committed AFLKD studies: Fashion-MNIST and the JPEG-decoded part of CIFAR-10.

    python benchmarks/aflkd.py --data-dir DIR [--studies fashion-mnist,cifar10-jpeg]

Each study is resumable: stop it with Ctrl-C and call it again. Work in progress lives in
``out/aflkd/``; tables, figures and the JSON with its manifest go to ``benchmarks/results/aflkd/``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from calibration.workloads.aflkd_config import PRESETS, StudyConfig
from calibration.workloads.aflkd_study import Watcher, run_study
from calibration.workloads.datasets import load

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
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # part of what makes the numbers repeatable
    for name in arguments.studies.split(","):
        config = STUDIES[name]
        if arguments.seeds:
            config = replace(config, seeds=arguments.seeds)
        dataset = load(config.data, arguments.data_dir)
        watcher = Watcher(run_started=lambda label: print(label, file=sys.stderr, flush=True))
        run_study(config, dataset, arguments.work / name, watcher=watcher)


if __name__ == "__main__":
    main()
