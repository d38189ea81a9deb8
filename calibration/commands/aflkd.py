"""``kdsim workload aflkd``: run an AFLKD study and show its tables."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calibration.commands.shared import (
    data_dir_option,
    data_option,
    numbers,
    study_folder_option,
    words,
)
from kdsim._types import Record
from kdsim.cli.options import json_option
from kdsim.errors import WorkloadError

if TYPE_CHECKING:
    from calibration.workloads.aflkd.config import StudyConfig
    from calibration.workloads.aflkd.methods import EpochRecord
    from calibration.workloads.aflkd.study import Watcher
    from calibration.workloads.data.datasets import Dataset
    from calibration.workloads.training.loops import EpochMeasure

_EXAMPLE = """\b
Examples:
  kdsim workload aflkd
  kdsim workload aflkd --data fashion-mnist --nets 1,2 --sizes 500,1000 --seeds 5 -o results/
  kdsim workload aflkd --methods sslf,aflkd-reverse --label-noise 0.4 --safeguard -o noisy/
"""


@click.command(epilog=_EXAMPLE)
@data_option
@data_dir_option
@click.option("--nets", help="Edge networks, e.g. 1,2.  [default: 1,2]")
@click.option("--sizes", help="Images after the initial training and each update.")
@click.option("--seeds", type=int, help="Paired repetitions.")
@click.option(
    "--teachers", type=int, help="Cloud networks; every seed is trained with each.  [default: 1]"
)
@click.option(
    "--methods",
    help="Of the names that --list-methods shows.  [default: baseline, sslf, aflkd-reverse, "
    "aflkd-descend]",
)
@click.option(
    "--update", type=click.Choice(["new", "cumulative"]),
    help="Train each update on its new images or on all so far.  [default: new]",
)  # fmt: skip
@click.option("--epochs", type=int, help="Epochs of each training of an edge network.")
@click.option("--teacher-epochs", type=int, help="Epochs of the cloud network.")
@click.option("--teacher-images", type=int, help="Training images of the cloud network.")
@click.option("--batch-size", type=int, help="Images per step.  [default: 32]")
@click.option("--learning-rate", type=float, help="Of the edge networks.  [default: 0.01]")
@click.option("--augment", is_flag=True, help="Flip and shift the edge's images.")
@click.option("--weight", type=float, help="Weight lambda of the distillation.  [default: 1]")
@click.option("--t-initial", type=float, help="Temperature at the start.  [default: random]")
@click.option("--t-final", type=float, help="Where aflkd-schedule ends.  [default: 10]")
@click.option("--t-rate", type=float, help="Learning rate of the temperature.  [default: 0.01]")
@click.option(
    "--refreeze", type=click.Choice(["cloud", "keep"]),
    help="A layer that freezes again takes the cloud's weights or keeps its own.  [default: cloud]",
)  # fmt: skip
@click.option("--confidence-weighting", is_flag=True, help="Distil more where the cloud is sure.")
@click.option("--safeguard", is_flag=True, help="Lower lambda if the cloud contradicts labels.")
@click.option("--holdout", type=float, help="Share of labelled images the safeguard checks with.")
@click.option("--label-noise", type=float, help="Share of the initial labels made wrong.")
@click.option("--teacher-noise", type=float, help="Share of the cloud's answers made wrong.")
@click.option("--curve", is_flag=True, help="Report test accuracy after every epoch.")
@click.option("--no-cache", is_flag=True, help="Recompute the frozen layers' outputs every epoch.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="cpu", show_default=True,
    help="Device to train on; an accelerator writes no cost profiles.",
)  # fmt: skip
@click.option(
    "--workers", type=int, default=1, show_default=True,
    help="Parallel processes; with more than one, runs write no cost profiles.",
)  # fmt: skip
@click.option(
    "--budget", type=float, help="Do not start a run that would not end within S seconds."
)
@click.option("--list-methods", is_flag=True, help="Show every method with its switches.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU cores.")
@study_folder_option("aflkd")
@json_option
@click.option("-v", "--verbose", is_flag=True, help="Report T and n after every epoch.")
def command(**options: Any) -> None:
    """Compare a baseline, SSLF and AFLKD on edge networks taught by a cloud network.

    Trains the cloud network, then every method on every edge network over paired seeds: an initial
    training on labelled images and, for each further size, an update on images that only the cloud
    has labelled. Writes tables, figures, a JSON result and cost profiles for the simulator.
    Without options: digits, which need no download, in about half a minute.
    """
    # Here, not above: `kdsim --help` must not wait for torch.
    import torch

    if options["list_methods"]:
        _show(_methods())
        return

    cores = os.cpu_count() or 1
    if options["threads"] > cores:  # thousands of threads would kill the process
        raise WorkloadError(
            f"--threads must be at most {cores}, this machine's cores; got {options['threads']}"
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(options["threads"])
    try:
        _run(options)
    finally:
        torch.set_num_threads(threads)


def _run(options: Record) -> None:
    from calibration.workloads.aflkd.profiles import write_depth_profiles
    from calibration.workloads.aflkd.report import build_result, tables, write_report
    from calibration.workloads.aflkd.study import (
        finished_runs,
        planned_runs,
        run_study,
        teacher_accuracies,
    )
    from calibration.workloads.data.datasets import load
    from calibration.workloads.training.placement import choose_device

    config = study_config(options)
    folder = options["out"] or Path("out") / f"aflkd-{config.data}"
    dataset = load(config.data, options["data_dir"])
    try:
        _train(config, dataset, folder, options)
    except KeyboardInterrupt:
        _say_how_far(config, folder, "stopped")
        raise click.exceptions.Exit(130) from None
    if finished_runs(config, folder) < len(planned_runs(config)):
        _say_how_far(config, folder, "out of time")
        return
    runs = run_study(config, dataset, folder, device=choose_device(options["device"]))
    result = build_result(config, dataset, runs, teacher_accuracies(config, folder))
    written = write_report(result, folder)
    on_cpu = choose_device(options["device"]).type == "cpu"
    if on_cpu:
        write_depth_profiles(config, dataset, folder)
    if options["as_json"]:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
        return
    _show(tables(result))
    click.echo("\nwritten: " + ", ".join(str(path) for path in written))
    if on_cpu:
        which = "" if _side_by_side(options) else "seed 0 and "
        click.echo(f"cost profiles, of {which}every frozen depth: {folder / 'profiles'}")


def _side_by_side(options: Record) -> bool:
    """Whether runs go side by side, whose seconds would be those of a crowded machine."""
    return options["workers"] > 1 or options["budget"] is not None


def _train(config: StudyConfig, dataset: Dataset, folder: Path, options: Record) -> None:
    """Do what is missing: here with a bar, or side by side in worker processes."""
    from calibration.workloads.aflkd.campaign import Study, run_campaign
    from calibration.workloads.aflkd.study import run_study
    from calibration.workloads.training.placement import choose_device

    if not _side_by_side(options):
        with _progress(config, folder, verbose=options["verbose"]) as watcher:
            run_study(
                config, dataset, folder, device=choose_device(options["device"]), watcher=watcher
            )
        return
    run_campaign(
        [Study(config, folder)],
        data_dir=options["data_dir"],
        device=options["device"],
        workers=options["workers"],
        budget_s=options["budget"],
        on_done=lambda label, outcome: click.echo(
            f"{outcome.seconds:.0f} s: {label}; {outcome.left} runs left", err=True
        ),
    )


def _say_how_far(config: StudyConfig, folder: Path, why: str) -> None:
    from calibration.workloads.aflkd.study import finished_runs, planned_runs

    click.echo(
        f"{why} with {finished_runs(config, folder)} of {len(planned_runs(config))} runs done in "
        f"{folder}; the same command resumes from there",
        err=True,
    )


def _methods() -> str:
    """Return every method with its switches as a Markdown table."""
    from calibration.workloads.aflkd.methods import METHODS

    lines = [
        "| method | layers from the cloud | frozen layers | temperature |",
        "|---|---|---|---|",
    ]
    for name, method in METHODS.items():
        given = dict(method.temperature or {})
        moves = [given.pop("policy")] if given else ["no distillation"]
        moves += [f"{key.replace('_', ' ')} {value}" for key, value in given.items()]
        lines.append(f"| {name} | {method.shares} | {method.freezes} | {', '.join(moves)} |")
    return "\n".join(lines) + "\n"


def study_config(options: Record) -> StudyConfig:
    """Turn the options of the command line into a study.

    Raises
    ------
    KdsimError
        If an option is out of its range.
    """
    from calibration.workloads.aflkd.config import PRESETS
    from calibration.workloads.data.datasets import DATASETS

    if options["data"] not in PRESETS:
        raise WorkloadError(f"--data must be one of {', '.join(DATASETS)}; got {options['data']!r}")
    preset = PRESETS[options["data"]]

    def given(*same: str, **renamed: str) -> Record:
        """Map fields to those options that were given: 0 is a value, an absent flag is not."""
        names = {name: name for name in same} | renamed
        found = {field: options[option] for field, option in names.items()}
        return {f: value for f, value in found.items() if value is not None and value is not False}

    temperature = replace(
        preset.student.temperature,
        **given(initial="t_initial", final="t_final", learning_rate="t_rate"),
    )
    training = replace(
        preset.student.training,
        **given("epochs", "batch_size", "learning_rate", "augment"),
    )
    student = replace(
        preset.student,
        training=training,
        temperature=temperature,
        cache=not options["no_cache"],
        **given(
            "refreeze", "confidence_weighting", "safeguard", "curve", distillation_weight="weight"
        ),
    )
    changes = given(
        "seeds", "teachers", "teacher_images", "update", "holdout", "label_noise", "teacher_noise"
    )
    if options["safeguard"] and options["holdout"] is None:
        changes["holdout"] = 0.1
    if options["nets"] is not None:
        changes["nets"] = tuple(f"edge-{n}" if n.isdigit() else n for n in words(options["nets"]))
    if options["methods"] is not None:
        changes["methods"] = tuple(words(options["methods"]))
    if options["sizes"] is not None:
        changes["sizes"] = numbers("--sizes", options["sizes"], int)
    teacher = replace(preset.teacher, **given(epochs="teacher_epochs"))
    return replace(preset, student=student, teacher=teacher, **changes)


@contextmanager
def _progress(config: StudyConfig, folder: Path, *, verbose: bool) -> Iterator[Watcher]:
    """Show a bar with the time left on standard error, and the course of T and n."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from calibration.workloads.aflkd.study import Watcher, finished_runs, planned_runs

    epochs_a_run = len(config.sizes) * config.student.training.epochs
    total = len(planned_runs(config))
    done = finished_runs(config, folder)
    teacher_epochs = config.teachers * config.teacher.epochs
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        cloud = bar.add_task("cloud network", total=teacher_epochs, visible=False)
        edge = bar.add_task("edge networks", total=total * epochs_a_run, start=False)
        bar.update(edge, completed=done * epochs_a_run)

        def teacher_epoch(epoch: int, epochs: int, measure: EpochMeasure) -> None:
            bar.update(cloud, visible=True, advance=1)
            if verbose:
                bar.console.print(
                    f"cloud: epoch {epoch}/{epochs}, loss {measure.loss:.4f}, training accuracy "
                    f"{100 * measure.accuracy:.1f} %",
                    highlight=False,
                    soft_wrap=True,
                )

        def run_started(label: str) -> None:
            bar.start_task(edge)
            bar.update(edge, description=label)

        def student_epoch(label: str, record: EpochRecord) -> None:
            state = _state(record)
            bar.update(edge, advance=1, description=f"{label} {state}")
            if verbose:
                bar.console.print(
                    f"{label}: {record.size} images, epoch {record.epoch}, {state}, loss "
                    f"{record.loss:.4f}, training accuracy {100 * record.train_accuracy:.1f} %"
                    + _test(record),
                    highlight=False,
                    soft_wrap=True,
                )

        yield Watcher(teacher_epoch, run_started, student_epoch)
        bar.update(edge, completed=total * epochs_a_run, description="edge networks")


def _state(record: EpochRecord) -> str:
    n = f"n = {record.frozen_layers}"
    return n if record.temperature is None else f"T = {record.temperature:.2f}, {n}"


def _test(record: EpochRecord) -> str:
    if record.test_accuracy is None or math.isnan(record.test_accuracy):
        return ""
    return f", test accuracy {100 * record.test_accuracy:.1f} %"


def _show(markdown: str) -> None:
    """Print the Markdown tables as tables in a terminal, as they are elsewhere."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    if console.is_terminal:
        console.print(Markdown(markdown))
    else:
        click.echo(markdown, nl=False)
