"""``kdsim calibrate``: measure a device, fit its curves, check what they predict."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from calibration.commands.importing import export_command, import_command, template_command
from calibration.commands.shared import check_places
from calibration.commands.teachers import (
    access_options,
    credentials,
    remote_teacher,
    serve_until_interrupted,
)
from calibration.commands.validate import validate
from kdsim.cli.options import json_option
from kdsim.cli.progress import ProgressBar
from kdsim.model.curves import MODELS

# Heavy imports are inside the commands: `kdsim calibrate --help` must not wait for torch.


@click.group(name="calibrate")
def command() -> None:
    r"""Measure this device, fit its curves, and check what they predict.

    \b
    Example:
        kdsim calibrate collect --quick -o mine.csv
        kdsim calibrate fit mine.csv -o mine.curves.yaml --plot mine.png
        kdsim calibrate validate mine.csv
    """


@command.command()
@click.option("-o", "--output", default="trace.csv", show_default=True, help="Trace to write.")
@click.option("--quick/--full", default=True, help="About a minute, or every point in about four.")
@click.option("--cores", type=int, help="Cores to use (all available ones by default).")
@click.option(
    "--virtual-cores", type=click.IntRange(2, 64),
    help="Fractional shares of the cores stand in for this many.",
)  # fmt: skip
@click.option("--teacher", metavar="HOST:PORT", help="A teacher elsewhere (kdsim calibrate serve).")
@access_options
@click.option("--rounds", type=click.IntRange(1), help="Trials of each point.")
@click.option(
    "--guard", type=click.FloatRange(0, 1), default=0.12, show_default=True,
    help="Share of the CPU used by others above which a trial is repeated.",
)  # fmt: skip
@click.option("--device", help="The device's name in the trace.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the points' order."
)
@click.option("--resume", is_flag=True, help="Continue the trace that exists.")
@json_option
def collect(
    output: str, quick: bool, cores: int | None, virtual_cores: int | None, teacher: str | None,
    rounds: int | None, guard: float, device: str | None, seed: int, resume: bool, as_json: bool,
    **access: str | None,
) -> None:  # fmt: skip
    r"""Measure training and receiving at every core split of this device.

    Run nothing else on the machine meanwhile: disturbed trials are repeated. Ctrl-C keeps the
    measurements made so far; --resume continues.

    \b
    Example:
        kdsim calibrate collect --full -o mine.csv
    """
    from dataclasses import replace

    from calibration.bench.collect import collect as run
    from calibration.bench.measure import full_settings, quick_settings

    remote = remote_teacher(teacher, **access)
    settings = (quick_settings if quick else full_settings)(
        cores=cores, virtual_cores=virtual_cores, device=device, seed=seed, guard=guard
    )
    if rounds is not None:
        settings = replace(settings, rounds=rounds)
    if not resume and Path(output).exists():
        click.echo(f"{output} is replaced when the first trial has ended", err=True)
    try:
        with ProgressBar("measuring") as progress:
            trace = run(output, settings, resume=resume, progress=progress, teacher=remote)
    except KeyboardInterrupt:
        click.echo(
            f"\nstopped; {output} keeps what was measured (continue with --resume)", err=True
        )
        raise click.exceptions.Exit(130) from None
    counts = trace.rows["status"].value_counts().to_dict()
    if as_json:
        summary = {"trace": output, "device": trace.device, "total_cores": trace.total_cores}
        click.echo(json.dumps({**summary, "measurements": counts}, sort_keys=True))
        return
    listed = ", ".join(f"{number} {status}" for status, number in counts.items())
    click.echo(f"{output}: {trace.device}, {trace.total_cores} cores; measurements: {listed}")
    click.echo(f"Next: kdsim calibrate fit {output} -o {Path(output).stem}.curves.yaml")


_MODELS = click.Choice(["auto", "paper", *MODELS, "table"])


@command.command()
@click.argument("trace")
@click.option("-o", "--output", help="Curve file to write (YAML), for device: {curves: ..}.")
@click.option("--plot", help="Figure to write (png, svg or pdf).")
@click.option("--compute-model", type=_MODELS, default="auto", show_default=True)
@click.option("--communication-model", type=_MODELS, default="auto", show_default=True)
@click.option(
    "--condition", type=click.Choice(["auto", "alone", "contended"]), default="auto",
    show_default=True, help="Which measurements count; auto: contended ones where both sides run.",
)  # fmt: skip
@click.option("--include-noisy", is_flag=True, help="Fit to points marked noisy too.")
@click.option("--bootstrap", type=click.IntRange(0, 20000), default=400, show_default=True)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap."
)
@json_option
def fit(
    trace: str, output: str | None, plot: str | None, compute_model: str,
    communication_model: str, condition: str, include_noisy: bool, bootstrap: int, seed: int,
    as_json: bool,
) -> None:  # fmt: skip
    r"""Fit curves to a trace, compare models, and report what the data show and do not show.

    \b
    Example:
        kdsim calibrate fit mine.csv -o mine.curves.yaml --plot mine.png
    """
    from calibration.fit import fit_trace
    from calibration.fit.curve_file import curve_document, write_curves
    from calibration.trace import read_trace

    started = time.perf_counter()
    read = read_trace(trace)
    check_places(trace, plot, output)
    fitted = fit_trace(
        read, compute_model=compute_model, communication_model=communication_model,
        condition=condition, include_noisy=include_noisy, bootstrap=bootstrap, seed=seed,
    )  # fmt: skip
    if output:
        write_curves(fitted, output)
    if plot:
        from calibration.fit.plots import fit_figure
        from kdsim.plots.saving import save

        save(fit_figure(fitted), plot, dpi=150)
    if as_json:
        click.echo(json.dumps(curve_document(fitted), sort_keys=True))
        return
    _print_fit(fitted)
    for path in filter(None, (output, plot)):
        click.echo(f"wrote {path}")
    click.echo(f"({time.perf_counter() - started:.1f} s)", err=True)


def _print_fit(fitted: Any) -> None:
    from rich.table import Table

    from kdsim.cli.tables import console as make_console

    console = make_console()
    for curve, unit in ((fitted.compute, "batch"), (fitted.communication, "MB")):
        table = Table(title=f"{curve.side}: {curve.model} form, ms a {unit}", title_justify="left")
        for heading in ("c", "time", f"{100 * fitted.level:g} % interval", "measured", "trials"):
            table.add_column(heading, justify="right")
        points = fitted.points[fitted.points["side"] == curve.side].set_index("comm_cores")
        for c in range(curve.total_cores + 1):
            if curve.rates[c] <= 0:
                continue
            times = [1e3 / r for r in (curve.rates[c], curve.high[c], curve.low[c])]
            seen = c in points.index
            table.add_row(
                str(c), f"{times[0]:.4g}", _interval(times[1], times[2]),
                f"{1e3 * points.loc[c, 'median_s']:.4g} ({points.loc[c, 'condition']})"
                if seen else "not measured",
                str(points.loc[c, "trials"]) if seen else "",
            )  # fmt: skip
        console.print(table)
    models = Table(title="models", title_justify="left")
    for heading in ("side", "model", "k", "AICc - least", "held-out error", "verdict"):
        models.add_column(heading)
    for row in fitted.model_table.itertuples():
        models.add_row(
            row.side, f"{row.model}{' *' if row.chosen else ''}", str(row.k),
            _number(row.delta_aicc, "{:.1f}"), _number(row.held_out_error, "{:.1%}"), row.verdict,
        )  # fmt: skip
    console.print(models)
    for sentence in fitted.verdicts:
        console.print(f"- {sentence}", highlight=False)


def _interval(low: float, high: float) -> str:
    return "none" if low != low or high != high else f"{low:.4g} .. {high:.4g}"


def _number(value: float, form: str) -> str:
    return "-" if value != value else form.format(value)


command.add_command(validate)


@command.command()
@click.option("--bind", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=7070, show_default=True)
@access_options
def serve(bind: str, port: int, **access: str | None) -> None:
    r"""Serve a teacher's logits, for `collect --teacher` on another device.

    On an address that other machines reach, require a shared token or certificates from the edges,
    and use TLS on a network that is not trusted.

    \b
    Example:
        kdsim calibrate serve --bind 0.0.0.0 --port 7070 --token-file token
    """
    from calibration.bench.student import logit_bank
    from calibration.link.server import KnowledgeServer

    tls, token = credentials(**access)
    source, greeting = logit_bank({})
    with KnowledgeServer(source, greeting, host=bind, port=port, tls=tls, token=token) as server:
        serve_until_interrupted(server)


for _command in (import_command, export_command, template_command):
    command.add_command(_command)
