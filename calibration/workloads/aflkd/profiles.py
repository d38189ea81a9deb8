"""The cost profiles of an AFLKD study: of one run, and of every number of frozen layers."""

from __future__ import annotations

from pathlib import Path

from calibration.workloads.aflkd.config import StudyConfig
from calibration.workloads.aflkd.depths import depth_costs
from calibration.workloads.aflkd.methods import StudentConfig, StudentRun
from calibration.workloads.data.datasets import Dataset
from calibration.workloads.records.profile import write_profile


def write_run_profile(
    config: StudyConfig,
    dataset: Dataset,
    folder: Path,
    net: str,
    student: StudentConfig,
    run: StudentRun,
) -> None:
    """Write what each cycle of a finished run cost.

    Raises
    ------
    ResultError
        If the file cannot be written.
    """
    write_profile(
        folder / "profiles" / f"{net}-{student.method}.csv",
        run.cycles,
        workload=f"aflkd {dataset.name} {net}",
        method=student.method,
        seed=0,
        notes={
            "downlink_bytes": "float32 logits, and a label byte for a streamed image, in the cycle "
            "in which an image travels",
            "uplink_bytes": "raw pixels",
            "image_bytes": dataset.train_images[0].nbytes,
            "logit_bytes": 4 * dataset.classes,
            "sizes": ",".join(map(str, config.sizes)),
            **(
                {"forward_s": "with the cloud's answer to each augmented batch, computed here"}
                if student.switches.distils and student.training.augment
                else {}
            ),
        },
    )


def write_depth_profiles(config: StudyConfig, dataset: Dataset, folder: Path) -> list[Path]:
    """Measure every network of a study at every frozen depth and write the cost profiles.

    Returns
    -------
    list of path
        ``profiles/NET-depths.csv``; one epoch a depth, n from 0 to m.

    Raises
    ------
    ResultError
        If a file cannot be written.
    """
    paths = []
    for net in config.nets:
        path = folder / "profiles" / f"{net}-depths.csv"
        cycles = depth_costs(
            net,
            dataset.input_shape,
            dataset.classes,
            batch_size=max(config.student.training.batch_size, 2),
        )
        write_profile(
            path,
            cycles,
            workload=f"aflkd {dataset.name} {net}",
            method="depths",
            seed=0,
            notes={
                "epoch": "frozen layers + 1",
                "forward_s": "without the frozen layers, whose features are computed beforehand",
                "images": "synthetic: times do not depend on them",
            },
        )
        paths.append(path)
    return paths
