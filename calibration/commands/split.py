"""``kdsim workload split``: feature maps over several workers, measured against the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdsim._types import Record
from kdsim.cli.options import OUTPUT_FILE, check_outputs, json_option
from kdsim.cli.progress import ProgressBar
from kdsim.errors import WorkloadError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn

    from calibration.workloads.split_inference.study.measure import Study

NETWORKS = ("edge-1", "edge-2", "edge-3", "cloud")

EXAMPLE = """\b
Example:
  kdsim workload split --net edge-3 --input 224 --parts 2 --plot layers.png
"""


@click.command("split", epilog=EXAMPLE)
@click.option("--net", type=click.Choice(NETWORKS), default="edge-3", show_default=True)
@click.option(
    "--input", "size", type=click.IntRange(8, 2048), default=224, show_default=True,
    help="Height and width of the image.",
)  # fmt: skip
@click.option("--channels", type=click.IntRange(1, 16), default=3, show_default=True)
@click.option(
    "--parts", type=click.IntRange(2, 7), default=2, show_default=True,
    help="Workers, one core each as far as there are cores.",
)  # fmt: skip
@click.option(
    "--mode", "modes", multiple=True, type=click.Choice(["layerwise", "overlap", "fused", "auto"]),
    help="Ways of splitting to measure; may be repeated. Default: all.",
)  # fmt: skip
@click.option(
    "--transport", "transports", multiple=True, type=click.Choice(["tcp", "gloo"]),
    help="How rows travel; may be repeated. Default: tcp.",
)  # fmt: skip
@click.option(
    "--layout", type=click.Choice(["channels-last", "contiguous"]), default="channels-last",
    show_default=True,
    help="Memory layout of whole and split alike; the first is the faster one on most CPUs.",
)  # fmt: skip
@click.option(
    "--rounds", type=click.IntRange(2, 1000), default=15, show_default=True,
    help="Undisturbed rounds of all methods. Very short rounds are repeated in a row, for at "
    "least half a second.",
)  # fmt: skip
@click.option(
    "--extra-rounds", type=click.IntRange(0, 1000),
    help="Disturbed rounds that are repeated at most.  [default: as --rounds]",
)  # fmt: skip
@click.option(
    "--guard", type=click.FloatRange(0),
    help="CPU seconds per second that other processes or the host may take; a round with more is "
    "repeated.  [default: 0.05]",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--weights", type=click.Path(path_type=Path),
    help="A state dict of the network, written by torch.save.",
)  # fmt: skip
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.1), default=60.0, show_default=True)
@click.option("--plot", type=OUTPUT_FILE, help="Write the figure here (.png, .svg or .pdf).")
@click.option("--trace-out", type=OUTPUT_FILE, help="Write a Chrome trace here.")
@click.option("-o", "--out", type=OUTPUT_FILE, help="Write the JSON result here.")
@json_option
def command(
    net: str,
    size: int,
    channels: int,
    parts: int,
    modes: tuple[str, ...],
    transports: tuple[str, ...],
    layout: str,
    rounds: int,
    extra_rounds: int | None,
    guard: float | None,
    seed: int,
    weights: Path | None,
    timeout_s: float,
    plot: Path | None,
    trace_out: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure a network whole and split by rows over several workers.

    The trunk (convolutions to the last pooling) is split; the fully connected head runs on the
    master and is left out of the times, as in the AFLKD paper. Ratios are to the same network in
    one worker with the same settings, measured in the same run.

    Rounds that other processes disturb are repeated, at most --extra-rounds times. When too few are
    undisturbed, the verdict is "too disturbed to say", every ratio is marked, and the exit status
    is 1.
    """
    from calibration.machine.disturbance import GUARD
    from calibration.workloads.records.results import write_json
    from calibration.workloads.split_inference.planning.graph import trace
    from calibration.workloads.split_inference.study import report
    from calibration.workloads.split_inference.study.measure import run_study
    from kdsim.plots.saving import save

    check_outputs(plot, trace_out, out)
    config: Record = {
        "net": net,
        "input": [channels, size, size],
        "parts": parts,
        "modes": list(modes or ("layerwise", "overlap", "fused", "auto")),
        "transports": list(transports or ("tcp",)),
        "layout": layout,
        "rounds": rounds,
        "extra_rounds": rounds if extra_rounds is None else extra_rounds,
        "guard": GUARD if guard is None else guard,
        "seed": seed,
        "weights": weights.name if weights else None,
    }
    if "tcp" not in config["transports"]:
        config["transports"].insert(0, "tcp")
    features = _features(net, channels, size, layout, seed, weights)
    graph = trace(features, (channels, size, size))
    with ProgressBar(f"{net}, {parts} parts") as progress:
        study = run_study(
            graph,
            parts=parts,
            modes=config["modes"],
            transports=config["transports"],
            rounds=rounds,
            extra_rounds=config["extra_rounds"],
            guard=config["guard"],
            seed=seed,
            timeout_s=timeout_s,
            progress=progress,
        )
    data = report.to_json(study, config)
    shown = f"{config['modes'][0]}/tcp"
    if out is not None:
        write_json(out, data)
    if trace_out is not None:
        write_json(trace_out, report.chrome_trace(study.methods[shown].timing))
    if plot is not None:
        save(draw(study, shown, f"{net}, {size} x {size}"), plot)
    if as_json:
        click.echo(json.dumps(data, indent=1))
    else:
        _print(study, shown)
    if study.verdict.is_too_disturbed:
        raise click.exceptions.Exit(1)


def _features(
    name: str, channels: int, size: int, layout: str, seed: int, weights: Path | None
) -> nn.Module:
    from calibration.workloads.training.networks import build_network, to_channels_last

    # The trunk does not depend on the input's size; a head for 224 x 224 would take a gigabyte.
    net = build_network(name, (channels, min(size, 32), min(size, 32)), 10, seed=seed)
    features = net.features.eval()
    if weights is not None:
        _load(features, weights)
    last = layout == "channels-last"
    if last:
        to_channels_last(features)
    return features


def _load(features: nn.Module, path: Path) -> None:
    """Load the trunk's weights from the state dict of a network."""
    from calibration.workloads.training.checkpoints import read_weights

    state = read_weights(path)
    wanted = features.state_dict()
    found = {k.removeprefix("features."): v for k, v in state.items() if not k.startswith("head.")}
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise WorkloadError(
            f"{path}: does not match the network: {missing[0]} is missing "
            f"({len(missing)} of {len(wanted)} entries are)"
        )
    for key, tensor in wanted.items():
        if tuple(found[key].shape) != tuple(tensor.shape):
            raise WorkloadError(
                f"{path}: does not match the network: {key} has shape "
                f"{tuple(found[key].shape)}, the network wants {tuple(tensor.shape)}"
            )
    extra = sorted(set(found) - set(wanted))
    if extra:
        raise WorkloadError(f"{path}: does not match the network: it has no {extra[0]}")
    features.load_state_dict(found)


def draw(study: Study, shown: str, title: str) -> Figure:
    """Draw the layers whole and split above, all methods below."""
    from matplotlib.figure import Figure

    from calibration.workloads.split_inference.study.plots import plot_layers, plot_methods

    figure = Figure(figsize=(8, 7.5), layout="constrained")
    top, bottom = figure.subplots(2, 1)
    plot_layers(study, shown, ax=top)
    plot_methods(study, ax=bottom)
    figure.suptitle(title)
    return figure


def _print(study: Study, shown: str) -> None:
    import numpy as np
    from rich.console import Console

    from calibration.workloads.split_inference.study import report

    console = Console()
    console.print(report.layers_table(study, shown))
    console.print(report.methods_table(study))
    for transport, times in study.halo_us.items():
        console.print(
            f"28 KB halo over {transport}: median {np.median(times):.1f} us, "
            f"p95 {np.percentile(times, 95):.1f} us (n = {len(times)})"
        )
    for sentence in report.sentences(study):
        console.print(sentence, highlight=False)
