"""Train the committed AFLKD studies: Fashion-MNIST, CIFAR-10 from JPEG, and what explains SSLF.

    python benchmarks/aflkd.py --data-dir DIR [--studies fashion-mnist,cifar10-jpeg,sslf]
                               [--device cuda] [--workers 16] [--budget 540] [--work out/aflkd]

The runs are small networks, so that many go side by side: one process a core on a CPU, a dozen or
more on one accelerator. Every finished run is one line in ``WORK/STUDY/runs.jsonl``; stopped,
killed or out of time, the same call resumes there. ``--budget S`` starts no run that cannot
be expected to end within S seconds, abandons at that time what still runs, and exits 0; a last
line says how much is left. Needed are torch, numpy and scipy alone.

With glibc 2.35 or newer, huge pages for the allocator shorten a step on a CPU and change no result
(edge-1 with no layer frozen: 55 ms instead of 76, medians of three processes in turn on two busy
cores of a server)::

    export GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296
    export GLIBC_TUNABLES=$GLIBC_TUNABLES:glibc.malloc.trim_threshold=17179869184
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from aflkd_study.studies import STUDIES

from calibration.workloads.aflkd.campaign import Outcome, Study, run_campaign
from calibration.workloads.aflkd.config import StudyConfig
from kdsim.errors import KdsimError


def main() -> int:
    """Run the studies asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--studies", default=",".join(STUDIES), help="names, or how they begin")
    parser.add_argument("--nets", help="only these, e.g. edge-1,edge-2")
    parser.add_argument("--methods", help="only these")
    parser.add_argument("--seeds", type=int, help="how many of them")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--budget", type=float, default=None, metavar="SECONDS")
    parser.add_argument("--work", type=Path, default=Path("out/aflkd"))
    parser.add_argument("--tiny", action="store_true", help="one epoch, one seed, two sizes")
    arguments = parser.parse_args()
    try:
        outcome = run_campaign(
            [
                Study(_part(config, arguments), arguments.work / name)
                for name, config in _chosen(arguments.studies).items()
            ],
            data_dir=arguments.data_dir,
            device=arguments.device,
            workers=arguments.workers,
            budget_s=arguments.budget,
            on_done=_report_progress,
        )
    except KdsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same call resumes here", file=sys.stderr)
        return 130
    print(
        f"{outcome.done} runs done in {outcome.seconds:.0f} s "
        f"({outcome.done / max(outcome.seconds, 1e-9):.2f} per second), {outcome.left} left"
    )
    return 0


def _chosen(names: str) -> dict[str, StudyConfig]:
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [w for w in wanted if not any(name.startswith(w) for name in STUDIES)]
    if unknown or not wanted:
        sys.exit(f"studies must be of {', '.join(STUDIES)}; got {names!r}")
    return {
        name: config for name, config in STUDIES.items() if any(name.startswith(w) for w in wanted)
    }


def _part(config: StudyConfig, arguments: argparse.Namespace) -> StudyConfig:
    """Return the part of a study that is asked for; the parts share one folder."""
    if arguments.nets:
        config = replace(config, nets=tuple(arguments.nets.split(",")))
    if arguments.methods:
        config = replace(config, methods=tuple(arguments.methods.split(",")))
    if arguments.seeds:
        short = max(config.short_seeds - (config.seeds - arguments.seeds), 0)
        config = replace(config, seeds=arguments.seeds, short_seeds=short)
    return _tiny(config) if arguments.tiny else config


def _tiny(config: StudyConfig) -> StudyConfig:
    """Return a study of the same shape that takes a minute."""
    training = replace(config.student.training, epochs=1)
    return replace(
        config,
        sizes=config.sizes[:2],
        teacher_images=1000,
        seeds=1,
        short_seeds=0,
        teachers=min(config.teachers, 2),
        teacher=replace(config.teacher, epochs=1, horizon=None),
        student=replace(config.student, training=training),
    )


def _report_progress(label: str, outcome: Outcome) -> None:
    """Write every tenth finished run to standard error, with the rate so far."""
    if outcome.done % 10 == 0:
        rate = outcome.done / max(outcome.seconds, 1e-9)
        left = f", {outcome.left / rate:.0f} s to go" if rate else ""
        print(
            f"{outcome.seconds:6.0f} s  {outcome.done} done, {outcome.left} left{left}  ({label})",
            file=sys.stderr,
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
