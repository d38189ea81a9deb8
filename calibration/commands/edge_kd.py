"""``kdsim workload edge-kd``: distil from a teacher process over TCP, for real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calibration.commands.shared import data_option, resumable, words
from calibration.commands.teachers import (
    access_options,
    credentials,
    remote_teacher,
    serve_until_interrupted,
)
from kdsim._types import Record
from kdsim.cli.options import json_option
from kdsim.cli.progress import ProgressBar

if TYPE_CHECKING:
    from calibration.workloads.edge_kd.config import EdgeConfig


@click.command(name="edge-kd")
@data_option
@click.option("--data-dir", type=click.Path(), help="Folder of the data sets.")
@click.option(
    "--methods", default="none,response,feature,relation", show_default=True,
    help="Comma-separated kinds of knowledge; none is training without a teacher.",
)  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--epochs", type=int, default=12, show_default=True, help="Passes over the public images."
)
@click.option(
    "--private", "private_images", type=int, default=60, show_default=True,
    help="Labelled images of the edge.",
)  # fmt: skip
@click.option(
    "--public", "public_images", type=int, default=512, show_default=True,
    help="Unlabelled images that cloud and edge share.",
)  # fmt: skip
@click.option("--teacher-images", type=int, default=700, show_default=True)
@click.option("--teacher-epochs", type=int, default=30, show_default=True)
@click.option(
    "--student", default="edge-1", show_default=True, help="edge-1, edge-2, edge-3 or small-cnn."
)
@click.option(
    "--alpha", type=float, default=0.5, show_default=True, help="Weight of the prediction loss."
)
@click.option("--temperature", type=float, default=4.0, show_default=True)
@click.option("--measure", default="kl", show_default=True, help="kl, ce, js, sed or td.")
@click.option("--rate", type=float, default=0.02, show_default=True, help="Learning rate.")
@click.option(
    "--policy", default="comm-priority", show_default=True,
    help="Who gets the cores; any policy of the simulator.",
)  # fmt: skip
@click.option(
    "--teacher", metavar="HOST:PORT",
    help="Address of a teacher started elsewhere with --serve.  [default: one of our own]",
)  # fmt: skip
@click.option(
    "--serve", metavar="HOST:PORT",
    help="Act as the teacher and listen on this address (127.0.0.1:PORT for this machine alone).",
)  # fmt: skip
@access_options
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), default="edge-kd",
    show_default=True, help="Folder of the study; the same command resumes it.",
)  # fmt: skip
@json_option
def command(
    methods: str,
    seeds: int,
    policy: str,
    teacher: str | None,
    serve: str | None,
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    token_file: str | None,
    output: Path,
    as_json: bool,
    **values: Any,
) -> None:
    r"""Distil from a teacher process over TCP while a policy shares the cores.

    Compares each kind of knowledge with training without a teacher over paired seeds, and writes a
    cost profile of every run, which a scenario takes as its workload. The same command resumes a
    study that was stopped.

    The teacher may run on another machine: give both the same options, one --serve and the other
    --teacher.

    \b
    Examples:
        kdsim workload edge-kd --methods none,response --seeds 5 -o study
        kdsim workload edge-kd --serve 0.0.0.0:7071 -o cloud      # on the cloud
        kdsim workload edge-kd --teacher cloud.local:7071         # on the edge
    """
    from calibration.link.stream import parse_address
    from calibration.workloads.edge_kd.config import EdgeConfig
    from calibration.workloads.edge_kd.study import run_study

    config = EdgeConfig(**values)
    access = {
        "tls_ca": tls_ca, "tls_cert": tls_cert, "tls_key": tls_key, "token_file": token_file
    }  # fmt: skip
    if serve is not None:
        if teacher is not None:
            raise click.UsageError("--serve and --teacher exclude each other")
        _serve(config, output, parse_address(serve), access)
        return
    remote = remote_teacher(teacher, **access)
    with resumable(output), ProgressBar("edge-kd") as progress:
        result = run_study(
            config,
            output,
            methods=words(methods),
            seeds=range(seeds),
            policy=policy,
            teacher=remote,
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(result, sort_keys=True))
        return
    _print(result, output)


def _serve(
    config: EdgeConfig, folder: Path, address: tuple[str, int], access: dict[str, str | None]
) -> None:
    from calibration.link.server import KnowledgeServer
    from calibration.workloads.edge_kd.cloud import serve_study

    tls, token = credentials(**access)
    try:
        select = serve_study(config, folder)
    except KeyboardInterrupt:
        return

    def nothing(*_: int) -> None:
        return None  # for a client that does not say which run it is for

    host, port = address
    common = {"serves": "edge-kd"}
    with KnowledgeServer(
        nothing, common, select=select, host=host, port=port, tls=tls, token=token
    ) as server:
        serve_until_interrupted(server)


def _print(result: Record, output: Path) -> None:
    from rich.table import Table

    from kdsim.cli.tables import console as make_console

    console = make_console()
    table = Table(
        title=f"test accuracy, {result['manifest']['data']['name']}", title_justify="left"
    )
    for heading in ("knowledge", "accuracy", "sd", "95 % CI", "against none", "95 % CI", "n"):
        table.add_column(heading, justify="left" if heading == "knowledge" else "right")
    paired = {row["difference"].split(" - ")[0]: row for row in result["differences"]}
    for row in result["accuracy"]:
        other = paired.get(row["method"])
        table.add_row(
            row["method"],
            f"{row['mean']:.1%}",
            _share(row["sd"]),
            _interval(row),
            f"{other['mean']:+.1%}" if other else "",
            _interval(other) if other else "",
            str(row["n"]),
        )
    console.print(table)
    console.print(f"teacher: {result['teacher_accuracy']:.1%}; results in {output}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _interval(row: Record) -> str:
    return f"{_share(row['ci_low'])} .. {_share(row['ci_high'])}"
