"""``kdsim workload dissimilarity``: decentralised distillation under five measures.

What is *not* here: the study (``calibration.workloads.decentralized.study``) and its verdicts
(``calibration.workloads.decentralized.report``); this module parses, shows progress and prints.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calibration.commands.shared import (
    data_dir_option,
    numbers,
    resumable,
    study_folder_option,
    words,
)
from kdsim._types import Record, Row
from kdsim.cli.options import json_option
from kdsim.cli.progress import ProgressBar
from kdsim.errors import WorkloadError

if TYPE_CHECKING:
    from calibration.workloads.data.datasets import Dataset
    from calibration.workloads.decentralized.config import Study

#: Alphas and cases of a first look: digits then takes well under a minute.
_DEFAULT_ALPHAS, _DEFAULT_CASES = ".5,1", "average"

_EXAMPLE = """\b
Examples:
  kdsim workload dissimilarity
  kdsim workload dissimilarity --data fashion-mnist --alpha 0,.2,.5,.8,1 \\
      --measures all --cases sum,average --split iid,skew -o study
  kdsim workload dissimilarity --processes --depart 1@40 -o failing
  kdsim workload dissimilarity --data SUN397 --network resnet-18-large \\
      --weights resnet18.pth --augment --gamma 10
"""


@click.command(name="dissimilarity", epilog=_EXAMPLE)
@click.option(
    "--data", default="digits", show_default=True,
    help="digits, fashion-mnist, cifar10, cifar10-jpeg, cifar100, or a folder with one folder of "
    "images per class, at any depth (SUN397).",
)  # fmt: skip
@data_dir_option
@click.option(
    "--image-size", default=64, show_default=True,
    help="Height and width to which the images of a folder are cut and scaled.",
)  # fmt: skip
@click.option(
    "--alpha", "alphas", default=_DEFAULT_ALPHAS, show_default=True,
    help="Weights of the labels: 0 distils only, 1 never exchanges.",
)  # fmt: skip
@click.option(
    "--measures", default="all", show_default=True, help="Of ce, kl, js, sed, td; or all."
)
@click.option(
    "--cases", default=_DEFAULT_CASES, show_default=True,
    help="sum: a loss for each remote client; average: one against their mean.",
)  # fmt: skip
@click.option(
    "--split", "splits", default="iid,skew", show_default=True,
    help="How the data are spread over the clients.",
)  # fmt: skip
@click.option("--gamma", default=15.0, show_default=True, help="Skewness of the split skew.")
@click.option(
    "--primary", "primary_per_client", type=int,
    help="Primary labels per client [default: each label is primary for one client].",
)  # fmt: skip
@click.option("--sizes", help="Relative data sizes of the clients, e.g. 3,1,1 [default: equal].")
@click.option("--clients", default=3, show_default=True, help="Number of clients.")
@click.option("--seeds", default=3, show_default=True, help="Paired repetitions.")
@click.option(
    "--rounds", type=int, help="Exchanges, each with one SGD step a client [default: by data set].",
)  # fmt: skip
@click.option(
    "--samples", "private_samples", type=int,
    help="Labelled samples over all clients [default: by data set].",
)  # fmt: skip
@click.option(
    "--network", default="small-cnn", show_default=True,
    help="Model of each client; also edge-1 to edge-3, cloud, resnet-18 and, for images of 64 "
    "pixels or more, resnet-18-large.",
)  # fmt: skip
@click.option(
    "--weights", type=click.Path(path_type=Path),
    help="Start every client from this state dict (torch.save), e.g. torchvision's pretrained "
    "ResNet-18; with other classes, the last layer starts fresh.",
)  # fmt: skip
@click.option(
    "--augment", is_flag=True,
    help="Flip (left-right) and shift the private images of each batch; not suited to digits.",
)  # fmt: skip
@click.option("--learning-rate", type=float, help="Of SGD, momentum 0.9 [default: by data set].")
@click.option("--temperature", default=1.0, show_default=True, help="Of the soft predictions.")
@click.option(
    "--scale", type=click.Choice(["none", "curvature"]), default="none", show_default=True,
    help="curvature brings all measures to one strength near p = q.",
)  # fmt: skip
@click.option(
    "--distil-on", type=click.Choice(["public", "private"]), default="public", show_default=True,
    help="Compare predictions on unlabelled public samples, or on the learner's own batch.",
)  # fmt: skip
@click.option(
    "--graph", default="complete", show_default=True,
    help="complete, ring, star, or a file with one edge 'teacher learner' a line.",
)  # fmt: skip
@click.option(
    "--refresh-every", default=0, show_default=True,
    help="Learn from a rolling pool of stale checkpoints, one fetched every N "
    "rounds; 0 exchanges predictions each round.",
)  # fmt: skip
@click.option("--processes", is_flag=True, help="One operating-system process per client (gloo).")
@click.option(
    "--depart", "departures", multiple=True, metavar="CLIENT@ROUND",
    help="Let a client fail at the start of a round; the others go on. May be repeated.",
)  # fmt: skip
@study_folder_option("dissimilarity")
@json_option
def command(
    data: str,
    data_dir: Path | None,
    image_size: int,
    processes: bool,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare dissimilarity measures in decentralised distillation.

    Clients with their own models and data learn from their labels and from one another's soft
    predictions. Every measure, case, alpha and split is run for each seed; a study that was
    interrupted resumes where it stopped. Written to --out: runs.jsonl, results.json (rows, summary,
    verdicts, manifest), accuracy.png and cost profiles for the simulator.
    """
    import torch

    from calibration.workloads.decentralized.study import run_study
    from calibration.workloads.records.results import RunLedger

    dataset = _dataset(data, data_dir, image_size)
    out = Path("out") / f"dissimilarity-{dataset.name}" if out is None else out
    study = _study(dataset, options)
    ledger = RunLedger(out / "runs.jsonl")
    threads = torch.get_num_threads()
    # Batches are small: a second thread costs more in waiting than it computes.
    torch.set_num_threads(1)
    try:
        with resumable(out), ProgressBar("rounds") as progress:
            rows = run_study(
                study, dataset, ledger, processes=processes, profiles=out, progress=progress
            )
    finally:
        torch.set_num_threads(threads)
    content = _write(study, dataset, rows, out)
    if as_json:
        click.echo(json.dumps(content, indent=2))
    else:
        _print(content, out)
    broken = sum(bool(row.get("lost")) for row in rows)
    if broken:
        click.echo(
            f"{broken} of {len(rows)} rows are of runs that lost a client which was not meant to "
            "leave; those runs are not kept, the same command makes them again",
            err=True,
        )
        raise click.exceptions.Exit(1)


def _dataset(data: str, data_dir: Path | None, image_size: int) -> Dataset:
    """Read a data set by its name, or a folder of images by its path."""
    from calibration.workloads.data.datasets import DATASETS, load
    from calibration.workloads.data.image_folder import load_image_folder

    folder = Path(data)
    if data not in DATASETS and (folder.is_dir() or len(folder.parts) > 1):
        return load_image_folder(folder, image_size)
    return load(data, data_dir)


def _study(dataset: Dataset, options: Record) -> Study:
    """Turn the options into a study; list options are comma separated."""
    from calibration.workloads.decentralized.config import Study, preset_for
    from calibration.workloads.losses import MEASURES
    from calibration.workloads.training.weights import starting_weights

    preset = preset_for(dataset)
    given = dict(options)
    given["alphas"] = numbers("--alpha", options["alphas"], float)
    given["seeds"] = tuple(range(options["seeds"]))
    given["departures"] = tuple(_departure(text) for text in options["departures"])
    given["sizes"] = numbers("--sizes", options["sizes"], float) if options["sizes"] else None
    for name in ("measures", "cases", "splits"):
        given[name] = tuple(words(options[name]))
    if options["measures"] == "all":
        given["measures"] = MEASURES
    given["weights"] = None if options["weights"] is None else starting_weights(options["weights"])
    for name in ("rounds", "learning_rate"):
        given[name] = getattr(preset, name) if options[name] is None else options[name]
    given["private_samples"] = options["private_samples"] or preset.private
    given["public_samples"], given["test_samples"] = preset.public, preset.test
    return Study(**given)


def _departure(text: str) -> tuple[int, int]:
    client, at, turn = text.partition("@")
    if not (at and client.isdecimal() and turn.isdecimal()):
        raise WorkloadError(f"--depart takes CLIENT@ROUND, two whole numbers; got {text!r}")
    return int(client), int(turn)


def _write(study: Study, dataset: Dataset, rows: Sequence[Row], out: Path) -> Record:
    """Write results.json and accuracy.png; return what the former holds."""
    from calibration.workloads.decentralized.figures import plot_study
    from calibration.workloads.decentralized.report import summary, verdicts
    from calibration.workloads.decentralized.study import study_manifest
    from calibration.workloads.records.results import write_json

    content = {
        "manifest": study_manifest(study, dataset),
        "summary": summary(rows),
        "verdicts": {
            value: [v.row() for v in verdicts(rows, value=value)] for value in ("shared", "private")
        },
        "rows": list(rows),
    }
    write_json(out / "results.json", content)
    plot_study(rows).savefig(out / "accuracy.png", dpi=120)
    return content


def _print(content: Record, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    grid = content["manifest"]["config"]
    cells = {
        (r["split"], r["case"], r["measure"], r["alpha"], r["quantity"]): r
        for r in content["summary"]
    }
    traffic: dict[tuple[str, str], float] = {}
    for row in content["rows"]:
        key = (row["split"], row["case"])
        traffic[key] = max(traffic.get(key, 0.0), row["bytes_per_round"])
    for which in grid["splits"]:
        for case in grid["cases"]:
            there = _clients(r for r in content["rows"] if (r["split"], r["case"]) == (which, case))
            table = Table(
                title=f"{which}, case {case}: accuracy in %, mean over {there} clients "
                f"(private = own label mix); {traffic[which, case] / 1000:.1f} kB a round"
            )
            table.add_column("measure")
            for alpha in grid["alphas"]:
                table.add_column(f"alpha {alpha:g}", justify="right")
            for measure in grid["measures"]:
                table.add_row(
                    measure.upper(),
                    *(_cell(cells, which, case, measure, alpha) for alpha in grid["alphas"]),
                )
            console.print(table)
    console.print(
        f"shared ± half of the 95 % interval over n = {len(grid['seeds'])} seeds (Student t); "
        "private in brackets"
    )
    for row in content["rows"]:
        for left in row["departures"]:
            console.print(
                f"[bold]{row['split']}, {row['case']}, {row['measure']}, alpha {row['alpha']:g}, "
                f"seed {row['seed']}: client {left['client']} departed in round {left['round']} "
                f"({left['reason']}); its accuracy is missing[/bold]"
            )
    console.print(f"Written: {out}/results.json, accuracy.png, runs.jsonl, profile-*.csv")


def _clients(rows: Iterable[Row]) -> str:
    """Say how many clients reached the end of these rows' runs."""
    counts = {len(row["clients"]) for row in rows}
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def _cell(cells: dict[Any, Any], which: str, case: str, measure: str, alpha: float) -> str:
    shared = cells[which, case, measure, alpha, "shared"]
    private = cells[which, case, measure, alpha, "private"]
    half = (
        "" if shared["ci_high"] is None else f" ± {100 * (shared['ci_high'] - shared['mean']):.1f}"
    )
    return f"{100 * shared['mean']:.1f}{half} ({100 * private['mean']:.1f})"
